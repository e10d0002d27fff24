package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/term"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/internal/tracing"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// cli is what all verbs share.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	said           client.Target // on the command line
	format         console.Format
	named          []string // environments that the command line names
	warned         bool     // what is wrong with the ledger has been said
}

// note tells the person something that is no data.
func (c *cli) note(format string, args ...any) { fmt.Fprintf(c.stderr, format+"\n", args...) }

// connect finds the publisher, and who acts.
func (c *cli) connect() (*client.Client, string, error) {
	target, err := client.Locate(c.said)
	if err != nil {
		return nil, "", err
	}
	publisher, err := client.New(target)
	if err == nil {
		publisher.Identify(target.As, func() (*events.Signer, error) { return readerKey(target) })
	}
	return publisher, target.As, err
}

// readerKey is the key of who reads, where the publisher asks.
func readerKey(target client.Target) (*events.Signer, error) {
	key, err := keys.Ring(target.Keys).Read(target.As)
	if errors.Is(err, keys.ErrNoKey) {
		return nil, console.Exit(console.ExitDenied, "the publisher asks who reads, and there is no key of "+plain(target.As)+" here: say who you are with --as, or make a key with "+hint("publisher key new", target.As)+
			" and have an administrator add it to the trust document")
	}
	return key.Signer, err
}

// writing are the flags of a verb that changes something.
type writing struct {
	dryRun bool
	key    string
	life   time.Duration // how long an approval counts; 0 is the usual time
}

func (w *writing) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.dryRun, "dry-run", false, "only say what would happen")
	cmd.Flags().StringVar(&w.key, "idempotency-key", "", "a `KEY` of your own: the same command with the same key is done once")
}

// id is the command's: the person's own, or a new one.
func (w *writing) id() string {
	if w.key == "" {
		w.key = uuid.NewString()
	}
	return w.key
}

// do sends a command.
func (c *cli) do(ctx context.Context, w writing, body ledger.Body) (ledger.Outcome, error) {
	act := c.act
	if w.dryRun {
		act = c.actUnsigned
	}
	a, err := act(ctx)
	if err != nil {
		return ledger.Outcome{}, err
	}
	return c.doAs(ctx, a, w, body)
}

// doAs sends a command of somebody.
func (c *cli) doAs(ctx context.Context, a actor, w writing, body ledger.Body) (ledger.Outcome, error) {
	out, err := c.sendTraced(ctx, a, w, ledger.Command{ID: w.id(), Body: body})
	if err == nil && !c.warned {
		c.warned = true
		if view, err := a.desk.Fleet(ctx); err == nil {
			c.banner(view)
		}
	}
	if err == nil && out.Again {
		c.note("this was done before, and is not done twice")
	}
	return out, err
}

// sendTraced sends a command within the trace in which this program was started, as CI jobs say it, or within a new one.
func (c *cli) sendTraced(ctx context.Context, a actor, w writing, command ledger.Command) (out ledger.Outcome, err error) {
	tracer, stop, err := tracing.Tracer(ctx, "lockstep-command", telemetry.Version(), func(err error) { c.note("! spans could not be exported: %v", err) })
	if err != nil {
		return out, err
	}
	defer stop()
	ctx, span := tracer.Start(tracing.Within(ctx, os.Getenv("TRACEPARENT")), command.Verb(), trace.WithSpanKind(trace.SpanKindClient))
	defer func() {
		span.SetAttributes(tracing.Change.String(out.Change))
		tracing.End(span, err)
	}()
	if command.TraceParent = tracing.Parent(ctx); command.TraceParent == "" {
		if command.TraceParent, err = telemetry.NewTraceParent(rand.Reader); err != nil {
			return out, err
		}
	}
	return a.send(ctx, command, w.dryRun, w.life)
}

// name notes environments that the command line names, so that an error can suggest others.
func (c *cli) name(environments ...string) { c.named = append(c.named, environments...) }

func (c *cli) environmentNames(ctx context.Context) []string {
	var names []string
	for _, e := range c.fleetOrNothing(ctx).Environments {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return names
}

// fleetOrNothing is the fleet for suggestions, which are left out where it cannot be read.
func (c *cli) fleetOrNothing(ctx context.Context) fleet.View {
	publisher, _, err := c.connect()
	if err != nil {
		return fleet.View{}
	}
	view, err := publisher.Fleet(ctx)
	if err != nil {
		return fleet.View{}
	}
	return view
}

// confirm asks on a terminal; elsewhere --yes must have answered.
func (c *cli) confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(c.stdin) {
		return console.Usage(cmd, "nobody is there to be asked; say --yes")
	}
	fmt.Fprintf(c.stderr, "%s [y/N] ", question)
	answer, err := readLine(cmd.Context(), c.stdin)
	if err != nil {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return console.Exit(console.ExitFailure, "not confirmed; nothing was done")
	}
	return nil
}

// readLine reads a line, unless ctx ends before it was written.
func readLine(ctx context.Context, from io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() { // nothing but the end of the program ends a read from a terminal
		line, err := bufio.NewReader(from).ReadString('\n')
		read <- result{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case r := <-read:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", r.err)
		}
		return r.line, nil
	}
}

func isTerminal(stream any) bool {
	f, ok := file(stream)
	return ok && term.IsTerminal(int(f.Fd()))
}

// file is the file behind a stream.
func file(stream any) (*os.File, bool) {
	if out, ok := stream.(*console.Output); ok {
		stream = out.Writer
	}
	f, ok := stream.(*os.File)
	return f, ok
}

// live says whether a line on standard error may be written over.
func (c *cli) live() bool {
	return isTerminal(c.stderr) && os.Getenv("CI") == "" && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
