package ledger_test

import (
	"testing"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestARollbackBringsBackValueAndSetter(t *testing.T) {
	b := environments(t, "dev", "prod")
	one := b.release(set("*", "variable/x", "1"))
	two := b.release(set("*", "variable/x", "2"))
	r := b.must("op", ledger.Rollback{Change: two, Reason: "too loud"})
	if len(r.Released) != 2 || b.value("prod", "variable/x") != "1" || b.setter("prod", "variable/x") != one || b.status(two) != ledger.StatusRolledBack {
		t.Fatalf("%+v, set by %s", r, b.setter("prod", "variable/x"))
	}
	if head := b.state.Environments["prod"].Head(); head != 4 {
		t.Errorf("the head is %d: history was rewound", head)
	}
	b.refused("op", ledger.Rollback{Change: two, Reason: "again"}, ledger.KindConflict, "nothing of it to undo")
	b.must("op", ledger.Rollback{Change: one, Reason: "too"})
	if b.value("prod", "variable/x") != "" {
		t.Error("the first is still there")
	}
	b.verify()
}

func TestWhatALaterChangeSetIsUndoneFirst(t *testing.T) {
	b := environments(t, "prod")
	one := b.release(set("prod", "variable/x", "1"))
	two := b.release(set("prod", "variable/x", "2"))
	b.refused("op", ledger.Rollback{Change: one, Reason: "r"}, ledger.KindConflict, "variable/x in prod", "change "+two, "undo "+two+" first")
	b.must("op", ledger.Rollback{Change: two, Reason: "r"})
	b.must("op", ledger.Rollback{Change: one, Reason: "r"})
	b.verify()
}

func TestARollbackInSomeEnvironmentsLeavesTheOthers(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	c := b.release(set("prod-*", "variable/x", "1"))
	b.refused("op", ledger.Rollback{Change: c, Environments: []string{"prod-eu", "dev"}, Reason: "r"}, ledger.KindConflict, "in dev")
	b.refused("op", ledger.Rollback{Change: c, Environments: []string{"stage"}, Reason: "r"}, ledger.KindNotFound)
	b.must("op", ledger.Rollback{Change: c, Environments: []string{"prod-eu"}, Reason: "r"})
	if b.value("prod-eu", "variable/x") != "" || b.value("prod-us", "variable/x") != "1" || b.status(c) != ledger.StatusReleased {
		t.Errorf("%s, %s, %s", b.value("prod-eu", "variable/x"), b.value("prod-us", "variable/x"), b.status(c))
	}
	b.refused("op", ledger.Rollback{Change: c, Environments: []string{"prod-eu"}, Reason: "r"}, ledger.KindConflict)
	b.must("op", ledger.Rollback{Change: c, Environments: []string{"prod-*"}, Reason: "r"})
	if b.status(c) != ledger.StatusRolledBack {
		t.Error(b.status(c))
	}
	b.verify()
}

func TestARollbackPassesRetiredEnvironmentsBy(t *testing.T) {
	b := environments(t, "dev", "prod")
	c := b.release(set("*", "variable/x", "1"))
	b.must("op", ledger.RetireEnvironment{Name: "dev", Reason: "r"})
	b.refused("op", ledger.Rollback{Change: c, Environments: []string{"dev"}, Reason: "r"}, ledger.KindConflict, "retired")
	b.refused("op", ledger.Rollback{Environment: "dev", ToRevision: 1, Reason: "r"}, ledger.KindConflict, "retired")
	if r := b.must("op", ledger.Rollback{Change: c, Reason: "r"}); len(r.Released) != 1 {
		t.Errorf("%+v", r)
	}
	b.verify()
}

func TestARolledBackChangeIsProposedAgainAsAnother(t *testing.T) {
	b := environments(t, "prod")
	one := b.release(set("prod", "variable/x", "1"))
	b.must("op", ledger.Rollback{Change: one, Reason: "r"})
	two := b.release(set("prod", "variable/x", "1"))
	if b.state.Changes[one].Digest == b.state.Changes[two].Digest || b.value("prod", "variable/x") != "1" {
		t.Error("it is the same change")
	}
	b.verify()
}

// history is an environment at revision 6: a sets x, b sets x, c sets y, c is undone, d sets y.
func history(t *testing.T) *book {
	b := environments(t, "prod")
	b.release(set("prod", "variable/x", `"a"`))
	b.release(set("prod", "variable/x", `"b"`))
	c := b.release(set("prod", "variable/y", `"c"`))
	b.must("op", ledger.Rollback{Change: c, Reason: "r"})
	b.release(set("prod", "variable/y", `"d"`))
	return b
}

func TestAnEnvironmentIsBroughtBackByUndoingNewestFirst(t *testing.T) {
	for to, want := range map[uint64][]string{1: {"c4", "c2", "c1"}, 2: {"c4", "c2"}, 3: {"c4"}, 5: {"c4"}} {
		b := history(t)
		at, err := b.state.Folded("prod", to)
		if err != nil {
			t.Fatal(err)
		}
		r := b.must("op", ledger.Rollback{Environment: "prod", ToRevision: to, Reason: "r"})
		if len(r.Released) != len(want) {
			t.Fatalf("to %d: %d releases, want %d", to, len(r.Released), len(want))
		}
		e := b.state.Environments["prod"]
		for i, change := range want {
			if got := e.Releases[r.Released[i].Revision-1]; got.Change != change || got.Kind != events.KindRollback {
				t.Errorf("to %d: step %d undoes %s, want %s", to, i, got.Change, change)
			}
		}
		if e.Fold.State.Digest() != at.State.Digest() {
			t.Errorf("to %d: another state than at that revision", to)
		}
		b.verify()
	}
}

func TestBringingAnUndoneChangeBackIsNoUndoing(t *testing.T) {
	b := history(t)
	b.refused("op", ledger.Rollback{Environment: "prod", ToRevision: 4, Reason: "r"}, ledger.KindConflict, "change c3 was in force", "propose a new change", "from 5 on")
}

func TestARevisionToGoBackToLiesBeforeTheHead(t *testing.T) {
	b := history(t)
	for _, to := range []uint64{0, 6, 7, 1 << 60} {
		b.refused("op", ledger.Rollback{Environment: "prod", ToRevision: to, Reason: "r"}, ledger.KindInvalid, "before the head of prod, which is 6")
	}
	b.refused("op", ledger.Rollback{Environment: "stage", ToRevision: 1, Reason: "r"}, ledger.KindNotFound)
	b.must("op", ledger.Rollback{Environment: "prod", ToRevision: 1, Reason: "r"})
	b.refused("op", ledger.Rollback{Environment: "prod", ToRevision: 1, Reason: "r"}, ledger.KindConflict, "same configuration")
}

func TestARollbackNamesAChangeOrARevision(t *testing.T) {
	b := history(t)
	for _, r := range []ledger.Rollback{
		{Reason: "r"},
		{Reason: "r", Change: "c1", Environment: "prod", ToRevision: 1},
		{Reason: "r", Change: "c4", ToRevision: 1},
		{Reason: "r", Environment: "prod", ToRevision: 1, Environments: []string{"prod"}},
		{Reason: " \n", Change: "c4"},
	} {
		b.refused("op", r, ledger.KindInvalid)
	}
	b.refused("op", ledger.Rollback{Reason: "r", Change: "c9"}, ledger.KindNotFound)
	c := b.must("anna", set("prod", "variable/z", "1")).Change
	b.refused("op", ledger.Rollback{Reason: "r", Change: c}, ledger.KindConflict, "is open")
}
