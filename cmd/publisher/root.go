package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

const (
	groupChange  = "change"
	groupOperate = "operate"
	groupTrust   = "trust"
	groupServe   = "serve"
)

// run is the program without its process: arguments and streams in, exit code out.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &output{Writer: stdout}
	c := &cli{stdin: stdin, stdout: out, stderr: stderr}
	root := newRoot(c, args)
	root.SetArgs(args)
	root.SetIn(stdin)
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
		c.note("%s", interrupted(err))
		return exitInterrupted
	}
	var done *exitError
	if errors.As(err, &done) && done.message == "" {
		return done.code
	}
	c.note("publisher: %s", strings.Join(strings.Fields(plain(c.suggest(ctx, err))), " "))
	return exitCode(err)
}

// interrupted says what an interruption leaves open.
func interrupted(err error) string {
	if command, ok := errors.AsType[*client.InterruptedError](err); ok {
		return "interrupted: " + command.Error()
	}
	return "interrupted"
}

func newRoot(c *cli, args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "publisher",
		Short: "Carry approved configuration changes to every environment, in one order, and prove that they arrived",
		Long: `Lockstep carries every approved configuration change to every environment, in one order, and proves that it arrived.

Try it:     publisher demo
Propose:    publisher propose --env prod-eu --set variable/log-level=debug -m "chase OPS-1"
Approve:    publisher approve c1 --as ben --wait
Look:       publisher status`,
		SilenceErrors: true, SilenceUsage: true,
	}
	group(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// Flags of a command that is not there are not the mistake.
		if _, rest, found := root.Find(args); found == nil && cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			return cmd.Args(cmd, rest[:1])
		}
		return usage(cmd, "%v", err)
	})
	root.AddGroup(&cobra.Group{ID: groupChange, Title: "Change:"}, &cobra.Group{ID: groupOperate, Title: "Look and operate:"}, &cobra.Group{ID: groupTrust, Title: "Trust:"}, &cobra.Group{ID: groupServe, Title: "Serve:"})
	flags := root.PersistentFlags()
	flags.StringVar(&c.said.Server, "server", "", "the publisher's `URL` (default $LOCKSTEP_SERVER, the context file, or this user's publisher on this machine)")
	flags.StringVar(&c.said.As, "as", "", "act as `NAME` (default $LOCKSTEP_AS, the context file, or this user)")
	flags.StringVar(&c.said.Keys, "keys", "", "sign with the keys in `DIRECTORY` (default $LOCKSTEP_KEYS, the context file, those of this user's publisher, or keys beside the context file)")
	flags.StringVar(&c.said.TLS.CA, "tls-ca", "", "PEM `FILE`: who signs the publisher's certificate (default $LOCKSTEP_TLS_CA, the context file, or whom this system trusts)")
	flags.StringVar(&c.said.TLS.Cert, "tls-cert", "", "PEM `FILE`: the client's certificate, where the publisher demands one (default $LOCKSTEP_TLS_CERT or the context file)")
	flags.StringVar(&c.said.TLS.Key, "tls-key", "", "PEM `FILE`: its key (default $LOCKSTEP_TLS_KEY or the context file)")
	flags.VarP(&c.format, "output", "o", "write data as `FORMAT`: table, json or yaml")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		return notEmpty(cmd, "as", "keys", "digest", "idempotency-key")
	}
	add := func(id string, commands ...*cobra.Command) {
		for _, cmd := range commands {
			cmd.GroupID = id
			root.AddCommand(cmd)
		}
	}
	add(groupChange, initCommand(c), schemaCommand(c), checkCommand(c), policyCommand(c), diffCommand(c), renderCommand(c), proposeCommand(c), promoteCommand(c), reviseCommand(c), rebaseCommand(c), changesCommand(c), showCommand(c), approveCommand(c), rejectCommand(c), withdrawCommand(c), pauseCommand(c), resumeCommand(c), rollbackCommand(c))
	add(groupChange, importCommand(c), exportCommand(c))
	add(groupOperate, statusCommand(c), topCommand(c), historyCommand(c), getCommand(c), explainCommand(c), impactCommand(c), environmentCommand(c), ledgerCommand(c), auditCommand(c), doctorCommand(c))
	add(groupTrust, trustCommand(c), keyCommand(c), breakGlassCommand(c), reviewCommand(c))
	add(groupOperate, alarmsCommand(c))
	add(groupServe, demoCommand(c), serveCommand(c), benchCommand(c))
	root.AddCommand(versionCommand(c), exitCodesTopic())
	add(groupOperate, openCommand(c), tokenCommand(c))
	root.InitDefaultHelpCmd()
	demandKnownTopics(root)
	demandKnownArguments(root)
	return root
}

// demandKnownTopics lets 'help' refuse what it has nothing to say about, as a command that is not there is refused.
func demandKnownTopics(root *cobra.Command) {
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		return
	}
	help.Args = func(_ *cobra.Command, args []string) error {
		topic, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return topic.Args(topic, rest)
		}
		return nil
	}
}

// group makes a command that only holds others say what it holds, and suggest the one that was meant.
func group(cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
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
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
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

// An exitError ends the program with a code of its own. Without a message nothing more is to be said.
type exitError struct {
	code    int
	message string
}

func (e *exitError) Error() string { return e.message }

// notEmpty refuses flags that are given as an empty text: in a script, a variable that is not set.
func notEmpty(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed && f.Value.String() == "" {
			return usage(cmd, "--%s is empty; give it a value, or leave it out", name)
		}
	}
	return nil
}

// notTogether refuses two flags that exclude each other.
func notTogether(cmd *cobra.Command, one, other string) error {
	if cmd.Flags().Changed(one) && cmd.Flags().Changed(other) {
		return usage(cmd, "--%s and --%s do not go together", one, other)
	}
	return nil
}

func usage(cmd *cobra.Command, format string, args ...any) error {
	return &exitError{exitUsage, fmt.Sprintf(format, args...) + "; see '" + cmd.CommandPath() + " --help'"}
}

func exitCode(err error) int {
	var done *exitError
	if errors.As(err, &done) {
		return done.code
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return exitFailure
	}
	return api.ExitCode(err)
}

// suggest adds to an error about something that is not there the environment that may have been meant.
func (c *cli) suggest(ctx context.Context, err error) string {
	text := err.Error()
	if ledger.KindOf(err) != ledger.KindNotFound || len(c.named) == 0 {
		return text
	}
	known := c.environmentNames(ctx)
	for _, name := range c.named {
		if near := config.Nearest(name, known); near != "" && near != name {
			return fmt.Sprintf("%s; did you mean %q?", text, near)
		}
	}
	return text
}
