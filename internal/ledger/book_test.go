package ledger_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// tester is what testing.T, testing.B and rapid.T have in common.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// book is a ledger in memory: what internal/publisher does with a bus, without one. The same calls give the same bytes.
type book struct {
	t        tester
	state    *ledger.State
	entries  [][]byte
	stamps   []time.Time
	released []ledger.Released
	now      time.Time
	commands int
	acks     uint64
	// unwatched says that decide need not compare the state before and after: with thousands of environments that takes long.
	unwatched bool
	// signs says that people sign what they do.
	signs bool
	life  time.Duration // of approvals; 0: a week
}

const ledgerID = "0b7c5f0e-1f5e-4a1e-9d53-0d2f6a6f7c11"

var epoch = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func newBook(t tester) *book {
	b := &book{t: t, state: ledger.New(ledgerID), now: epoch}
	b.must("publisher", ledger.Genesis{Publisher: signer("publisher").Public()})
	return b
}

// environments is a book with environments that each demand one approval.
func environments(t tester, names ...string) *book {
	b := newBook(t)
	for _, name := range names {
		b.must("op", ledger.AddEnvironment{Name: name, Approvals: 1})
	}
	return b
}

// signer is a signer whose key follows from a name.
func signer(name string) *events.Signer {
	raw := events.Sum([]byte("lockstep ledger test " + name))
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, raw[:])
	if err != nil {
		panic(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		panic(err)
	}
	s, err := events.NewSigner(seed)
	if err != nil {
		panic(err)
	}
	return s
}

// do decides and appends until the command's entry is there.
func (b *book) do(by string, body ledger.Body) (ledger.Result, error) {
	b.t.Helper()
	b.commands++
	c := ledger.Command{ID: fmt.Sprintf("command-%04d", b.commands), By: by, Body: body}
	if b.signs && by != "publisher" {
		var err error
		if c, err = b.sign(c); err != nil {
			return ledger.Result{}, err
		}
	}
	return b.command(c)
}

func (b *book) command(c ledger.Command) (ledger.Result, error) {
	b.t.Helper()
	for {
		d, err := b.decide(c)
		if err != nil || d.Known {
			return d.Result, err
		}
		b.append(d)
		if d.Entry != nil {
			d.Result.Entry = b.state.Number
			return d.Result, nil
		}
	}
}

// decide decides one second later, and fails when that changed the state.
func (b *book) decide(c ledger.Command) (ledger.Decision, error) {
	b.t.Helper()
	b.now = b.now.Add(time.Second)
	if b.unwatched {
		return b.state.Decide(c, b.now)
	}
	before := picture(b.state)
	d, err := b.state.Decide(c, b.now)
	if after := picture(b.state); !reflect.DeepEqual(before, after) {
		b.t.Fatalf("deciding %s changed the state:\n%s", c.Verb(), difference(before, after))
	}
	return d, err
}

// append applies what was decided: contents, or the entry.
func (b *book) append(d ledger.Decision) {
	b.t.Helper()
	entries := d.Stores
	if entries == nil {
		entries = [][]byte{d.Entry}
	}
	for _, e := range entries {
		stamp := b.now.Add(time.Millisecond)
		_, released, err := b.state.Apply(e, stamp)
		if err != nil {
			b.t.Fatalf("apply what was decided: %v", err)
		}
		if len(e) > 1<<20 {
			b.t.Fatalf("an entry of %d bytes", len(e))
		}
		b.entries, b.stamps, b.released = append(b.entries, e), append(b.stamps, stamp), append(b.released, released...)
	}
}

func (b *book) must(by string, body ledger.Body) ledger.Result {
	b.t.Helper()
	r, err := b.do(by, body)
	if err != nil {
		b.t.Fatalf("%T by %s: %v", body, by, err)
	}
	return r
}

// refused does what must be refused with a kind, and with words in its message; nothing is stored.
func (b *book) refused(by string, body ledger.Body, kind ledger.Kind, words ...string) {
	b.t.Helper()
	before := len(b.entries)
	_, err := b.do(by, body)
	if err == nil || ledger.KindOf(err) != kind {
		b.t.Errorf("%T by %s: got %q (%v), want it refused as %q", body, by, ledger.KindOf(err), err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			b.t.Errorf("%T by %s: %v: it does not say %q", body, by, err, w)
		}
	}
	if len(b.entries) != before {
		b.t.Errorf("%T by %s was refused and left %d entries", body, by, len(b.entries)-before)
	}
}

// set proposes one value for environments, by name or pattern, separated by spaces.
func set(environments, key, value string) ledger.Propose {
	return ledger.Propose{Reason: "because of " + key, Edits: []ledger.Edit{
		{Environments: strings.Fields(environments), Set: map[string]json.RawMessage{key: json.RawMessage(value)}},
	}}
}

func del(environments string, keys ...string) ledger.Propose {
	return ledger.Propose{Reason: "unused", Edits: []ledger.Edit{{Environments: strings.Fields(environments), Delete: keys}}}
}

func (b *book) approval(change string) ledger.Approve {
	return ledger.Approve{Change: change, Digest: b.state.Changes[change].Digest}
}

func (b *book) approve(by, change string) ledger.Result {
	b.t.Helper()
	return b.must(by, b.approval(change))
}

// release proposes by anna, approves by ben, and returns the change.
func (b *book) release(p ledger.Propose) string {
	b.t.Helper()
	c := b.must("anna", p).Change
	b.approve("ben", c)
	return c
}

func (b *book) value(environment, key string) string {
	r, _ := b.state.Environments[environment].Fold.State.Get(key)
	return string(r.Value)
}

// setter is the id of the change that last set a key.
func (b *book) setter(environment, key string) string {
	e := b.state.Environments[environment]
	r, _ := e.Fold.State.Get(key)
	return e.Fold.Accepted[r.Setter].ID
}

func (b *book) enrol(environment, agent string) {
	b.t.Helper()
	b.must("steward", ledger.EnrolAgent{Environment: environment, Agent: agent, Key: signer(environment + "/" + agent).Public()})
}

// ack is an agent's next ack about revisions as the ledger released them; alter may make it say something else.
func (b *book) ack(environment, agent string, word events.Word, first, last uint64, alter ...func(*events.Ack)) events.Delivery {
	b.t.Helper()
	b.acks++
	a := events.Ack{Environment: environment, Agent: agent, Ledger: b.state.ID, Number: b.acks, Word: word, First: first, Last: last, ReadBack: true}
	if releases := b.state.Environments[environment].Releases; last <= uint64(len(releases)) {
		r := releases[last-1]
		a.Chain, a.Expected, a.Observed = r.Chain, r.State, r.State
	}
	for _, f := range alter {
		f(&a)
	}
	payload, header, err := events.EncodeAck(a, b.now, signer(environment+"/"+agent))
	if err != nil {
		b.t.Fatalf("encode an ack: %v", err)
	}
	return events.Delivery{Environment: environment, Agent: agent, Stamp: b.now.Add(2 * time.Millisecond), Ack: payload, Signature: header}
}

// beat is an agent's beat at a revision.
func (b *book) beat(environment, agent string, revision uint64, alter ...func(*events.Beat)) events.Delivery {
	b.t.Helper()
	b.acks++
	beat := events.Beat{Environment: environment, Agent: agent, Boot: "boot", Number: b.acks, Version: "v1", Clock: b.now, Ledger: b.state.ID, Revision: revision, Condition: "in step"}
	if releases := b.state.Environments[environment].Releases; revision > 0 && revision <= uint64(len(releases)) {
		r := releases[revision-1]
		beat.Chain, beat.State, beat.Observed = r.Chain, r.State, r.State
	}
	for _, f := range alter {
		f(&beat)
	}
	payload, header, err := events.EncodeBeat(beat, signer(environment+"/"+agent))
	if err != nil {
		b.t.Fatalf("encode a beat: %v", err)
	}
	return events.Delivery{Environment: environment, Agent: agent, Stamp: b.now.Add(2 * time.Millisecond), Beat: payload, Signature: header}
}

// record gathers deliveries as the publisher does: without a command id.
func (b *book) record(deliveries ...events.Delivery) (ledger.Result, error) {
	b.t.Helper()
	return b.command(ledger.Command{By: "publisher", Body: ledger.RecordDeliveries{Deliveries: deliveries}})
}

func (b *book) recorded(deliveries ...events.Delivery) {
	b.t.Helper()
	if _, err := b.record(deliveries...); err != nil {
		b.t.Fatalf("record deliveries: %v", err)
	}
}

func (b *book) agent(environment, name string) *ledger.Agent {
	return b.state.Environments[environment].Agents[name]
}

func (b *book) status(change string) ledger.Status { return b.state.Changes[change].Status(b.now) }

// replay is the state that all entries lead to from scratch.
func (b *book) replay() *ledger.State {
	b.t.Helper()
	s := ledger.New(b.state.ID)
	for i, e := range b.entries {
		if _, _, err := s.Apply(e, b.stamps[i]); err != nil {
			b.t.Fatalf("replay entry %d: %v", i+1, err)
		}
	}
	return s
}

// deliveries is how many statements the ledger holds.
func (b *book) deliveries() (n int) {
	b.t.Helper()
	for _, e := range b.entries {
		_, facts, err := events.RereadEntry(e)
		if err != nil {
			b.t.Fatalf("%v", err)
		}
		for _, f := range facts {
			if recorded, ok := f.Data.(*events.DeliveryRecorded); ok {
				n += len(recorded.Deliveries)
			}
		}
	}
	return n
}

// again is the state that the entries lead to where it is known that they were checked before.
func (b *book) again() *ledger.State {
	b.t.Helper()
	s := ledger.New(b.state.ID)
	for i, e := range b.entries {
		r, err := ledger.RereadEntry(e, events.Sum(e))
		if err == nil {
			_, _, err = s.ApplyAgain(r, b.stamps[i])
		}
		if err != nil {
			b.t.Fatalf("entry %d again: %v", i+1, err)
		}
	}
	return s
}

// verify checks all that must be true of any ledger.
func (b *book) verify() {
	b.t.Helper()
	again := b.replay()
	if one, two := picture(b.state), picture(again); !reflect.DeepEqual(one, two) {
		b.t.Fatalf("replay gives another state:\n%s", difference(one, two))
	}
	if one, two := picture(b.state), picture(b.again()); !reflect.DeepEqual(one, two) {
		b.t.Fatalf("reading it again gives another state:\n%s", difference(one, two))
	}
	next := map[string]int{}
	for _, r := range b.released {
		e := b.state.Environments[r.Environment]
		if next[r.Environment]++; r.Revision != uint64(next[r.Environment]) {
			b.t.Fatalf("%s: revision %d was released as number %d", r.Environment, r.Revision, next[r.Environment])
		}
		payload, err := again.Payload(r.Environment, r.Revision)
		if err != nil || !bytes.Equal(payload, r.Payload) {
			b.t.Fatalf("revision %d of %s is derived as another one (%v)", r.Revision, r.Environment, err)
		}
		if recorded := e.Releases[r.Revision-1]; recorded.Chain != events.Chain(recorded.Previous, payload) {
			b.t.Fatalf("the chain digest of revision %d of %s is not that of its payload", r.Revision, r.Environment)
		}
	}
	for name, e := range b.state.Environments {
		if uint64(next[name]) != e.Head() {
			b.t.Fatalf("%s: %d releases were handed out, the head is %d", name, next[name], e.Head())
		}
		agent := fold.New(b.state.ID, name)
		for _, r := range e.Releases {
			payload, err := b.state.Payload(name, r.Revision)
			if err != nil {
				b.t.Fatalf("%v", err)
			}
			if _, err := agent.Accept(payload); err != nil {
				b.t.Fatalf("an agent refuses what was released: %v", err)
			}
			if agent.Chain != r.Chain || agent.State.Digest() != r.State {
				b.t.Fatalf("%s: an agent at revision %d has another chain or state than the ledger says", name, r.Revision)
			}
		}
		at, err := b.state.Folded(name, e.Head())
		if err != nil || !reflect.DeepEqual(resources(at), resources(e.Fold)) {
			b.t.Fatalf("%s: the fold at the head is not the head's (%v)", name, err)
		}
	}
}

// picture is all that can be seen of a state, in a form that compares.
func picture(s *ledger.State) map[string]any {
	out := map[string]any{"tip": [3]any{s.Number, s.Hash, s.Time}, "trusts": slices.Clone(s.Trusts), "inside": s.Inside()}
	for id, c := range s.Changes {
		shallow := *c
		shallow.Parts = slices.Clone(c.Parts)
		out["change "+id] = shallow
	}
	for name, e := range s.Environments {
		shallow := *e
		shallow.Fold, shallow.Agents, shallow.Releases = nil, nil, slices.Clone(e.Releases)
		out["environment "+name] = shallow
		out["fold "+name] = resources(e.Fold)
		for agent, a := range e.Agents {
			shallow := *a
			out["agent "+name+"/"+agent] = shallow
		}
	}
	return out
}

// resources is a fold in a form that compares: which buckets are hashed already does not matter.
func resources(e *fold.Environment) map[string]any {
	out := map[string]any{"at": [3]any{e.Revision, e.Chain, e.State.Digest()}, "trust": e.Trust, "accepted": maps.Clone(e.Accepted)}
	for key, r := range e.State.All() {
		out[key] = r
	}
	return out
}

func difference(a, b map[string]any) string {
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if !reflect.DeepEqual(a[key], b[key]) {
			fmt.Fprintf(&out, "%s:\n\t%+v\n\t%+v\n", key, a[key], b[key])
		}
	}
	for key := range b {
		if _, found := a[key]; !found {
			fmt.Fprintf(&out, "%s is new\n", key)
		}
	}
	return out.String()
}
