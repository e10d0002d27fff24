package ledger

import (
	"fmt"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Reread is an entry that was applied before, decoded again.
type Reread struct {
	entry events.Entry
	facts []events.Fact
	hash  events.Digest
	said  []words // by the agents, in the order of its deliveries
}

// RereadEntry decodes an entry, with the hash of its bytes, of which the caller knows that Apply took it before, byte for byte. What does not depend on the state and held
// then is not checked again: that agents signed what they are said to have said, and that the entry is in its one form. It is
// safe for concurrent use.
func RereadEntry(payload []byte, hash events.Digest) (*Reread, error) {
	entry, facts, err := events.RereadEntry(payload)
	if err != nil {
		return nil, err
	}
	r := &Reread{entry: entry, facts: facts, hash: hash}
	for _, f := range facts {
		recorded, ok := f.Data.(*events.DeliveryRecorded)
		if !ok {
			continue
		}
		for _, d := range recorded.Deliveries {
			var w words
			if d.Beat != nil {
				w.beat, err = events.PeekBeat(d.Beat)
			} else {
				w.ack, err = events.PeekAck(d.Ack)
			}
			if err != nil {
				return nil, fmt.Errorf("a recorded delivery of %s in %s: %w", d.Agent, d.Environment, err)
			}
			r.said = append(r.said, w)
		}
	}
	return r, nil
}

// ApplyAgain is Apply for an entry that is read again. The chain, what people signed, and every release are checked as Apply does.
func (s *State) ApplyAgain(r *Reread, stamp time.Time) (events.Entry, []Released, error) {
	p := projection{State: s, entry: r.entry, stamp: stamp, again: r.said}
	err := p.follows()
	if err == nil {
		p.spoken, err = p.judgedEntry(p.entry, r.facts)
	}
	if err == nil {
		err = p.take(r.facts, r.hash)
	}
	if err != nil {
		return p.entry, nil, fmt.Errorf("entry %d: %w", p.entry.Number, err)
	}
	return p.entry, p.released, nil
}

// reread is a delivery whose words were read when they were recorded.
func (p *projection) reread(w words, d events.Delivery) (r reading) {
	var e *Environment
	if e, r.agent, r.err = p.sender(d); r.err == nil {
		r.statement, r.err = p.heard(d, w, e, r.agent)
	}
	return r
}
