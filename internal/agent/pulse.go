package agent

import (
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// hearing is what the agent has heard of its publisher.
type hearing struct {
	ledger   string
	allows   func(key string) bool
	clock    func() time.Time
	mu       sync.Mutex
	newest   store.Tip // the newest tip, and the highest counter
	at       time.Time // of the newest valid pulse since the start
	before   time.Time // of the newest one before it
	problem  error     // the newest pulse contradicts what was heard before
	rejected uint64
	kept     store.Tip // as the store has it
}

// restore takes what was heard before the start.
func (h *hearing) restore(t *store.Tip) {
	if t != nil {
		h.newest, h.kept, h.before = *t, *t, t.At
	}
}

// hear judges one pulse and says whether it is valid and new. Anything else is counted and changes nothing.
func (h *hearing) hear(payload []byte, signature string) (pulse events.Pulse, heard bool) {
	pulse, err := events.DecodePulse(payload, signature, h.allows)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil || pulse.Ledger != h.ledger || pulse.Counter <= h.newest.Counter {
		h.rejected++
		return pulse, false
	}
	h.at = time.Now()
	seen := h.newest.Tip
	h.newest.Counter, h.newest.At = pulse.Counter, events.Stamp(h.clock())
	switch {
	case pulse.Tip.Number < seen.Number:
		h.problem = events.Errorf(events.ReasonLedgerTruncated, "the publisher's ledger ends at entry %d, entry %d was seen before", pulse.Tip.Number, seen.Number)
	case pulse.Tip.Number == seen.Number && pulse.Tip.Hash != seen.Hash:
		h.problem = events.Errorf(events.ReasonLedgerForked, "the publisher's entry %d has the hash %s, %s was seen before", seen.Number, pulse.Tip.Hash.Short(), seen.Hash.Short())
	case events.ReasonOf(h.problem) == events.ReasonLedgerForked && pulse.Tip != seen:
		// Only the entry that was seen before, or a restart after somebody looked, makes this good.
	default:
		h.newest.Tip, h.problem = pulse.Tip, nil
	}
	return pulse, true
}

// unkept is the newest tip, if the store has an older one.
func (h *hearing) unkept() (store.Tip, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.newest, h.newest != h.kept
}

func (h *hearing) keep(t store.Tip) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = t
}

// heard is a copy of what a condition needs.
type heard struct {
	tip        events.LedgerTip
	counter    uint64
	at, before time.Time
	problem    error
	rejected   uint64
}

func (h *hearing) now() heard {
	h.mu.Lock()
	defer h.mu.Unlock()
	return heard{h.newest.Tip, h.newest.Counter, h.at, h.before, h.problem, h.rejected}
}
