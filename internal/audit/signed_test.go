package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

const ledgerID = "0b7c5f0e-1f5e-4a1e-9d53-0d2f6a6f7c11"

// A book is a ledger in memory in which people sign, with one agent in each environment. The same calls give the same bytes.
type book struct {
	t        testing.TB
	state    *ledger.State
	key      *events.Signer // the publisher's
	entries  [][]byte
	held     []audit.Held
	now      time.Time
	commands int
	acks     map[string]uint64
}

func newBook(t testing.TB, edit func(*events.Trust), environments ...string) *book {
	t.Helper()
	b := &book{t: t, state: ledger.New(ledgerID), key: trusttest.Key(t, "publisher"), now: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), acks: map[string]uint64{}}
	document := trusttest.Document(t, ledgerID, b.key.Public())
	if edit != nil {
		edit(&document)
		document = trusttest.Signed(t, document, "root 1", "root 2")
	}
	b.must("publisher", ledger.Genesis{Publisher: b.key.Public(), Document: &document})
	for _, name := range environments {
		b.must("otto", ledger.AddEnvironment{Name: name})
		b.must("otto", ledger.EnrolAgent{Environment: name, Agent: "one", Key: trusttest.Key(t, "agent of "+name).Public()})
	}
	return b
}

// sign is a command with the statement of who gives it, as a client signs it after a dry run.
func (b *book) sign(c ledger.Command) ledger.Command {
	b.t.Helper()
	if c.By == "publisher" {
		return c
	}
	dry := c
	dry.DryRun = true
	d, err := b.state.Decide(dry, b.now)
	must(b.t, err)
	s := events.Statement{Ledger: ledgerID, At: b.now}
	if !d.Digest.IsZero() {
		s.Change, s.Digest = d.Result.Change, d.Digest
	}
	switch body := c.Body.(type) {
	case ledger.Approve:
		s.Expires = b.now.Add(7 * 24 * time.Hour)
	case ledger.BreakGlass:
		s.Expires, s.Reason = b.now.Add(time.Hour), body.Reason
	}
	c, err = c.Signed(s, trusttest.Key(b.t, c.By))
	must(b.t, err)
	return c
}

func (b *book) must(by string, body ledger.Body) ledger.Result {
	b.t.Helper()
	b.now = b.now.Add(time.Second)
	b.commands++
	c := b.sign(ledger.Command{ID: fmt.Sprint("command ", b.commands), By: by, Body: body})
	if by == "publisher" {
		c.ID = ""
	}
	for {
		d, err := b.state.Decide(c, b.now)
		must(b.t, err)
		if b.append(append(d.Stores, d.Entry)...); d.Entry != nil {
			return d.Result
		}
	}
}

func (b *book) append(entries ...[]byte) {
	b.t.Helper()
	for _, entry := range entries {
		if entry == nil {
			continue
		}
		_, made, err := b.state.Apply(entry, b.now)
		must(b.t, err)
		b.entries = append(b.entries, entry)
		chains := make([]events.Digest, len(made))
		for i, r := range made {
			chains[i] = r.Chain
		}
		headers, err := b.key.SignWave(ledgerID, chains)
		must(b.t, err)
		for i, r := range made {
			b.held = append(b.held, audit.Held{Environment: r.Environment, Revision: r.Revision, Payload: events.Sum(r.Payload), Signature: headers[i]})
		}
	}
}

func set(key, value string, environments ...string) ledger.Propose {
	return ledger.Propose{Reason: "because", Edits: []ledger.Edit{{Environments: environments, Set: map[string]json.RawMessage{key: json.RawMessage(value)}}}}
}

// release proposes, approves and delivers a change.
func (b *book) release(key, value string, environments ...string) string {
	b.t.Helper()
	id := b.must("ann", set(key, value, environments...)).Change
	b.must("bob", ledger.Approve{Change: id, Digest: b.state.Changes[id].Digest})
	b.deliver(environments...)
	return id
}

// deliver lets agents acknowledge all that was released.
func (b *book) deliver(environments ...string) {
	b.t.Helper()
	var said []events.Delivery
	for _, name := range environments {
		e := b.state.Environments[name]
		r := e.Releases[e.Head()-1]
		b.acks[name]++
		payload, signature, err := events.EncodeAck(events.Ack{
			Environment: name, Agent: "one", Ledger: ledgerID, Number: b.acks[name], Word: events.WordApplied, First: e.Agents["one"].Position + 1, Last: r.Revision,
			Chain: r.Chain, Expected: r.State, Observed: r.State, ReadBack: true,
		}, b.now, trusttest.Key(b.t, "agent of "+name))
		must(b.t, err)
		said = append(said, events.Delivery{Environment: name, Agent: "one", Stamp: b.now, Ack: payload, Signature: signature})
	}
	b.must("publisher", ledger.RecordDeliveries{Deliveries: said})
}

func (b *book) export() []byte {
	b.t.Helper()
	tree := &seal.Tree{}
	for _, entry := range b.entries {
		must(b.t, tree.Append(entry))
	}
	root, err := tree.Root(tree.Size())
	must(b.t, err)
	sealed, err := seal.Sign(seal.Head{Ledger: ledgerID, Size: tree.Size(), Root: root}, b.key)
	must(b.t, err)
	var out bytes.Buffer
	w, err := audit.NewWriter(&out, ledgerID, sealed)
	must(b.t, err)
	for _, entry := range b.entries {
		must(b.t, w.Entry(audit.Entry{Stamp: b.now, Entry: entry}))
	}
	for _, h := range b.held {
		must(b.t, w.Held(h))
	}
	must(b.t, w.Close())
	return out.Bytes()
}

func (b *book) roots() []string {
	return []string{trusttest.Key(b.t, "root 1").Public(), trusttest.Key(b.t, "root 2").Public()}
}

func (b *book) proof(change string) []byte {
	b.t.Helper()
	p, v, err := audit.Prove(reader(b.t, b.export()), change)
	must(b.t, err)
	if p == nil {
		b.t.Fatalf("the ledger does not verify: %+v", v)
	}
	file, err := p.Encode()
	must(b.t, err)
	return file
}

// A signedStory has a change that was approved, one for which the glass was broken, and a trust document that removed who approved the
// first. Flags in dev are approved by rule.
func signedStory(t testing.TB) *book {
	t.Helper()
	b := newBook(t, func(d *events.Trust) {
		d.Rules = append([]events.ApprovalRule{{Environments: []string{"dev"}, Resources: []string{"flag/*"}}}, d.Rules...)
		d.Delegations = []events.Delegation{{From: "bob", To: "rita", Role: events.RoleApprover, Until: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}}
	}, "dev", "prod")
	b.release("variable/x", `1`, "dev", "prod")
	broken := b.must("ann", set("variable/x", `2`, "prod")).Change
	b.must("gus", ledger.BreakGlass{Change: broken, Digest: b.state.Changes[broken].Digest, Reason: "the shop is down"})
	b.must("carol", ledger.Review{Change: broken, Comment: "seen"})
	next := trusttest.Unsigned(*b.state.Trust(), trusttest.Remove("bob"))
	next.Delegations = nil
	trust := b.must("ada", ledger.ProposeTrust{Document: next, Reason: "bob left"}).Change
	b.must("ada", ledger.Approve{Change: trust, Digest: b.state.Changes[trust].Digest, Roots: []events.RootSignature{trusttest.Root(t, next, "root 1")}})
	last := b.must("ann", set("variable/x", `3`, "prod")).Change
	b.must("carol", ledger.Approve{Change: last, Digest: b.state.Changes[last].Digest})
	b.deliver("prod")
	return b
}

func TestASignedLedgerVerifiesUnderItsRoots(t *testing.T) {
	b := signedStory(t)
	exported := b.export()
	v, err := audit.Verify(reader(t, exported), b.roots())
	must(t, err)
	if !v.OK || v.Approvals != events.ApprovalsAreSigned || v.Documents != 2 || v.Statements < 10 || !slices.Equal(v.Roots, b.roots()) {
		t.Errorf("%+v", v)
	}
	v, err = audit.Verify(reader(t, exported), []string{trusttest.Key(t, "stranger").Public()})
	must(t, err)
	if v.OK || len(v.Problems) != 1 {
		t.Errorf("under other roots: %+v", v)
	}
}

func TestAProofShowsWhoSignedWhatUnderTheTrustOfItsTime(t *testing.T) {
	b := signedStory(t)
	for change, want := range map[string]audit.FoundApproval{
		"c1": {By: "bob", Verb: events.VerbApprove, Key: trusttest.Key(t, "bob").Public()},
		"c2": {By: "gus", Verb: events.VerbBreakGlass, Key: trusttest.Key(t, "gus").Public(), Reason: "the shop is down"},
		"c4": {By: "carol", Verb: events.VerbApprove, Key: trusttest.Key(t, "carol").Public()},
	} {
		found, err := audit.Check(b.proof(change), b.roots())
		if err != nil {
			t.Errorf("%s: %v", change, err)
			continue
		}
		if got := found.Approvals[0]; got.By != want.By || got.Verb != want.Verb || got.Key != want.Key || got.Reason != want.Reason || !slices.Equal(found.Roots, b.roots()) {
			t.Errorf("%s: %+v", change, got)
		}
		if last := found.Environments[len(found.Environments)-1]; len(last.Agents) != 1 || last.Agents[0].Key != trusttest.Key(t, "agent of "+last.Environment).Public() {
			t.Errorf("%s: %+v", change, last)
		}
	}
	trust, err := audit.Check(b.proof("c3"), b.roots())
	must(t, err)
	if trust.Author != "ada" || trust.Reason != "bob left" {
		t.Errorf("a change of trust: %+v", trust)
	}
	if _, err := audit.Check(b.proof("c1"), []string{trusttest.Key(t, "root 1").Public()}); events.ReasonOf(err) != events.ReasonTrust {
		t.Errorf("one root is not known: %v", err)
	}
	broken, err := audit.Check(b.proof("c2"), nil)
	must(t, err)
	if len(broken.Reviews) != 1 || broken.Reviews[0].By != "carol" {
		t.Errorf("reviews: %+v", broken.Reviews)
	}
}

// A publisher that holds its own key and no other makes a ledger, seals it and signs its releases: without the people's statements it
// proves nothing.
func TestAPublisherAloneProvesNothing(t *testing.T) {
	b := signedStory(t)
	honest := decoded(t, b.proof("c1"))
	reseal := func(p *audit.Proof, forge func(entry string) string) []byte {
		tree := &seal.Tree{}
		for i := range p.Entries {
			p.Entries[i].Entry = []byte(forge(string(p.Entries[i].Entry)))
		}
		forged := map[uint64][]byte{}
		for _, e := range p.Entries {
			entry, err := events.DecodeEntry(e.Entry)
			must(t, err)
			forged[entry.Number] = e.Entry
		}
		for i, entry := range b.entries {
			if other, ours := forged[uint64(i+1)]; ours {
				entry = other
			}
			must(t, tree.Append(entry))
		}
		root, err := tree.Root(tree.Size())
		must(t, err)
		p.Seal, err = seal.Sign(seal.Head{Ledger: ledgerID, Size: tree.Size(), Root: root}, b.key)
		must(t, err)
		for i := range p.Entries {
			entry, err := events.DecodeEntry(p.Entries[i].Entry)
			must(t, err)
			p.Entries[i].Proof, err = tree.Inclusion(entry.Number, tree.Size())
			must(t, err)
		}
		file, err := p.Encode()
		must(t, err)
		return file
	}
	if _, err := audit.Check(reseal(&honest, func(e string) string { return e }), b.roots()); err != nil {
		t.Fatalf("sealed again as it is: %v", err)
	}
	for name, forge := range map[string]func(string) string{
		"another approver": func(e string) string { return strings.ReplaceAll(e, `"by":"bob"`, `"by":"dan"`) },
		"another author":   func(e string) string { return strings.ReplaceAll(e, `"author":"ann"`, `"author":"abe"`) },
		"another agent key": func(e string) string {
			return strings.ReplaceAll(e, trusttest.Key(t, "agent of dev").Public(), trusttest.Key(t, "agent of prod").Public())
		},
		"another person's key": func(e string) string {
			return strings.ReplaceAll(e, trusttest.Key(t, "bob").Public(), trusttest.Key(t, "mallory").Public())
		},
	} {
		forged := decoded(t, b.proof("c1"))
		if found, err := audit.Check(reseal(&forged, forge), b.roots()); err == nil {
			t.Errorf("%s: it is taken: %+v", name, found)
		}
	}
}

func TestTheReportNamesBreakGlassSelfServiceAndDelegations(t *testing.T) {
	b := signedStory(t)
	byRule := b.must("ann", set("flag/f", `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}`, "dev")).Change
	r, v, err := audit.NewReport(reader(t, b.export()))
	must(t, err)
	if !v.OK || len(r.BreakGlass) != 1 || r.BreakGlass[0].By != "gus" || len(r.BreakGlass[0].Reviewed) != 1 || len(r.ByRule) != 1 || !slices.Contains(r.ByRule[0].Changes, byRule) {
		t.Errorf("%+v\n%+v", v, r)
	}
	if found, err := audit.Check(b.proof(byRule), b.roots()); err != nil || !found.ByRule || len(found.Approvals) > 0 || len(found.Environments) != 1 {
		t.Errorf("by rule: %+v, %v", found, err)
	}
	if i := slices.IndexFunc(r.Access, func(a audit.Access) bool { return a.Person == "bob" }); i < 0 || r.Access[i].Known || r.Access[i].Acted != 1 {
		t.Errorf("bob, who left: %+v", r.Access)
	}
	before, _, err := audit.NewReport(reader(t, newBook(t, func(d *events.Trust) {
		d.Delegations = []events.Delegation{{From: "bob", To: "rita", Role: events.RoleApprover, Until: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}}
	}, "dev").export()))
	must(t, err)
	if len(before.Delegations) != 1 || !before.Delegations[0].Open {
		t.Errorf("delegations: %+v", before.Delegations)
	}
}
