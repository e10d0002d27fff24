package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/internal/tracing"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Options of a demo.
type Options struct {
	Once    bool      // end when every environment has applied and acknowledged everything
	Dir     string    // where data is kept; empty: a temporary directory that is removed
	Out     io.Writer // what people read
	Log     zerolog.Logger
	Command string // how the person starts the publisher, for the commands that are shown
	Tracer  trace.Tracer
}

// patience is how long the publisher may take to be ready, and a change to be applied everywhere, before the demo gives up: machines are
// busy, and disks slow.
const patience = 2 * time.Minute

type demo struct {
	Options
	kept      bool      // the directory is the person's
	keys      keys.Ring // of the people
	ledger    string    // its id; empty where a kept ledger's approvals are names
	publisher *publisher.Publisher
	group     *lifecycle.Group
}

// Run runs the demo until ctx ends or, with Once, until everything has arrived. An error says what did not.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o, kept: o.Dir != "", group: lifecycle.New(ctx)}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, d.group.Stop(bounded))
	}()
	if err := d.prepare(); err != nil {
		return err
	}
	if err = d.start(ctx); err == nil {
		err = d.play(ctx)
	}
	interrupted := ctx.Err() != nil && !o.Once // then what did not arrive yet is no failure
	if o.Once || err != nil && !interrupted {
		return err
	}
	if !interrupted {
		d.showNext()
		<-d.group.Done()
	}
	d.say("\nStopping. The data %s.", d.afterwards())
	return nil
}

// prepare finds the directory.
func (d *demo) prepare() error {
	if d.kept {
		return os.MkdirAll(d.Dir, 0o700)
	}
	return d.temporary()
}

func (d *demo) afterwards() string {
	if !d.kept {
		return "was temporary and is gone; keep it with --dir"
	}
	return "stays in " + d.Dir + ", and the next demo there goes on with it"
}

// start starts the publisher, and the agents beside their applications.
func (d *demo) start(ctx context.Context) error {
	if err := d.found(); err != nil {
		return err
	}
	p, err := publisher.New(ctx, publisher.Options{
		Data: filepath.Join(d.Dir, "publisher"), Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", Log: d.Log, Tracer: d.Tracer,
	})
	if err != nil {
		return err
	}
	d.publisher = p
	d.group.Defer("publisher", p.Stop)
	if err := p.Start(); err != nil {
		return err
	}
	d.group.Go("watch of the publisher", func(ctx context.Context) error {
		select {
		case <-p.Done():
			return errors.New("the publisher stopped")
		case <-ctx.Done():
			return nil
		}
	})
	remove, err := client.Advertise(p.URL(), string(d.keys)) // they are found from every other directory
	switch {
	case errors.Is(err, client.ErrAdvertised):
		d.Command += " --server " + p.URL() + " --keys " + string(d.keys)
	case err != nil:
		return err
	default:
		d.group.Defer("advertisement", func(context.Context) error { remove(); return nil })
	}
	d.say("The publisher serves %s, with an embedded bus; everything is in %s.", p.URL(), d.Dir)
	if d.ledger != "" {
		d.say("Everybody signs what they do, with the keys in %s.", d.keys)
	}
	for name, value := range secrets {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	if err := d.await(ctx, ready); err != nil {
		return err
	}
	for _, e := range environments {
		if _, err := d.do(ctx, operator, "add-"+e.Name, e); err != nil {
			return err
		}
		if err := d.startAgent(ctx, e.Name); err != nil {
			return fmt.Errorf("environment %s: %w", e.Name, err)
		}
	}
	d.say("Five environments, each with an agent that keeps flags.json, services.yaml, theme.json and .env of an order desk.\n")
	return nil
}

// play edits the directory of manifests, proposes it and approves that, and waits for each change to arrive.
func (d *demo) play(ctx context.Context) error {
	telling, err := begin(filepath.Join(d.Dir, source))
	if err != nil {
		return err
	}
	for i, chapter := range story {
		n := strconv.Itoa(i + 1)
		change, err := telling.next(chapter)
		if err != nil {
			return err
		}
		ctx, end, err := d.begin(ctx)
		if err != nil {
			return err
		}
		proposed, err := d.do(ctx, "anna", "propose-"+n, change)
		if err != nil {
			return err
		}
		if chapter.file != "" {
			d.say("%s", edited(chapter))
		}
		var c *ledger.Change
		d.publisher.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { c = s.Changes[proposed.Change] })
		d.say("%s  %s (%s)\n    proposed by %s, digest %s", c.ID, c.Reason, c.Ticket, c.Author, c.Digest.Short())
		approved, err := d.do(ctx, "ben", "approve-"+n, ledger.Approve{Change: c.ID, Digest: c.Digest})
		if err != nil {
			return err
		}
		end()
		if err := d.await(ctx, func(v fleet.View) error { return applied(v, approved) }); err != nil {
			return fmt.Errorf("change %s: %w", c.ID, err)
		}
		if err := d.showArrival(c.ID); err != nil {
			return err
		}
	}
	if err := d.await(ctx, inStep); err != nil {
		return err
	}
	d.showFleet()
	return nil
}

// begin begins a trace, of one chapter.
func (d *demo) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	if tracing.Made(d.Tracer) {
		ctx, span := d.Tracer.Start(ctx, "chapter")
		return ctx, func() { span.End() }, nil
	}
	parent, err := telemetry.NewTraceParent(rand.Reader)
	return tracing.Within(ctx, parent), func() {}, err
}

// await waits until the fleet is as wanted, and says what it is short of when it takes too long.
func (d *demo) await(ctx context.Context, wanted func(fleet.View) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		short := wanted(d.publisher.Fleet())
		if short == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.group.Done():
			return errors.Join(short, d.group.Cause(), errors.New("interrupted"))
		case <-ctx.Done():
			return short
		}
	}
}

// ready says what a ledger waits for that is just being opened. One that may not be written refuses the first command, with the reason.
func ready(v fleet.View) error {
	if v.Ledger.Writable || v.Ledger.Reason != events.ReasonStartup && v.Ledger.Reason != events.ReasonBusDown {
		return nil
	}
	return fmt.Errorf("the publisher is not ready: %s; where this machine is only busy, run the demo again", v.Ledger.Message)
}

// applied says which environment has not applied what a command released.
func applied(v fleet.View, o ledger.Outcome) error {
	for _, released := range o.Released {
		for _, e := range v.Environments {
			if e.Name == released.Environment && e.Revision < released.Revision {
				return fmt.Errorf("%s is %s at revision %d and should be at %d: %s", e.Name, e.Condition, e.Revision, released.Revision, e.Message)
			}
		}
	}
	return nil
}

func inStep(v fleet.View) error {
	for _, e := range v.Environments {
		if e.Condition != fleet.InStep {
			return fmt.Errorf("%s is %s at revision %d of %d: %s", e.Name, e.Condition, e.Revision, e.Head, e.Message)
		}
	}
	return nil
}

func (d *demo) showArrival(id string) (err error) {
	var c fleet.Change
	d.publisher.Read(func(s *ledger.State, r fleet.Reports, asOf time.Time) { c, err = fleet.ChangeOf(s, r, id, asOf) })
	if err != nil {
		return err
	}
	d.say("    approved by %s, released, applied, read back and acknowledged:", c.Approvals[0].By)
	d.table(func(w io.Writer) {
		for _, e := range c.Environments {
			if e.Revision == 0 {
				fmt.Fprintf(w, "      %s\tno revision\tonly its sources change\t\n", e.Environment)
				continue
			}
			fmt.Fprintf(w, "      %s\trevision %d\tafter %s\t%s\n", e.Environment, e.Revision, lag(e.Lag), digests(e))
		}
	})
	d.say("")
	return nil
}

func digests(e fleet.ChangeEnvironment) string {
	var out []string
	for _, a := range e.Agents {
		out = append(out, a.Agent+" read back "+a.Digest.Short())
	}
	return strings.Join(out, ", ")
}

func lag(d *fleet.Duration) string {
	if d == nil {
		return "-"
	}
	s := time.Duration(d.Seconds * float64(time.Second)).Round(100 * time.Microsecond).String()
	if d.AtMost {
		return "at most " + s
	}
	return s
}

func (d *demo) showFleet() {
	v := d.publisher.Fleet()
	d.table(func(w io.Writer) {
		fmt.Fprintln(w, "ENVIRONMENT\tREVISION\tHEAD\tLAG\tSTATE\tLAST DELIVERY")
		for _, want := range environments {
			for _, e := range v.Environments {
				if e.Name == want.Name {
					fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\n", e.Name, e.Revision, e.Head, e.LagRevisions, e.Condition, lag(e.Delivered))
				}
			}
		}
	})
}

// edited shows the lines that a chapter changes.
func edited(c chapter) string {
	out := source + "/" + c.file + " is edited:"
	before, after := strings.SplitAfter(c.before, "\n"), strings.SplitAfter(c.after, "\n")
	for _, line := range before {
		if line != "" && !slices.Contains(after, line) {
			out += "\n  - " + strings.TrimSpace(line)
		}
	}
	for _, line := range after {
		if line != "" && !slices.Contains(before, line) {
			out += "\n  + " + strings.TrimSpace(line)
		}
	}
	return out
}

func (d *demo) showNext() {
	dir := filepath.Join(d.Dir, source)
	d.say("\nIt stays up until Ctrl-C. The directory is %s; an application's files are in %s.", dir, filepath.Join(d.Dir, "prod-eu", "app"))
	d.say("Look at it in a browser: %s", d.publisher.URL())
	d.say("Edit a manifest, and try, in another terminal:\n")
	next := ""
	d.publisher.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { next = "c" + strconv.Itoa(len(s.Changes)+1) })
	d.say("  %s diff -f %s", d.Command, dir)
	d.say("  %s propose -f %s -m 'Quieter logs' --ticket OPS-43 --as carla", d.Command, dir)
	d.say("  %s approve %s --as ben --wait", d.Command, next)
	d.say("  %s explain prod-eu variable/order-limit", d.Command)
	d.say("  %s env compare staging prod-eu", d.Command)
	d.say("  %s status --watch", d.Command)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

func (d *demo) table(fill func(io.Writer)) {
	w := tabwriter.NewWriter(d.Out, 0, 4, 3, ' ', 0)
	fill(w)
	_ = w.Flush() // a terminal that has gone
}
