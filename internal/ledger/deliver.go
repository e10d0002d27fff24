package ledger

import (
	"errors"
	"fmt"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// MaxDeliveries bounds the statements in one entry.
	MaxDeliveries = 250
	// maxStatement bounds one statement, and maxStatements those in one entry, in bytes: an entry stays below the largest message
	// of the bus, whatever agents say.
	maxStatement  = 64 << 10
	maxStatements = 512 << 10
)

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
	left := maxStatements
	readings := make([]reading, len(r.Deliveries))
	_ = inParallel(len(readings), func(i int) error { readings[i] = d.reading(r.Deliveries[i]); return nil })
	for i, delivery := range r.Deliveries {
		if readings[i].err != nil {
			continue // whoever took it from the bus counts it; it must not stop the others
		}
		statement, agent := readings[i].statement, readings[i].agent
		id := delivery.Environment + " " + delivery.Agent + " " + statement.identity()
		size := len(delivery.Ack) + len(delivery.Beat)
		if len(kept) == MaxDeliveries || size > left || fresh[id] || agent.Knows(statement) {
			continue
		}
		fresh[id] = true
		left -= size
		delivery.Stamp = events.Stamp(delivery.Stamp)
		kept = append(kept, delivery)
		d.read = append(d.read, readings[i])
		if statement.Word == events.WordApplied {
			reached.note(delivery.Environment, delivery.Agent, statement.Last)
		}
	}
	if len(kept) == 0 {
		return ErrNothingNew
	}
	d.record(events.TypeDeliveryRecorded, "", &events.DeliveryRecorded{Deliveries: kept})
	d.complete(reached)
	return nil
}

// maxCompleted bounds the changes that one entry completes; the next one completes more.
const maxCompleted = 250

// complete records which changes are delivered now, with the revisions that are being recorded as reached.
func (d *decision) complete(reached positions) {
	completed := 0
	for _, id := range d.order {
		if c := d.Changes[id]; c.status == StatusReleased && completed < maxCompleted && !c.Frozen() && d.delivered(c, reached) {
			d.record(events.TypeRolloutCompleted, c.ID, &events.RolloutCompleted{Change: c.ID})
			completed++
		}
	}
}

// A Statement is what an agent said, verified, before it is recorded: a Delivery with what tells it from others.
type Statement struct {
	Delivery
	Number uint64 // of the ack; 0 of a beat
	Chain  events.Digest
}

// Same says whether two statements of an agent say the same.
func (s Statement) Same(other Statement) bool { return s.identity() == other.identity() }

func (s Statement) identity() string {
	return fmt.Sprintf("%d %s %d %d %s", s.Number, s.Word, s.First, s.Last, s.Chain)
}

// Read verifies an ack, or a beat whose checkpoint stands for a lost ack. An agent beyond the ledger, or on another chain, is
// ReasonLedgerForked.
func (s *State) Read(d events.Delivery) (Statement, *Agent, error) {
	e, agent, err := s.sender(d)
	if err != nil {
		return Statement{}, agent, err
	}
	var w words
	if d.Beat != nil {
		w.beat, err = events.DecodeBeat(d.Beat, d.Signature, d.Environment, d.Agent, agent.Key)
	} else {
		w.ack, err = events.DecodeAck(d.Ack, d.Signature, d.Environment, d.Agent, agent.Key)
	}
	if err != nil {
		return Statement{}, agent, err
	}
	statement, err := s.heard(d, w, e, agent)
	return statement, agent, err
}

// Recorded says that an ack tells nothing new, whoever signed it: what it says is recorded of the agent that it names.
func (s *State) Recorded(d events.Delivery) bool {
	_, agent, err := s.sender(d)
	if err != nil || d.Ack == nil {
		return false
	}
	a, err := events.PeekAck(d.Ack)
	return err == nil && agent.Knows(Statement{Number: a.Number, Chain: a.Chain, Delivery: Delivery{Word: a.Word, First: a.First, Last: a.Last}})
}

// sender is who a delivery is said to be of.
func (s *State) sender(d events.Delivery) (*Environment, *Agent, error) {
	switch {
	case (d.Ack == nil) == (d.Beat == nil):
		return nil, nil, events.Errorf(events.ReasonMalformed, "a delivery is an ack or a beat")
	case len(d.Ack)+len(d.Beat) > maxStatement:
		return nil, nil, events.Errorf(events.ReasonMalformed, "a statement of %d bytes; at most %d are kept", len(d.Ack)+len(d.Beat), maxStatement)
	}
	e, found := s.Environments[d.Environment]
	if !found || e.Agents[d.Agent] == nil || e.Agents[d.Agent].Revoked {
		return nil, nil, refuse(KindNotFound, "", "no agent %s is enrolled in %s", d.Agent, d.Environment)
	}
	return e, e.Agents[d.Agent], nil
}

// words are what a delivery says, as it was read: an ack or a beat.
type words struct {
	ack  events.Ack
	beat events.Beat
}

// heard compares what an agent said with what the ledger released.
func (s *State) heard(d events.Delivery, w words, e *Environment, agent *Agent) (Statement, error) {
	if beat := w.beat; d.Beat != nil {
		if beat.Ledger != s.ID {
			return Statement{}, events.Errorf(events.ReasonWrongLedger, "the beat is for ledger %s", beat.Ledger)
		}
		out := Statement{Chain: beat.Chain, Delivery: Delivery{
			Word: events.WordApplied, First: min(agent.Position+1, beat.Revision), Last: beat.Revision, Stamp: d.Stamp, AtMost: true,
			Expected: beat.State, Observed: beat.Observed, ReadBack: !beat.Observed.IsZero(),
		}}
		return out, e.OnChain(beat.Revision, beat.Chain)
	}
	ack := w.ack
	out := Statement{Number: ack.Number, Chain: ack.Chain, Delivery: Delivery{
		Word: ack.Word, First: ack.First, Last: ack.Last, Stamp: d.Stamp, AtMost: ack.Resent, Expected: ack.Expected, Observed: ack.Observed,
		ReadBack: ack.ReadBack, Differing: ack.Differing, By: ack.By, Reason: ack.Reason, Message: ack.Message, Phases: ack.Phases,
	}}
	if ack.Ledger != s.ID {
		return out, events.Errorf(events.ReasonWrongLedger, "the ack is for ledger %s", ack.Ledger)
	}
	if ack.Word == events.WordRefused && ack.Last <= e.Head()+1 {
		return out, nil // what was refused need not be on the chain
	}
	if ack.Word != events.WordApplied && ack.Last <= e.Head() {
		return out, nil
	}
	return out, e.OnChain(ack.Last, ack.Chain)
}

// OnChain says whether a revision with a chain digest is one that the ledger released.
func (e *Environment) OnChain(revision uint64, chain events.Digest) error {
	if revision == 0 || revision > e.Head() || e.Releases[revision-1].Chain != chain {
		return events.Errorf(events.ReasonLedgerForked, "an agent of %s is at revision %d with chain %s, which this ledger has not released", e.Name, revision, chain.Short())
	}
	return nil
}

// A reading is what Read came to.
type reading struct {
	statement Statement
	agent     *Agent
	err       error
}

func (s *State) reading(d events.Delivery) (r reading) {
	r.statement, r.agent, r.err = s.Read(d)
	return r
}

func (p *projection) deliveryRecorded(f *events.DeliveryRecorded) error {
	for i, d := range f.Deliveries {
		r := p.said(i, d)
		if r.err != nil {
			return fmt.Errorf("%w: a recorded delivery of %s in %s: %w", ErrBroken, d.Agent, d.Environment, r.err)
		}
		r.statement.Entry, r.statement.Stamp = p.entry.Number, d.Stamp
		e := p.Environments[d.Environment]
		if p.whole {
			e = nil
		}
		r.agent.take(r.statement, e)
	}
	return nil
}

// said is delivery i as it was read when its entry was decided here, or as it is read now. What a beat says depends on the deliveries
// before it.
func (p *projection) said(i int, d events.Delivery) reading {
	if i < len(p.again) {
		return p.reread(p.again[i], d)
	}
	if i < len(p.tried.read) && d.Ack != nil {
		return p.tried.read[i]
	}
	return p.reading(d)
}

// positions are revisions that agents reached by statements that are being recorded.
type positions map[[2]string]uint64

func (p positions) note(environment, agent string, revision uint64) {
	key := [2]string{environment, agent}
	p[key] = max(p[key], revision)
}

// delivered says whether every agent that counts has applied the change in every environment where it is in force; where none counts,
// every agent that came later. An environment without agents has received what the last ones acknowledged; a retired one is not waited for.
func (s *State) delivered(c *Change, reached positions) bool {
	waited := 0
	if c.Trust != nil && s.lacksDocument(c.Trust.Version) {
		return false
	}
	for _, part := range c.Parts {
		e := s.Environments[part.Environment]
		if part.SourcesOnly() && part.InSources {
			waited++ // and is there
		}
		if part.Revision == 0 || part.Undone > 0 || e.Retired {
			continue
		}
		if !e.received(part.Revision, reached) {
			return false
		}
		waited++
	}
	return waited > 0
}

func (e *Environment) received(revision uint64, reached positions) bool {
	counting, later, lacking := 0, 0, 0
	for _, a := range e.Agents {
		counts := a.Counts(e.Releases[revision-1])
		holds := max(a.Position, reached[[2]string{e.Name, a.Name}]) >= revision
		switch {
		case counts && !holds:
			return false
		case counts:
			counting++
		case a.Revoked:
		case holds:
			later++
		default:
			lacking++
		}
	}
	return counting > 0 || (later > 0 && lacking == 0)
}
