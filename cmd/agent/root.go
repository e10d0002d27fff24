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
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// cli is what all verbs share.
type cli struct {
	stdout, stderr io.Writer
	format         console.Format
	config         string // the agent's file
	state          string // state directory, instead of the file's
	enrolment      string
}

// run is the program without its process: arguments and streams in, exit code out.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &console.Output{Writer: stdout}
	c := &cli{stdout: out, stderr: stderr}
	root := newRoot(c, args)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = out.Err()
	}
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		c.note("interrupted")
		return console.ExitInterrupted
	}
	if done, ok := errors.AsType[*console.ExitError](err); !ok || done.Message != "" {
		c.note("agent: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	return exitCode(err)
}

func newRoot(c *cli, args []string) *cobra.Command {
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
	}
	console.Group(root)
	flags := root.PersistentFlags()
	flags.StringVar(&c.config, "config", "agent.yaml", "`FILE` that says what the agent configures")
	flags.StringVar(&c.state, "state", "", "`DIR` of the agent's state (default: as --config says, or ./lockstep-agent)")
	flags.VarP(&c.format, "output", "o", "`FORMAT`: table, json or yaml")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(console.Formats, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	root.AddCommand(runCommand(c), planCommand(c), adoptCommand(c), statusCommand(c), holdCommand(c), resumeCommand(c), retryCommand(c),
		checkpointCommand(c), checkConfigCommand(c), console.VersionCommand("agent", &c.format), exitCodesTopic())
	console.Strict(root, args)
	return root
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
		return nil, nil, console.Usage(cmd, "name the agent's enrolment with --enrolment")
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

// exitCode is the one place that turns errors into exit codes.
func exitCode(err error) int {
	if done, ok := errors.AsType[*console.ExitError](err); ok {
		return done.Code
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		return console.ExitInvalid
	}
	switch {
	case errors.Is(err, keys.ErrExposed), errors.Is(err, fs.ErrPermission):
		return console.ExitDenied
	case errors.Is(err, store.ErrCorrupt), events.ReasonOf(err) != "":
		return console.ExitInvalid
	case errors.Is(err, store.ErrForeign), errors.Is(err, store.ErrNewer), errors.Is(err, store.ErrLocked):
		return console.ExitConflict
	case errors.Is(err, agent.ErrNotRunning), errors.Is(err, agent.ErrNoAnswer), errors.Is(err, bus.ErrUnavailable):
		return console.ExitUnavailable
	}
	return console.ExitFailure
}
