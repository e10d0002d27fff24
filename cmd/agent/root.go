package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/agent/agentfile"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// cli is what all verbs share.
type cli struct {
	stdout, stderr io.Writer
	format         format
	config         string // the agent's file
	state          string // state directory, instead of the file's
	enrolment      string
}

// run is the program without its process: arguments and streams in, exit code out.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &output{Writer: stdout}
	c := &cli{stdout: out, stderr: stderr, format: "table"}
	root := newRoot(c)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = fmt.Errorf("the output is not whole: %w", out.err)
	}
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		c.note("interrupted")
		return exitInterrupted
	}
	if done, ok := errors.AsType[*exitError](err); !ok || done.message != "" {
		c.note("agent: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	return exitCode(err)
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "agent",
		Short: "Follow an environment's releases and apply them to the instance beside it",
		Long: `The agent follows one environment's releases, verifies each of them, applies them to the instance beside it, reads them back, and
acknowledges. It lives without the bus: it serves the last state it applied and says how old that is.

Check:  agent check-config
Look:   agent plan --enrolment a1.enrolment
Run:    agent run --enrolment a1.enrolment
Ask:    agent status`,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error { return unknownCommand(cmd, args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%v", err) })
	flags := root.PersistentFlags()
	flags.StringVar(&c.config, "config", "agent.yaml", "`FILE` that says what the agent configures")
	flags.StringVar(&c.state, "state", "", "`DIR` of the agent's state (default: as --config says, or ./lockstep-agent)")
	flags.VarP(&c.format, "output", "o", "`FORMAT`: table, json or yaml")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	root.AddCommand(runCommand(c), planCommand(c), adoptCommand(c), statusCommand(c), holdCommand(c), resumeCommand(c), retryCommand(c),
		checkpointCommand(c), checkConfigCommand(c), versionCommand(c), exitCodesTopic())
	demandKnownArguments(root)
	return root
}

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	if near := config.Nearest(args[0], names); near != "" {
		return usage(cmd, "there is no command %q; did you mean %q?", args[0], near)
	}
	return usage(cmd, "there is no command %q", args[0])
}

// demandKnownArguments makes complaints about arguments errors of usage.
func demandKnownArguments(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		demandKnownArguments(sub)
		check := sub.Args
		if check == nil {
			check = cobra.NoArgs
		}
		sub.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if _, ours := errors.AsType[*exitError](err); err == nil || ours {
				return err
			}
			return usage(cmd, "these arguments do not fit; write %s %s", cmd.Parent().CommandPath(), cmd.Use)
		}
	}
}

// note tells the person something that is no data.
func (c *cli) note(format string, args ...any) { fmt.Fprintf(c.stderr, format+"\n", args...) }

// needEnrolment is the --enrolment flag of the verbs that act as the agent.
func (c *cli) needEnrolment(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.enrolment, "enrolment", "", "`FILE` that 'publisher env enrol' wrote")
}

// files reads the agent's file and its enrolment.
func (c *cli) files(cmd *cobra.Command) (*agentfile.File, *keys.Enrolment, error) {
	if c.enrolment == "" {
		return nil, nil, usage(cmd, "name the agent's enrolment with --enrolment")
	}
	f, err := agentfile.Read(c.config)
	if err != nil {
		return nil, nil, err
	}
	if c.state != "" {
		if err := f.KeepStateIn(c.state); err != nil {
			return nil, nil, err
		}
	}
	e, err := keys.ReadEnrolment(c.enrolment)
	return f, e, err
}

// dir is the state directory.
func (c *cli) dir(cmd *cobra.Command) (string, error) {
	if c.state != "" {
		return c.state, nil
	}
	f, err := agentfile.Read(c.config)
	switch {
	case err == nil:
		return f.State, nil
	case errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config"):
		return filepath.Join(filepath.Dir(c.config), agentfile.DefaultState), nil
	}
	return "", err
}

// client finds the running agent.
func (c *cli) client(cmd *cobra.Command) (*agent.Client, string, error) {
	dir, err := c.dir(cmd)
	return agent.NewClient(dir), dir, err
}

// An exitError ends the program with a code of its own. Without a message nothing more is to be said.
type exitError struct {
	code    int
	message string
}

func (e *exitError) Error() string { return e.message }

func usage(cmd *cobra.Command, format string, args ...any) error {
	return &exitError{exitUsage, fmt.Sprintf(format, args...) + "; see '" + cmd.CommandPath() + " --help'"}
}

// exitCode is the one place that turns errors into exit codes.
func exitCode(err error) int {
	if done, ok := errors.AsType[*exitError](err); ok {
		return done.code
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return exitInvalid
	}
	switch {
	case errors.Is(err, keys.ErrExposed), errors.Is(err, fs.ErrPermission):
		return exitDenied
	case errors.Is(err, store.ErrCorrupt), events.ReasonOf(err) != "":
		return exitInvalid
	case errors.Is(err, store.ErrForeign), errors.Is(err, store.ErrNewer), errors.Is(err, store.ErrLocked):
		return exitConflict
	case errors.Is(err, agent.ErrNotRunning), errors.Is(err, bus.ErrUnavailable):
		return exitUnavailable
	}
	return exitFailure
}
