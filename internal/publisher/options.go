package publisher

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/tracing"
)

// Options of a Publisher. The zero value of a field is its default.
type Options struct {
	Data   string   // directory; required. It holds the publisher's key, its copy of the ledger and the embedded bus
	Listen string   // HTTP address; empty: 127.0.0.1:7070. Beyond loopback it needs TLS
	Hosts  []string // names by which the API is reached, beside loopback's
	TLS    *TLS     // for every listener beyond loopback; nil: there is none

	NATSListen string // address of the embedded bus; empty: 127.0.0.1:4222. Port 0 is chosen by the system. Beyond loopback it needs TLS

	NATS                     string // an existing NATS server or cluster; empty: the embedded one
	Credentials              string // NATS credentials file; empty: those in Data, if there are any
	CA, Cert, Key            string // PEM files: the server's authority, this client's certificate and key; empty: none
	Replicas                 int    // of the streams, at least; 0: as many as LEDGER has, and without a LEDGER 3 on a cluster, otherwise 1
	MonitorURL               string // of the existing server, for proving its durability; empty: port 8222 of a server on this machine
	SystemCredentials        string // credentials file of the system account, which proves the same; empty: those in Data, or MonitorURL is asked
	AcceptUnprovenDurability bool   // go on where it cannot be proven, and say so on every screen

	Notify *notify.Config // who is told of what is wrong; nil: nobody

	Log           zerolog.Logger       // the zero Logger writes nothing
	Tracer        trace.Tracer         // of what it does and what agents said; nil: no spans
	Registry      *prometheus.Registry // nil: a new one
	LeaseTTL      time.Duration        // how long a dead publisher holds the lease; 0: 5 s. The same for all publishers of a bus
	PulseInterval time.Duration        // 0: 15 s
	BeatWait      time.Duration        // how long a check waits for a beat of every agent that was alive; 0: 12 s
	Fault         fault.Hook           // told of every durable step; for tests
	Recheck       time.Duration        // how often the ledger's end and the release stream are looked at; 0: 10 s
	Clock         func() time.Time     // what decisions and pulses say the time is; nil: time.Now
}

// TLS names the PEM files of the listeners that other machines reach. Clients show a certificate that ClientCA signed; where it is
// empty, the HTTP API lets in nobody but who signs (internal/access), and the bus nobody but who has credentials; without those it does
// not listen beyond loopback.
type TLS struct{ Cert, Key, ClientCA string }

func (o Options) withDefaults() (Options, error) {
	if o.Data == "" {
		return o, errors.New("publisher: no data directory is named; name one with --data")
	}
	o.Listen = cmp.Or(o.Listen, "127.0.0.1:7070")
	o.NATSListen = cmp.Or(o.NATSListen, "127.0.0.1:4222")
	o.PulseInterval = cmp.Or(o.PulseInterval, 15*time.Second)
	o.BeatWait = cmp.Or(o.BeatWait, 12*time.Second)
	o.Recheck = cmp.Or(o.Recheck, 10*time.Second)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Tracer == nil {
		o.Tracer = tracing.None()
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if err := o.checkReach(o.Listen, "--listen"); err != nil {
		return o, err
	}
	if o.NATS != "" {
		return o, nil
	}
	return o, o.checkReach(o.NATSListen, "--nats-listen")
}

// checkReach refuses an address that other machines reach without TLS.
func (o Options) checkReach(address, flag string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("%s %q: %w; write host:port", flag, address, err)
	}
	if !isLoopback(address) && o.TLS == nil {
		return fmt.Errorf("%s %s reaches beyond this machine, and there is no TLS: name --tls-cert and --tls-key, or listen on 127.0.0.1", flag, address)
	}
	return nil
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (t *TLS) config() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	if t.ClientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("TLS authority for client certificates: %w", err)
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TLS authority for client certificates: %s holds no PEM certificate", t.ClientCA)
	}
	return config, nil
}
