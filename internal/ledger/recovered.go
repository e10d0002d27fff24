package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// A Loss is what a person accepted to lose when the ledger was repaired.
type Loss struct {
	events.Loss
	Entry uint64 // that says so
	By    string
	Time  time.Time
}

// Explains says whether an entry that somebody has heard of was lost. The hash of most lost entries is not known, so that any will do.
func (s *State) Explains(tip events.LedgerTip) bool {
	return s.lost[tip.Number] || slices.ContainsFunc(s.Losses, func(l Loss) bool { return slices.Contains(l.Tips, tip) })
}

// Gone says whether an agent's position is known to be on a release that was lost.
func (s *State) Gone(environment string, revision uint64, chain events.Digest) bool {
	return slices.ContainsFunc(s.Losses, func(l Loss) bool {
		return slices.ContainsFunc(l.Beyond, func(b events.LostPosition) bool {
			return b.Environment == environment && b.Revision == revision && b.Chain == chain
		})
	})
}

// Recovering is the first entry of a recovery of which the end is missing; 0: there is none.
func (s *State) Recovering() uint64 { return s.recovering.first }

// recovering are the entries of a recovery that is not at its end: others may stand between them.
type recovering struct {
	first, last, entries, releases uint64 // first and last that stand for lost ones
	digest                         events.Digest
}

// recovered is the digest of a recovery with one more of its entries.
func (r recovering) with(entry events.Digest) events.Digest {
	return events.Sum(append(slices.Clone(r.digest[:]), entry[:]...))
}

func (p *projection) historyRecovered(f *events.HistoryRecovered) error {
	if len(p.entry.Events) != 1 || (f.Loss != nil && (!f.Stands.IsZero() || len(f.Releases) > 0)) {
		return fmt.Errorf("%w: a recovered entry holds something else too", ErrBroken)
	}
	if f.Loss != nil {
		return p.recoveryEnded(f.Loss)
	}
	r := &p.recovering
	if r.first == 0 {
		r.first = p.entry.Number
	}
	r.last, r.digest = p.entry.Number, r.with(p.Hash)
	r.entries, r.releases = r.entries+1, r.releases+uint64(len(f.Releases))
	p.lost[p.entry.Number] = true
	for _, found := range f.Releases {
		if err := p.recover(found); err != nil {
			return err
		}
	}
	if !f.Stands.IsZero() {
		p.Hash = f.Stands
	}
	return nil
}

// recoveryEnded checks that a loss is the one of the entries before. Proposals that were open end: what became of them may be lost.
func (p *projection) recoveryEnded(l *events.Loss) error {
	if r := p.recovering; r.first != l.First || r.releases != l.Releases || r.digest != l.Recovered || l.Last < l.First || l.Last > r.last || l.Entries > r.entries {
		return fmt.Errorf("%w: entry %d ends another recovery than the one before it", ErrBroken, p.entry.Number)
	}
	for n := l.Last + 1; n <= p.recovering.last; n++ {
		delete(p.lost, n) // it holds releases, and stands for nothing
	}
	p.recovering = recovering{}
	p.spent = max(p.spent, p.newestChange()+int(l.Entries)) // each lost entry may have proposed one
	p.Losses = append(p.Losses, Loss{Loss: *l, Entry: p.entry.Number, By: p.entry.Command.By, Time: p.entry.Time})
	for _, c := range p.Changes {
		if before := p.entry.Time.Add(-time.Microsecond); c.status == StatusOpen && before.Before(c.Expires) {
			c.Expires = before
		}
	}
	return nil
}

// recover takes a release back that was found: signed by the publisher, and accepted as agents did.
func (p *projection) recover(found events.RecoveredRelease) error {
	of, event, err := events.DecodeRelease(found.Payload)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("revision %d of %s", of.Revision, of.Environment)
	if of.Entry > p.entry.Number {
		return fmt.Errorf("%w: %s is of entry %d and stands in entry %d", ErrBroken, what, of.Entry, p.entry.Number)
	}
	if of.Kind == events.KindTrust {
		if err := p.recoverTrust(of); err != nil {
			return err
		}
	}
	e := p.Environments[of.Environment]
	if e == nil {
		e = &Environment{Name: of.Environment, Added: event.Time, Lost: true, Fold: fold.New(p.ID, of.Environment), Agents: map[string]*Agent{}}
	}
	if trust := p.Trust(); trust == nil || events.VerifyWave(p.ID, events.Chain(of.Previous, found.Payload), found.Signature, trust.AllowsPublisher) != nil {
		return fmt.Errorf("%w: %s is not signed by a publisher", ErrBroken, what)
	}
	inverse, _ := e.Fold.Invert(of.Operations) // what does not fit is not accepted
	step, err := e.Fold.AcceptDecoded(of, event.Time, found.Payload, nil)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBroken, what, err)
	}
	p.Environments[of.Environment] = e
	r := Release{
		Revision: of.Revision, Kind: of.Kind, Entry: of.Entry, Place: len(p.waves[of.Entry]), Time: event.Time, Stamp: event.Time, TraceParent: event.TraceParent,
		Derivation: of.Derivation, State: of.State, Chain: step.Chain, Previous: of.Previous, recovered: &of,
	}
	switch of.Kind {
	case events.KindTrust:
		r.Trust = of.Trust.Version
	case events.KindChange:
		r.Change, r.By, r.Reason = of.Change.ID, of.Change.Author, of.Change.Reason
		p.recoverChange(of, inverse, event.Time)
	case events.KindRollback:
		r.Change, r.By, r.Reason = of.Rollback.ID, of.Rollback.By, of.Rollback.Reason
		c := p.Changes[r.Change]
		part, _ := c.PartFor(e.Name)
		part.Undone = of.Revision
		p.undo(c, e.Name)
	}
	e.Releases = append(e.Releases, r)
	ref := events.ReleaseRef{Environment: e.Name, Revision: r.Revision, Chain: r.Chain}
	p.waves[of.Entry] = append(p.waves[of.Entry], ref)
	p.released = append(p.released, Released{Environment: e.Name, Release: r, Payload: found.Payload})
	return nil
}

// recoverTrust takes a trust document back with its first release.
func (p *projection) recoverTrust(of events.Release) error {
	switch next := len(p.Trusts) + 1; {
	case of.Trust.Ledger != p.ID || of.Trust.Version > next || of.Trust.Version < 1:
		return fmt.Errorf("%w: trust document %d of ledger %s follows document %d", ErrBroken, of.Trust.Version, of.Trust.Ledger, len(p.Trusts))
	case of.Trust.Version == next:
		if err := of.Trust.CheckSuccession(p.Trust()); err != nil {
			return fmt.Errorf("%w: trust document %d does not follow document %d: %w", ErrBroken, of.Trust.Version, len(p.Trusts), err)
		}
		p.Trusts = append(p.Trusts, *of.Trust)
	}
	return nil
}

// recoverChange notes what a release says of its change. Where the proposal was lost too, the rest of it is not known.
func (p *projection) recoverChange(of events.Release, inverse []events.Inverse, at time.Time) {
	said := of.Change
	c := p.Changes[said.ID]
	if c == nil {
		p.order = append(p.order, said.ID)
	}
	if c == nil || c.Digest != said.Digest {
		c = &Change{ID: said.ID, Digest: said.Digest, Author: said.Author, Reason: said.Reason, Ticket: said.Ticket, Proposed: at, Entry: of.Entry, Recovered: true}
		p.Changes[said.ID] = c
	}
	if c.status != StatusDelivered {
		c.status = StatusReleased
	}
	c.Approvals, c.Proposal, c.Approved = said.Approvals, said.Proposal, at
	i, found := slices.BinarySearchFunc(c.Parts, of.Environment, func(part Part, name string) int { return strings.Compare(part.Environment, name) })
	if !found {
		c.Parts = slices.Insert(c.Parts, i, Part{Environment: of.Environment, Operations: of.Operations, Inverse: inverse, inverse: said.Inverse, index: said.Index, path: said.Path})
	}
	c.Parts[i].Revision = of.Revision
	p.adopt(c, of.Environment)
	for _, part := range c.Parts {
		if part.SourcesOnly() && !part.InSources {
			p.adopt(c, part.Environment) // it was approved
		}
	}
}

// nextChange is an id that no change had, as far as anybody has heard of the ledger.
func (s *State) nextChange() string { return "c" + strconv.Itoa(max(s.spent, s.newestChange())+1) }

// newestChange is the highest number that a change of the ledger has.
func (s *State) newestChange() int {
	newest := 0
	for _, id := range s.order {
		if n, err := strconv.Atoi(strings.TrimPrefix(id, "c")); err == nil {
			newest = max(newest, n)
		}
	}
	return newest
}
