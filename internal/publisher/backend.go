package publisher

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/dashboard"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/internal/tracing"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Handler serves the API and the pages; streams of those who watch end with done.
func (p *Publisher) Handler(done <-chan struct{}) http.Handler {
	return api.New(api.Options{
		Backend: p, Version: telemetry.Version(), Hosts: p.opts.Hosts, Beyond: !isLoopback(p.opts.Listen), Refused: p.metrics.refusedHTTP,
		Health: http.HandlerFunc(p.health), Ready: http.HandlerFunc(p.ready), Metrics: telemetry.Metrics(p.opts.Registry),
		Pages: dashboard.New(dashboard.Options{Backend: p, Version: telemetry.Version(), Done: done, SignOut: api.SignOut}),
	})
}

// Do decides a command and appends its entry; with dryRun it only decides.
func (p *Publisher) Do(ctx context.Context, c ledger.Command, dryRun bool) (out ledger.Outcome, err error) {
	ctx, span := p.opts.Tracer.Start(tracing.Within(ctx, c.TraceParent), "command", trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(tracing.Verb.String(c.Verb()), tracing.DryRun.Bool(dryRun)))
	defer func() {
		span.SetAttributes(tracing.Change.String(out.Change))
		p.linkProposal(span, out.Change, c.TraceParent)
		tracing.End(span, err)
	}()
	if err := c.Prepare(); err != nil {
		return ledger.Outcome{}, err
	}
	out, err = p.book.do(ctx, c, dryRun)
	if err == nil && !dryRun {
		p.logDecided(c, out)
	}
	return out, err
}

// Read calls fn with what is known now; fn must not keep or change it.
func (p *Publisher) Read(fn func(s *ledger.State, r fleet.Reports, asOf time.Time)) {
	reports, asOf := p.reports.view(), p.book.busTime(time.Now())
	if s, _ := p.book.standingNow(); s.reason == events.ReasonBusDown {
		reports.Deaf = p.book.busTime(s.since)
	}
	p.book.read(func(s *ledger.State) { fn(s, reports, asOf) })
}

// Fleet is where every environment stands now.
func (p *Publisher) Fleet() (out fleet.View) {
	standing := p.ledgerView()
	p.Read(func(s *ledger.State, r fleet.Reports, asOf time.Time) { out = fleet.Build(s, r, standing, asOf) })
	return out
}

// Decisions are those that a filter wants before an entry, newest first, and at most so many.
func (p *Publisher) Decisions(f audit.Filter, before uint64, most int) audit.Page {
	p.book.mu.RLock()
	journal := p.book.journal
	p.book.mu.RUnlock() // nothing waits for a search
	return journal.Find(f, before, most)
}

// Await waits until every agent that counts has acknowledged that it applied the releases, and the fleet view shows it.
func (p *Publisher) Await(ctx context.Context, releases []events.ReleaseRef) error {
	return p.reports.await(ctx, releases)
}

// ledgerView says whether the ledger can be written.
func (p *Publisher) ledgerView() fleet.LedgerView {
	s, _ := p.book.standingNow()
	out := fleet.LedgerView{Writable: s.writable, Durability: p.durability}
	if !s.writable {
		out.Reason, out.Message, out.Since = s.reason, s.message, s.since
	}
	return out
}

// BusURL is where agents reach the bus.
func (p *Publisher) BusURL() string {
	if p.server == nil {
		return p.opts.NATS
	}
	scheme, address, _ := strings.Cut(p.server.ClientURL(), "://")
	return scheme + "://" + p.reachable(address)
}

// Verify reads the whole ledger from the bus again, into a state of its own, and derives every release again.
func (p *Publisher) Verify(ctx context.Context) (out api.Verification, err error) {
	began := time.Now()
	var known events.LedgerTip // before the bus is asked: this publisher may be appending
	p.book.read(func(s *ledger.State) {
		out.Ledger, known = s.ID, events.LedgerTip{Number: s.Number, Hash: s.Hash}
	})
	if out.Ledger == "" {
		return out, &api.UnavailableError{Reason: events.ReasonStartup, Message: "the ledger has not been reached yet", Next: "see 'publisher doctor'"}
	}
	state, forked := ledger.New(out.Ledger), false
	err = p.conn.ReadLedger(ctx, 1, func(s bus.Stored) error {
		_, released, err := state.Apply(s.Payload, s.Stamp)
		if err == nil {
			out.Releases += len(released)
			out.Tip = events.LedgerTip{Number: state.Number, Hash: state.Hash}
			forked = forked || (state.Number == known.Number && state.Hash != known.Hash)
		}
		return err
	})
	out.Seconds, out.Losses = time.Since(began).Seconds(), fleet.LossesOf(state)
	switch {
	case err != nil && reasonOf(err) == events.ReasonBusDown:
		return out, &api.UnavailableError{Reason: events.ReasonBusDown, Message: "the ledger could not be read: " + err.Error(), Next: "try again when the bus is back"}
	case err != nil:
		out.Message = err.Error()
	case state.Number < known.Number:
		out.Message = fmt.Sprintf("the bus's ledger ends at entry %d, and %d entries are known here", state.Number, known.Number)
	case forked:
		out.Message = fmt.Sprintf("entry %d on the bus is another one than the one known here", known.Number)
	default:
		out.OK, out.Message = true, fmt.Sprintf("%d entries are chained without a gap, and %d releases were derived again as recorded", state.Number, out.Releases)
		return out, nil
	}
	out.Next = "nothing is written until it is repaired; agents keep what they have; " + p.repairNext()
	return out, nil
}

// Doctor looks at everything that this publisher needs.
func (p *Publisher) Doctor(ctx context.Context) []api.Check {
	return []api.Check{p.checkBus(), p.checkCredentials(), p.checkDurability(ctx), p.checkStanding(), p.checkTrust(), p.checkLead(ctx), p.checkReleases(ctx), p.checkAgents()}
}

func (p *Publisher) checkBus() api.Check {
	c := api.Check{Name: "bus", OK: p.conn.Connected(), Message: "connected to " + p.BusURL()}
	if p.server != nil {
		if err := p.server.Healthy(); err != nil {
			return api.Check{Name: "bus", Message: err.Error(), Next: "after a failed write the embedded bus is frozen: make room on the disk and restart the publisher"}
		}
	}
	if !c.OK {
		c.Message, c.Next = "no connection to "+p.BusURL(), "start the bus, or look at the network; the publisher reconnects by itself"
	}
	return c
}

func (p *Publisher) checkDurability(ctx context.Context) api.Check {
	c := api.Check{Name: "durability", OK: p.durability == "proven", Message: "an appended decision survives power loss"}
	if end, err := p.conn.LedgerEnd(ctx); err == nil && end.Replicas > 1 {
		c.Message = fmt.Sprintf("an appended decision survives power loss, and the loss of a server: the ledger has %d replicas", end.Replicas)
	}
	if !c.OK {
		c.Message, c.Next = "not proven: a decision that was called appended may be lost with the power", "set sync_interval: always on the server, or three replicas, and start without --accept-unproven-durability"
	}
	return c
}

func (p *Publisher) checkStanding() api.Check {
	s, _ := p.book.standingNow()
	if s.writable {
		message := fmt.Sprintf("checked and open, to entry %d", p.book.number())
		p.book.read(func(s *ledger.State) {
			for _, l := range fleet.LossesOf(s) {
				message += "; " + l.String()
			}
		})
		return api.Check{Name: "ledger", OK: true, Message: message}
	}
	return api.Check{Name: "ledger", Message: fmt.Sprintf("read-only since %s (%s): %s", s.since.UTC().Format(time.RFC3339), s.reason, s.message),
		Next: p.next(s.reason)}
}

// checkTrust says how far what the ledger holds rests on signatures, and which break-glass nobody has reviewed.
func (p *Publisher) checkTrust() api.Check {
	c := api.Check{Name: "trust", OK: true, Message: "the ledger has not begun"}
	p.book.read(func(s *ledger.State) {
		switch reviews, trust := fleet.Reviews(s), s.Trust(); {
		case trust == nil:
		case len(reviews) > 0:
			c = api.Check{Name: "trust", Message: reviews[0].String(), Next: "two others sign it off with 'publisher review " + reviews[0].Change + " -m WHY'"}
		case trust.Approvals == events.ApprovalsAreNames:
			c.Message = "approvals are names: whoever reaches the API acts under any name; begin with 'publisher trust init'"
		default:
			c.Message = fmt.Sprintf("every command is signed, by the people of trust document %d", trust.Version)
		}
	})
	return c
}

func (p *Publisher) checkLead(ctx context.Context) api.Check {
	if p.leading.Load() {
		return api.Check{Name: "lease", OK: true, Message: "this publisher sends, gathers and pulses"}
	}
	lease, err := p.conn.Lease(ctx)
	if err != nil {
		return api.Check{Name: "lease", Message: err.Error(), Next: "look again in some seconds"}
	}
	return standby(lease, p.book.busTime(time.Now()))
}

// standby says whom a publisher without the lease stands by for. Nobody sends, gathers and pulses while the lease is a dead one's: whoever
// has not renewed it for two thirds of its life has stopped.
func standby(lease bus.Lease, busNow time.Time) api.Check {
	if lease.Holder == "" {
		return api.Check{Name: "lease", OK: true, Message: "it is free, and this publisher takes it at once"}
	}
	unheard := max(0, busNow.Sub(lease.Renewed))
	heard := fmt.Sprintf("last heard at %s, %s ago", lease.Renewed.UTC().Format(time.RFC3339), unheard.Round(100*time.Millisecond))
	if unheard > lease.TTL*2/3 {
		return api.Check{Name: "lease", Message: "nothing is sent, gathered and pulsed: it is still that of " + lease.Holder + ", " + heard,
			Next: "this one takes over by itself within seconds; look again"}
	}
	return api.Check{Name: "lease", OK: true, Message: lease.Holder + " sends, gathers and pulses, " + heard + "; this one stands by, and takes over should that one fall silent"}
}

func (p *Publisher) checkReleases(ctx context.Context) api.Check {
	counts, _, err := p.conn.ReleaseCounts(ctx)
	if err != nil {
		return api.Check{Name: "releases", Message: err.Error(), Next: "the stream is rebuilt from the ledger by itself; look again"}
	}
	c := api.Check{Name: "releases", OK: true, Message: "the stream holds what the ledger released"}
	p.book.read(func(s *ledger.State) {
		for name, e := range s.Environments {
			if counts[name] != e.Head() {
				c.OK, c.Message = false, fmt.Sprintf("the stream holds %d releases of %s, and the ledger released %d", counts[name], name, e.Head())
				c.Next = "they are sent again by themselves; look again in some seconds"
			}
		}
	})
	return c
}

func (p *Publisher) checkAgents() api.Check {
	c := api.Check{Name: "agents", OK: true, Message: "every environment is in step"}
	environments := p.Fleet().Environments
	if len(environments) == 0 {
		c.Message = "there are no environments yet; add one with 'publisher env add NAME'"
	}
	for _, e := range environments {
		if e.Condition != fleet.InStep && e.Condition != fleet.Retired {
			standing := string(e.Condition)
			if e.Reason != "" {
				standing += " (" + string(e.Reason) + ")"
			}
			return api.Check{Name: "agents", Message: fmt.Sprintf("%s is %s: %s", e.Name, standing, e.Message), Next: "see 'publisher status'"}
		}
	}
	return c
}

func (p *Publisher) health(w http.ResponseWriter, _ *http.Request) {
	if p.server != nil {
		if err := p.server.Healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// ready says whether commands are taken; when not, why and for how long.
func (p *Publisher) ready(w http.ResponseWriter, _ *http.Request) {
	view := p.ledgerView()
	p.book.read(func(s *ledger.State) { view = view.Of(s) })
	w.Header().Set("Content-Type", "application/json")
	if !view.Writable {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(view) // the client has gone
}
