package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// MaxDeliveries bounds the statements in one entry, so that it stays below the largest message of the bus.
const MaxDeliveries = 250

// A RecordDeliveries gathers agents' signed statements into the ledger. What is recorded already, or is not validly signed by an
// enrolled agent, is dropped: the publisher's own command, idempotent by its content.
type RecordDeliveries struct {
	Deliveries []events.Delivery `json:"deliveries"`
}

// ErrNothingNew says that every statement of a RecordDeliveries is recorded already, or none is valid.
var ErrNothingNew = errors.New("no statement is new")

func (RecordDeliveries) name() string { return "record-deliveries" }

func (r RecordDeliveries) decide(d *decision) error {
	var kept []events.Delivery
	fresh := map[string]bool{}
	reached := positions{}
	for _, delivery := range r.Deliveries {
		statement, agent, err := d.Read(delivery)
		if err != nil {
			continue // bus.Rejected counts it; it must not stop the others
		}
		id := delivery.Environment + " " + delivery.Agent + " " + statement.identity()
		if len(kept) == MaxDeliveries || fresh[id] || agent.Knows(statement) {
			continue
		}
		fresh[id] = true
		delivery.Stamp = events.Stamp(delivery.Stamp)
		kept = append(kept, delivery)
		if statement.Word == events.WordApplied {
			reached.note(delivery.Environment, delivery.Agent, statement.Last)
		}
	}
	if len(kept) == 0 {
		return ErrNothingNew
	}
	d.record(events.TypeDeliveryRecorded, "", events.DeliveryRecorded{Deliveries: kept})
	for _, c := range d.ChangeList() {
		if c.status == StatusReleased && reached.touches(c) && d.delivered(c, reached) {
			d.record(events.TypeRolloutCompleted, c.ID, events.RolloutCompleted{Change: c.ID})
		}
	}
	return nil
}

// A Statement is what an agent said, verified, before it is recorded: a Delivery with what tells it from others.
type Statement struct {
	Delivery
	Number uint64 // of the ack; 0 of a beat
	Chain  events.Digest
}

func (s Statement) identity() string {
	return fmt.Sprintf("%d %s %d %d %s", s.Number, s.Word, s.First, s.Last, s.Chain)
}

// Knows says whether the agent's statement is recorded, or tells nothing that is not. A beat tells only a position.
func (a *Agent) Knows(s Statement) bool {
	if s.Number == 0 {
		return s.Last <= a.Position
	}
	return a.recorded[s.identity()]
}

// Read verifies an ack, or a beat whose checkpoint stands for a lost ack. An agent beyond the ledger, or on another chain, is
// ReasonLedgerForked.
func (s *State) Read(d events.Delivery) (Statement, *Agent, error) {
	e, found := s.Environments[d.Environment]
	if !found || e.Agents[d.Agent] == nil || e.Agents[d.Agent].Revoked {
		return Statement{}, nil, refuse(KindNotFound, "", "no agent %s is enrolled in %s", d.Agent, d.Environment)
	}
	agent := e.Agents[d.Agent]
	if d.Beat != nil {
		beat, err := events.DecodeBeat(d.Beat, d.Signature, d.Environment, d.Agent, agent.Key)
		if err != nil {
			return Statement{}, agent, err
		}
		out := Statement{Chain: beat.Chain, Delivery: Delivery{
			Word: events.WordApplied, First: min(agent.Position+1, beat.Revision), Last: beat.Revision, Stamp: d.Stamp, AtMost: true,
			Expected: beat.State, Observed: beat.Observed, ReadBack: !beat.Observed.IsZero(),
		}}
		return out, agent, e.OnChain(beat.Revision, beat.Chain)
	}
	ack, err := events.DecodeAck(d.Ack, d.Signature, d.Environment, d.Agent, agent.Key)
	if err != nil {
		return Statement{}, agent, err
	}
	out := Statement{Number: ack.Number, Chain: ack.Chain, Delivery: Delivery{
		Word: ack.Word, First: ack.First, Last: ack.Last, Stamp: d.Stamp, AtMost: ack.Resent, Expected: ack.Expected, Observed: ack.Observed,
		ReadBack: ack.ReadBack, Differing: ack.Differing, By: ack.By, Reason: ack.Reason, Message: ack.Message, Phases: ack.Phases,
	}}
	if ack.Ledger != s.ID {
		return out, agent, events.Errorf(events.ReasonWrongLedger, "the ack is for ledger %s", ack.Ledger)
	}
	if ack.Word != events.WordApplied {
		return out, agent, nil // what was refused need not be on the chain
	}
	return out, agent, e.OnChain(ack.Last, ack.Chain)
}

// OnChain says whether a revision with a chain digest is one that the ledger released.
func (e *Environment) OnChain(revision uint64, chain events.Digest) error {
	if revision == 0 || revision > e.Head() || e.Releases[revision-1].Chain != chain {
		return events.Errorf(events.ReasonLedgerForked, "an agent of %s is at revision %d with chain %s, which this ledger has not released", e.Name, revision, chain.Short())
	}
	return nil
}

func (p *projection) deliveryRecorded(f *events.DeliveryRecorded) error {
	for _, d := range f.Deliveries {
		s, agent, err := p.Read(d)
		if err != nil {
			return fmt.Errorf("%w: a recorded delivery of %s in %s: %w", ErrBroken, d.Agent, d.Environment, err)
		}
		s.Entry = p.entry.Number
		agent.take(s)
	}
	return nil
}

// take adds a statement to what is known of the agent.
func (a *Agent) take(s Statement) {
	a.Deliveries = append(a.Deliveries, s.Delivery)
	if s.Number > 0 {
		a.recorded[s.identity()] = true
	}
	switch s.Word {
	case events.WordApplied:
		a.Position = max(a.Position, s.Last)
		if s.ReadBack || s.Number > 0 {
			a.Differing = s.Differing
		}
		if a.Open != nil && a.Open.Last <= s.Last {
			a.Open = nil
		}
	case events.WordSuperseded:
	default:
		open := s.Delivery
		a.Open = &open
	}
}

// With is the agent as it would be with statements that are not recorded yet.
func (a *Agent) With(statements []Statement) *Agent {
	if len(statements) == 0 {
		return a
	}
	out := *a
	out.Deliveries = slices.Clone(a.Deliveries)
	out.recorded = maps.Clone(a.recorded)
	for _, s := range statements {
		if !out.Knows(s) {
			out.take(s)
		}
	}
	return &out
}

// positions are revisions that agents reached by statements that are being recorded.
type positions map[[2]string]uint64

func (p positions) note(environment, agent string, revision uint64) {
	key := [2]string{environment, agent}
	p[key] = max(p[key], revision)
}

func (p positions) touches(c *Change) bool {
	for key := range p {
		if _, found := c.PartFor(key[0]); found {
			return true
		}
	}
	return false
}

// delivered says whether every agent that counts has applied the change in every environment it was released to. An environment
// without such agents has received nothing.
func (s *State) delivered(c *Change, reached positions) bool {
	for _, part := range c.Parts {
		if part.Revision == 0 {
			continue
		}
		e, counting := s.Environments[part.Environment], 0
		for _, a := range e.Agents {
			if !a.Counts(e.Releases[part.Revision-1]) {
				continue
			}
			counting++
			if max(a.Position, reached[[2]string{e.Name, a.Name}]) < part.Revision {
				return false
			}
		}
		if counting == 0 {
			return false
		}
	}
	return true
}
