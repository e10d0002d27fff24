package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func envEnrolCommand(c *cli) *cobra.Command {
	var w writing
	var e keys.Enrolment
	var file string
	var repin bool
	cmd := &cobra.Command{
		Use:   "enrol NAME --agent AGENT -o FILE",
		Short: "Admit an agent to an environment, and write the file that it starts with",
		Long: `Admit an agent to an environment. Its key is made here, and only the public half leaves this machine. The file is the agent's
secret: it holds the key, what lets it into the bus, the whole trust document, and where the bus is. Give it to the agent's host and nobody
else; it is never written over another file.

--repin is the way out of last resort, for an agent whose trust document no later one follows any more: its file then believes what the
publisher says now. Whoever runs it vouches for that.`,
		Example:           `  publisher env enrol prod-eu --agent a1 -o a1.enrolment`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeEnvironments),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args...)
			e.Environment = args[0]
			if e.Agent == "" || (file == "" && !w.dryRun) {
				return console.Usage(cmd, "name the agent with --agent, and a file for its enrolment with -o")
			}
			if repin {
				return c.repin(cmd.Context(), e, file)
			}
			return c.enrol(cmd.Context(), w, e, file)
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.Agent, "agent", "", "`NAME` of the agent")
	f.StringVarP(&file, "output", "o", "", "`FILE` to write")
	f.StringVar(&e.Bus.URL, "nats", "", "NATS `ADDRESSES` for the agent, separated by commas (default: what the publisher uses)")
	f.StringVar(&e.Bus.Credentials, "creds", "", "`FILE` with NATS credentials on the agent's host")
	f.StringVar(&e.Bus.CA, "tlscacert", "", "PEM `FILE`: who signs the bus's certificate; here where the publisher issues the bus's credentials, and then its text is in the enrolment; else on the agent's host")
	f.StringVar(&e.Bus.Cert, "tlscert", "", "PEM `FILE` on the agent's host: its certificate")
	f.StringVar(&e.Bus.Key, "tlskey", "", "PEM `FILE` on the agent's host: its certificate's key")
	f.BoolVar(&repin, "repin", false, "have the file of an enrolled agent believe what the publisher says now")
	w.register(cmd)
	return cmd
}

// enrol writes the file before anything is sent: an agent whose key nobody keeps would be of no use. Where the answer is lost the file
// stays, and the same command again goes on with its key.
func (c *cli) enrol(ctx context.Context, w writing, e keys.Enrolment, file string) error {
	made, err := c.fill(ctx, &e, file, w.dryRun)
	if err != nil {
		return err
	}
	signer, err := e.Signer()
	if err != nil {
		return err
	}
	if w.key == "" {
		w.key = "enrol-" + signer.Public()
	}
	if _, err := c.do(ctx, w, ledger.EnrolAgent{Environment: e.Environment, Agent: e.Agent, Key: signer.Public()}); err != nil {
		if made && api.KindOf(err) != api.KindUnavailable {
			err = errors.Join(err, os.Remove(file)) // nobody believes its key
		}
		return err
	}
	if w.dryRun {
		c.done(w, "enrol %s in %s", e.Agent, e.Environment)
		return nil
	}
	if err := c.admit(ctx, e, file); err != nil {
		return err
	}
	c.note("enrolled %s in %s; %s is its secret: start it with 'agent run --enrolment %s'", e.Agent, e.Environment, file, file)
	return nil
}

// admit has the publisher say to the bus that the agent's key comes in, and writes that into the enrolment.
func (c *cli) admit(ctx context.Context, e keys.Enrolment, file string) error {
	if e.Bus.Credentials != "" {
		return nil
	}
	publisher, _, err := c.connect()
	if err != nil {
		return err
	}
	given, err := publisher.Credentials(ctx, e.Environment, e.Agent)
	if err != nil || given.JWT == "" {
		return err
	}
	return keys.EditEnrolment(file, func(e *keys.Enrolment) error { e.Bus.JWT = given.JWT; return nil })
}

// repin has an enrolment pin what the publisher says now: its ledger, its newest trust document and the environment's head. Who runs it
// vouches for that in the place of the roots, whose signatures the agent had to see until now.
func (c *cli) repin(ctx context.Context, e keys.Enrolment, file string) error {
	publisher, _, err := c.connect()
	if err != nil {
		return err
	}
	pins, err := publisher.Pins(ctx, e.Environment)
	if err != nil {
		return err
	}
	if _, err := publisher.Credentials(ctx, e.Environment, e.Agent); err != nil { // it is enrolled
		return err
	}
	err = keys.EditEnrolment(file, func(old *keys.Enrolment) error {
		if old.Environment != e.Environment || old.Agent != e.Agent {
			return console.Exit(console.ExitFailure, fmt.Sprintf("%s is of %s in %s: name that one", file, old.Agent, old.Environment))
		}
		return pin(old, pins)
	})
	if err != nil {
		return err
	}
	if err := c.admit(ctx, e, file); err != nil {
		return err
	}
	c.note("! %s believes this publisher from now on, whatever it believed before: version %d of the trust document, revision %d of %s", file, pins.Document.Version, pins.Head.Revision, e.Environment)
	return nil
}

// fill makes the agent's key and writes the enrolment with what the publisher says now, or finds the one that an earlier try of the
// same command wrote. It says whether it made the file.
func (c *cli) fill(ctx context.Context, e *keys.Enrolment, file string, dryRun bool) (made bool, err error) {
	if !dryRun {
		if before, err := keys.ReadEnrolment(file); err == nil && before.Environment == e.Environment && before.Agent == e.Agent {
			*e = *before
			return false, nil
		}
	}
	publisher, _, err := c.connect()
	if err != nil {
		return false, err
	}
	pins, err := publisher.Pins(ctx, e.Environment)
	if err != nil {
		return false, err
	}
	if err := pin(e, pins); err != nil {
		return false, err
	}
	if pins.Credentials && e.Bus.CA != "" && e.Bus.Credentials == "" {
		authorities, err := os.ReadFile(e.Bus.CA)
		if err != nil {
			return false, fmt.Errorf("who signs the bus's certificate: %w", err)
		}
		e.Bus.CA, e.Bus.Authorities = "", string(authorities)
	}
	if strings.HasPrefix(e.Bus.URL, "tls://") && (e.Bus.CA == "" || e.Bus.Cert == "" || e.Bus.Key == "") && e.Bus.Credentials == "" && !pins.Credentials {
		return false, console.Exit(console.ExitUsage, "the bus at "+e.Bus.URL+" wants certificates: name the agent's files with --tlscacert, --tlscert and --tlskey")
	}
	seed, err := keys.NewSeed()
	if err != nil || dryRun {
		e.Seed = string(seed)
		return false, err
	}
	e.Seed = string(seed)
	if err := reserve(file); err != nil {
		return false, err
	}
	return true, e.Write(file)
}

// pin has an enrolment pin what the publisher says now.
func pin(e *keys.Enrolment, pins api.Pins) error {
	e.Ledger, e.Head = pins.Ledger, keys.Head{Revision: pins.Head.Revision, Chain: pins.Head.Chain}
	e.Bus.URL = cmp.Or(e.Bus.URL, pins.BusURL)
	return e.Pin(&pins.Document)
}

func reserve(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return console.Exit(console.ExitFailure, fmt.Sprintf("there is a file %s already; name another with -o: no enrolment is written over", file))
	}
	if err != nil {
		return err
	}
	return f.Close()
}
