package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// gatherInterval is how often deliveries are recorded at most.
	gatherInterval = time.Second
	// beatGrace is how long a beat that is past an unrecorded revision waits for the ack before it is taken for the delivery.
	beatGrace = 3 * time.Second
	// unfitLife is how long an ack that fits nothing yet is kept: its entry may be on its way from another publisher.
	unfitLife = 30 * time.Second
	// clocksApart is how far apart the clocks of two publishers may be for agents not to notice when one takes over from the other.
	clocksApart = 365 * 24 * time.Hour
	// unfitMost is how many of those are kept; anybody can make some.
	unfitMost = 1_000
	// waitingMost is how many acks of one agent wait to be recorded, and waitingAll how many of all. The others stay in the stream, and
	// are read again when there is room.
	waitingMost, waitingAll = ledger.MaxDeliveries, 10_000
)

// reports are what agents say: every ack until it is recorded, and the newest beat of each.
type reports struct {
	book *book

	mu       sync.Mutex
	waiting  map[fleet.AgentID][]*gathered // not recorded yet, as they came; each once
	all      int                           // of these
	unfit    int                           // of these, that fit nothing yet
	missed   uint64                        // sequence of the first ack that there was no room for; 0: there was room for all
	room     chan struct{}                 // there is room again
	newest   map[fleet.AgentID]beatReport
	starts   map[fleet.AgentID][]start // of agents, but for the newest of each; at most startsMost each
	pulses   uint64                    // the highest counter that an agent heard in a pulse
	heard    chan struct{}             // closed when a beat arrives
	booted   chan struct{}             // an agent has started: it waits for a pulse
	applied  map[fleet.AgentID]uint64  // newest revision that an ack said is applied
	acked    chan struct{}             // closed when applied changes
	rejected map[events.Reason]int     // statements that were not valid
	before   fleet.Before              // of looks
}

// A gathered statement is on its way into the ledger.
type gathered struct {
	delivery  events.Delivery
	statement ledger.Statement
	fits      bool      // the statement was read: its agent signed it, and the ledger released what it is about
	until     time.Time // drop it then, if it still fits nothing
}

type beatReport struct {
	fleet.Beat
	delivery events.Delivery
	reached  time.Time // the bus's stamp of the first beat at this revision
}

func newReports(b *book) *reports {
	return &reports{
		book: b, waiting: map[fleet.AgentID][]*gathered{}, room: make(chan struct{}, 1),
		newest: map[fleet.AgentID]beatReport{}, starts: map[fleet.AgentID][]start{}, heard: make(chan struct{}),
		rejected: map[events.Reason]int{ // shown before the first: that is an increase
			events.ReasonSignature: 0, events.ReasonMalformed: 0, events.ReasonUpgradeNeeded: 0,
			events.ReasonWrongLedger: 0, events.ReasonWrongEnvironment: 0, events.ReasonLedgerForked: 0,
		},
		applied: map[fleet.AgentID]uint64{}, acked: make(chan struct{}), booted: make(chan struct{}, 1),
	}
}

// ack takes an ack from the bus. One that says what is recorded, or waits to be, is dropped.
func (r *reports) ack(report bus.Report) error {
	id := fleet.AgentID{Environment: report.Environment, Agent: report.Agent}
	g := &gathered{until: time.Now().Add(unfitLife), delivery: events.Delivery{
		Environment: report.Environment, Agent: report.Agent, Stamp: events.Stamp(report.Stamp), Ack: report.Payload, Signature: report.Signature,
	}}
	known := false
	r.book.read(func(s *ledger.State) { known = s.Recorded(g.delivery) })
	if known {
		return nil
	}
	known, err := r.judge(g)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch early := notYet(err); {
	case known || slices.ContainsFunc(r.waiting[id], g.same):
	case err != nil && !early, early && r.unfit >= unfitMost:
		r.reject(err)
	case len(r.waiting[id]) >= waitingMost || r.all >= waitingAll:
		if r.missed == 0 || report.Sequence < r.missed {
			r.missed = report.Sequence
		}
	default:
		r.waiting[id] = append(r.waiting[id], g)
		r.all++
		if early {
			r.unfit++
		}
		r.note(g)
	}
	return nil
}

// same says whether another one says the same, whenever it came.
func (g *gathered) same(other *gathered) bool {
	if g.fits && other.fits {
		return g.statement.Same(other.statement)
	}
	return g.delivery.Signature == other.delivery.Signature && bytes.Equal(g.delivery.Ack, other.delivery.Ack)
}

// follow takes acks from the stream, from the first one on that is not taken, until ctx ends or there is room for ones that were passed over.
func (r *reports) follow(ctx context.Context, read func(ctx context.Context, from uint64, fn func(bus.Report) error) error) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	r.mu.Lock()
	from := r.missed
	r.missed = 0
	r.mu.Unlock()
	var again sync.WaitGroup
	defer again.Wait()
	defer stop()
	again.Go(func() {
		select {
		case <-r.room:
			stop()
		case <-reading.Done():
		}
	})
	err := read(reading, from, r.ack)
	if reading.Err() != nil {
		return ctx.Err()
	}
	return err
}

// note keeps how far an agent has come, as far as an ack says it, and lets whoever awaits it look. mu is held.
func (r *reports) note(g *gathered) {
	if !g.fits || g.statement.Word != events.WordApplied {
		return
	}
	id := fleet.AgentID{Environment: g.delivery.Environment, Agent: g.delivery.Agent}
	r.applied[id] = max(r.applied[id], g.statement.Last)
	close(r.acked)
	r.acked = make(chan struct{})
}

// await waits until every agent that counts has acknowledged that it applied the releases.
func (r *reports) await(ctx context.Context, releases []events.ReleaseRef) error {
	for {
		r.mu.Lock()
		acked := r.acked
		for len(releases) > 0 && r.acknowledged(releases[0]) {
			releases = releases[1:]
		}
		r.mu.Unlock()
		if len(releases) == 0 {
			return nil
		}
		select {
		case <-acked:
		case <-ctx.Done():
			return fmt.Errorf("%d releases are not acknowledged, the first is revision %d of %s: %w",
				len(releases), releases[0].Revision, releases[0].Environment, context.Cause(ctx))
		}
	}
}

// acknowledged says whether every agent that counts has said that it applied a release. mu is held.
func (r *reports) acknowledged(ref events.ReleaseRef) (all bool) {
	r.book.read(func(s *ledger.State) {
		e := s.Environments[ref.Environment]
		if all = e != nil && ref.Revision > 0 && ref.Revision <= e.Head(); !all {
			return
		}
		for _, a := range e.Agents {
			if a.Counts(e.Releases[ref.Revision-1]) {
				all = all && max(a.Position, r.applied[fleet.AgentID{Environment: e.Name, Agent: a.Name}]) >= ref.Revision
			}
		}
	})
	return all
}

// notYet says that a statement may fit once more entries are known: its agent is not enrolled here, or is beyond the ledger.
func notYet(err error) bool {
	return err != nil && (events.ReasonOf(err) == events.ReasonLedgerForked || ledger.KindOf(err) == ledger.KindNotFound)
}

// reject counts a statement that was not valid. mu is held.
func (r *reports) reject(err error) {
	reason := events.ReasonOf(err)
	if reason == "" {
		reason = events.ReasonSignature // of nobody who is enrolled
	}
	r.rejected[reason]++
}

// judge reads a statement against the ledger; known says that nothing in it is new.
func (r *reports) judge(g *gathered) (known bool, err error) {
	r.book.read(func(s *ledger.State) {
		if g.fits { // verified before
			if a := enrolled(s, fleet.AgentID{Environment: g.delivery.Environment, Agent: g.delivery.Agent}); a != nil {
				known = a.Knows(g.statement)
				return
			}
		}
		var agent *ledger.Agent
		g.statement, agent, err = s.Read(g.delivery)
		g.fits = err == nil
		known = err == nil && agent.Knows(g.statement)
	})
	return known, err
}

// enrolled is the agent of that name, nil where there is none whose word counts.
func enrolled(s *ledger.State, id fleet.AgentID) *ledger.Agent {
	if e := s.Environments[id.Environment]; e != nil {
		if a := e.Agents[id.Agent]; a != nil && !a.Revoked {
			return a
		}
	}
	return nil
}

// beat takes a beat from the bus. It is kept when it is validly signed by the agent that it names, and newer than the one before:
// one that is sent again, by whomever, does not make a silent agent heard.
func (r *reports) beat(report bus.Report) error {
	id := fleet.AgentID{Environment: report.Environment, Agent: report.Agent}
	var key, of string
	r.book.read(func(s *ledger.State) {
		of = s.ID
		if a := enrolled(s, id); a != nil {
			key = a.Key
		}
	})
	beat, err := events.DecodeBeat(report.Payload, report.Signature, id.Environment, id.Agent, key)
	if err == nil && beat.Ledger != of {
		err = events.Errorf(events.ReasonWrongLedger, "the beat is for ledger %s", beat.Ledger)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.reject(err)
		return nil
	}
	before, heard := r.newest[id]
	now := beatReport{fleet.Beat{Beat: beat, Stamp: report.Stamp, Doubled: before.Doubled}, events.Delivery{
		Environment: id.Environment, Agent: id.Agent, Stamp: events.Stamp(report.Stamp), Beat: report.Payload, Signature: report.Signature,
	}, report.Stamp}
	if heard && !r.newer(id, beat, before.Beat.Beat) {
		if r.aside(id, now.Beat, before.Beat) {
			before.Doubled = report.Stamp
			r.newest[id] = before
		}
		return nil
	}
	if heard && before.Boot != beat.Boot {
		*r.start(id, before.Boot) = start{boot: before.Boot, past: true, number: before.Number}
	}
	if beat.Heard < pulseCounter(time.Now().Add(clocksApart)) { // one who names a greater number leaves none for the pulses to come
		r.pulses = max(r.pulses, beat.Heard)
	}
	if heard && before.Revision == beat.Revision {
		now.reached = before.reached
	}
	r.newest[id] = now
	if !heard || before.Boot != beat.Boot {
		nudge(r.booted)
	}
	close(r.heard)
	r.heard = make(chan struct{})
	return nil
}

// newer says whether a beat was made after another: beats of one boot are counted. Of two boots the later one has the later clock,
// or, where the agent's clock was turned back meanwhile, has heard later pulses; and one that another was heard after never comes
// back. mu is held.
func (r *reports) newer(id fleet.AgentID, b, before events.Beat) bool {
	if b.Boot == before.Boot {
		return b.Number > before.Number
	}
	return !r.start(id, b.Boot).past && (b.Clock.After(before.Clock) || b.Heard > before.Heard)
}

// pulsed is the highest counter that an agent heard in a pulse.
func (r *reports) pulsed() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pulses
}

// beats are the newest of every agent whose word counts.
func (r *reports) beats() map[fleet.AgentID]fleet.Beat {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[fleet.AgentID]fleet.Beat, len(r.newest))
	r.book.read(func(s *ledger.State) {
		for id, b := range r.newest {
			if enrolled(s, id) != nil {
				out[id] = b.Beat
			}
		}
	})
	return out
}

// versions are what agents say they run, by environment and agent.
func (r *reports) versions() map[string]map[string]string {
	return fleet.Reports{Beats: r.beats()}.Versions()
}

// view is what the fleet view needs beside the ledger, for one look at it.
func (r *reports) view() fleet.Reports {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := fleet.Reports{Beats: make(map[fleet.AgentID]fleet.Beat, len(r.newest)), Unrecorded: map[fleet.AgentID][]ledger.Statement{}, Before: &r.before}
	for id, b := range r.newest {
		out.Beats[id] = b.Beat
	}
	for id, waiting := range r.waiting {
		for _, g := range waiting {
			if g.fits {
				out.Unrecorded[id] = append(out.Unrecorded[id], g.statement)
			}
		}
	}
	return out.Once()
}

// awaitBeats waits for a beat after began of every agent that was alive when agents were last heard before, however long ago: what
// the bus holds may be an old backup. It says who did not answer.
func (r *reports) awaitBeats(ctx context.Context, began time.Time) (missing []fleet.AgentID) {
	began = r.book.busTime(began)
	var last time.Time
	for _, b := range r.beats() {
		if !b.Stamp.After(began) && b.Stamp.After(last) {
			last = b.Stamp
		}
	}
	for {
		r.mu.Lock()
		heard := r.heard
		r.mu.Unlock()
		missing = nil
		for id, b := range r.beats() {
			if !b.Stamp.After(began) && last.Sub(b.Stamp) < fleet.SilentAfter {
				missing = append(missing, id)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return missing
		}
	}
}

// due is what is to be recorded now, oldest first. What has been recorded meanwhile, by whomever, is forgotten; so is what fits nothing for
// too long.
func (r *reports) due(now time.Time) (due []gathered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, r.unfit = 0, 0
	full := false
	for id, waiting := range r.waiting {
		waiting = slices.DeleteFunc(waiting, func(g *gathered) bool {
			known, err := r.judge(g)
			r.note(g)
			switch {
			case known:
				return true
			case err == nil:
				due = append(due, *g)
			case notYet(err) && now.Before(g.until):
				r.unfit++
			default:
				r.reject(err)
				return true
			}
			return false
		})
		r.waiting[id] = waiting
		if len(waiting) == 0 {
			delete(r.waiting, id)
		}
		r.all += len(waiting)
		full = full || len(waiting) >= waitingMost
	}
	if r.missed > 0 && !full && r.all < waitingAll {
		nudge(r.room)
	}
	slices.SortStableFunc(due, func(a, b gathered) int { return a.delivery.Stamp.Compare(b.delivery.Stamp) })
	for _, d := range r.beatDeliveries(r.book.busTime(now)) {
		g := gathered{delivery: d}
		if known, err := r.judge(&g); err == nil && !known {
			due = append(due, g)
		}
	}
	return due[:min(len(due), ledger.MaxDeliveries)]
}

// beatDeliveries are the beats of agents that have long been past what the ledger knows of them: their acks were lost. mu is held.
func (r *reports) beatDeliveries(busNow time.Time) (out []events.Delivery) {
	r.book.read(func(s *ledger.State) {
		for id, b := range r.newest {
			if a := enrolled(s, id); a != nil && b.Revision > a.Position && busNow.Sub(b.reached) > beatGrace {
				out = append(out, b.delivery)
			}
		}
	})
	return out
}

// rejections is how many statements were not valid, by reason.
func (r *reports) rejections() map[events.Reason]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.rejected)
}

// gather records what agents said, at most one entry a second, and releases what waited for the end of a freeze or for room in an entry,
// while this publisher holds the lease. The others only forget what was recorded.
func (p *Publisher) gather(ctx context.Context) error {
	tick := time.NewTicker(gatherInterval)
	defer tick.Stop()
	frozen := thaw{Publisher: p}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		due := p.reports.due(time.Now())
		if standing, _ := p.book.standingNow(); !standing.writable || !p.leading.Load() {
			continue
		}
		frozen.release(ctx)
		p.spreadTrust(ctx)
		if len(due) == 0 {
			continue
		}
		deliveries := make([]events.Delivery, len(due))
		for i, g := range due {
			deliveries[i] = g.delivery
		}
		err := p.opts.Fault.Step(fault.DeliveryRecorded, func() error {
			_, err := p.book.do(ctx, ledger.Command{By: "publisher", Body: ledger.RecordDeliveries{Deliveries: deliveries}}, false)
			return err
		})
		switch {
		case err == nil:
			p.metrics.observe(p.book, due)
			p.logRecorded(due)
			p.traceRecorded(due)
		case !errors.Is(err, ledger.ErrNothingNew) && ctx.Err() == nil:
			p.book.read(func(s *ledger.State) {
				ofStatement(p.log.Warn(), s, due[0]).Err(err).Int("others", len(due)-1).Msg("what agents said could not be recorded; trying again")
			})
		}
	}
}
