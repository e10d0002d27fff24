package ledger

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// currentDerivation is the version that new waves are derived by. Old versions stay, with golden vectors.
const currentDerivation = 1

// Released is a release with the bytes that go to the bus.
type Released struct {
	Environment string
	Release
	Payload []byte
}

// derive is a recorded release with its payload: a pure function of the ledger.
func (s *State) derive(environment string, r Release) (events.Release, []byte, error) {
	if r.recovered != nil {
		payload, err := events.EncodeRelease(*r.recovered, r.Time, r.TraceParent)
		return *r.recovered, payload, err
	}
	if r.Derivation != 1 {
		return events.Release{}, nil, events.Errorf(events.ReasonUpgradeNeeded, "derivation %d is not known; upgrade this program", r.Derivation)
	}
	release, err := s.deriveV1(environment, r)
	if err != nil {
		return release, nil, fmt.Errorf("derive revision %d of %s: %w", r.Revision, environment, err)
	}
	payload, err := events.EncodeRelease(release, r.Time, r.TraceParent)
	return release, payload, err
}

// deriveV1 is derivation version 1. It never changes.
func (s *State) deriveV1(environment string, r Release) (events.Release, error) {
	release := events.Release{
		Kind: r.Kind, Environment: environment, Revision: r.Revision, Previous: r.Previous,
		Ledger: s.ID, Entry: r.Entry, Derivation: 1, State: r.State,
	}
	if r.Kind == events.KindTrust {
		if r.Trust < 1 || r.Trust > len(s.Trusts) {
			return release, fmt.Errorf("%w: trust document %d is not in the ledger", ErrBroken, r.Trust)
		}
		release.Trust = &s.Trusts[r.Trust-1]
		return release, nil
	}
	c, found := s.Changes[r.Change]
	if !found {
		return release, fmt.Errorf("%w: change %s is not in the ledger", ErrBroken, r.Change)
	}
	part, found := c.PartFor(environment)
	if !found {
		return release, fmt.Errorf("%w: change %s has no part for %s", ErrBroken, r.Change, environment)
	}
	if r.Kind == events.KindRollback {
		release.Rollback = &events.Rollback{ID: c.ID, Digest: c.Digest, By: r.By, Reason: r.Reason}
		release.Inverse = part.Inverse
		return release, nil
	}
	release.Change = &events.ReleasedChange{
		ID: c.ID, Digest: c.Digest, Author: c.Author, Reason: c.Reason, Ticket: c.Ticket, Inverse: part.inverse,
		Index: part.index, Size: uint64(len(c.Parts)), Path: part.path, Approvals: c.Approvals[:r.approvals:r.approvals], Proposal: c.Proposal,
	}
	release.Operations = part.Operations
	return release, nil
}

// Payload is the payload of a recorded release, derived again.
func (s *State) Payload(environment string, revision uint64) ([]byte, error) {
	e, found := s.Environments[environment]
	if !found || revision == 0 || revision > e.Head() {
		return nil, refuse(KindNotFound, "", "%s has no revision %d", environment, revision)
	}
	_, payload, err := s.derive(environment, e.Releases[revision-1])
	return payload, err
}

// Folded is an environment as it was at a revision, folded from its releases as the ledger derives them.
func (s *State) Folded(environment string, revision uint64) (*fold.Environment, error) {
	e, found := s.Environments[environment]
	if !found || revision > e.Head() {
		return nil, refuse(KindNotFound, "", "%s has no revision %d", environment, revision)
	}
	f := fold.New(s.ID, environment)
	for r := uint64(1); r <= revision; r++ {
		payload, err := s.Payload(environment, r)
		if err != nil {
			return nil, err
		}
		if _, err := f.Accept(payload); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// RevisionAt is the newest revision of an environment that had been released at a time; 0 before the first.
func (e *Environment) RevisionAt(t time.Time) uint64 {
	var revision uint64
	for _, r := range e.Releases {
		if r.Time.After(t) {
			break
		}
		revision = r.Revision
	}
	return revision
}

// next derives a release as the next one of its environment, and fills in what follows from that.
func (s *State) next(e *Environment, r *Release) (derived events.Release, payload []byte, err error) {
	if r.State, err = s.stateAfter(e.Fold, *r); err != nil {
		return derived, nil, err
	}
	r.Previous = e.Fold.Chain
	return s.derive(e.Name, *r)
}

// stateAfter is the state digest that an environment would have after a release.
func (s *State) stateAfter(f *fold.Environment, r Release) (events.Digest, error) {
	if r.Kind == events.KindTrust {
		return f.State.Digest(), nil
	}
	part, found := s.Changes[r.Change].PartFor(f.Name)
	if !found {
		return events.Digest{}, fmt.Errorf("%w: change %s has no part for %s", ErrBroken, r.Change, f.Name)
	}
	values := make(map[string]json.RawMessage, len(part.Operations))
	for i, op := range part.Operations {
		values[op.Key] = op.Value
		if r.Kind == events.KindRollback {
			values[op.Key] = part.Inverse[i].Value
		}
	}
	return f.State.With(values), nil
}

// A wave collects the releases of one entry: each is derived, accepted as an agent would, and recorded. Until the entry is
// appended all of it is a trial: undo takes it back.
type wave struct {
	state *State
	tried []tried
}

// A tried release was derived and accepted.
type tried struct {
	environment *Environment
	release     Release
	payload     []byte
	step        *fold.Step
	opened      events.Opened // statements that the release carries, as far as they were opened
}

// add tries the next releases of as many environments, all at once: they are independent of one another.
func (w *wave) add(next ...tried) error {
	err := inParallel(len(next), func(i int) error { return w.state.try(&next[i]) })
	if err != nil {
		next = slices.DeleteFunc(next, func(t tried) bool { return t.step == nil })
	}
	w.tried = append(w.tried, next...) // also after an error: they are to be undone
	return err
}

func (s *State) try(t *tried) (err error) {
	e, r := t.environment, &t.release
	r.Revision, r.Derivation = e.Fold.Revision+1, currentDerivation
	if _, t.payload, err = s.next(e, r); err != nil {
		return err
	}
	read, event, err := events.DecodeRelease(t.payload)
	if err == nil {
		t.step, err = e.Fold.AcceptDecoded(read, event.Time, t.payload, t.opened)
	}
	return err
}

// undo takes the trial back, newest first.
func (w *wave) undo() {
	for _, t := range slices.Backward(w.tried) {
		t.environment.Fold.Revert(t.step)
	}
}

func (w *wave) refs() []events.ReleaseRef {
	var refs []events.ReleaseRef
	for _, t := range w.tried {
		refs = append(refs, events.ReleaseRef{Environment: t.environment.Name, Revision: t.release.Revision, Chain: t.step.Chain})
	}
	return refs
}

func (w *wave) record() events.Wave {
	return events.Wave{Derivation: currentDerivation, Releases: append([]events.ReleaseRef{}, w.refs()...)}
}

// inParallel calls do for every number below n, on all processors, and returns the first error by number.
func inParallel(n int, do func(i int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs[i] = do(i)
			}
		})
	}
	workers.Wait()
	return cmp.Or(errs...)
}
