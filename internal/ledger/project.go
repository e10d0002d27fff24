package ledger

import (
	"fmt"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// Apply projects the next entry, which the bus stamped at stamp, and returns the releases it made. Every release is derived again
// and accepted again, and its digest compared with the one recorded. After an error the state must not be used any more.
func (s *State) Apply(payload []byte, stamp time.Time) (events.Entry, []Released, error) {
	entry, err := events.DecodeEntry(payload)
	if err != nil {
		return entry, nil, fmt.Errorf("entry %d: %w", s.Number+1, err)
	}
	switch {
	case entry.Ledger != s.ID:
		return entry, nil, fmt.Errorf("%w: entry %d is of ledger %s, this is %s", ErrBroken, entry.Number, entry.Ledger, s.ID)
	case entry.Number != s.Number+1:
		return entry, nil, fmt.Errorf("%w: entry %d follows entry %d", ErrBroken, entry.Number, s.Number)
	case entry.Previous != s.Hash:
		return entry, nil, fmt.Errorf("%w: entry %d follows %s, entry %d has %s", ErrBroken, entry.Number, entry.Previous.Short(), s.Number, s.Hash.Short())
	case entry.Time.Before(s.Time):
		return entry, nil, fmt.Errorf("%w: the time of entry %d runs backwards", ErrBroken, entry.Number)
	}
	s.Number, s.Hash, s.Time = entry.Number, events.Sum(payload), entry.Time
	p := projection{State: s, entry: entry, stamp: stamp}
	for _, e := range entry.Events {
		fact, err := events.DecodeFact(e)
		if err != nil {
			return entry, nil, fmt.Errorf("entry %d: %w", entry.Number, err)
		}
		if err := p.fact(e.Type, fact); err != nil {
			return entry, nil, fmt.Errorf("entry %d: %w", entry.Number, err)
		}
	}
	if entry.Command.ID != "" {
		s.commands[entry.Command.ID] = done{entry.Command.Digest, p.result()}
	}
	return entry, p.released, nil
}

// projection applies one entry.
type projection struct {
	*State
	entry    events.Entry
	stamp    time.Time
	change   string
	leftOut  []events.LeftOut
	released []Released
}

func (p *projection) fact(t events.Type, fact any) error {
	switch f := fact.(type) {
	case *events.ContentStored:
		p.contents[f.Digest] = *f
	case *events.TrustUpdated:
		return p.trustUpdated(f)
	case *events.EnvironmentAdded:
		return p.environmentAdded(f)
	case *events.EnvironmentUpdated:
		return p.environment(f.Environment, func(e *Environment) { e.Labels, e.Steward, e.Approvals = f.Labels, f.Steward, f.Approvals })
	case *events.EnvironmentRetired:
		return p.environment(f.Environment, func(e *Environment) { e.Retired = true })
	case *events.AgentEnrolled:
		return p.environment(f.Environment, func(e *Environment) {
			e.Agents[f.Agent] = &Agent{Name: f.Agent, Key: f.Key, Enrolled: p.entry.Number, Revision: f.Revision, recorded: map[string]bool{}}
		})
	case *events.AgentRevoked:
		return p.environment(f.Environment, func(e *Environment) {
			if a := e.Agents[f.Agent]; a != nil {
				a.Revoked = true
			}
		})
	case *events.ChangeProposed:
		return p.changeProposed(f, t == events.TypeChangeRevised)
	case *events.ApprovalGiven:
		return p.changed(f.Change, func(c *Change) {
			c.Approvals = append(c.Approvals, events.Approval{By: f.By, At: p.entry.Time})
		})
	case *events.ChangeApproved:
		return p.changed(f.Change, func(c *Change) { c.status, c.Approved = StatusReleased, p.entry.Time })
	case *events.ChangeEnded:
		return p.changed(f.Change, func(c *Change) {
			c.status, c.Ended, c.EndReason = StatusRejected, f.By, f.Reason
			if t == events.TypeChangeWithdrawn {
				c.status = StatusWithdrawn
			}
		})
	case *events.RolloutStarted:
		return p.changed(f.Change, func(*Change) {})
	case *events.RolloutCompleted:
		return p.changed(f.Change, func(c *Change) { c.status, c.Completed = StatusDelivered, p.entry.Time })
	case *events.WaveReleased:
		return p.waveReleased(f)
	case *events.RollbackOrdered:
		return p.rollbackOrdered(f)
	case *events.DeliveryRecorded:
		return p.deliveryRecorded(f)
	}
	return nil
}

func (p *projection) environment(name string, update func(*Environment)) error {
	e, found := p.Environments[name]
	if !found {
		return fmt.Errorf("%w: environment %s is not in the ledger", ErrBroken, name)
	}
	update(e)
	return nil
}

func (p *projection) changed(id string, update func(*Change)) error {
	c, err := p.aboutChange(id)
	if err == nil {
		update(c)
	}
	return err
}

// aboutChange finds a change and notes that the entry is about it.
func (p *projection) aboutChange(id string) (*Change, error) {
	c, found := p.Changes[id]
	if !found {
		return nil, fmt.Errorf("%w: change %s is not in the ledger", ErrBroken, id)
	}
	p.change = id
	return c, nil
}

func (p *projection) trustUpdated(f *events.TrustUpdated) error {
	p.Trusts = append(p.Trusts, f.Document)
	for i := range f.Wave.Releases {
		if err := p.release(f.Wave, i, Release{Kind: events.KindTrust, Trust: f.Document.Version}); err != nil {
			return err
		}
	}
	return nil
}

func (p *projection) environmentAdded(f *events.EnvironmentAdded) error {
	p.Environments[f.Environment] = &Environment{
		Name: f.Environment, Labels: f.Labels, Steward: f.Steward, Approvals: f.Approvals, Added: p.entry.Time,
		Fold: fold.New(p.ID, f.Environment), Agents: map[string]*Agent{},
	}
	return p.release(f.Wave, 0, Release{Kind: events.KindTrust, Trust: p.Trust().Version})
}

func (p *projection) changeProposed(f *events.ChangeProposed, revised bool) error {
	c := &Change{
		ID: f.Change, Digest: f.Digest, Author: f.Author, Reason: f.Reason, Ticket: f.Ticket, Within: time.Duration(f.Within) * time.Second,
		Source: f.Source, Sources: f.Sources, Proposed: p.entry.Time, Entry: p.entry.Number, Expires: f.Expires, status: StatusOpen,
	}
	leaves := make([]events.Leaf, len(f.Environments))
	for i, e := range f.Environments {
		c.Parts = append(c.Parts, Part{Environment: e.Environment, Operations: e.Operations, Inverse: e.Inverse})
		leaves[i] = events.Leaf{Change: f.Change, Environment: e.Environment, Inverse: e.Inverse, Operations: e.Operations}
	}
	root, paths, err := events.ChangeDigest(leaves)
	if err != nil {
		return err
	}
	if root != f.Digest {
		return fmt.Errorf("%w: change %s says its digest is %s, its leaves give %s", ErrBroken, f.Change, f.Digest.Short(), root.Short())
	}
	for i := range c.Parts {
		c.Parts[i].Path = paths[i]
	}
	if before := p.Changes[f.Change]; before != nil {
		c.Proposed, c.Revised = before.Proposed, before.Revised+1
	} else {
		p.order = append(p.order, f.Change)
	}
	if revised != (c.Revised > 0) {
		return fmt.Errorf("%w: change %s is proposed twice, or revised before it is proposed", ErrBroken, f.Change)
	}
	p.Changes[f.Change], p.change = c, f.Change
	return nil
}

func (p *projection) waveReleased(f *events.WaveReleased) error {
	c, err := p.aboutChange(f.Change)
	if err != nil {
		return err
	}
	for i, ref := range f.Wave.Releases {
		if err := p.release(f.Wave, i, Release{Kind: events.KindChange, Change: c.ID, By: c.Author, Reason: c.Reason}); err != nil {
			return err
		}
		part, _ := c.PartFor(ref.Environment)
		part.Revision = ref.Revision
	}
	for _, left := range f.LeftOut {
		if part, found := c.PartFor(left.Environment); found {
			part.LeftOut = &left
		}
	}
	p.leftOut = f.LeftOut
	return nil
}

func (p *projection) rollbackOrdered(f *events.RollbackOrdered) error {
	if len(f.Undone) != len(f.Wave.Releases) {
		return fmt.Errorf("%w: a rollback of %d changes has %d releases", ErrBroken, len(f.Undone), len(f.Wave.Releases))
	}
	for i, undone := range f.Undone {
		c, err := p.aboutChange(undone.Change)
		if err != nil {
			return err
		}
		if err := p.release(f.Wave, i, Release{Kind: events.KindRollback, Change: c.ID, By: f.By, Reason: f.Reason}); err != nil {
			return err
		}
		part, _ := c.PartFor(undone.Environment)
		part.Undone = f.Wave.Releases[i].Revision
		if c.undone() {
			c.status = StatusRolledBack
		}
	}
	return nil
}

// undone says that the change was undone wherever it was released.
func (c *Change) undone() bool {
	for _, part := range c.Parts {
		if part.Revision > 0 && part.Undone == 0 {
			return false
		}
	}
	return true
}

// release records release i of a wave: derived again, accepted, and compared with the digest that the ledger recorded.
func (p *projection) release(w events.Wave, i int, r Release) error {
	ref := w.Releases[i]
	e, found := p.Environments[ref.Environment]
	if !found {
		return fmt.Errorf("%w: environment %s is not in the ledger", ErrBroken, ref.Environment)
	}
	r.Revision, r.Previous, r.Derivation = ref.Revision, e.Fold.Chain, w.Derivation
	r.Entry, r.Place, r.Time, r.Stamp, r.TraceParent = p.entry.Number, len(p.released), p.entry.Time, p.stamp, p.entry.TraceParent
	var err error
	if r.State, err = p.stateAfter(e.Fold, r); err != nil {
		return err
	}
	payload, err := p.derive(ref.Environment, r)
	if err != nil {
		return err
	}
	step, err := e.Fold.Accept(payload)
	if err != nil {
		return fmt.Errorf("%w: revision %d of %s: %w", ErrDerivation, ref.Revision, ref.Environment, err)
	}
	if step.Chain != ref.Chain {
		return fmt.Errorf("%w: revision %d of %s is recorded with chain digest %s, and is derived with %s",
			ErrDerivation, ref.Revision, ref.Environment, ref.Chain.Short(), step.Chain.Short())
	}
	r.Chain = step.Chain
	e.Releases = append(e.Releases, r)
	p.waves[p.entry.Number] = append(p.waves[p.entry.Number], ref)
	p.released = append(p.released, Released{Environment: ref.Environment, Release: r, Payload: payload})
	return nil
}

// A Result is the answer to a command.
type Result struct {
	Entry    uint64              `json:"entry"`              // that records it; 0 after a dry run
	Change   string              `json:"change,omitempty"`   // that it is about
	Released []events.ReleaseRef `json:"released,omitempty"` // what it released
	LeftOut  []events.LeftOut    `json:"leftOut,omitempty"`  // environments that it could not release to
}

func (p *projection) result() Result {
	r := Result{Entry: p.entry.Number, Change: p.change, LeftOut: p.leftOut}
	for _, released := range p.released {
		r.Released = append(r.Released, events.ReleaseRef{Environment: released.Environment, Revision: released.Revision, Chain: released.Chain})
	}
	return r
}
