package audit

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Verification is what reading a whole ledger found.
type Verification struct {
	Ledger     string           `json:"ledger"`
	OK         bool             `json:"ok"`
	Tip        events.LedgerTip `json:"tip"` // newest entry that is as it should be
	Time       time.Time        `json:"time,omitzero"`
	Seal       seal.Head        `json:"seal"`
	Approvals  string           `json:"approvals"`  // names or signed, by the newest trust document
	Documents  int              `json:"documents"`  // trust documents, each signed as the one before it demands
	Roots      []string         `json:"roots"`      // of the first document that is signed; none where none is
	Statements int              `json:"statements"` // signed by people who might
	Given      int              `json:"given"`      // approvals
	Releases   int              `json:"releases"`   // derived again, each with the digest that the ledger recorded
	Held       int              `json:"held"`       // of them in the stream, with the same bytes and a publisher's signature
	Deliveries int              `json:"deliveries"` // statements of agents, signed
	Losses     []fleet.Loss     `json:"losses,omitempty"`
	Problems   []string         `json:"problems"` // none where it is ok
}

// mostProblems are listed; there may be more.
const mostProblems = 20

func (v *Verification) problem(format string, args ...any) {
	if len(v.Problems) < mostProblems {
		v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
	}
}

// A released is what the ledger says of a release.
type released struct {
	payload, chain events.Digest
}

// A walk reads an export once, and verifies as it goes.
type walk struct {
	Verification
	state    *ledger.State
	tree     seal.Tree
	releases map[string][]released // by environment; revision r is at r-1
	seen     func(Entry, events.Entry, []ledger.Released) error
	heldAs   func(Held)
}

// Verify reads a whole ledger: numbers, chain, what people signed and might, every release derived again and compared with what the
// stream held, every statement of an agent, and the seal over all of it. Where roots are named, they must be those of the first signed
// trust document. What is wrong with the ledger is in the Verification; an error says that it could not be read.
func Verify(r *Reader, roots []string) (Verification, error) {
	w := newWalk(r)
	err := w.run(r, roots)
	return w.Verification, err
}

func newWalk(r *Reader) *walk {
	return &walk{
		Verification: Verification{Ledger: r.Ledger, Roots: []string{}, Problems: []string{}}, state: ledger.NewWhole(r.Ledger), releases: map[string][]released{},
		seen: func(Entry, events.Entry, []ledger.Released) error { return nil }, heldAs: func(Held) {},
	}
}

func (w *walk) run(r *Reader, roots []string) error {
	broken := false
	err := r.Entries(func(e Entry) error {
		if broken {
			return nil
		}
		if problem := w.entry(e); problem != nil {
			broken = true
			w.problem("%v", problem)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var held []Held
	if err := r.Releases(func(h Held) error { held = append(held, h); return nil }); err != nil {
		return err
	}
	w.Losses, w.Documents = fleet.LossesOf(w.state), len(w.state.Trusts)
	trust := w.state.Trust()
	if broken || trust == nil {
		if !broken {
			w.problem("the ledger has not begun")
		}
		return nil
	}
	w.Approvals = trust.Approvals
	if w.Seal, err = r.sealed(&w.tree, trust); err != nil {
		w.problem("%v", err)
	}
	w.compareRoots(roots)
	if began := w.state.Recovering(); began > 0 {
		w.problem("the recovery that begins at entry %d has no end", began)
	}
	w.compareHeld(held)
	w.OK = len(w.Problems) == 0
	return nil
}

func (w *walk) entry(e Entry) error {
	entry, made, err := w.state.Apply(e.Entry, e.Stamp)
	if err != nil {
		return err
	}
	if err := w.tree.Append(e.Entry); err != nil {
		return err
	}
	w.Tip, w.Time = events.LedgerTip{Number: w.state.Number, Hash: w.state.Hash}, entry.Time
	if entry.Command.Statement != nil {
		w.Statements++
	}
	for _, event := range entry.Events {
		switch event.Type {
		case events.TypeApprovalGiven:
			w.Given++
		case events.TypeDeliveryRecorded:
			fact, err := events.DecodeFact(event)
			if err != nil {
				return err
			}
			w.Deliveries += len(fact.(*events.DeliveryRecorded).Deliveries)
		}
	}
	for _, r := range made {
		w.Releases++
		w.releases[r.Environment] = append(w.releases[r.Environment], released{events.Sum(r.Payload), r.Chain})
	}
	return w.seen(e, entry, made)
}

// firstSigned is the first trust document under which approvals are signed.
func firstSigned(documents []events.Trust) *events.Trust {
	i := slices.IndexFunc(documents, func(t events.Trust) bool { return t.Roots != nil })
	if i < 0 {
		return nil
	}
	return &documents[i]
}

// compareRoots says whether the roots that sign are those that somebody knows from elsewhere.
func (w *walk) compareRoots(known []string) {
	first := firstSigned(w.state.Trusts)
	if first == nil {
		if len(known) > 0 {
			w.problem("roots are named, and no trust document of this ledger is signed by roots: approvals are names")
		}
		return
	}
	w.Roots = first.Roots.Keys
	if stranger := unknownRoot(first, known); stranger != "" {
		w.problem("root %s of trust document %d is none that was named", stranger, first.Version)
	}
}

// unknownRoot is a root of a document that is none of the known ones, of which there are some.
func unknownRoot(t *events.Trust, known []string) string {
	for _, key := range t.Roots.Keys {
		if len(known) > 0 && !slices.Contains(known, key) {
			return key
		}
	}
	return ""
}

// compareHeld compares what the stream held with what the ledger released, on all processors.
func (w *walk) compareHeld(held []Held) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	have := map[string][]bool{}
	for name, list := range w.releases {
		have[name] = make([]bool, len(list))
	}
	each := max(1, len(held)/runtime.GOMAXPROCS(0)+1)
	for part := range slices.Chunk(held, each) {
		workers.Go(func() {
			for _, h := range part {
				problem := w.held(h)
				mu.Lock()
				if problem != nil {
					w.problem("%v", problem)
				} else if have[h.Environment][h.Revision-1] {
					w.problem("the stream held revision %d of %s twice", h.Revision, h.Environment)
				} else {
					have[h.Environment][h.Revision-1] = true
					w.Held++
					w.heldAs(h)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	for name, list := range have {
		if i := slices.Index(list, false); i >= 0 {
			w.problem("the stream did not hold revision %d of %s, which the ledger released: a publisher sends it again by itself; look again", i+1, name)
		}
	}
	slices.Sort(w.Problems) // whoever found what first
}

func (w *walk) held(h Held) error {
	list := w.releases[h.Environment]
	if h.Revision == 0 || h.Revision > uint64(len(list)) {
		return fmt.Errorf("the stream held revision %d of %s, which the ledger did not release", h.Revision, h.Environment)
	}
	r := list[h.Revision-1]
	if h.Payload != r.payload {
		return fmt.Errorf("the stream held another revision %d of %s than the ledger released", h.Revision, h.Environment)
	}
	allowed := func(key string) bool {
		return slices.ContainsFunc(w.state.Trusts, func(t events.Trust) bool { return t.AllowsPublisher(key) })
	}
	if err := events.VerifyWave(w.Ledger, r.chain, h.Signature, allowed); err != nil {
		return fmt.Errorf("revision %d of %s in the stream: %w", h.Revision, h.Environment, err)
	}
	return nil
}
