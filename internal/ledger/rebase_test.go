package ledger_test

import (
	"testing"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func rebase(change string) ledger.Rebase { return ledger.Rebase{Change: change} }

func TestAChangeWhoseBaseMovedIsRebasedWhereNobodyElseEditedTheSame(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	b.release(declared("Document d default: {a: 1, b: 1, c: 1}", "Variable level default: info"))
	mine := b.must("anna", declared("Document d default: {a: 2, b: 1, c: 1}", "Variable level default: info")).Change
	b.refused("anna", rebase(mine), ledger.KindConflict, "nothing that change c2 is based on has moved")
	theirs := b.must("carla", declared("Document d default: {a: 1, b: 2, c: 1}", "Variable level default: info")).Change
	b.approve("ben", theirs)
	b.refused("ben", b.approval(mine), ledger.KindConflict, "document/d in dev was changed by change c3 by carla (the directory)", "publisher rebase c2")
	if got := b.state.Moved(b.state.Changes[mine].Parts[0]); got != "document/d in dev was changed by change c3 by carla (the directory)" {
		t.Errorf("%q", got)
	}

	before := b.state.Changes[mine]
	b.refused("carla", rebase(mine), ledger.KindDenied, "c2 is anna's")
	b.must("anna", rebase(mine))
	after := b.state.Changes[mine]
	if after.Digest == before.Digest || after.Revised != 1 || len(after.Approvals) != 0 {
		t.Errorf("%+v", after)
	}
	b.approve("ben", mine)
	b.have(map[string]string{"dev": `document/d={"a":2,"b":2,"c":1} variable/level="info"`, "prod-us": `document/d={"a":2,"b":2,"c":1} variable/level="info"`})
	b.inSources()
	b.refused("anna", rebase(mine), ledger.KindConflict, "nothing that change c2 is based on has moved")
	b.refused("anna", rebase("c9"), ledger.KindNotFound, "there is no change c9")

	// The same leaf, otherwise: refused, and it says who. To the same: that is no conflict.
	mine = b.must("anna", declared("Document d default: {a: 3, b: 2, c: 9}", "Variable level default: info")).Change
	theirs = b.must("carla", only(declared("Document d default: {a: 4, b: 2, c: 9}", "Variable level default: info"), "prod-eu")).Change
	b.approve("ben", theirs)
	b.refused("anna", rebase(mine), ledger.KindConflict, "change c4 cannot be rebased: document/d at /spec/default/a is edited by change c5 of carla (the directory) too, which was released in prod-eu since", "publisher revise c4")
	b.must("omar", ledger.Rollback{Change: theirs, Reason: "wrong"})
	b.refused("anna", rebase(mine), ledger.KindConflict, "nothing that change c4 is based on has moved")
	b.approve("ben", mine)
	b.have(map[string]string{"prod-eu": `document/d={"a":3,"b":2,"c":9} variable/level="info"`})

	// A rollback moves the base as well.
	next := b.must("anna", declared("Document d default: {a: 3, b: 3, c: 9}", "Variable level default: info")).Change
	b.must("omar", ledger.Rollback{Change: mine, Reason: "wrong"})
	b.refused("ben", b.approval(next), ledger.KindConflict, "rebase "+next)
	b.must("anna", rebase(next))
	b.approve("ben", next)
	b.have(map[string]string{"dev": `document/d={"a":2,"b":3,"c":1} variable/level="info"`})
	b.inSources()
	b.verify()
}

func TestAQuickEditIsRebasedLeafByLeaf(t *testing.T) {
	b := environments(t, "dev", "prod")
	b.release(set("*", "document/d", `{"a":1,"b":{"x":1,"y":1}}`))
	mine := b.must("anna", set("*", "document/d", `{"a":2,"b":{"x":1}}`)).Change
	b.release(set("prod", "document/d", `{"a":1,"b":{"x":5,"y":1},"c":1}`))

	// It is released where its base is what it was, and left out elsewhere: that is proposed anew.
	b.approve("ben", mine)
	b.have(map[string]string{"dev": `document/d={"a":2,"b":{"x":1}}`, "prod": `document/d={"a":1,"b":{"x":5,"y":1},"c":1}`})
	again := b.must("carla", rebase(mine)).Change
	if c := b.state.Changes[again]; again == mine || c.Author != "carla" || c.Reason != "because of document/d" || len(c.Parts) != 1 {
		t.Errorf("%+v", c)
	}
	b.approve("ben", again)
	b.have(map[string]string{"dev": `document/d={"a":2,"b":{"x":1}}`, "prod": `document/d={"a":2,"b":{"x":5},"c":1}`})
	b.inSources()

	mine = b.must("anna", set("prod", "document/d", `{"a":7}`)).Change
	b.release(set("prod", "document/d", `{"a":2,"b":{"x":6},"c":1}`))
	b.refused("anna", rebase(mine), ledger.KindConflict, "document/d at /b in prod was changed by change c6 by anna (because of document/d) too")

	gone := b.must("anna", del("prod", "document/d")).Change
	b.release(set("prod", "document/d", `{"a":2,"b":{"x":7},"c":1}`))
	b.refused("anna", rebase(gone), ledger.KindConflict, "document/d in prod was changed by change c8")
	b.verify()
}

func TestARebaseUndoesNoQuickEditThatWasMadeSince(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	b.release(declared("Variable level default: info", "Variable other default: 1"))
	mine := b.must("anna", declared("Variable level default: warn", "Variable other default: 2")).Change
	b.release(set("dev", "variable/level", `"debug"`))
	b.refused("anna", rebase(mine), ledger.KindConflict, "variable/level in dev was set by change c3 of anna (because of variable/level), and level-3.yaml:4 says otherwise")
	b.must("anna", ledger.Withdraw{Change: mine})

	// A drop of an edit that was made anew since is none any more.
	drop := b.must("anna", with(declared("Variable level default: info", "Variable other default: 2"), func(d *ledger.Directory) { d.DropEdits = []string{"variable/level"} })).Change
	b.release(set("dev", "variable/level", `"trace"`))
	b.refused("anna", rebase(drop), ledger.KindConflict, "variable/level in dev is edited by change c5 of anna (because of variable/level) too, which was released since")

	// A promotion's base moves as well.
	b.release(set("dev", "document/p", `{"a":1,"b":1}`))
	p := b.must("anna", promotion("dev", "prod-eu", "document/p")).Change
	b.release(set("prod-eu", "document/p", `{"c":1}`))
	b.must("anna", rebase(p))
	b.approve("ben", p)
	if got := b.value("prod-eu", "document/p"); got != `{"a":1,"b":1,"c":1}` {
		t.Error(got)
	}
	b.verify()
}
