package publisher

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
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
)

// reports are what agents say: every ack until it is recorded, and the newest beat of each.
type reports struct {
	mu       sync.Mutex
	waiting  []gathered // not recorded yet
	newest   map[fleet.AgentID]beatReport
	heard    chan struct{}         // closed when a beat arrives
	offset   time.Duration         // of the bus's clock from this one's
	rejected map[events.Reason]int // statements that were not valid
}

type gathered struct {
	delivery  events.Delivery
	statement ledger.Statement
	judged    bool      // statement was read
	after     time.Time // record it from then on
	until     time.Time // drop it then, if it still fits nothing
}

type beatReport struct {
	fleet.Beat
	delivery events.Delivery
}

func newReports() *reports {
	return &reports{newest: map[fleet.AgentID]beatReport{}, heard: make(chan struct{}), rejected: map[events.Reason]int{}}
}

// ack takes an ack from the bus.
func (r *reports) ack(b *book, report bus.Report, now time.Time) (ledger.Statement, bool) {
	g := gathered{until: now.Add(unfitLife), delivery: events.Delivery{
		Environment: report.Environment, Agent: report.Agent, Stamp: events.Stamp(report.Stamp), Ack: report.Payload, Signature: report.Signature,
	}}
	known, err := g.judge(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && events.ReasonOf(err) != events.ReasonLedgerForked && ledger.KindOf(err) != ledger.KindNotFound {
		r.rejected[events.ReasonOf(err)]++
		return g.statement, false
	}
	if known {
		return g.statement, false
	}
	r.waiting = append(r.waiting, g)
	return g.statement, err == nil
}

// judge reads the statement against the ledger; known says that nothing in it is new.
func (g *gathered) judge(b *book) (known bool, err error) {
	b.read(func(s *ledger.State) {
		var agent *ledger.Agent
		if g.statement, agent, err = s.Read(g.delivery); err == nil {
			g.judged, known = true, agent.Knows(g.statement)
		}
	})
	return known, err
}

// beat takes a beat from the bus. It is kept when it is validly signed by the agent that it names.
func (r *reports) beat(b *book, report bus.Report) {
	id := fleet.AgentID{Environment: report.Environment, Agent: report.Agent}
	var key string
	b.read(func(s *ledger.State) {
		if e := s.Environments[id.Environment]; e != nil && e.Agents[id.Agent] != nil && !e.Agents[id.Agent].Revoked {
			key = e.Agents[id.Agent].Key
		}
	})
	beat, err := events.DecodeBeat(report.Payload, report.Signature, id.Environment, id.Agent, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.rejected[events.ReasonOf(err)]++
		return
	}
	r.newest[id] = beatReport{fleet.Beat{Beat: beat, Stamp: report.Stamp}, events.Delivery{
		Environment: id.Environment, Agent: id.Agent, Stamp: events.Stamp(report.Stamp), Beat: report.Payload, Signature: report.Signature,
	}}
	close(r.heard)
	r.heard = make(chan struct{})
}

func (r *reports) beats() map[fleet.AgentID]fleet.Beat {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[fleet.AgentID]fleet.Beat, len(r.newest))
	for id, b := range r.newest {
		out[id] = b.Beat
	}
	return out
}

// view is what the fleet view needs beside the ledger.
func (r *reports) view() fleet.Reports {
	out := fleet.Reports{Beats: r.beats(), Unrecorded: map[fleet.AgentID][]ledger.Statement{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.waiting {
		if g.judged && g.delivery.Ack != nil {
			id := fleet.AgentID{Environment: g.delivery.Environment, Agent: g.delivery.Agent}
			out.Unrecorded[id] = append(out.Unrecorded[id], g.statement)
		}
	}
	return out
}

// setBusTime notes what the bus's clock says now.
func (r *reports) setBusTime(bus, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offset = bus.Sub(now)
}

// busTime is the bus's time: stamps are compared with it.
func (r *reports) busTime(now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Add(r.offset)
}

// awaitBeats waits for a beat after began of every agent that was alive then, and says who did not answer.
func (r *reports) awaitBeats(ctx context.Context, began time.Time) ([]fleet.AgentID, error) {
	for {
		r.mu.Lock()
		began := began.Add(r.offset)
		heard := r.heard
		var missing []fleet.AgentID
		for id, b := range r.newest {
			if !b.Stamp.After(began) && began.Sub(b.Stamp) < fleet.SilentAfter {
				missing = append(missing, id)
			}
		}
		r.mu.Unlock()
		if len(missing) == 0 {
			return nil, nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return missing, nil
			}
			return missing, ctx.Err()
		}
	}
}

// gather records what agents said, at most one entry a second, while this publisher holds the lease.
func (r *reports) gather(ctx context.Context, b *book, failed func(error)) {
	tick := time.NewTicker(gatherInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if standing, _ := b.standingNow(); !standing.writable {
			continue
		}
		deliveries := r.due(b, time.Now())
		if len(deliveries) == 0 {
			continue
		}
		if _, err := b.do(ctx, ledger.Command{By: "publisher", Body: ledger.RecordDeliveries{Deliveries: deliveries}}, false); err != nil &&
			!errors.Is(err, ledger.ErrNothingNew) && ctx.Err() == nil {
			failed(err)
		}
	}
}

// due is what is to be recorded now. What has been recorded meanwhile, by whomever, is forgotten; so is what fits nothing for too long.
func (r *reports) due(b *book, now time.Time) []events.Delivery {
	waiting := r.candidates(b)
	var due []events.Delivery
	done := map[string]bool{}
	for i := range waiting {
		g := &waiting[i]
		known, err := g.judge(b)
		switch {
		case known, err != nil && now.After(g.until):
			done[g.delivery.Signature] = true
		case err == nil && !now.Before(g.after) && len(due) < ledger.MaxDeliveries:
			due = append(due, g.delivery)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = slices.DeleteFunc(r.waiting, func(g gathered) bool { return done[g.delivery.Signature] })
	for i := range r.waiting {
		if !r.waiting[i].judged {
			_, _ = r.waiting[i].judge(b) // what fits now is shown
		}
	}
	return due
}

// candidates are the acks that wait, and the beats of agents that are past what the ledger knows of them.
func (r *reports) candidates(b *book) []gathered {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.waiting)
	b.read(func(s *ledger.State) {
		for id, beat := range r.newest {
			e := s.Environments[id.Environment]
			if a := e.Agents[id.Agent]; beat.Revision > a.Position {
				out = append(out, gathered{delivery: beat.delivery, after: beat.Stamp.Add(beatGrace - r.offset)})
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
