package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Remains are what is left of a ledger when no copy of it holds everything.
type Remains struct {
	ID string
	// Entries are what copies hold, entry n at n-1; one without a payload is lost. All are of this ledger, each of them follows the
	// one before it where both are there, and the ones before the first lost one verify.
	Entries []Remaining
	// Releases are those that were found with valid signatures, in any order. What the entries derive is not needed, and what does not
	// follow is left over.
	Releases []events.RecoveredRelease
	// Loss says who had heard of what; Recover fills in the rest.
	Loss events.Loss
	By   string // who accepts the loss
}

// A Remaining entry keeps its bytes and its stamp.
type Remaining struct {
	Payload []byte
	Stamp   time.Time
}

// A Recovery is a ledger that goes on where others stopped.
type Recovery struct {
	Entries []Remaining // all of it; the last one says what was lost
	State   *State      // after them
	Loss    Loss
	Kept    uint64   // entries after the first lost one that are as they were
	Left    []string // environments of which releases are left over: their order has a gap
}

// Recover makes a whole ledger of what is left: in the place of each lost entry one that says so and holds the releases which were
// found of it. Entries that stand after a lost one are kept where they still make sense: otherwise they are lost too. It ends with the
// entry that says what was lost. The entries keep their numbers and hashes, and environments their chains, so that agents go on.
func Recover(r Remains, now time.Time) (Recovery, error) {
	releases, err := foundReleases(r.Releases)
	if err != nil {
		return Recovery{}, err
	}
	entries := slices.Clone(r.Entries)
	for {
		b := recovery{Remains: r, entries: entries, state: New(r.ID), now: events.Stamp(now), found: releases, releases: releases}
		misfit, err := b.build()
		if err != nil {
			return Recovery{}, err
		}
		if misfit == 0 {
			return b.end()
		}
		entries[misfit-1] = Remaining{Stamp: entries[misfit-1].Stamp} // the state took half of it: once more without
	}
}

// foundRelease is a release with where it belongs.
type foundRelease struct {
	events.RecoveredRelease
	of events.Release
	at time.Time
}

// foundReleases are ordered by entry, and in an entry by environment and revision.
func foundReleases(list []events.RecoveredRelease) ([]foundRelease, error) {
	out := make([]foundRelease, len(list))
	for i, found := range list {
		of, event, err := events.DecodeRelease(found.Payload)
		if err != nil {
			return nil, err
		}
		out[i] = foundRelease{found, of, event.Time}
	}
	slices.SortStableFunc(out, func(a, b foundRelease) int {
		return cmp.Or(cmp.Compare(a.of.Entry, b.of.Entry), cmp.Compare(a.of.Environment, b.of.Environment), cmp.Compare(a.of.Revision, b.of.Revision))
	})
	return out, nil
}

// recovery is one attempt.
type recovery struct {
	Remains
	entries  []Remaining
	state    *State
	now      time.Time
	found    []foundRelease // all
	releases []foundRelease // of this entry and later ones
	waiting  []foundRelease // of entries before, and not taken back yet
	out      []Remaining
	first    uint64 // lost entry
	last     uint64
	lost     uint64
	kept     uint64
}

// build makes the entries up to the last one that was. It returns the number of an entry that does not fit what is before it.
func (b *recovery) build() (misfit uint64, err error) {
	for n := uint64(1); n <= uint64(len(b.entries)); n++ {
		e := b.entries[n-1]
		switch {
		case e.Payload == nil:
			err = b.standIn(b.standsFor(n), e.Stamp)
		case b.first > 0 && !b.fits(e.Payload):
			return n, nil
		default:
			if _, _, err := b.state.Apply(e.Payload, e.Stamp); err != nil && b.first > 0 {
				return n, nil
			} else if err != nil {
				return 0, err
			}
			b.out = append(b.out, e)
			if b.first > 0 {
				b.kept++
			}
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// fits says early of an entry with deliveries, of which there are many, whether all their agents are known: without their enrolments
// nobody can say whose statements they are.
func (b *recovery) fits(payload []byte) bool {
	entry, err := events.DecodeEntry(payload)
	if err != nil {
		return false
	}
	for _, event := range entry.Events {
		if event.Type != events.TypeDeliveryRecorded {
			continue
		}
		fact, err := events.DecodeFact(event)
		if err != nil {
			return false
		}
		for _, d := range fact.(*events.DeliveryRecorded).Deliveries {
			if e := b.state.Environments[d.Environment]; e == nil || e.Agents[d.Agent] == nil {
				return false
			}
		}
	}
	return true
}

// standsFor is the hash of a lost entry, where the one after it names it.
func (b *recovery) standsFor(n uint64) events.Digest {
	original := b.Entries[n-1].Payload
	if original != nil {
		return events.Sum(original)
	}
	if n < uint64(len(b.Entries)) && b.Entries[n].Payload != nil {
		if next, err := events.DecodeEntry(b.Entries[n].Payload); err == nil {
			return next.Previous
		}
	}
	return events.Digest{}
}

// standIn makes the entry in the place of a lost one, with the releases found up to it, as many as it may hold.
func (b *recovery) standIn(stands events.Digest, stamp time.Time) error {
	number := b.state.Number + 1
	if b.first == 0 {
		b.first = number
	}
	if number <= uint64(len(b.entries)) {
		b.lost, b.last = b.lost+1, number
	}
	b.arrive(number)
	fact, at := events.HistoryRecovered{Stands: stands}, b.state.Time
	ends, size := map[string]end{}, 0
	var rest []foundRelease
	for _, r := range b.waiting {
		at0, known := ends[r.of.Environment]
		if !known {
			at0 = b.endOf(r.of.Environment)
		}
		ends[r.of.Environment] = at0
		if !at0.before(r) || (size > 0 && size+len(r.Payload) > maxContent) {
			rest = append(rest, r)
			continue
		}
		ends[r.of.Environment] = end{r.of.Revision, r.chain()}
		size += len(r.Payload) + contentFrame
		fact.Releases = append(fact.Releases, r.RecoveredRelease)
		if r.at.After(at) {
			at = r.at
		}
	}
	b.waiting = rest
	return b.add(fact, events.Command{By: b.By}, at, stamp)
}

// arrive lets the releases up to an entry wait for a place, without those that the ledger has.
func (b *recovery) arrive(number uint64) {
	arrived := 0
	for arrived < len(b.releases) && b.releases[arrived].of.Entry <= number {
		arrived++
	}
	b.waiting, b.releases = append(b.waiting, b.releases[:arrived]...), b.releases[arrived:]
	b.waiting = slices.DeleteFunc(b.waiting, func(r foundRelease) bool { return r.of.Revision <= b.endOf(r.of.Environment).revision })
}

// takeable says whether one of the waiting releases is the next one of its environment.
func (b *recovery) takeable() bool {
	return slices.ContainsFunc(b.waiting, func(r foundRelease) bool { return b.endOf(r.of.Environment).before(r) })
}

// An end is how far an environment's releases go.
type end struct {
	revision uint64
	chain    events.Digest
}

func (e end) before(r foundRelease) bool {
	return r.of.Revision == e.revision+1 && r.of.Previous == e.chain
}

func (b *recovery) endOf(environment string) end {
	if e := b.state.Environments[environment]; e != nil {
		return end{e.Head(), e.Fold.Chain}
	}
	return end{0, events.ChainStart(b.ID, environment)}
}

func (r foundRelease) chain() events.Digest { return events.Chain(r.of.Previous, r.Payload) }

func (b *recovery) add(fact events.HistoryRecovered, by events.Command, at, stamp time.Time) error {
	if at.IsZero() { // nothing was before, and nothing of it was found
		at = b.earliest()
	}
	if stamp.IsZero() {
		stamp = b.now
	}
	_, payload, err := events.NewEntry(b.state.Number+1, b.state.Hash, b.ID, by, at, "", []events.Fact{{Type: events.TypeHistoryRecovered, Data: fact}})
	if err != nil {
		return err
	}
	if _, _, err := b.state.Apply(payload, stamp); err != nil {
		return fmt.Errorf("take releases back: %w", err)
	}
	b.out = append(b.out, Remaining{payload, stamp})
	return nil
}

// earliest is a time before which nothing is known of the ledger.
func (b *recovery) earliest() time.Time {
	out := b.now
	for _, e := range b.entries {
		if e.Payload != nil {
			if entry, err := events.DecodeEntry(e.Payload); err == nil && entry.Time.Before(out) {
				out = entry.Time
			}
			break
		}
	}
	for _, r := range slices.Concat(b.waiting, b.releases) {
		if r.at.Before(out) {
			out = r.at
		}
	}
	return out
}

// end takes back what did not fit into the places of lost entries, and says what was lost.
func (b *recovery) end() (Recovery, error) {
	last := uint64(len(b.entries))
	for b.arrive(last); b.takeable(); b.arrive(last) {
		if err := b.standIn(events.Digest{}, b.now); err != nil {
			return Recovery{}, err
		}
	}
	out := Recovery{Kept: b.kept}
	for _, r := range b.found {
		e := b.state.Environments[r.of.Environment]
		if (e == nil || e.OnChain(r.of.Revision, r.chain()) != nil) && !slices.Contains(out.Left, r.of.Environment) {
			out.Left = append(out.Left, r.of.Environment)
		}
	}
	l := b.Loss
	l.First, l.Last, l.Entries = b.first, max(b.last, b.first), b.lost
	l.Releases, l.Recovered = b.state.recovering.releases, b.state.recovering.digest
	digest, err := events.Encode(l)
	if err != nil {
		return Recovery{}, err
	}
	at := b.now
	if at.Before(b.state.Time) {
		at = b.state.Time
	}
	if err := b.add(events.HistoryRecovered{Loss: &l}, events.Command{By: b.By, Digest: events.Sum(digest)}, at, b.now); err != nil {
		return Recovery{}, err
	}
	out.Entries, out.State, out.Loss = b.out, b.state, b.state.Losses[len(b.state.Losses)-1]
	return out, nil
}
