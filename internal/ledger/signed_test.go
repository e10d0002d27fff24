package ledger_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// signedBook is a ledger in which approvals are signed from its first entry on, with environments that demand what the trust document
// does. Edits make the document another one than trusttest.Document.
func signedBook(t tester, edit func(*events.Trust), names ...string) *book {
	t.Helper()
	b := &book{t: t, state: ledger.New(ledgerID), now: epoch, signs: true}
	document := trusttest.Document(t, ledgerID, signer("publisher").Public())
	if edit != nil {
		edit(&document)
		document = trusttest.Signed(t, document, "root 1", "root 2")
	}
	b.must("publisher", ledger.Genesis{Publisher: signer("publisher").Public(), Document: &document})
	for _, name := range names {
		b.must("otto", ledger.AddEnvironment{Name: name, Approvals: 1})
	}
	return b
}

// sign is a command with the statement of who gives it: what a client does after a dry run.
func (b *book) sign(c ledger.Command) (ledger.Command, error) {
	dry := c
	dry.DryRun = true
	d, err := b.state.Decide(dry, b.now.Add(time.Second))
	if err != nil {
		return c, err
	}
	s := events.Statement{Ledger: ledgerID, At: b.now}
	if !d.Digest.IsZero() {
		s.Change, s.Digest = d.Result.Change, d.Digest
	}
	switch body := c.Body.(type) {
	case ledger.Approve:
		s.Expires = b.now.Add(cmp.Or(b.life, 7*24*time.Hour))
	case ledger.BreakGlass:
		s.Expires, s.Reason = b.now.Add(time.Hour), body.Reason
	}
	return c.Signed(s, trusttest.Key(b.t, c.By))
}

func TestASignedChangeIsReleased(t *testing.T) {
	b := signedBook(t, nil, "dev", "prod")
	c := b.must("ann", set("*", "variable/x", "1"))
	if demands := b.state.Demands(b.state.Changes[c.Change], b.now); len(demands) != 4 || demands[0].Lacking != 1 {
		t.Errorf("%+v", demands)
	}
	if r := b.approve("bob", c.Change); len(r.Released) != 2 {
		t.Fatalf("%+v", r)
	}
	payload, err := b.state.Payload("prod", 2)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := events.DecodeRelease(payload)
	if err != nil || r.Change.Proposal == nil || len(r.Change.Approvals) != 1 || r.Change.Approvals[0].Envelope == nil {
		t.Errorf("%+v (%v)", r.Change, err)
	}
	b.readsTheSame()
}

// TestNobodyActsUnsigned tries every way to have a command done with a statement that is none for it.
func TestNobodyActsUnsigned(t *testing.T) {
	b := signedBook(t, nil, "prod")
	c := b.must("ann", set("prod", "variable/x", "1")).Change
	other := b.must("ann", set("prod", "variable/y", "1")).Change
	good := func() (ledger.Command, events.Statement) {
		signed, err := b.sign(ledger.Command{ID: "the command", By: "bob", Body: b.approval(c)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := signed.Statement.Open()
		if err != nil {
			t.Fatal(err)
		}
		return signed, s
	}
	sign := func(s events.Statement, with string) *events.Envelope {
		e, err := events.SignStatement(s, trusttest.Key(t, with))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for what, alter := range map[string]func(*ledger.Command, events.Statement){
		"no statement":          func(c *ledger.Command, _ events.Statement) { c.Statement = nil },
		"another person's name": func(c *ledger.Command, _ events.Statement) { c.By = "carol" },
		"another person's key":  func(c *ledger.Command, s events.Statement) { c.Statement = sign(s, "carol") },
		"a stranger's key":      func(c *ledger.Command, s events.Statement) { c.Statement = sign(s, "mallory") },
		"another ledger":        func(c *ledger.Command, s events.Statement) { s.Ledger = "other"; c.Statement = sign(s, "bob") },
		"another verb":          func(c *ledger.Command, s events.Statement) { s.Verb = "reject"; c.Statement = sign(s, "bob") },
		"another command id":    func(c *ledger.Command, _ events.Statement) { c.ID = "another" },
		"other content": func(c *ledger.Command, _ events.Statement) {
			c.Body = ledger.Approve{Change: "c1", Digest: b.state.Changes["c1"].Digest, Comment: "x"}
		},
		"another change": func(c *ledger.Command, s events.Statement) { s.Change = other; c.Statement = sign(s, "bob") },
		"another digest": func(c *ledger.Command, s events.Statement) {
			s.Digest = b.state.Changes[other].Digest
			c.Statement = sign(s, "bob")
		},
		"no change": func(c *ledger.Command, s events.Statement) {
			s.Change, s.Digest = "", events.Digest{}
			c.Statement = sign(s, "bob")
		},
		"signed an hour ago": func(c *ledger.Command, s events.Statement) { s.At = s.At.Add(-time.Hour); c.Statement = sign(s, "bob") },
		"signed in an hour":  func(c *ledger.Command, s events.Statement) { s.At = s.At.Add(time.Hour); c.Statement = sign(s, "bob") },
		"for ever":           func(c *ledger.Command, s events.Statement) { s.Expires = time.Time{}; c.Statement = sign(s, "bob") },
		"for a year": func(c *ledger.Command, s events.Statement) {
			s.Expires = s.At.AddDate(1, 0, 0)
			c.Statement = sign(s, "bob")
		},
		"expired": func(c *ledger.Command, s events.Statement) {
			s.Expires = s.At.Add(-time.Minute)
			c.Statement = sign(s, "bob")
		},
		"an altered signature": func(c *ledger.Command, _ events.Statement) {
			c.Statement.Signatures[0].Sig = "A" + c.Statement.Signatures[0].Sig[1:]
		},
		"a signature too many": func(c *ledger.Command, _ events.Statement) {
			c.Statement.Signatures = append(c.Statement.Signatures, c.Statement.Signatures[0])
		},
		"no signature": func(c *ledger.Command, _ events.Statement) { c.Statement.Signatures = nil },
		"another key beside the name": func(c *ledger.Command, _ events.Statement) {
			c.Statement.Signatures[0].KeyID = trusttest.Key(t, "carol").Public()
		},
	} {
		command, statement := good()
		alter(&command, statement)
		if d, err := b.state.Decide(command, b.now.Add(time.Second)); err == nil || (ledger.KindOf(err) != ledger.KindDenied && ledger.KindOf(err) != ledger.KindConflict) {
			t.Errorf("%s: %+v (%v)", what, d.Result, err)
		}
	}
	command, _ := good()
	if _, err := b.command(command); err != nil {
		t.Fatalf("the command as it was signed: %v", err)
	}
	if r, err := b.state.Decide(command, b.now.Add(24*time.Hour)); err != nil || !r.Known {
		t.Errorf("the command sent again: %+v (%v)", r, err)
	}
}

// TestRolesAreDemanded: each command by each person, where only some may.
func TestRolesAreDemanded(t *testing.T) {
	b := signedBook(t, func(d *events.Trust) {
		d.People = append(d.People,
			events.Person{Name: "petra", Keys: []string{trusttest.Key(t, "petra").Public()}, Grants: []events.Grant{{Role: events.RoleAuthor, Environments: []string{"prod*"}}}},
			events.Person{Name: "quinn", Keys: []string{trusttest.Key(t, "quinn").Public()}, Grants: []events.Grant{{Role: events.RoleApprover, Environments: []string{"stage=dev"}}}},
			trusttest.Person(t, "sam"), trusttest.Person(t, "vera", events.RoleAuditor))
		d.Labels = map[string]map[string]string{"dev": {"stage": "dev"}}
	}, "dev", "prod")
	b.must("otto", ledger.UpdateEnvironment{Name: "dev", Approvals: 1, Steward: "sam"})
	open := b.must("ann", set("dev prod", "variable/x", "1")).Change
	prodOnly := b.must("ann", set("prod", "variable/z", "1")).Change
	released := b.must("ann", set("dev", "variable/y", "1")).Change
	b.approve("bob", released)
	agent := func(environment, name string) ledger.EnrolAgent {
		return ledger.EnrolAgent{Environment: environment, Agent: name, Key: signer(name).Public()}
	}
	everybody := []string{"ann", "petra", "bob", "quinn", "rita", "otto", "ada", "gus", "sam", "vera"}
	for _, c := range []struct {
		body ledger.Body
		may  []string
	}{
		{set("dev", "variable/a", "1"), []string{"ann"}},
		{set("prod", "variable/a", "1"), []string{"ann", "petra"}},
		{set("*", "variable/a", "1"), []string{"ann"}},
		{b.approval(open), []string{"bob", "quinn"}},
		{b.approval(prodOnly), []string{"bob"}},
		{ledger.Reject{Change: open, Reason: "no"}, []string{"bob", "quinn"}},
		{ledger.Reject{Change: prodOnly, Reason: "no"}, []string{"bob"}},
		{ledger.Withdraw{Change: open}, []string{"ann"}},
		{ledger.Rollback{Change: released, Reason: "no"}, []string{"bob", "quinn", "rita"}},
		{ledger.AddEnvironment{Name: "test"}, []string{"otto"}},
		{ledger.UpdateEnvironment{Name: "prod", Approvals: 2}, []string{"otto"}},
		{ledger.RetireEnvironment{Name: "prod", Reason: "sold"}, []string{"otto"}},
		{agent("dev", "a1"), []string{"otto", "sam"}},
		{agent("prod", "a1"), []string{"otto"}},
		{ledger.BreakGlass{Change: open, Digest: b.state.Changes[open].Digest, Reason: "down"}, []string{"gus"}},
		{ledger.ProposeTrust{Document: trusttest.Unsigned(*b.state.Trust(), trusttest.Remove("dan")), Reason: "left"}, []string{"ada"}},
	} {
		for _, who := range everybody {
			b.commands++
			command, err := b.sign(ledger.Command{ID: "role " + strconv.Itoa(b.commands), By: who, Body: c.body})
			if err == nil {
				_, err = b.state.Decide(command, b.now)
			}
			if may := slices.Contains(c.may, who); (err == nil) != may || (!may && ledger.KindOf(err) != ledger.KindDenied) {
				t.Errorf("%s by %s: %v", command.Verb(), who, err)
			}
		}
	}
	_, err := b.do("vera", set("prod", "variable/a", "1"))
	if err == nil || !strings.Contains(err.Error(), "vera has not the role author in prod (trust document 1); ask ann; abe; petra, or see who has it with 'publisher trust who-can prod'") {
		t.Errorf("%v", err)
	}
	for _, body := range []ledger.Body{b.approval(open), ledger.BreakGlass{Change: open, Digest: b.approval(open).Digest, Reason: "why"}} {
		if _, err := b.state.Decide(ledger.Command{ID: "dry", By: "vera", Body: body, DryRun: true}, b.now); ledger.KindOf(err) != ledger.KindDenied {
			t.Errorf("%T may be signed by vera, who has no role for it: %v", body, err)
		}
	}
}

func TestApprovalsAreOfDistinctPeopleInScope(t *testing.T) {
	b := signedBook(t, func(d *events.Trust) {
		d.Rules = []events.ApprovalRule{
			{Environments: []string{"prod*"}, Resources: []string{"secret/*"}, Approvals: 2, Roles: []events.Role{events.RoleReleaseManager, events.RoleApprover}},
			{Environments: []string{"*"}, Approvals: 1},
		}
		d.People[0].Grants = append(d.People[0].Grants, events.Grant{Role: events.RoleApprover, Environments: []string{"*"}}) // ann
		for i := range d.People {
			if d.People[i].Name == "dan" {
				d.People[i].Keys = append(d.People[i].Keys, trusttest.Key(t, "dan's other key").Public())
				d.People[i].Grants = []events.Grant{{Role: events.RoleApprover, Environments: []string{"dev"}}}
			}
		}
	}, "dev", "prod-eu")
	c := b.must("ann", ledger.Propose{Reason: "rotate", Edits: []ledger.Edit{{Environments: []string{"*"}, Set: map[string]json.RawMessage{"secret/key": json.RawMessage(`{"$secret":{"ref":"env://KEY"}}`)}}}}).Change
	b.refused("ann", b.approval(c), ledger.KindDenied, "authors do not approve their own")
	b.approve("dan", c) // counts in dev
	b.refused("dan", b.approval(c), ledger.KindConflict, "approved c1 already")
	have := map[string]int{}
	for _, d := range b.state.Demands(b.state.Changes[c], b.now) {
		have[d.Environment+" "+d.Of] = d.Lacking
	}
	if want := map[string]int{"dev trust document 1": 0, "dev environment dev": 0, "prod-eu trust document 1": 2, "prod-eu environment prod-eu": 1}; !maps.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
	b.approve("rita", c)
	if r := b.approve("carol", c); len(r.Released) != 2 {
		t.Errorf("%+v", r)
	}
	b.readsTheSame()
}

func TestApprovalsExpire(t *testing.T) {
	b := signedBook(t, func(d *events.Trust) { d.Rules[0].Approvals = 2 }, "prod")
	c := b.must("ann", set("prod", "variable/x", "1")).Change
	b.approve("bob", c)
	b.now = b.now.Add(8 * 24 * time.Hour)
	if r := b.approve("carol", c); len(r.Released) > 0 {
		t.Fatalf("released on an approval that expired: %+v", r)
	}
	if r := b.approve("bob", c); len(r.Released) != 1 {
		t.Fatalf("bob approved again, and nothing is released: %+v", r)
	}
	b.readsTheSame()
}

func TestAnApprovalOfSomebodyRemovedCountsNoMore(t *testing.T) {
	b := signedBook(t, func(d *events.Trust) { d.Rules[0].Approvals = 2 }, "prod")
	c := b.must("ann", set("prod", "variable/x", "1")).Change
	b.approve("bob", c)
	b.trust(trusttest.Remove("bob"))
	if r := b.approve("carol", c); len(r.Released) > 0 {
		t.Fatalf("released with the approval of somebody who was removed: %+v", r)
	}
	if r := b.approve("dan", c); len(r.Released) != 1 {
		t.Fatalf("%+v", r)
	}
	b.readsTheSame()
}

func TestAVetoEndsAChange(t *testing.T) {
	b := signedBook(t, nil, "prod")
	c := b.must("ann", set("prod", "variable/x", "1")).Change
	b.must("carol", ledger.Reject{Change: c, Reason: "not now"})
	b.refused("bob", b.approval(c), ledger.KindConflict, "rejected")
}

func TestWhatNobodyNeedsToApproveIsReleasedByRule(t *testing.T) {
	b := signedBook(t, func(d *events.Trust) {
		d.Rules = append([]events.ApprovalRule{{Environments: []string{"dev"}, Resources: []string{"variable/*"}}}, d.Rules...)
	}, "dev", "prod")
	b.must("otto", ledger.UpdateEnvironment{Name: "dev", Approvals: 0})
	c := b.must("ann", set("dev", "variable/x", "1"))
	if change := b.state.Changes[c.Change]; len(c.Released) != 1 || !change.ByRule || len(change.Approvals) > 0 {
		t.Errorf("%+v", c)
	}
	if c := b.must("ann", set("dev prod", "variable/x", "2")); len(c.Released) > 0 {
		t.Errorf("with prod it is released by rule too: %+v", c)
	}
	if c := b.must("ann", set("dev", "endpoint/x", `{"url":"https://x.example"}`)); len(c.Released) > 0 {
		t.Errorf("an endpoint is released by the rule for variables: %+v", c)
	}
	revised := b.must("ann", ledger.Revise{Change: "c2", Propose: set("dev", "variable/x", "3")})
	if len(revised.Released) != 1 || b.value("dev", "variable/x") != "3" {
		t.Errorf("%+v", revised)
	}
	b.refused("petra", set("dev", "variable/y", "1"), ledger.KindDenied)
	b.readsTheSame()
}

func TestBreakingTheGlassOpensAReview(t *testing.T) {
	b := signedBook(t, func(d *events.Trust) { d.Rules[0].Approvals = 3 }, "dev", "prod")
	c := b.must("ann", set("*", "variable/x", "1")).Change
	glass := ledger.BreakGlass{Change: c, Digest: b.state.Changes[c].Digest, Reason: "the shop is down"}
	b.refused("ada", glass, ledger.KindDenied, "break-glass in dev; prod")
	b.refused("gus", ledger.BreakGlass{Change: c, Digest: glass.Digest}, ledger.KindInvalid, "reason")
	if r := b.must("gus", glass); len(r.Released) != 2 {
		t.Fatalf("%+v", r)
	}
	b.refused("gus", ledger.Review{Change: c}, ledger.KindDenied, "nobody reviews their own")
	b.refused("otto", ledger.Review{Change: c}, ledger.KindDenied, "approver")
	for i, who := range []string{"bob", "carol"} {
		if under := b.state.UnderReview(); len(under) != 1 || len(under[0].BreakGlass.Reviews) != i {
			t.Fatalf("%+v", under)
		}
		b.must(who, ledger.Review{Change: c, Comment: "it was"})
		b.refused(who, ledger.Review{Change: c}, ledger.KindConflict)
	}
	if len(b.state.UnderReview()) > 0 {
		t.Error("two have signed it off")
	}
	b.readsTheSame()
}

// readsTheSame says whether the ledger, read from its first entry, is what was decided.
func (b *book) readsTheSame() {
	b.t.Helper()
	again, have := picture(b.upTo(len(b.entries)+1)), picture(b.state)
	if !reflect.DeepEqual(again, have) {
		b.t.Errorf("read again the ledger is another one:\n%s", difference(have, again))
	}
}

// trust has an edit of the trust document proposed, and signed by a root.
func (b *book) trust(edit func(*events.Trust)) ledger.Result {
	b.t.Helper()
	next := trusttest.Unsigned(*b.state.Trust(), edit)
	c := b.must("ada", ledger.ProposeTrust{Document: next, Reason: "people come and go"})
	return b.must("ada", ledger.Approve{Change: c.Change, Digest: b.state.Changes[c.Change].Digest, Roots: []events.RootSignature{trusttest.Root(b.t, next, "root 1")}})
}

func TestATrustDocumentIsAChangeThatRootsApprove(t *testing.T) {
	b := signedBook(t, func(d *events.Trust) { d.Roots.Threshold = 2 }, "dev", "prod", "old")
	b.must("otto", ledger.RetireEnvironment{Name: "old", Reason: "sold"})
	next := trusttest.Unsigned(*b.state.Trust(), trusttest.Remove("dan"))
	signed := next
	signed.Signatures = []events.RootSignature{trusttest.Root(t, next, "root 1")}
	b.refused("ada", ledger.ProposeTrust{Document: signed, Reason: "dan left"}, ledger.KindInvalid, "not signed yet")
	b.refused("ada", ledger.ProposeTrust{Document: *b.state.Trust(), Reason: "dan left"}, ledger.KindInvalid)
	skipping := next
	skipping.Version = 3
	b.refused("ada", ledger.ProposeTrust{Document: skipping, Reason: "dan left"}, ledger.KindConflict, "version 2 comes next")
	b.refused("ada", ledger.ProposeTrust{Document: trusttest.Unsigned(*b.state.Trust(), trusttest.Remove("ada")), Reason: "I leave"}, ledger.KindInvalid, "nobody could propose the next one")
	c := b.must("ada", ledger.ProposeTrust{Document: next, Reason: "dan left"}).Change
	second := b.must("ada", ledger.ProposeTrust{Document: trusttest.Unsigned(*b.state.Trust(), trusttest.Remove("carol")), Reason: "carol left"}).Change
	approve := func(roots ...string) ledger.Approve {
		a := b.approval(c)
		for _, name := range roots {
			a.Roots = append(a.Roots, trusttest.Root(t, next, name))
		}
		return a
	}
	b.refused("ada", approve(), ledger.KindInvalid, "signatures of roots")
	b.refused("ada", approve("bob"), ledger.KindInvalid, "no root")
	b.refused("bob", approve("root 1"), ledger.KindDenied, "administrator")
	forged := approve("root 1")
	forged.Roots[0].Key = trusttest.Key(t, "root 2").Public()
	b.refused("ada", forged, ledger.KindInvalid, "not theirs")
	b.refused("gus", ledger.BreakGlass{Change: c, Digest: b.state.Changes[c].Digest, Reason: "now"}, ledger.KindDenied, "trust document")
	if r := b.must("ada", approve("root 1")); len(r.Released) > 0 || b.state.Trust().Version != 1 {
		t.Fatalf("one root is enough: %+v", r)
	}
	b.refused("ada", approve("root 1"), ledger.KindConflict, "has signed")
	r := b.must("ada", approve("root 2"))
	if len(r.Released) != 2 || b.state.Trust().Version != 2 || b.state.Environments["prod"].Fold.Trust.Version != 2 {
		t.Fatalf("%+v", r)
	}
	b.refused("ada", ledger.Approve{Change: second, Digest: b.state.Changes[second].Digest, Roots: []events.RootSignature{trusttest.Root(t, next, "root 1")}}, ledger.KindConflict, "propose it again")
	b.refused("ada", ledger.Revise{Change: second, Propose: set("dev", "variable/x", "1")}, ledger.KindConflict, "trust document")
	b.refused("ada", ledger.Rollback{Change: c, Reason: "back"}, ledger.KindConflict)
	b.must("ada", ledger.Withdraw{Change: second})
	b.readsTheSame()
}

func TestRootsAreRotatedByOldAndNewOnes(t *testing.T) {
	b := signedBook(t, nil, "dev")
	next := trusttest.Unsigned(*b.state.Trust(), func(d *events.Trust) {
		d.Roots.Keys = []string{trusttest.Key(t, "root 3").Public()}
	})
	c := b.must("ada", ledger.ProposeTrust{Document: next, Reason: "new roots"}).Change
	for i, root := range []string{"root 3", "root 1"} {
		if b.state.Trust().Version != 1 {
			t.Fatalf("after %d roots the document counts", i)
		}
		b.must("ada", ledger.Approve{Change: c, Digest: b.state.Changes[c].Digest, Roots: []events.RootSignature{trusttest.Root(t, next, root)}})
	}
	if b.state.Trust().Version != 2 {
		t.Error("old and new roots signed, and the document does not count")
	}
	b.readsTheSame()
}

func TestNamesBecomeSignedAndNeverNamesAgain(t *testing.T) {
	b := environments(t, "dev", "prod")
	open := b.must("ann", set("dev", "variable/x", "1")).Change
	document := trusttest.Document(t, ledgerID, signer("publisher").Public())
	document.Version, document.Signatures = 2, nil
	c := b.must("ann", ledger.ProposeTrust{Document: document, Reason: "from now on people sign"}).Change
	b.must("ann", ledger.Approve{Change: c, Digest: b.state.Changes[c].Digest, Roots: []events.RootSignature{trusttest.Root(t, document, "root 1")}})
	b.signs = true
	if b.state.Trust().Version != 2 {
		t.Fatal("the document does not count")
	}
	b.refused("bob", b.approval(open), ledger.KindConflict, "proposed before changes were signed", "publisher revise")
	b.must("ann", ledger.Revise{Change: open, Propose: set("dev", "variable/x", "2")})
	if r := b.approve("bob", open); len(r.Released) != 1 {
		t.Errorf("%+v", r)
	}
	names := events.Trust{Version: 3, Ledger: ledgerID, Publishers: []string{signer("publisher").Public()}, Approvals: events.ApprovalsAreNames}
	b.refused("ada", ledger.ProposeTrust{Document: names, Reason: "back"}, ledger.KindInvalid, "names again")
	b.readsTheSame()
}

func TestWhoIsRemovedLeavesAListOfWhatRestsOnThem(t *testing.T) {
	b := signedBook(t, nil, "dev", "prod")
	needed := b.must("ann", set("dev prod", "variable/x", "1")).Change
	b.approve("bob", needed)
	undone := b.must("ann", set("dev", "variable/y", "1")).Change
	b.approve("bob", undone)
	b.must("rita", ledger.Rollback{Change: undone, Reason: "no"})
	b.must("otto", ledger.UpdateEnvironment{Name: "dev", Approvals: 2})
	twice := b.must("ann", set("dev", "variable/z", "1")).Change
	b.approve("bob", twice)
	b.approve("carol", twice)
	b.must("otto", ledger.UpdateEnvironment{Name: "dev", Approvals: 1})
	want := []ledger.Resting{
		{Change: needed, As: []string{"approver"}, Environments: []string{"dev", "prod"}},
		{Change: twice, As: []string{"approver"}, Environments: []string{"dev"}, Enough: true},
	}
	if have := b.state.RestsOn("bob"); !reflect.DeepEqual(have, want) {
		t.Errorf("have %+v, want %+v", have, want)
	}
	command, err := b.sign(ledger.Command{ID: "remove", By: "ada", Body: ledger.ProposeTrust{Document: trusttest.Unsigned(*b.state.Trust(), trusttest.Remove("bob")), Reason: "bob left"}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := b.state.Decide(command, b.now)
	if err != nil || len(d.Notes) != 1 || !strings.Contains(d.Notes[0], needed+" (approver)") || strings.Contains(d.Notes[0], twice) {
		t.Errorf("%q (%v)", d.Notes, err)
	}
}
