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
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/keys"
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
	out := &console.Output{Writer: stdout}
	c := &cli{stdin: stdin, stdout: out, stderr: stderr}
	root := newRoot(c, args)
	root.SetArgs(args)
	root.SetIn(stdin)
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
		c.note("%s", interrupted(err))
		return console.ExitInterrupted
	}
	var done *console.ExitError
	if errors.As(err, &done) && done.Message == "" {
		return done.Code
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
	console.Group(root)
	root.AddGroup(&cobra.Group{ID: groupChange, Title: "Change:"}, &cobra.Group{ID: groupOperate, Title: "Look and operate:"}, &cobra.Group{ID: groupTrust, Title: "Trust:"}, &cobra.Group{ID: groupServe, Title: "Serve:"})
	flags := root.PersistentFlags()
	flags.StringVar(&c.said.Server, "server", "", "the publisher's `URL` (default $LOCKSTEP_SERVER, the context file, or this user's publisher on this machine)")
	flags.StringVar(&c.said.As, "as", "", "act as `NAME` (default $LOCKSTEP_AS, the context file, or this user)")
	flags.StringVar(&c.said.Keys, "keys", "", "sign with the keys in `DIRECTORY` (default $LOCKSTEP_KEYS, the context file, those of this user's publisher, or keys beside the context file)")
	flags.StringVar(&c.said.TLS.CA, "tls-ca", "", "PEM `FILE`: who signs the publisher's certificate (default $LOCKSTEP_TLS_CA, the context file, or whom this system trusts)")
	flags.StringVar(&c.said.TLS.Cert, "tls-cert", "", "PEM `FILE`: the client's certificate, where the publisher demands one (default $LOCKSTEP_TLS_CERT or the context file)")
	flags.StringVar(&c.said.TLS.Key, "tls-key", "", "PEM `FILE`: its key (default $LOCKSTEP_TLS_KEY or the context file)")
	flags.VarP(&c.format, "output", "o", "write data as `FORMAT`: table, json or yaml")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(console.Formats, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
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
	root.AddCommand(console.VersionCommand("publisher", &c.format), exitCodesTopic())
	add(groupOperate, openCommand(c), tokenCommand(c))
	console.Strict(root, args)
	return root
}

// notEmpty refuses flags that are given as an empty text: in a script, a variable that is not set.
func notEmpty(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed && f.Value.String() == "" {
			return console.Usage(cmd, "--%s is empty; give it a value, or leave it out", name)
		}
	}
	return nil
}

// notTogether refuses two flags that exclude each other.
func notTogether(cmd *cobra.Command, one, other string) error {
	if cmd.Flags().Changed(one) && cmd.Flags().Changed(other) {
		return console.Usage(cmd, "--%s and --%s do not go together", one, other)
	}
	return nil
}

func exitCode(err error) int {
	var done *console.ExitError
	if errors.As(err, &done) {
		return done.Code
	}
	if errors.Is(err, keys.ErrExposed) {
		return console.ExitDenied
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return console.ExitFailure
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
