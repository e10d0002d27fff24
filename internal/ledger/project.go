package ledger

import (
	"bytes"
	"fmt"
	"slices"
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
	p := projection{State: s, entry: entry, stamp: stamp}
	if err := p.follows(); err != nil {
		return entry, nil, err
	}
	facts, err := p.authentic(payload)
	if err != nil {
		return entry, nil, fmt.Errorf("entry %d: %w", entry.Number, err)
	}
	err = p.take(facts, events.Sum(payload))
	return entry, p.released, err
}

// follows says whether the entry is the one after those that were applied.
func (p *projection) follows() error {
	s, entry := p.State, p.entry
	switch {
	case entry.Ledger != s.ID:
		return fmt.Errorf("%w: entry %d is of ledger %s, this is %s", ErrBroken, entry.Number, entry.Ledger, s.ID)
	case entry.Number != s.Number+1:
		return fmt.Errorf("%w: entry %d follows entry %d", ErrBroken, entry.Number, s.Number)
	case entry.Previous != s.Hash:
		return fmt.Errorf("%w: entry %d follows %s, entry %d has %s", ErrBroken, entry.Number, entry.Previous.Short(), s.Number, s.Hash.Short())
	case entry.Time.Before(s.Time):
		return fmt.Errorf("%w: the time of entry %d runs backwards", ErrBroken, entry.Number)
	}
	return nil
}

// take applies the facts of the entry, of which the bytes have a hash.
func (p *projection) take(facts []events.Fact, hash events.Digest) error {
	s, entry := p.State, p.entry
	s.trial = trial{}
	s.Number, s.Hash, s.Time = entry.Number, hash, entry.Time
	for _, f := range facts {
		if f.Type != events.TypeContentStored {
			s.decisions = s.Number
		}
		if err := p.fact(f.Type, f.Data); err != nil {
			return fmt.Errorf("entry %d: %w", entry.Number, err)
		}
	}
	if id := entry.Command.ID; id != "" {
		if before, known := s.commands[id]; known {
			return fmt.Errorf("%w: entry %d carries out command %q, which entry %d did", ErrBroken, entry.Number, id, before.result.Entry)
		}
		s.commands[id] = done{entry.Command.Digest, p.result()}
	}
	return nil
}

// authentic are an entry's facts, which somebody signed who might. An entry that was decided here was found to be that.
func (p *projection) authentic(payload []byte) ([]events.Fact, error) {
	facts, err := factsOf(p.entry)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(payload, p.trial.entry) {
		p.tried, p.spoken = p.trial, p.trial.said
		return facts, nil
	}
	p.spoken, err = p.judgedEntry(p.entry, facts)
	return facts, err
}

func factsOf(entry events.Entry) ([]events.Fact, error) {
	facts := make([]events.Fact, len(entry.Events))
	for i, e := range entry.Events {
		data, err := events.DecodeFact(e)
		if err != nil {
			return nil, err
		}
		facts[i] = events.Fact{Type: e.Type, Subject: e.Subject, Data: data}
	}
	return facts, nil
}

// projection applies one entry.
type projection struct {
	*State
	entry    events.Entry
	stamp    time.Time
	about    string // change
	leftOut  []events.LeftOut
	released []Released
	// sourcesOnly are environments whose sources change, and nothing else
	sourcesOnly []string
	frozen      []events.Frozen
	tried       trial   // of the entry, where it was decided here
	spoken      *spoken // what somebody signed for the entry; nil where nobody did
	again       []words // what agents said, in the order of the deliveries, where the entry was checked before
}

func (p *projection) fact(t events.Type, fact any) error {
	switch f := fact.(type) {
	case *events.ContentStored:
		return p.contentStored(f)
	case *events.TrustUpdated:
		return p.trustUpdated(f)
	case *events.EnvironmentAdded:
		return p.environmentAdded(f)
	case *events.EnvironmentUpdated:
		return p.environment(f.Environment, func(e *Environment) {
			e.Labels, e.Steward, e.Approvals, e.Lost = f.Labels, f.Steward, f.Approvals, false
		})
	case *events.EnvironmentRetired:
		return p.environment(f.Environment, func(e *Environment) { e.Retired = true })
	case *events.AgentEnrolled:
		return p.agentEnrolled(f)
	case *events.AgentRevoked:
		return p.agentRevoked(f)
	case *events.ChangeProposed:
		return p.changeProposed(f, t == events.TypeChangeRevised)
	case *events.ApprovalGiven:
		return p.approvalGiven(f)
	case *events.ChangeApproved:
		return p.changeApproved(f)
	case *events.ChangeEnded:
		return p.changeEnded(f, t == events.TypeChangeWithdrawn)
	case *events.RolloutStarted:
		return p.change(f.Change, StatusReleased, func(*Change) {})
	case *events.RolloutPaused:
		return p.rolloutPaused(f, t == events.TypeRolloutResumed)
	case *events.BreakGlassUsed:
		return p.breakGlassUsed(f)
	case *events.BreakGlassReviewed:
		return p.breakGlassReviewed(f)
	case *events.RolloutCompleted:
		return p.change(f.Change, StatusReleased, func(c *Change) { c.status, c.Completed = StatusDelivered, p.entry.Time })
	case *events.WaveReleased:
		return p.waveReleased(f)
	case *events.RollbackOrdered:
		return p.rollbackOrdered(f)
	case *events.DeliveryRecorded:
		return p.deliveryRecorded(f)
	case *events.HistoryRecovered:
		return p.historyRecovered(f)
	}
	return p.ofAlarms(t, fact)
}

func (p *projection) contentStored(f *events.ContentStored) error {
	if f.Digest != events.Sum(f.JSON) || f.Text != "" {
		return fmt.Errorf("%w: content %s is not what its digest says", ErrBroken, f.Digest.Short())
	}
	p.contents[f.Digest] = f.JSON
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

func (p *projection) agentEnrolled(f *events.AgentEnrolled) error {
	e, found := p.Environments[f.Environment]
	if !found || e.Agents[f.Agent] != nil || f.Revision != e.Head() || f.Chain != e.Fold.Chain {
		return fmt.Errorf("%w: agent %s cannot be enrolled in %s at revision %d", ErrBroken, f.Agent, f.Environment, f.Revision)
	}
	e.Agents[f.Agent] = &Agent{Name: f.Agent, Key: f.Key, Enrolled: p.entry.Number, Revision: f.Revision}
	return nil
}

func (p *projection) agentRevoked(f *events.AgentRevoked) error {
	e, found := p.Environments[f.Environment]
	if !found || e.Agents[f.Agent] == nil {
		return fmt.Errorf("%w: %s has no agent %s", ErrBroken, f.Environment, f.Agent)
	}
	e.Agents[f.Agent].Revoked, e.Agents[f.Agent].RevokedAt = true, p.stamp
	return nil
}

// change updates a change that has a status.
func (p *projection) change(id string, status Status, update func(*Change)) error {
	c, err := p.aboutChange(id)
	if err != nil {
		return err
	}
	if c.status != status {
		return fmt.Errorf("%w: change %s is %s, not %s", ErrBroken, id, c.status, status)
	}
	update(c)
	return nil
}

func (p *projection) approvalGiven(f *events.ApprovalGiven) error {
	c, err := p.aboutChange(f.Change)
	if err != nil {
		return err
	}
	if c.status != StatusOpen || f.Digest != c.Digest {
		return fmt.Errorf("%w: %s approved %s of change %s, which is %s with %s", ErrBroken, f.By, f.Digest.Short(), c.ID, c.status, c.Digest.Short())
	}
	c.Roots = append(c.Roots, f.Roots...)
	p.approved(c, f.By)
	return nil
}

// approved adds an approval, or a break-glass, to a change.
func (p *projection) approved(c *Change, by string) {
	c.Approvals = append(c.Approvals, events.Approval{By: by, At: p.entry.Time, Envelope: p.spoken.envelope()})
	c.opened = p.spoken.with(c.opened)
}

func (p *projection) changeApproved(f *events.ChangeApproved) error {
	c, err := p.aboutChange(f.Change)
	if err != nil {
		return err
	}
	if demanded := p.Demanded(c); c.status != StatusOpen || f.Digest != c.Digest || (c.Trust == nil && !p.signed() && len(c.Approvals) < demanded) {
		return fmt.Errorf("%w: change %s is %s with %d of %d approvals and cannot be released", ErrBroken, c.ID, c.status, len(c.Approvals), demanded)
	}
	if lacking := unmet(p.Demands(c, p.entry.Time)); lacking != nil {
		return fmt.Errorf("%w: change %s lacks approvals: %s", ErrForged, c.ID, lacking)
	}
	c.status, c.Approved, c.ByRule = StatusReleased, p.entry.Time, f.ByRule
	return nil
}

// aboutChange finds a change and notes that the entry is about it.
func (p *projection) aboutChange(id string) (*Change, error) {
	c, found := p.Changes[id]
	if !found {
		return nil, fmt.Errorf("%w: change %s is not in the ledger", ErrBroken, id)
	}
	p.about = id
	return c, nil
}

func (p *projection) environmentAdded(f *events.EnvironmentAdded) error {
	if p.Environments[f.Environment] != nil || p.Trust() == nil || len(f.Wave.Releases) != 1 || f.Wave.Releases[0].Environment != f.Environment {
		return fmt.Errorf("%w: environment %s cannot be added with %d releases", ErrBroken, f.Environment, len(f.Wave.Releases))
	}
	p.Environments[f.Environment] = &Environment{
		Name: f.Environment, Labels: f.Labels, Steward: f.Steward, Approvals: f.Approvals, Added: p.entry.Time,
		Fold: fold.New(p.ID, f.Environment), Agents: map[string]*Agent{},
	}
	return p.release(f.Wave, 0, Release{Kind: events.KindTrust, Trust: p.Trust().Version})
}

func (p *projection) changeProposed(f *events.ChangeProposed, revised bool) error {
	c := &Change{
		ID: f.Change, Digest: f.Digest, Author: f.Author, Reason: f.Reason, Ticket: f.Ticket, Within: time.Duration(f.Within) * time.Second,
		Source: f.Source, Sources: f.Sources, Proposed: p.entry.Time, Entry: p.entry.Number, Expires: f.Expires, Verdicts: f.Verdicts, status: StatusOpen,
		Proposal: p.spoken.envelope(), opened: p.spoken.with(nil), TraceParent: p.entry.TraceParent,
	}
	before := p.Changes[f.Change]
	switch {
	case revised != (before != nil):
		return fmt.Errorf("%w: change %s is proposed twice, or revised before it is proposed", ErrBroken, f.Change)
	case before == nil:
		p.order = append(p.order, f.Change)
	case before.status != StatusOpen || before.Author != f.Author:
		return fmt.Errorf("%w: change %s of %s is %s and is revised by %s", ErrBroken, f.Change, before.Author, before.status, f.Author)
	default:
		c.Proposed, c.Revised = before.Proposed, before.Revised+1
	}
	var err error
	if f.Trust != nil {
		err = p.trustProposed(c, f)
	} else {
		err = p.frozenAs(c, f)
	}
	if err != nil {
		return fmt.Errorf("change %s: %w", f.Change, err)
	}
	p.Changes[f.Change], p.about = c, f.Change
	return nil
}

// frozenAs gives a change the parts that it was frozen as.
func (p *projection) frozenAs(c *Change, f *events.ChangeProposed) error {
	sources, err := p.WrittenSources(c)
	if err != nil {
		return err
	}
	return p.compiled(c, f.Environments, sources)
}

// compiled gives a change its parts, and checks that they are what its digest says.
func (p *projection) compiled(c *Change, environments []events.ProposedEnvironment, sources Sources) error {
	leaves := make([]events.Leaf, len(environments))
	operations, inverses := contents[[]events.Operation]{}, contents[[]events.Inverse]{}
	last := ""
	for i, e := range environments {
		if p.Environments[e.Environment] == nil || e.Environment <= last {
			return fmt.Errorf("%w: environment %s is not in the ledger, or not in its place", ErrBroken, e.Environment)
		}
		last = e.Environment
		part := Part{Environment: e.Environment, inverse: e.Inverse, index: uint64(i), version: p.Environments[e.Environment].version}
		var err error
		if part.Operations, err = operations.read(p.State, e.Operations); err != nil {
			return err
		}
		if part.Inverse, err = inverses.read(p.State, e.Inverse); err != nil {
			return err
		}
		if !slices.EqualFunc(part.Operations, part.Inverse, undoes) {
			return fmt.Errorf("%w: the operations for %s are not undone by their inverse", ErrBroken, e.Environment)
		}
		if part.SourcesOnly() && !sources.edit(e.Environment) {
			return fmt.Errorf("%w: nothing is done in %s, and none of its sources is edited", ErrBroken, e.Environment)
		}
		c.Parts = append(c.Parts, part)
		leaves[i] = events.Leaf{Change: c.ID, Environment: e.Environment, Inverse: e.Inverse, Operations: e.Operations}
	}
	root, paths, err := events.ChangeDigest(leaves)
	if err != nil {
		return err
	}
	if root != c.Digest || len(leaves) == 0 {
		return fmt.Errorf("%w: its digest is recorded as %s, its %d leaves give %s", ErrBroken, c.Digest.Short(), len(leaves), root.Short())
	}
	for i := range c.Parts {
		c.Parts[i].path = paths[i]
	}
	return nil
}

// undoes says whether an operation and its inverse are well-formed and of one resource.
func undoes(op events.Operation, undo events.Inverse) bool {
	return op.Key == undo.Key && events.CheckOperation(op.Op, op.Key, op.Value) == nil && events.CheckOperation(undo.Op, undo.Key, undo.Value) == nil
}

func (p *projection) waveReleased(f *events.WaveReleased) error {
	c, err := p.aboutChange(f.Change)
	if err != nil {
		return err
	}
	if c.status != StatusReleased {
		return fmt.Errorf("%w: change %s is released and is %s", ErrBroken, c.ID, c.status)
	}
	for i, ref := range f.Wave.Releases {
		if err := p.release(f.Wave, i, Release{Kind: events.KindChange, Change: c.ID, By: c.Author, Reason: c.Reason, approvals: len(c.Approvals)}); err != nil {
			return err
		}
		part, _ := c.PartFor(ref.Environment)
		part.Revision, part.Frozen = ref.Revision, nil
		p.adopt(c, ref.Environment)
	}
	for _, environment := range f.SourcesOnly {
		part, found := c.PartFor(environment)
		if !found || !part.SourcesOnly() || part.InSources {
			return fmt.Errorf("%w: change %s is said to edit the sources of %s", ErrBroken, c.ID, environment)
		}
		p.adopt(c, environment)
	}
	for _, left := range f.LeftOut {
		part, found := c.PartFor(left.Environment)
		if !found || part.Revision > 0 || part.InSources {
			return fmt.Errorf("%w: change %s is said to be left out of %s", ErrBroken, c.ID, left.Environment)
		}
		part.LeftOut, part.Frozen = &left, nil
	}
	for _, frozen := range f.Frozen {
		part, found := c.PartFor(frozen.Environment)
		if !found || part.Revision > 0 || part.InSources || part.LeftOut != nil {
			return fmt.Errorf("%w: change %s is said to wait in %s", ErrBroken, c.ID, frozen.Environment)
		}
		part.Frozen = &frozen
	}
	c.waves = max(c.waves, f.Number)
	p.leftOut, p.sourcesOnly, p.frozen = f.LeftOut, f.SourcesOnly, f.Frozen
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
		if ref := f.Wave.Releases[i]; ref.Environment != undone.Environment {
			return fmt.Errorf("%w: change %s is undone in %s by a release for %s", ErrBroken, c.ID, undone.Environment, ref.Environment)
		}
		if err := p.release(f.Wave, i, Release{Kind: events.KindRollback, Change: c.ID, By: f.By, Reason: f.Reason}); err != nil {
			return err
		}
		part, _ := c.PartFor(undone.Environment)
		part.Undone = f.Wave.Releases[i].Revision
		p.undo(c, undone.Environment)
	}
	for _, undone := range f.SourcesOnly {
		c, err := p.aboutChange(undone.Change)
		if err != nil {
			return err
		}
		part, found := c.PartFor(undone.Environment)
		if !found || !part.SourcesOnly() || !part.InSources {
			return fmt.Errorf("%w: the edits of change %s are not in the sources of %s, or were released there", ErrBroken, c.ID, undone.Environment)
		}
		p.undo(c, undone.Environment)
		p.sourcesOnly = append(p.sourcesOnly, undone.Environment)
	}
	return nil
}

// undo takes a change back in one environment, and ends it where that was the last one.
func (p *projection) undo(c *Change, environment string) {
	p.abandon(c, environment)
	c.thaw("the change was rolled back")
	if !slices.ContainsFunc(c.Parts, func(part Part) bool { return part.InSources }) {
		c.status = StatusRolledBack
	}
}

// release records release i of a wave: derived again, accepted, and compared with the digest that the ledger recorded.
func (p *projection) release(w events.Wave, i int, r Release) error {
	ref := w.Releases[i]
	e, found := p.Environments[ref.Environment]
	if !found {
		return fmt.Errorf("%w: environment %s is not in the ledger", ErrBroken, ref.Environment)
	}
	r.Revision, r.Derivation = ref.Revision, w.Derivation
	r.Entry, r.Place, r.Time, r.Stamp, r.TraceParent = p.entry.Number, len(p.released), p.entry.Time, p.stamp, p.entry.TraceParent
	derived, payload, err := p.derived(e, &r)
	if err != nil {
		return fmt.Errorf("revision %d of %s: %w", ref.Revision, ref.Environment, err)
	}
	// It was read as agents read it before it was recorded; with its chain digest it is the same bytes.
	step, err := e.Fold.AcceptDecoded(derived, r.Time, payload, p.openedOf(r.Change))
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

// openedOf are the statements that releases of a change carry.
func (p *projection) openedOf(change string) events.Opened {
	if c := p.Changes[change]; c != nil {
		return c.opened
	}
	return nil
}

// derived is a release as it was derived when its entry was decided here, or as it is derived now.
func (p *projection) derived(e *Environment, r *Release) (events.Release, []byte, error) {
	if r.Place >= len(p.tried.releases) {
		return p.next(e, r)
	}
	t := p.tried.releases[r.Place]
	r.State, r.Previous = t.release.State, t.release.Previous
	return t.step.Release, t.payload, nil
}

// A Result is the answer to a command.
type Result struct {
	Entry    uint64              `json:"entry"`              // that records it; 0 after a dry run
	Change   string              `json:"change,omitempty"`   // that it is about
	Released []events.ReleaseRef `json:"released,omitempty"` // what it released
	LeftOut  []events.LeftOut    `json:"leftOut,omitempty"`  // environments that it could not release to
	// SourcesOnly are environments whose sources it changed, and nothing else.
	SourcesOnly []string `json:"sourcesOnly,omitempty"`
	// Frozen are environments in which it is approved and waits.
	Frozen []events.Frozen `json:"frozen,omitempty"`
}

func (p *projection) result() Result {
	r := Result{Entry: p.entry.Number, Change: p.about, LeftOut: p.leftOut, SourcesOnly: p.sourcesOnly, Frozen: p.frozen}
	for _, released := range p.released {
		r.Released = append(r.Released, events.ReleaseRef{Environment: released.Environment, Revision: released.Revision, Chain: released.Chain})
	}
	return r
}
