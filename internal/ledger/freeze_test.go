package ledger_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// night is a freeze of production from 10:00 to 14:00; books begin at 9:00.
const night = "Policy night matchResources: {environments: ['prod-*']}, freeze: {start: \"2026-11-21T10:00\", duration: 4h}"

// frozen is a book in which production is frozen now: it is 11:00.
func frozen(t *testing.T, policy string) *book {
	b := environments(t, "dev", "prod-eu", "prod-us")
	b.release(declared("Variable level default: info", policy))
	b.now = epoch.Add(2 * time.Hour)
	return b
}

// open lets the publisher look whether a change may be released, and says what it released.
func (b *book) open(id string) []events.ReleaseRef {
	b.t.Helper()
	r, err := b.do("publisher", ledger.Open{Change: id})
	if err != nil && !errors.Is(err, ledger.ErrNothingNew) {
		b.t.Fatalf("open %s: %v", id, err)
	}
	return r.Released
}

func TestAnApprovedChangeWaitsForTheEndOfAFreezeAndIsReleasedOnce(t *testing.T) {
	b := frozen(t, night)
	b.enrol("dev", "a1")
	id := b.must("anna", quickly("*", "variable/level", `"warn"`)).Change
	r := b.approve("ben", id)
	if len(r.Released) != 1 || r.Released[0].Environment != "dev" || len(r.Frozen) != 2 {
		t.Fatalf("%+v", r)
	}
	if got, want := r.Frozen[0].String(), "it waits in prod-eu until 2026-11-21T14:00:00Z (policy night, night-4.yaml:4)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	b.have(map[string]string{"dev": `variable/level="warn"`, "prod-eu": `variable/level="info"`})
	if released := b.open(id); len(released) > 0 {
		t.Errorf("released in the freeze: %+v", released)
	}
	b.recorded(b.ack("dev", "a1", events.WordApplied, 1, 3))
	if b.status(id) != ledger.StatusReleased {
		t.Errorf("a change that waits is %s", b.status(id))
	}

	b.now = epoch.Add(5*time.Hour - time.Second)
	if released := b.open(id); len(released) != 2 || len(b.open(id)) != 0 {
		t.Errorf("when the freeze is over: %+v", released)
	}
	b.have(map[string]string{"prod-eu": `variable/level="warn"`, "prod-us": `variable/level="warn"`})
	b.verify()
}

func TestAWithdrawnChangeIsNeverReleased(t *testing.T) {
	b := frozen(t, night)
	all := b.must("anna", quickly("prod-*", "variable/level", `"warn"`)).Change
	b.approve("ben", all)
	b.refused("ben", ledger.Withdraw{Change: all}, ledger.KindDenied, "only its author")
	b.must("anna", ledger.Withdraw{Change: all, Reason: "not needed"})
	if b.status(all) != ledger.StatusWithdrawn {
		t.Errorf("it is %s", b.status(all))
	}
	some := b.must("anna", quickly("*", "variable/level", `"trace"`)).Change
	b.approve("ben", some)
	b.must("anna", ledger.Withdraw{Change: some})
	b.now = epoch.Add(6 * time.Hour)
	if len(b.open(all))+len(b.open(some)) > 0 || len(b.state.FrozenChanges()) > 0 {
		t.Error("a withdrawn change is released")
	}
	b.have(map[string]string{"dev": `variable/level="trace"`, "prod-eu": `variable/level="info"`})
	if b.status(some) != ledger.StatusReleased {
		t.Errorf("what reached dev is %s", b.status(some))
	}
	b.verify()
}

func TestARollbackPassesAFreezeAndEndsTheWaiting(t *testing.T) {
	b := frozen(t, night)
	id := b.must("anna", quickly("*", "variable/level", `"warn"`)).Change
	b.approve("ben", id)
	b.must("omar", ledger.Rollback{Change: id, Reason: "too loud"})
	if b.status(id) != ledger.StatusRolledBack {
		t.Errorf("it is %s", b.status(id))
	}
	b.must("omar", ledger.Rollback{Change: "c1", Environments: []string{"prod-us"}, Reason: "all of it"})
	b.now = epoch.Add(6 * time.Hour)
	if len(b.open(id)) > 0 {
		t.Error("a change that was rolled back is released")
	}
	b.have(map[string]string{"dev": `variable/level="info"`, "prod-eu": `variable/level="info"`, "prod-us": ""})
	b.verify()

	strict := frozen(t, strings.Replace(night, "4h", "4h, rollbacks: true", 1))
	strict.refused("omar", ledger.Rollback{Change: "c1", Reason: "too loud"}, ledger.KindConflict, "rollbacks wait too in prod-eu until 2026-11-21T14:00:00Z (policy night, night-4.yaml:4)")
	strict.must("omar", ledger.Rollback{Change: "c1", Environments: []string{"dev"}, Reason: "too loud"})
}

func TestAFreezeThatIsTakenAwayLetsWhatWaitsGo(t *testing.T) {
	b := frozen(t, night)
	id := b.must("anna", quickly("prod-*", "variable/level", `"warn"`)).Change
	b.approve("ben", id)
	longer := b.must("anna", declared("Variable level default: info", strings.Replace(night, "4h", "8h", 1))).Change
	b.approve("ben", longer) // no resource changes: that waits for nothing
	if b.open(id); b.state.Changes[id].Parts[0].Frozen.Until.Hour() != 18 {
		t.Errorf("%+v", b.state.Changes[id].Parts[0].Frozen)
	}
	gone := b.must("anna", declared("Variable level default: info")).Change
	b.approve("ben", gone)
	if released := b.open(id); len(released) != 2 {
		t.Errorf("%+v", released)
	}
	b.verify()
}

func TestWhatMovedInAFreezeIsLeftOut(t *testing.T) {
	b := frozen(t, night)
	first := b.must("anna", quickly("prod-*", "variable/level", `"warn"`)).Change
	second := b.must("cleo", quickly("prod-*", "variable/level", `"trace"`)).Change
	b.approve("ben", first)
	b.approve("ben", second)
	b.must("op", ledger.RetireEnvironment{Name: "prod-us", Reason: "gone"})
	b.now = epoch.Add(6 * time.Hour)
	if released := b.open(first); len(released) != 1 || released[0].Environment != "prod-eu" {
		t.Errorf("%+v", released)
	}
	if released := b.open(second); len(released)+len(b.open(second)) > 0 {
		t.Errorf("%+v", released)
	}
	if left := b.state.Changes[second].Parts[0].LeftOut; left == nil || left.Reason != events.ReasonBaseMoved || !strings.Contains(left.Detail, "variable/level in prod-eu was changed by change "+first) {
		t.Errorf("%+v", left)
	}
	b.have(map[string]string{"prod-eu": `variable/level="warn"`})
	b.verify()
}
