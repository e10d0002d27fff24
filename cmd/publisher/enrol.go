package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func envEnrolCommand(c *cli) *cobra.Command {
	var w writing
	var e keys.Enrolment
	var file string
	cmd := &cobra.Command{
		Use:   "enrol NAME --agent AGENT -o FILE",
		Short: "Admit an agent to an environment, and write the file that it starts with",
		Long: `Admit an agent to an environment. Its key is made here, and only the public half leaves this machine. The file is the agent's
secret: it holds the key, whom to believe, and where the bus is. Give it to the agent's host and nobody else; it is never written
over another file.`,
		Example:           `  publisher env enrol prod-eu --agent a1 -o a1.enrolment`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeEnvironments),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args...)
			e.Environment = args[0]
			if e.Agent == "" || (file == "" && !w.dryRun) {
				return usage(cmd, "name the agent with --agent, and a file for its enrolment with -o")
			}
			return c.enrol(cmd.Context(), w, e, file)
		},
	}
	f := cmd.Flags()
	f.StringVar(&e.Agent, "agent", "", "name of the agent")
	f.StringVarP(&file, "output", "o", "", "file to write")
	f.StringVar(&e.Bus.URL, "nats", "", "NATS addresses for the agent, separated by commas (default: what the publisher uses)")
	f.StringVar(&e.Bus.Credentials, "creds", "", "NATS credentials file on the agent's host")
	f.StringVar(&e.Bus.CA, "tlscacert", "", "PEM file on the agent's host: who signs the bus's certificate")
	f.StringVar(&e.Bus.Cert, "tlscert", "", "PEM file on the agent's host: its certificate")
	f.StringVar(&e.Bus.Key, "tlskey", "", "PEM file on the agent's host: its certificate's key")
	w.register(cmd)
	return cmd
}

// enrol reserves the file before anything is sent: an agent whose key nobody keeps would be of no use.
func (c *cli) enrol(ctx context.Context, w writing, e keys.Enrolment, file string) (err error) {
	seed, err := keys.NewSeed()
	if err != nil {
		return err
	}
	e.Seed = string(seed)
	signer, err := e.Signer()
	if err != nil {
		return err
	}
	if !w.dryRun {
		if err := reserve(file); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				_ = os.Remove(file) // it holds nothing yet
			}
		}()
	}
	if _, err := c.do(ctx, w, ledger.EnrolAgent{Environment: e.Environment, Agent: e.Agent, Key: signer.Public()}); err != nil {
		return err
	}
	if w.dryRun {
		c.done(w, "enrol %s in %s", e.Agent, e.Environment)
		return nil
	}
	if err := c.pin(ctx, &e, file); err != nil {
		return fmt.Errorf("%s is enrolled, but its file could not be written: %w; revoke it with 'publisher env revoke %s %s -m WHY' and enrol another",
			e.Agent, err, e.Environment, e.Agent)
	}
	c.note("enrolled %s in %s; %s is its secret: start it with 'agent run --enrolment %s'", e.Agent, e.Environment, file, filepath.Base(file))
	return nil
}

func reserve(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &exitError{exitFailure, fmt.Sprintf("there is a file %s already; name another with -o: no enrolment is written over", file)}
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// pin writes the enrolment with what the publisher says now.
func (c *cli) pin(ctx context.Context, e *keys.Enrolment, file string) error {
	publisher, _, err := c.connect()
	if err != nil {
		return err
	}
	pins, err := publisher.Pins(ctx, e.Environment)
	if err != nil {
		return err
	}
	e.Ledger, e.Publishers, e.Trust = pins.Ledger, pins.Document.Publishers, pins.Digest
	e.Head = keys.Head{Revision: pins.Head.Revision, Chain: pins.Head.Chain}
	if e.Bus.URL == "" {
		e.Bus.URL = pins.BusURL
	}
	return e.Write(file)
}
