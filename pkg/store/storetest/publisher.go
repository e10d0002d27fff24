package storetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// Ledger is the id of the ledger that every Publisher speaks for.
const Ledger = "0191f0aa-0000-7000-8000-000000000001"

// NewSigner makes a new key.
func NewSigner(t testing.TB) *events.Signer {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	s, err := events.NewSigner(seed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A Publisher is a publisher in a few lines: it makes the releases of one environment, each a signed wave of its own, and keeps
// them in order. It begins with the trust release.
type Publisher struct {
	Signer   *events.Signer
	Env      *fold.Environment // after the newest release
	Releases []Release         // Releases[i] is revision i+1
	clock    time.Time
}

// A Release is a payload with its signature header.
type Release struct {
	Payload   []byte
	Signature string
}

// NewPublisher is a publisher for a new environment, which has its trust release.
func NewPublisher(t testing.TB, environment string) *Publisher {
	t.Helper()
	p := &Publisher{Signer: NewSigner(t), Env: fold.New(Ledger, environment), clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	p.Trust(t, p.Signer)
	return p
}

// Trust releases the next trust document, with the keys of these publishers.
func (p *Publisher) Trust(t testing.TB, publishers ...*events.Signer) Release {
	t.Helper()
	document := &events.Trust{Version: 1, Ledger: Ledger, Approvals: events.ApprovalsAreNames}
	if p.Env.Trust != nil {
		document.Version = p.Env.Trust.Version + 1
	}
	for _, s := range publishers {
		document.Publishers = append(document.Publishers, s.Public())
	}
	return p.Publish(t, p.release(t, events.Release{Kind: events.KindTrust, Trust: document}))
}

// Change releases a change that sets keys to JSON texts; an empty text deletes its key.
func (p *Publisher) Change(t testing.TB, edits map[string]string) Release {
	t.Helper()
	return p.Publish(t, p.MakeChange(t, edits))
}

// MakeChange makes the payload of Change without releasing it.
func (p *Publisher) MakeChange(t testing.TB, edits map[string]string) []byte {
	t.Helper()
	var operations []events.Operation
	for _, key := range slices.Sorted(maps.Keys(edits)) {
		now, _ := p.Env.State.Get(key)
		op := events.Operation{Op: events.OpDelete, Key: key, Base: now.Setter}
		if edits[key] != "" {
			value, err := events.Canonical([]byte(edits[key]))
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			op.Op, op.Value = events.OpSet, value
		}
		operations = append(operations, op)
	}
	inverse, err := p.Env.Invert(operations)
	must(t, err)
	change := events.ReleasedChange{ID: fmt.Sprintf("change-%d", p.Env.Revision+1), Author: "ann", Reason: "test",
		Size: 1, Approvals: []events.Approval{{By: "bob", At: p.clock}}}
	change.Inverse, err = events.OperationsDigest(inverse)
	must(t, err)
	digest, err := events.OperationsDigest(operations)
	must(t, err)
	change.Digest, _, err = events.ChangeDigest([]events.Leaf{{Change: change.ID, Environment: p.Env.Name, Inverse: change.Inverse, Operations: digest}})
	must(t, err)
	return p.release(t, events.Release{Kind: events.KindChange, Change: &change, Operations: operations})
}

// Rollback releases the undoing of the change of a revision.
func (p *Publisher) Rollback(t testing.TB, revision uint64) Release {
	t.Helper()
	r, _, err := events.DecodeRelease(p.Releases[revision-1].Payload)
	must(t, err)
	// What a change replaced is the fold before it.
	before := fold.New(Ledger, p.Env.Name)
	for _, earlier := range p.Releases[:revision-1] {
		_, err := before.Accept(earlier.Payload)
		must(t, err)
	}
	inverse, err := before.Invert(r.Operations)
	must(t, err)
	return p.Publish(t, p.release(t, events.Release{Kind: events.KindRollback, Inverse: inverse,
		Rollback: &events.Rollback{ID: r.Change.ID, Digest: r.Change.Digest, By: "ann", Reason: "test"}}))
}

// release fills in what every release has and finds the state after it.
func (p *Publisher) release(t testing.TB, r events.Release) []byte {
	t.Helper()
	r.Environment, r.Revision, r.Previous, r.Ledger = p.Env.Name, p.Env.Revision+1, p.Env.Chain, Ledger
	r.Entry, r.Derivation = r.Revision+100, 1
	r.State = p.after(r)
	payload, err := events.EncodeRelease(r, p.clock, "")
	must(t, err)
	return payload
}

func (p *Publisher) after(r events.Release) events.Digest {
	var state fold.State
	for key, resource := range p.Env.State.All() {
		state.Set(key, resource)
	}
	for _, op := range r.Operations {
		state.Set(op.Key, fold.Resource{Value: op.Value, Setter: r.Change.Digest})
	}
	for _, op := range r.Inverse {
		state.Set(op.Key, fold.Resource{Value: op.Value, Setter: op.Setter})
	}
	return state.Digest()
}

// Publish signs a payload as the next release; one that the fold refuses fails the test.
func (p *Publisher) Publish(t testing.TB, payload []byte) Release {
	t.Helper()
	step, err := p.Env.Accept(payload)
	must(t, err)
	r := Sign(t, p.Signer, step.Chain, payload)
	p.Releases = append(p.Releases, r)
	p.clock = p.clock.Add(time.Second)
	return r
}

// Sign makes a release of a payload, whatever it holds, as a wave of one with the chain digest.
func Sign(t testing.TB, s *events.Signer, chain events.Digest, payload []byte) Release {
	t.Helper()
	headers, err := s.SignWave(Ledger, []events.Digest{chain})
	must(t, err)
	return Release{Payload: payload, Signature: headers[0]}
}

// JSON is v as JSON text.
func JSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
