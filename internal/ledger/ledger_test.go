package ledger_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestOneApprovedChangeReachesEveryEnvironment(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	c := b.must("anna", set("prod-*", "variable/log-level", `"debug"`)).Change
	r := b.approve("ben", c)
	if len(r.Released) != 2 || b.value("prod-eu", "variable/log-level") != `"debug"` || b.value("prod-us", "variable/log-level") != `"debug"` {
		t.Fatalf("released %+v", r)
	}
	if b.value("dev", "variable/log-level") != "" || b.state.Environments["dev"].Head() != 1 {
		t.Fatal("dev was not named")
	}
	b.verify()
}

func TestACommandIsDoneOnceAndAnsweredTheSame(t *testing.T) {
	b := environments(t, "prod")
	propose := ledger.Command{ID: "one", By: "anna", Body: set("prod", "variable/x", "1")}
	first, err := b.command(propose)
	if err != nil {
		t.Fatal(err)
	}
	approve := ledger.Command{ID: "two", By: "ben", Body: b.approval(first.Change)}
	released, err := b.command(approve)
	if err != nil {
		t.Fatal(err)
	}
	entries := len(b.entries)
	for _, state := range []*ledger.State{b.state, b.replay()} {
		for _, c := range []struct {
			command ledger.Command
			want    ledger.Result
		}{{propose, first}, {approve, released}} {
			d, err := state.Decide(c.command, b.now.Add(365*24*time.Hour))
			if err != nil || !d.Known || d.Entry != nil || d.Stores != nil || asJSON(t, d.Result) != asJSON(t, c.want) {
				t.Errorf("%s again: %+v (%v), want %+v", c.command.Verb(), d, err, c.want)
			}
		}
	}
	if len(b.entries) != entries {
		t.Error("there is another entry")
	}
	for _, other := range []ledger.Command{
		{ID: "one", By: "anna", Body: set("prod", "variable/x", "2")},
		{ID: "one", By: "ben", Body: set("prod", "variable/x", "1")},
		{ID: "one", By: "ben", Body: b.approval(first.Change)},
	} {
		if _, err := b.command(other); ledger.KindOf(err) != ledger.KindConflict {
			t.Errorf("the id with other content: %v", err)
		}
	}
}

func TestACommandWhoseContentsAreThereGetsItsEntry(t *testing.T) {
	b := environments(t, "prod")
	c := ledger.Command{ID: "one", By: "anna", Body: set("prod", "variable/x", "1")}
	d, err := b.decide(c)
	if err != nil || d.Entry != nil || len(d.Stores) == 0 {
		t.Fatalf("%+v (%v)", d, err)
	}
	b.append(d) // and the publisher dies
	b.state = b.replay()
	b.release(set("prod", "variable/other", "1")) // somebody else comes in between
	r, err := b.command(c)
	if err != nil || r.Change != "c2" || b.status("c2") != ledger.StatusOpen {
		t.Fatalf("%+v (%v)", r, err)
	}
	entries := len(b.entries)
	if again, err := b.command(c); err != nil || again.Change != "c2" || len(b.entries) != entries {
		t.Fatalf("again: %+v (%v)", again, err)
	}
	b.verify()
}

func TestContentThatSeveralEnvironmentsShareIsStoredOnce(t *testing.T) {
	b := environments(t, "a", "b", "c")
	d, err := b.decide(ledger.Command{ID: "one", By: "anna", Body: set("*", "variable/x", "1")})
	if err != nil || len(d.Stores) != 1 {
		t.Fatalf("%d entries (%v)", len(d.Stores), err)
	}
	if n := strings.Count(string(d.Stores[0]), string(events.TypeContentStored)+`"`); n != 3 {
		t.Errorf("%d contents, want operations, inverse and sources", n)
	}
}

func TestNobodyApprovesAlone(t *testing.T) {
	b := environments(t, "dev")
	b.must("op", ledger.AddEnvironment{Name: "prod", Approvals: 2})
	c := b.must("anna", set("dev prod", "variable/x", "1")).Change
	b.refused("anna", b.approval(c), ledger.KindDenied, "authors do not approve")
	if r := b.approve("ben", c); len(r.Released) > 0 {
		t.Fatal("released with one of two approvals")
	}
	b.refused("ben", b.approval(c), ledger.KindConflict, "has approved")
	for _, author := range []string{"Anna", "ANNA"} { // in other letters she is nobody else
		b.refused(author, b.approval(c), ledger.KindDenied, "authors do not approve")
		b.refused(author, ledger.Reject{Change: c, Reason: "no"}, ledger.KindDenied, "publisher withdraw "+c)
	}
	b.refused("Ben", b.approval(c), ledger.KindConflict, "has approved")
	for _, same := range []string{"ben ", " ben", "ben\u200b", "ben\n", "b\u202een"} {
		b.refused(same, b.approval(c), ledger.KindInvalid)
	}
	if b.status(c) != ledger.StatusOpen {
		t.Fatal("it is open no more")
	}
	if r := b.approve("carla", c); len(r.Released) != 2 {
		t.Fatalf("released %v: the strictest environment demands two", r.Released)
	}
	b.refused("dora", b.approval(c), ledger.KindConflict, "released")
	b.refused("dora", ledger.Approve{Change: "c99"}, ledger.KindNotFound)
	b.must("Anna", ledger.Withdraw{Change: b.must("anna", set("dev", "variable/y", "1")).Change})
	b.verify()
}

func TestARevisedChangeIsApprovedAnew(t *testing.T) {
	b := newBook(t)
	b.must("op", ledger.AddEnvironment{Name: "prod", Approvals: 2})
	c := b.must("anna", set("prod", "variable/x", "1")).Change
	seen := b.approval(c)
	b.must("ben", seen)
	b.refused("ben", ledger.Revise{Change: c, Propose: set("prod", "variable/x", "2")}, ledger.KindDenied)
	b.must("anna", ledger.Revise{Change: c, Propose: set("prod", "variable/x", "2")})
	if n := len(b.state.Changes[c].Approvals); n != 0 || b.state.Changes[c].Revised != 1 {
		t.Fatalf("%d approvals of what was revised", n)
	}
	b.refused("carla", seen, ledger.KindConflict, "was revised")
	b.approve("carla", c)
	b.approve("ben", c)
	if b.value("prod", "variable/x") != "2" {
		t.Fatal("another revision was released")
	}
	b.refused("anna", ledger.Revise{Change: c, Propose: set("prod", "variable/x", "3")}, ledger.KindConflict, "released")
	b.verify()
}

func TestAnOldProposalIsNotApprovedButOpenedAgain(t *testing.T) {
	b := environments(t, "prod")
	c := b.must("anna", set("prod", "variable/x", "1")).Change
	b.now = b.now.Add(31 * 24 * time.Hour)
	b.refused("ben", b.approval(c), ledger.KindConflict, "expired", "publisher revise")
	b.must("anna", ledger.Revise{Change: c, Propose: set("prod", "variable/x", "1")})
	b.approve("ben", c)
	b.verify()
}

func TestChangesEndByTheirAuthorOrSomebodyElse(t *testing.T) {
	b := environments(t, "prod")
	one := b.must("anna", set("prod", "variable/x", "1")).Change
	two := b.must("anna", set("prod", "variable/x", "2")).Change
	b.refused("anna", ledger.Reject{Change: one, Reason: "no"}, ledger.KindDenied)
	b.refused("ben", ledger.Reject{Change: one}, ledger.KindInvalid, "reason")
	b.must("ben", ledger.Reject{Change: one, Reason: "no"})
	b.refused("ben", ledger.Withdraw{Change: two}, ledger.KindDenied)
	b.must("anna", ledger.Withdraw{Change: two})
	if b.status(one) != ledger.StatusRejected || b.status(two) != ledger.StatusWithdrawn {
		t.Errorf("%s, %s", b.status(one), b.status(two))
	}
	for _, c := range []string{one, two} {
		b.refused("carla", b.approval(c), ledger.KindConflict)
		b.refused("anna", ledger.Withdraw{Change: c}, ledger.KindConflict)
		b.refused("anna", ledger.Revise{Change: c, Propose: set("prod", "variable/x", "3")}, ledger.KindConflict)
	}
	b.verify()
}

func TestTheSecondOfTwoAuthorsIsToldWhoChangedWhat(t *testing.T) {
	b := environments(t, "dev", "prod")
	second := b.must("dora", set("dev prod", "variable/x", "2")).Change
	first := b.release(set("prod", "variable/x", "1"))

	r := b.approve("ben", second)
	if len(r.Released) != 1 || r.Released[0].Environment != "dev" || len(r.LeftOut) != 1 {
		t.Fatalf("%+v", r)
	}
	left := r.LeftOut[0]
	if left.Environment != "prod" || left.Reason != events.ReasonBaseMoved {
		t.Errorf("%+v", left)
	}
	for _, word := range []string{"variable/x in prod", "change " + first, "by anna", "because of variable/x"} {
		if !strings.Contains(left.Detail, word) {
			t.Errorf("%q does not say %q", left.Detail, word)
		}
	}
	if b.value("prod", "variable/x") != "1" || b.value("dev", "variable/x") != "2" {
		t.Error("something was overwritten")
	}
	if part, _ := b.state.Changes[second].PartFor("prod"); part.Revision != 0 || part.LeftOut == nil {
		t.Errorf("%+v", part)
	}
	b.verify()
}

func TestAChangeThatFitsNowhereIsRefused(t *testing.T) {
	b := environments(t, "dev", "prod")
	c := b.must("dora", set("dev prod", "variable/x", "2")).Change
	b.release(set("*", "variable/x", "1"))
	b.refused("ben", b.approval(c), ledger.KindConflict, "variable/x in dev", "variable/x in prod", "by anna", "publisher rebase "+c)
	if b.status(c) != ledger.StatusOpen {
		t.Error("it is open no more")
	}
	b.must("dora", ledger.Revise{Change: c, Propose: set("dev prod", "variable/x", "2")})
	b.approve("ben", c)
	b.verify()
}

func TestABaseThatARollbackMovedIsSaidToBeMovedByIt(t *testing.T) {
	b := environments(t, "prod")
	b.release(set("prod", "variable/x", "1"))
	two := b.release(set("prod", "variable/x", "2"))
	c := b.must("dora", set("prod", "variable/x", "3")).Change
	b.must("op", ledger.Rollback{Change: two, Reason: "too loud"})
	b.refused("ben", b.approval(c), ledger.KindConflict, "the rollback of change "+two, "by op", "too loud")
	b.verify()
}

func TestRetiredEnvironmentsAreLeftOut(t *testing.T) {
	b := environments(t, "dev", "prod")
	c := b.must("anna", set("*", "variable/x", "1")).Change
	b.must("op", ledger.RetireEnvironment{Name: "dev", Reason: "moved"})
	r := b.approve("ben", c)
	if len(r.Released) != 1 || len(r.LeftOut) != 1 || r.LeftOut[0].Reason != events.ReasonRetired {
		t.Fatalf("%+v", r)
	}
	b.refused("anna", set("dev", "variable/x", "2"), ledger.KindConflict, "retired")
	b.refused("op", ledger.RetireEnvironment{Name: "dev", Reason: "again"}, ledger.KindConflict)
	b.refused("op", ledger.UpdateEnvironment{Name: "dev", Approvals: 1}, ledger.KindConflict)
	b.refused("op", ledger.AddEnvironment{Name: "dev", Approvals: 1}, ledger.KindConflict, "never used again")
	b.refused("op", ledger.EnrolAgent{Environment: "dev", Agent: "a", Key: signer("x").Public()}, ledger.KindConflict)
	if c := b.must("anna", set("*", "variable/x", "2")).Change; len(b.state.Changes[c].Parts) != 1 {
		t.Error("a pattern stands for a retired environment")
	}
	b.must("op", ledger.RetireEnvironment{Name: "prod", Reason: "moved"})
	b.refused("ben", b.approval("c2"), ledger.KindConflict, "environment prod is retired")
	b.verify()
}

func TestWhatIsDeletedStaysKnownAndCanBeSetAgain(t *testing.T) {
	b := environments(t, "prod")
	b.refused("anna", del("prod", "variable/x"), ledger.KindConflict, "variable/x is to be deleted, and no environment that is named has it")
	one := b.release(set("prod", "variable/x", "1"))
	b.refused("anna", set("prod", "variable/x", " 1 "), ledger.KindConflict, "nothing would change")
	gone := b.release(del("prod", "variable/x"))
	if r, known := b.state.Environments["prod"].Fold.State.Get("variable/x"); !known || r.Value != nil || b.setter("prod", "variable/x") != gone {
		t.Fatalf("no tombstone: %+v", r)
	}
	b.refused("anna", del("prod", "variable/x"), ledger.KindConflict, "variable/x is to be deleted, and no environment that is named has it")
	again := b.release(set("prod", "variable/x", "1"))
	b.must("op", ledger.Rollback{Change: again, Reason: "back"})
	if b.value("prod", "variable/x") != "" || b.setter("prod", "variable/x") != gone {
		t.Error("the rollback did not bring the tombstone back")
	}
	b.must("op", ledger.Rollback{Change: gone, Reason: "back"})
	b.must("op", ledger.Rollback{Change: one, Reason: "back"})
	if _, known := b.state.Environments["prod"].Fold.State.Get("variable/x"); known {
		t.Error("something is left of what nothing ever set")
	}
	b.verify()
}

func TestPatternsStandForTheEnvironmentsThatAreThere(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us", "prod-eu-2")
	for pattern, want := range map[string]int{"prod-*": 3, "prod-??": 2, "*": 4, "prod-[e]u": 1, "dev prod-us dev": 2, "dev d*": 1} {
		c := b.must("anna", set(pattern, "variable/x", "1")).Change
		if got := len(b.state.Changes[c].Parts); got != want {
			t.Errorf("%s: %d environments, want %d", pattern, got, want)
		}
	}
	b.refused("anna", set("stage-*", "variable/x", "1"), ledger.KindNotFound, "edit 1", "stage-*")
	b.refused("anna", set("prod", "variable/x", "1"), ledger.KindNotFound)
	b.refused("anna", set("prod-[", "variable/x", "1"), ledger.KindInvalid, "pattern")
	b.refused("anna", ledger.Propose{Reason: "r", Edits: []ledger.Edit{{Environments: []string{""}, Delete: []string{"flag/x"}}}}, ledger.KindNotFound)
}

func TestALaterEditOfTheSameResourceWins(t *testing.T) {
	b := environments(t, "dev", "prod")
	b.release(set("prod", "variable/gone", "1"))
	b.release(set("prod", "variable/y", "0"))
	p := set("*", "variable/x", "1")
	p.Edits = append(p.Edits, set("prod", "variable/x", "2").Edits[0], del("prod", "variable/gone", "variable/y").Edits[0], set("dev", "variable/y", "1").Edits[0])
	c := b.release(p)
	if b.value("dev", "variable/x") != "1" || b.value("prod", "variable/x") != "2" || b.value("prod", "variable/gone") != "" || b.value("dev", "variable/y") != "1" {
		t.Error("other values")
	}
	sources, err := b.state.WrittenSources(b.state.Changes[c])
	if err != nil || len(sources.Edits) != 4 || strings.Join(sources.Edits[0].Matched, " ") != "dev prod" || sources.Edits[0].Environments[0] != "*" {
		t.Errorf("sources %+v (%v)", sources, err)
	}
	b.verify()
}

func TestADryRunSaysWhatWouldChange(t *testing.T) {
	b := environments(t, "prod")
	b.release(set("prod", "variable/x", "1"))
	d, err := b.decide(ledger.Command{ID: "dry", By: "anna", Body: set("prod", "variable/x", "2")})
	if err != nil || len(d.Effect) != 1 || string(d.Effect[0].Before) != "1" || string(d.Effect[0].After) != "2" {
		t.Fatalf("%+v (%v)", d.Effect, err)
	}
	b.release(set("prod", "variable/x", "2"))
	d, err = b.decide(ledger.Command{ID: "dry", By: "op", Body: ledger.Rollback{Environment: "prod", ToRevision: 1, Reason: "back"}})
	if err != nil || len(d.Effect) != 1 || string(d.Effect[0].Before) != "2" || d.Effect[0].After != nil {
		t.Fatalf("a rollback of two says %+v (%v), want what they come to", d.Effect, err)
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheTimeOfEntriesNeverRunsBackwards(t *testing.T) {
	b := environments(t, "prod")
	before := b.state.Time
	b.now = b.now.Add(-24 * time.Hour) // the publisher's clock is set back
	c := b.release(set("prod", "variable/x", "1"))
	if !b.state.Time.Equal(before) || !b.state.Changes[c].Approved.Equal(before) {
		t.Errorf("%s after %s", b.state.Time, before)
	}
	b.verify()
}

func TestTheBusStampsReleasesOnceTheyAreReadBack(t *testing.T) {
	b := environments(t, "dev", "prod")
	r := b.approve("ben", b.must("anna", set("*", "variable/x", "1")).Change)
	stamp := b.now.Add(time.Minute)
	b.state.Stamp(r.Entry, stamp)
	b.state.Stamp(r.Entry+100, stamp) // of an entry that releases nothing
	if refs := b.state.Wave(r.Entry); len(refs) != 2 || refs[0] != r.Released[0] {
		t.Errorf("the wave is %+v", refs)
	}
	for place, e := range b.state.EnvironmentList() {
		if !e.Releases[1].Stamp.Equal(stamp) || e.Releases[0].Stamp.Equal(stamp) || e.Releases[1].Place != place {
			t.Errorf("%s: %+v", e.Name, e.Releases)
		}
	}
}
