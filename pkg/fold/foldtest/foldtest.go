// Package foldtest publishes releases for tests: trust documents, changes and rollbacks for any number of environments, with
// correct bases, inverses, Merkle paths, chain and state digests, signed as waves.
//
// What it publishes it has folded itself, so a valid release is always accepted; Draft and Seal are for releases that must be
// refused. It is deterministic: the same calls give the same bytes. It is no ledger: nothing is decided, held or stored.
package foldtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// Ledger is the ledger id of New.
const Ledger = "6f1f9ac2-5d0c-4a0e-9d5b-2f1a3c4d5e6f"

// Epoch is the time of a Publisher's first entry; every entry is one second later than the one before.
var Epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A Publisher publishes releases of one ledger. It is for one goroutine.
type Publisher struct {
	Ledger string
	Signer *events.Signer // of waves and pulses
	// TraceParent is the trace of the releases that are sealed from now on; empty: none.
	TraceParent string

	t            testing.TB
	entry        uint64
	waited       time.Duration
	changes      int
	trust        events.Trust
	environments map[string]*fold.Environment
	inverses     map[string]map[string][]events.Inverse // :: change id → environment → what undoes it
}

// New is a publisher of the ledger Ledger that signs with Signer("publisher").
func New(t testing.TB) *Publisher {
	t.Helper()
	p := &Publisher{
		Ledger: Ledger, Signer: Signer(t, "publisher"), t: t,
		environments: map[string]*fold.Environment{},
		inverses:     map[string]map[string][]events.Inverse{},
	}
	p.trust = events.Trust{Ledger: p.Ledger, Publishers: []string{p.Signer.Public()}, Approvals: events.ApprovalsAreNames}
	return p
}

// NewSigned is New with the trust document of trusttest.Document, under which approvals are signed: changes are ann's, and approved by bob.
func NewSigned(t testing.TB) *Publisher {
	t.Helper()
	p := New(t)
	p.trust = trusttest.Document(t, p.Ledger, p.Signer.Public())
	p.trust.Version = 0
	return p
}

// Wait lets time pass before the next release.
func (p *Publisher) Wait(d time.Duration) { p.waited += d }

// Now is the time of the next release.
func (p *Publisher) Now() time.Time { return p.now() }

// Signer is a signer whose key follows from a name: the same in every test.
func Signer(t testing.TB, name string) *events.Signer {
	t.Helper()
	s, err := events.NewSigner(Seed(t, name))
	must(t, err)
	return s
}

// Seed is the nkey seed of Signer.
func Seed(t testing.TB, name string) []byte {
	t.Helper()
	raw := events.Sum([]byte("lockstep test key " + name))
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, raw[:])
	must(t, err)
	seed, err := pair.Seed()
	must(t, err)
	return seed
}

// A Release is a published release as it travels: payload, and header Lockstep-Signature.
type Release struct {
	Environment string
	Revision    uint64
	Payload     []byte
	Header      string
	Chain       events.Digest // at this release
}

// A Change is a published change.
type Change struct {
	ID       string
	Digest   events.Digest
	Releases []Release // ordered by environment
}

// An Edit sets or deletes one key of one environment.
type Edit struct {
	Environment, Key string
	Value            json.RawMessage // nil deletes
}

// Set is an edit with a value in JSON, as in Set("prod", "variable/log-level", `"debug"`).
func Set(environment, key, value string) Edit { return Edit{environment, key, json.RawMessage(value)} }

// Delete is an edit that deletes.
func Delete(environment, key string) Edit { return Edit{environment, key, nil} }

// Environment is the fold of everything published to an environment, at revision 0 before its first Trust. It belongs to the
// publisher; a test that alters it alters what is published next.
func (p *Publisher) Environment(name string) *fold.Environment {
	e := p.environments[name]
	if e == nil {
		e = fold.New(p.Ledger, name)
		p.environments[name] = e
	}
	return e
}

// Trust releases the next version of the trust document to environments as one wave. Revision 1 of an environment is one.
func (p *Publisher) Trust(environments ...string) []Release {
	p.t.Helper()
	return p.Update(func(*events.Trust) {}, environments...)
}

// Update is Trust after an edit of the document; where approvals are signed both roots of trusttest.Document sign it.
func (p *Publisher) Update(edit func(*events.Trust), environments ...string) []Release {
	p.t.Helper()
	if p.trust.Approvals == events.ApprovalsAreSigned {
		p.trust = trusttest.Next(p.t, p.trust, edit)
	} else {
		p.trust.Version++
		edit(&p.trust)
	}
	return p.Publish(p.DraftTrust(p.trust, environments...)...)
}

// Document is the newest trust document.
func (p *Publisher) Document() events.Trust { return p.trust }

// DraftTrust is the next release of each environment with a trust document of the caller's.
func (p *Publisher) DraftTrust(trust events.Trust, environments ...string) []events.Release {
	p.t.Helper()
	var drafts []events.Release
	for _, name := range environments {
		r := p.next(events.KindTrust, name)
		r.Trust = &trust
		r.State = p.Environment(name).State.Digest()
		drafts = append(drafts, r)
	}
	return drafts
}

// Change releases one approved change with all its edits as one wave.
func (p *Publisher) Change(edits ...Edit) Change {
	p.t.Helper()
	drafts := p.Draft(edits...)
	return Change{ID: drafts[0].Change.ID, Digest: drafts[0].Change.Digest, Releases: p.Publish(drafts...)}
}

// Draft compiles edits to the releases that Change would publish, ordered by environment, and publishes nothing.
func (p *Publisher) Draft(edits ...Edit) []events.Release {
	p.t.Helper()
	p.changes++
	id := fmt.Sprintf("change-%04d", p.changes)
	operations := map[string][]events.Operation{}
	var names []string
	for _, edit := range edits {
		if operations[edit.Environment] == nil {
			names = append(names, edit.Environment)
		}
		operations[edit.Environment] = append(operations[edit.Environment], p.compile(edit))
	}
	slices.Sort(names)

	p.inverses[id] = map[string][]events.Inverse{}
	leaves := make([]events.Leaf, len(names))
	for i, name := range names {
		inverse, err := p.Environment(name).Invert(operations[name])
		must(p.t, err)
		p.inverses[id][name] = inverse
		leaves[i] = events.Leaf{Change: id, Environment: name, Inverse: digest(p.t, inverse), Operations: digest(p.t, operations[name])}
	}
	root, paths, err := events.ChangeDigest(leaves)
	must(p.t, err)

	drafts := make([]events.Release, len(names))
	for i, name := range names {
		r := p.next(events.KindChange, name)
		r.Operations = operations[name]
		r.Change = &events.ReleasedChange{
			ID: id, Digest: root, Author: "ann", Reason: "reason of " + id, Inverse: leaves[i].Inverse,
			Index: uint64(i), Size: uint64(len(names)), Path: paths[i],
			Approvals: []events.Approval{{By: "bob", At: p.now()}},
		}
		if p.trust.Approvals == events.ApprovalsAreSigned {
			p.Sign(&r, "ann", "bob")
		}
		after := map[string]json.RawMessage{}
		for _, op := range r.Operations {
			after[op.Key] = op.Value
		}
		r.State = p.Environment(name).State.With(after)
		drafts[i] = r
	}
	return drafts
}

// Sign has a drafted change signed now by its author and by approvers, in the place of whoever signed it.
func (p *Publisher) Sign(r *events.Release, author string, approvers ...string) {
	p.t.Helper()
	c := *r.Change
	c.Author, c.Approvals = author, []events.Approval{}
	c.Proposal = trusttest.Over(p.t, p.Ledger, author, events.VerbPropose, c.ID, c.Digest, p.now())
	for _, by := range approvers {
		c.Approvals = append(c.Approvals, events.Approval{By: by, At: p.now(), Envelope: trusttest.Over(p.t, p.Ledger, by, events.VerbApprove, c.ID, c.Digest, p.now())})
	}
	r.Change = &c
}

// Rollback releases the inverse of a change to environments, or to all that the change was published to, as one wave.
func (p *Publisher) Rollback(c Change, environments ...string) []Release {
	p.t.Helper()
	return p.Publish(p.DraftRollback(c, environments...)...)
}

// DraftRollback is the releases that Rollback would publish; it publishes nothing.
func (p *Publisher) DraftRollback(c Change, environments ...string) []events.Release {
	p.t.Helper()
	if len(environments) == 0 {
		for _, r := range c.Releases {
			environments = append(environments, r.Environment)
		}
	}
	var drafts []events.Release
	for _, name := range environments {
		r := p.next(events.KindRollback, name)
		r.Rollback = &events.Rollback{ID: c.ID, Digest: c.Digest, By: "carol", Reason: "undo " + c.ID}
		r.Inverse = p.inverses[c.ID][name]
		after := map[string]json.RawMessage{}
		for _, op := range r.Inverse {
			after[op.Key] = op.Value
		}
		r.State = p.Environment(name).State.With(after)
		drafts = append(drafts, r)
	}
	return drafts
}

// Publish seals releases as one wave of one entry and folds them. A release that the fold refuses fails the test.
func (p *Publisher) Publish(releases ...events.Release) []Release {
	p.t.Helper()
	sealed := p.Seal(releases...)
	for _, r := range sealed {
		_, err := p.Environment(r.Environment).Accept(r.Payload)
		must(p.t, err)
	}
	p.entry++
	return sealed
}

// Seal encodes releases, whatever they hold, and signs them as one wave. The publisher's own folds stay as they are.
func (p *Publisher) Seal(releases ...events.Release) []Release {
	p.t.Helper()
	sealed := make([]Release, len(releases))
	chains := make([]events.Digest, len(releases))
	for i, r := range releases {
		payload, err := events.EncodeRelease(r, p.now(), p.TraceParent)
		must(p.t, err)
		chains[i] = events.Chain(r.Previous, payload)
		sealed[i] = Release{Environment: r.Environment, Revision: r.Revision, Payload: payload, Chain: chains[i]}
	}
	headers, err := p.Signer.SignWave(p.Ledger, chains)
	must(p.t, err)
	for i := range sealed {
		sealed[i].Header = headers[i]
	}
	return sealed
}

// next is the frame of an environment's next release.
func (p *Publisher) next(kind events.ReleaseKind, environment string) events.Release {
	e := p.Environment(environment)
	return events.Release{
		Kind: kind, Environment: environment, Revision: e.Revision + 1, Previous: e.Chain,
		Ledger: p.Ledger, Entry: p.entry + 1, Derivation: 1,
	}
}

func (p *Publisher) now() time.Time { return Epoch.Add(time.Duration(p.entry)*time.Second + p.waited) }

func (p *Publisher) compile(edit Edit) events.Operation {
	p.t.Helper()
	now, _ := p.Environment(edit.Environment).State.Get(edit.Key)
	if edit.Value == nil {
		return events.Operation{Op: events.OpDelete, Key: edit.Key, Base: now.Setter}
	}
	value, err := events.Canonical(edit.Value)
	must(p.t, err)
	return events.Operation{Op: events.OpSet, Key: edit.Key, Value: value, Base: now.Setter}
}

func digest[T events.Operation | events.Inverse](t testing.TB, list []T) events.Digest {
	t.Helper()
	d, err := events.OperationsDigest(list)
	must(t, err)
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
