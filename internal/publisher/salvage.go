package publisher

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A salvage gathers what copies of a ledger still hold. Entries name the hash of the one before, so that copies complete each other.
type salvage struct {
	entries map[events.Digest]*salvaged
	standIn map[events.Digest]*salvaged // what stands for a lost entry, by the hash of that
	copies  []*copyHeld
	refused map[uint64]error // why an entry that can be read does not verify, by its number
}

func newSalvage() *salvage {
	return &salvage{entries: map[events.Digest]*salvaged{}, standIn: map[events.Digest]*salvaged{}, refused: map[uint64]error{}}
}

// newer says that a newer program wrote what stands after a chain: nothing of that may be given up. Before its end such an entry is
// a damaged one, which another copy replaced.
func (s *salvage) newer(than *chain) error {
	check := func(who string, refused map[uint64]error) error {
		for number, err := range refused {
			if number > uint64(len(than.entries)) && events.ReasonOf(err) == events.ReasonUpgradeNeeded {
				return fmt.Errorf("entry %d of %s: %w", number, who, err)
			}
		}
		return nil
	}
	err := check("the ledger", s.refused)
	for _, c := range s.copies {
		err = errors.Join(err, check(c.name, c.unreadable))
	}
	return err
}

// salvaged is an entry that at least one copy holds.
type salvaged struct {
	bus.Stored     // with the stamp of the first copy that holds it
	hash, previous events.Digest
	stands         events.Digest // the hash that the next entry names, where it is another
	ledger         string
	copies, next   int  // copies that hold it; entries that follow it
	disproved      bool // the copy that holds it goes on as if it were another one
}

// copyHeld is what one copy holds.
type copyHeld struct {
	name       string
	held       map[uint64]*salvaged
	unreadable map[uint64]error // by the number that should stand there
	last       uint64
}

// A chain is a verified ledger from entry 1 to its tip.
type chain struct {
	entries []*salvaged
	state   *ledger.State
}

func (c *chain) tip() *salvaged { return c.entries[len(c.entries)-1] }

func (c *chain) holds(e *salvaged) bool {
	return e != nil && e.Sequence <= uint64(len(c.entries)) && c.entries[e.Sequence-1].hash == e.hash
}

func (s *salvage) copyOf(name string) *copyHeld {
	c := &copyHeld{name: name, held: map[uint64]*salvaged{}, unreadable: map[uint64]error{}}
	s.copies = append(s.copies, c)
	return c
}

// take adds what a copy holds at the place of an entry.
func (s *salvage) take(c *copyHeld, m bus.Stored) {
	c.last = m.Sequence
	entry, err := events.DecodeEntry(m.Payload)
	if err == nil && entry.Number != m.Sequence {
		err = fmt.Errorf("entry %d stands there", entry.Number)
	}
	if err != nil {
		c.unreadable[m.Sequence] = err
		return
	}
	hash := events.Sum(m.Payload)
	if s.entries[hash] == nil {
		e := &salvaged{Stored: m, hash: hash, previous: entry.Previous, ledger: entry.Ledger}
		s.entries[hash] = e
		if fact, err := events.DecodeFact(entry.Events[0]); err == nil {
			if recovered, ok := fact.(*events.HistoryRecovered); ok && !recovered.Stands.IsZero() {
				e.stands = recovered.Stands
				s.standIn[recovered.Stands] = e
			}
		}
	}
	s.entries[hash].copies++
	c.held[m.Sequence] = s.entries[hash]
}

// chains are the verified chains that are not the beginning of another, longest first. More than one is a fork.
func (s *salvage) chains() []*chain {
	for _, e := range s.entries {
		for _, before := range []*salvaged{s.entries[e.previous], s.standIn[e.previous]} {
			if before != nil {
				before.next++
			}
		}
	}
	s.disprove()
	var all []*chain
	for _, e := range s.entries {
		if e.next > 0 {
			continue
		}
		c := s.verified(s.path(e, s.entries, s.standIn))
		if other := s.verified(s.path(e, s.standIn, s.entries)); len(other.entries) > len(c.entries) {
			c = other // a lost entry turned up, and the ledger went on with what stands for it
		}
		if len(c.entries) > 0 && !slices.ContainsFunc(all, func(other *chain) bool { return other.holds(c.tip()) }) {
			all = append(slices.DeleteFunc(all, func(other *chain) bool { return c.holds(other.tip()) }), c)
		}
	}
	slices.SortFunc(all, func(a, b *chain) int {
		if len(a.entries) != len(b.entries) {
			return len(b.entries) - len(a.entries)
		}
		return a.tip().Stamp.Compare(b.tip().Stamp)
	})
	return all
}

// disprove finds entries that were altered and can still be read: the next one in their copy does not follow them, and is itself
// attested by one that follows it or by another copy.
func (s *salvage) disprove() {
	for _, c := range s.copies {
		for number, e := range c.held {
			if next := c.held[number+1]; next != nil && next.previous != e.hash && next.previous != e.stands && (next.next > 0 || next.copies > 1) {
				e.disproved = true
			}
		}
	}
}

// path are the entries from number 1 to e; none where some of them are lost. What one map does not have is taken from the other.
func (s *salvage) path(e *salvaged, first, second map[events.Digest]*salvaged) []*salvaged {
	if e.Sequence > uint64(len(s.entries)) {
		return nil
	}
	path := make([]*salvaged, e.Sequence)
	for n := e.Sequence; n > 0; n-- {
		if e == nil || e.Sequence != n {
			return nil
		}
		path[n-1] = e
		before := e.previous
		if e = first[before]; e == nil {
			e = second[before]
		}
	}
	return path
}

// verified is a path as far as it is a ledger: every entry is the projection's next one, and every release is derived as recorded.
func (s *salvage) verified(path []*salvaged) *chain {
	for {
		c := &chain{}
		if len(path) > 0 {
			c.state = ledger.New(path[0].ledger)
		}
		var err error
		for _, e := range path {
			if e.disproved {
				break
			}
			if _, _, err = c.state.Apply(e.Payload, e.Stamp); err != nil {
				s.refused[e.Sequence] = err
				break
			}
			c.entries = append(c.entries, e)
		}
		if began := recovering(c.state); err == nil && began > 0 {
			path = c.entries[:began-1] // its end is missing
		} else if err == nil {
			return c
		} else {
			path = c.entries // the state took half of an entry: without it once more
		}
	}
}

func recovering(s *ledger.State) uint64 {
	if s == nil {
		return 0
	}
	return s.Recovering()
}

// CopyFound is what was found in one copy of the ledger.
type CopyFound struct {
	Name     string `json:"name"`
	Entries  int    `json:"entries"`  // that can be read
	Verified uint64 `json:"verified"` // up to this entry it is what will be written
	Message  string `json:"message"`  // what it is, or where it differs first
}

// found compares a copy with the chain that will be written.
func (c *copyHeld) found(with *chain) CopyFound {
	out := CopyFound{Name: c.name, Entries: len(c.held)}
	for ; out.Verified < uint64(len(with.entries)) && with.holds(c.held[out.Verified+1]); out.Verified++ {
	}
	next := out.Verified + 1
	switch e, err := c.held[next], c.unreadable[next]; {
	case err != nil:
		out.Message = fmt.Sprintf("entry %d cannot be read: %v", next, err)
	case e != nil && e.disproved:
		out.Message = fmt.Sprintf("entry %d was altered: entry %d does not follow it", next, next+1)
	case e != nil:
		out.Message = fmt.Sprintf("entry %d is another one (%s)", next, e.hash.Short())
	case next == 1 && c.last == 0:
		out.Message = "empty"
	case next <= c.last:
		out.Message = c.missing(next)
	case out.Verified < uint64(len(with.entries)):
		out.Message = fmt.Sprintf("ends at entry %d", out.Verified)
	default:
		out.Message = "whole"
	}
	return out
}

// missing names the entries that are missing from a number on.
func (c *copyHeld) missing(first uint64) string {
	last := max(c.last, first+1) - 1
	for number := range c.held {
		if number > first {
			last = min(last, number-1)
		}
	}
	for number := range c.unreadable {
		if number > first {
			last = min(last, number-1)
		}
	}
	if last == first {
		return fmt.Sprintf("entry %d is missing", first)
	}
	return fmt.Sprintf("entries %d to %d are missing", first, last)
}

// whole says whether the copy holds the chain and nothing else.
func (c *copyHeld) whole(with *chain) bool {
	found := c.found(with)
	return found.Verified == uint64(len(with.entries)) && c.last == found.Verified && len(c.unreadable) == 0
}

// ChainFound is one of the ledgers that copies hold.
type ChainFound struct {
	Ledger string           `json:"ledger"`
	Tip    events.LedgerTip `json:"tip"`
	Time   time.Time        `json:"time"`  // of the tip
	Parts  uint64           `json:"parts"` // the first entry that the longest one does not hold; 0: it is the longest
	Copies []string         `json:"copies"`
}

// describe says what the chains are, and where they part from the first.
func (s *salvage) describe(chains []*chain) []ChainFound {
	out := make([]ChainFound, len(chains))
	for i, c := range chains {
		out[i] = ChainFound{Ledger: c.state.ID, Tip: events.LedgerTip{Number: c.state.Number, Hash: c.state.Hash}, Time: c.state.Time}
		if i > 0 {
			parts := slices.IndexFunc(c.entries, func(e *salvaged) bool { return !chains[0].holds(e) })
			out[i].Parts = uint64(parts + 1)
		}
		for _, held := range s.copies {
			if e := held.held[c.state.Number]; c.holds(e) {
				out[i].Copies = append(out[i].Copies, held.name)
			}
		}
	}
	return out
}

// choose is the chain to be written: the only one, or the one whose tip's hash begins with choice.
func choose(chains []*chain, choice string) (*chain, error) {
	if choice == "" {
		if len(chains) > 1 {
			return nil, &ledger.Error{Kind: ledger.KindConflict,
				Message: fmt.Sprintf("there are %d ledgers that verify and contradict each other", len(chains)),
				Next:    "look what each holds, and say which one to keep with --choose and the hash of its newest entry"}
		}
		return chains[0], nil
	}
	if len(choice) < minChoice {
		return nil, &ledger.Error{Kind: ledger.KindInvalid, Message: fmt.Sprintf("--choose %q is too short", choice), Next: fmt.Sprintf("write at least %d characters of the hash", minChoice)}
	}
	for _, c := range chains {
		if hash := c.tip().hash.String(); len(choice) <= len(hash) && hash[:len(choice)] == choice {
			return c, nil
		}
	}
	return nil, &ledger.Error{Kind: ledger.KindNotFound, Message: fmt.Sprintf("no ledger that verifies ends with an entry of the hash %s", choice)}
}

const minChoice = 12
