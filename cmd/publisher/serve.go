package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/internal/tracing"
)

func serveCommand(c *cli) *cobra.Command {
	var o publisher.Options
	var t publisher.TLS
	var logFormat, logLevel, tell string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane, on an embedded bus or on an existing NATS",
		Long: `Run the control plane until it is interrupted. By default it brings its own bus, which writes every decision through to the disk;
with --nats it uses an existing NATS server or cluster, whose durability must be proven or accepted.

Beyond loopback, --listen and --nats-listen need TLS. There the API answers who shows a signed token or a session ('publisher open'), and
while approvals are names, who shows a client certificate. The embedded bus lets in who has the credentials that 'trust init --data' made
and 'env enrol' writes; without those it demands client certificates.`,
		Example: `  publisher serve --data ./lockstep-data
  publisher serve --nats nats://n1:4222,nats://n2:4222 --creds publisher.creds --tlscacert ca.pem`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := notTogether(cmd, "nats", "nats-listen"); err != nil {
				return err
			}
			log, err := telemetry.NewLogger(c.stderr, logFormat, logLevel)
			if err != nil {
				return console.Usage(cmd, "%v", err)
			}
			o.Log = log
			if t != (publisher.TLS{}) {
				o.TLS = &t
			}
			if o.Notify, err = readNotify(tell); err != nil {
				return err
			}
			tracer, stop, err := spans(cmd.Context(), log)
			if err != nil {
				return err
			}
			defer stop()
			o.Tracer = tracer
			remove := func() {}
			defer func() { remove() }()
			return publisher.Run(cmd.Context(), o, func(p *publisher.Publisher) {
				c.note("serving at %s, for browsers too; stop with Ctrl-C", p.URL())
				r, err := client.Advertise(p.URL(), "")
				switch {
				case errors.Is(err, client.ErrAdvertised):
					c.note("! %v", err)
				case err != nil:
					log.Warn().Err(err).Msg("the command line will not find this publisher by itself: use --server")
				default:
					remove = r
				}
			})
		},
	}
	f := cmd.Flags()
	reachBus(f, &o)
	f.StringVar(&o.Listen, "listen", "127.0.0.1:7070", "`ADDRESS` of the HTTP API")
	f.StringSliceVar(&o.Hosts, "host", nil, "`NAME` by which the API is reached, beside loopback's (repeatable)")
	f.StringVar(&t.Cert, "tls-cert", "", "PEM `FILE`: certificate of both listeners")
	f.StringVar(&t.Key, "tls-key", "", "PEM `FILE`: the certificate's key")
	f.StringVar(&t.ClientCA, "tls-client-ca", "", "PEM `FILE`: who signs the certificates of clients")
	f.StringVar(&o.NATSListen, "nats-listen", "127.0.0.1:4222", "`ADDRESS` of the embedded bus")
	f.StringVar(&o.MonitorURL, "nats-monitor", "", "monitoring `URL` of the existing server, to prove its durability")
	f.StringVar(&o.SystemCredentials, "nats-system-creds", "", "`FILE` with the credentials of its system account, for the same")
	f.BoolVar(&o.AcceptUnprovenDurability, "accept-unproven-durability", false, "go on where durability cannot be proven, and say so on every screen")
	f.StringVar(&tell, "notify", "", "`FILE` that says who is told of what is wrong (docs/notifications.md)")
	f.StringVar(&logFormat, "log-format", "text", "`FORMAT` of log lines: text or json")
	f.StringVar(&logLevel, "log-level", "info", "least `LEVEL` of log lines: debug, info, warn or error")
	complete(cmd, "log-format", cobra.FixedCompletions(telemetry.LogFormats, noFiles))
	return cmd
}

// spans makes those of a publisher, where the environment of the process says where they go.
func spans(ctx context.Context, log zerolog.Logger) (tracer trace.Tracer, stop func(), err error) {
	return tracing.Tracer(ctx, "lockstep-publisher", telemetry.Version(), func(err error) { log.Warn().Err(err).Msg("spans could not be exported") })
}

// readNotify reads who is told of what is wrong; nil where no file is named.
func readNotify(file string) (*notify.Config, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--notify: %w; name a file that says who is told of what is wrong, as in docs/notifications.md", err)
	}
	return notify.ParseConfig(file, text)
}
