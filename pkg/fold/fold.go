// Package fold is what an environment is after its releases: revision, chain, trust, resources with their setters and
// tombstones, and the changes it has accepted.
//
// Accept is the verification that agents run before anything else, and that the publisher runs before it appends: the ledger
// holds no release that an agent would refuse. A release is accepted whole or changes nothing.
//
// It is pure: no storage, no clock, no signatures of waves (those stand outside the payload; events.VerifyWave checks them).
package fold

import (
	"fmt"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// An Environment is the fold of an environment's releases up to Revision.
type Environment struct {
	Ledger   string
	Name     string
	Revision uint64
	Chain    events.Digest // chain digest at Revision
	Released time.Time     // the time of Revision's release, before which none that follows is dated; zero where it is not known
	Trust    *events.Trust // in force at Revision; nil at revision 0
	State    State
	// Accepted are the changes accepted, by digest; each is accepted once, and so is its inverse.
	Accepted map[events.Digest]Accepted
}

// Accepted is what an environment remembers of a change it accepted.
type Accepted struct {
	ID      string        // of the change
	Inverse events.Digest // of the inverse operations that undo it
	Undone  bool
}

// New is an environment at revision 0.
func New(ledger, name string) *Environment {
	return &Environment{Ledger: ledger, Name: name, Chain: events.ChainStart(ledger, name), Accepted: map[events.Digest]Accepted{}}
}

// A Step is one accepted release, with what is needed to take it back.
type Step struct {
	Release  events.Release
	Chain    events.Digest // at the release
	Keys     []string      // that it sets or deletes
	before   []Resource    // of Keys
	previous struct {
		chain    events.Digest
		released time.Time
		trust    *events.Trust
		accepted Accepted
	}
	touched events.Digest // of the entry in Accepted; zero for a trust release
}

// Accept verifies a release's payload as the next one and folds it in. When it returns an error nothing has changed; the error
// has one of the reasons of verification (events.ReasonOf).
func (e *Environment) Accept(payload []byte) (*Step, error) {
	r, event, err := events.DecodeRelease(payload)
	if err != nil {
		return nil, err
	}
	return e.AcceptDecoded(r, event.Time, payload, nil)
}

// AcceptDecoded is Accept for whoever has the release beside the payload that it is encoded as: who read it before with DecodeRelease,
// or derives it again, and compares its chain digest. At is the release's time, under which approvals are judged, and which is never
// before that of the release before: otherwise who has a publisher's key could date a release to when an approval still counted. Opened
// are statements of people that were opened before, nil is none.
func (e *Environment) AcceptDecoded(r events.Release, at time.Time, payload []byte, opened events.Opened) (*Step, error) {
	err := e.follows(r, at)
	if err != nil {
		return nil, err
	}
	step := &Step{Release: r, Chain: events.Chain(e.Chain, payload)}
	step.previous.chain, step.previous.released, step.previous.trust = e.Chain, e.Released, e.Trust
	switch r.Kind {
	case events.KindTrust:
		err = e.acceptTrust(r)
	case events.KindChange:
		err = e.acceptChange(r, at, opened, step)
	case events.KindRollback:
		err = e.acceptRollback(r, step)
	}
	if err != nil {
		return nil, err
	}
	e.Revision, e.Chain, e.Released = r.Revision, step.Chain, at
	if digest := e.State.Digest(); digest != r.State {
		e.Revert(step)
		return nil, events.Errorf(events.ReasonStateMismatch, "revision %d of %s says the state after it is %s, the fold gives %s",
			r.Revision, e.Name, r.State.Short(), digest.Short())
	}
	return step, nil
}

// Revert takes back the last accepted step.
func (e *Environment) Revert(s *Step) {
	for i, key := range s.Keys {
		e.State.Set(key, s.before[i])
	}
	if !s.touched.IsZero() {
		if s.previous.accepted == (Accepted{}) {
			delete(e.Accepted, s.touched)
		} else {
			e.Accepted[s.touched] = s.previous.accepted
		}
	}
	e.Revision, e.Chain, e.Released, e.Trust = s.Release.Revision-1, s.previous.chain, s.previous.released, s.previous.trust
}

func (e *Environment) follows(r events.Release, at time.Time) error {
	switch {
	case r.Ledger != e.Ledger:
		return events.Errorf(events.ReasonWrongLedger, "the release is of ledger %s, this is %s", r.Ledger, e.Ledger)
	case r.Environment != e.Name:
		return events.Errorf(events.ReasonWrongEnvironment, "the release is for %s, this is %s", r.Environment, e.Name)
	case r.Revision != e.Revision+1:
		return events.Errorf(events.ReasonRevisionGap, "revision %d does not follow %d", r.Revision, e.Revision)
	case r.Previous != e.Chain:
		return events.Errorf(events.ReasonChainBroken, "revision %d follows chain %s, this is at %s", r.Revision, r.Previous.Short(), e.Chain.Short())
	case at.Before(e.Released):
		return events.Errorf(events.ReasonChainBroken, "revision %d is dated %s, before revision %d of %s",
			r.Revision, at.UTC().Format(time.RFC3339Nano), e.Revision, e.Released.UTC().Format(time.RFC3339Nano))
	case r.Kind != events.KindTrust && e.Trust == nil:
		return events.Errorf(events.ReasonTrust, "revision %d comes before any trust document", r.Revision)
	}
	return nil
}

func (e *Environment) acceptTrust(r events.Release) error {
	if r.Trust.Ledger != e.Ledger {
		return events.Errorf(events.ReasonTrust, "the trust document is of ledger %s, this is %s", r.Trust.Ledger, e.Ledger)
	}
	if err := r.Trust.CheckSuccession(e.Trust); err != nil {
		return err
	}
	e.Trust = r.Trust
	return nil
}

func (e *Environment) acceptChange(r events.Release, at time.Time, opened events.Opened, step *Step) error {
	c := r.Change
	if err := CheckLeaf(r); err != nil {
		return err
	}
	if err := e.Trust.CheckApprovals(&r, at, opened); err != nil {
		return err
	}
	if _, known := e.Accepted[c.Digest]; known {
		return events.Errorf(events.ReasonAlreadyAccepted, "change %s (%s) was accepted here before", c.ID, c.Digest.Short())
	}
	inverse, err := e.Invert(r.Operations)
	if err != nil {
		return err
	}
	digest, err := events.OperationsDigest(inverse)
	if err != nil {
		return err
	}
	if digest != c.Inverse {
		return events.Errorf(events.ReasonInverse, "change %s: its approved inverse does not bring back what it replaces", c.ID)
	}
	step.touched = c.Digest
	e.Accepted[c.Digest] = Accepted{ID: c.ID, Inverse: c.Inverse}
	for _, op := range r.Operations {
		e.set(step, op.Key, Resource{Value: op.Value, Setter: c.Digest})
	}
	return nil
}

// CheckLeaf says whether the operations of a change's release are the ones under the change's digest for its environment. Errors have
// ReasonLeafPath.
func CheckLeaf(r events.Release) error {
	operations, err := events.OperationsDigest(r.Operations)
	if err != nil {
		return err
	}
	leaf, err := events.Leaf{Change: r.Change.ID, Environment: r.Environment, Inverse: r.Change.Inverse, Operations: operations}.Hash()
	if err != nil {
		return err
	}
	root, ok := events.RootFromPath(leaf, r.Change.Index, r.Change.Size, r.Change.Path)
	if !ok || root != r.Change.Digest {
		return events.Errorf(events.ReasonLeafPath, "change %s: these operations are not the ones approved for %s", r.Change.ID, r.Environment)
	}
	return nil
}

// Invert is what undoes operations here and now. It fails with ReasonBaseMoved where an operation was compiled against another
// setter than the key has, and with ReasonMalformed where a key stands twice.
func (e *Environment) Invert(operations []events.Operation) ([]events.Inverse, error) {
	inverse := make([]events.Inverse, len(operations))
	var seen map[string]bool
	if len(operations) > 1 {
		seen = make(map[string]bool, len(operations))
	}
	for i, op := range operations {
		if seen[op.Key] {
			return nil, events.Errorf(events.ReasonMalformed, "%s stands twice in one change", op.Key)
		}
		if seen != nil {
			seen[op.Key] = true
		}
		now, _ := e.State.Get(op.Key)
		if now.Setter != op.Base {
			return nil, events.Errorf(events.ReasonBaseMoved, "%s in %s was last set by %s, not by %s", op.Key, e.Name, e.setter(now.Setter), e.setter(op.Base))
		}
		inverse[i] = events.Inverse{Op: events.OpSet, Key: op.Key, Value: now.Value, Setter: now.Setter}
		if now.Value == nil {
			inverse[i].Op = events.OpDelete
		}
	}
	return inverse, nil
}

func (e *Environment) setter(d events.Digest) string {
	if d.IsZero() {
		return "nothing"
	}
	if a, known := e.Accepted[d]; known {
		return fmt.Sprintf("change %s", a.ID)
	}
	return fmt.Sprintf("an unknown change (%s)", d.Short())
}

func (e *Environment) acceptRollback(r events.Release, step *Step) error {
	back := r.Rollback
	accepted, known := e.Accepted[back.Digest]
	if !known || accepted.ID != back.ID {
		return events.Errorf(events.ReasonInverse, "change %s was never accepted here, so there is nothing to undo", back.ID)
	}
	if accepted.Undone {
		return events.Errorf(events.ReasonAlreadyAccepted, "change %s was undone here before", back.ID)
	}
	digest, err := events.OperationsDigest(r.Inverse)
	if err != nil {
		return err
	}
	if digest != accepted.Inverse {
		return events.Errorf(events.ReasonInverse, "these operations are not the inverse approved with change %s", back.ID)
	}
	for _, op := range r.Inverse {
		if now, _ := e.State.Get(op.Key); now.Setter != back.Digest {
			return events.Errorf(events.ReasonNotTheSetter, "%s in %s was last set by %s, so undoing %s would undo that; undo it first",
				op.Key, e.Name, e.setter(now.Setter), back.ID)
		}
	}
	step.touched, step.previous.accepted = back.Digest, accepted
	accepted.Undone = true
	e.Accepted[back.Digest] = accepted
	for _, op := range r.Inverse {
		e.set(step, op.Key, Resource{Value: op.Value, Setter: op.Setter})
	}
	return nil
}

func (e *Environment) set(step *Step, key string, r Resource) {
	before, _ := e.State.Get(key)
	step.Keys = append(step.Keys, key)
	step.before = append(step.before, before)
	e.State.Set(key, r)
}
