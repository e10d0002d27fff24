package ledger_test

import (
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// frozenSigned is a ledger with signed approvals in which a change waits in prod-eu and prod-us until 14:00, and is in dev; it is 11:00.
func frozenSigned(t *testing.T, life time.Duration) (*book, string) {
	b := signedBook(t, nil, "dev", "prod-eu", "prod-us")
	b.approve("bob", b.must("ann", declared("Variable level default: info", night)).Change)
	b.now, b.life = epoch.Add(2*time.Hour), life
	id := b.must("ann", quickly("*", "variable/level", `"warn"`)).Change
	if r := b.approve("bob", id); len(r.Released) != 1 || len(r.Frozen) != 2 {
		t.Fatalf("%+v", r)
	}
	return b, id
}

func TestAPausedChangeIsNotReleasedWhenTheFreezeEnds(t *testing.T) {
	b, id := frozenSigned(t, 0)
	b.refused("otto", ledger.Pause{Change: id, Reason: "wait"}, ledger.KindDenied, "release-manager or approver")
	b.refused("rita", ledger.Resume{Change: id}, ledger.KindConflict, "not paused")
	b.must("rita", ledger.Pause{Change: id, Reason: "not before Monday"})
	b.refused("rita", ledger.Pause{Change: id, Reason: "wait"}, ledger.KindConflict, "paused by rita")
	b.now = epoch.Add(6 * time.Hour)
	if released := b.open(id); len(released) > 0 {
		t.Fatalf("released while it is paused: %+v", released)
	}
	b.must("bob", ledger.Resume{Change: id})
	if released := b.open(id); len(released) != 2 {
		t.Fatalf("%+v", released)
	}
	b.refused("rita", ledger.Pause{Change: id, Reason: "wait"}, ledger.KindConflict, "waits nowhere")
	b.verify()
	b.readsTheSame()
}

func TestApprovalsThatExpireInAFreezeReleaseNothing(t *testing.T) {
	b, id := frozenSigned(t, time.Hour)
	b.now = epoch.Add(6 * time.Hour)
	if released := b.open(id); len(released) > 0 {
		t.Fatalf("released on approvals that expired: %+v", released)
	}
	part, _ := b.state.Changes[id].PartFor("prod-eu")
	if part.LeftOut == nil || part.LeftOut.Reason != events.ReasonApprovals || !strings.Contains(part.LeftOut.Detail, "nobody approved") {
		t.Fatalf("%+v", part.LeftOut)
	}
	again := b.must("ann", ledger.Rebase{Change: id}).Change
	if again == id {
		t.Error("the change is open again")
	}
	b.life = 0
	if r := b.approve("carol", again); len(r.Released) != 2 {
		t.Errorf("%+v", r)
	}
	b.verify()
	b.readsTheSame()
}

func TestBreakingTheGlassReleasesWhatWaitsAndChangesNothingReleasedBefore(t *testing.T) {
	b, id := frozenSigned(t, 0)
	before, err := b.state.Payload("dev", 3)
	if err != nil {
		t.Fatal(err)
	}
	r := b.must("gus", ledger.BreakGlass{Change: id, Digest: b.state.Changes[id].Digest, Reason: "the shop is down"})
	if len(r.Released) != 2 {
		t.Fatalf("%+v", r)
	}
	if after, err := b.state.Payload("dev", 3); err != nil || string(after) != string(before) {
		t.Errorf("a release of before the break-glass is another one now (%v)", err)
	}
	b.verify()
	b.readsTheSame()
}

func TestAnAuthorRemovedIsNobodysAuthor(t *testing.T) {
	b, id := frozenSigned(t, 0)
	open := b.must("ann", quickly("dev", "variable/other", `1`)).Change
	b.trust(func(d *events.Trust) { d.People = d.People[1:] }) // ann
	b.refused("bob", b.approval(open), ledger.KindDenied, "agents would refuse change", "no key of \"ann\"")
	b.refused("gus", ledger.BreakGlass{Change: open, Digest: b.state.Changes[open].Digest, Reason: "now"}, ledger.KindDenied, "agents would refuse change", "no key of \"ann\"")
	if _, err := b.state.Decide(ledger.Command{ID: "dry", By: "bob", DryRun: true, Body: b.approval(open)}, b.now); err == nil || !strings.Contains(err.Error(), "agents would refuse change") {
		t.Errorf("before anybody signs: %v", err)
	}
	b.now = epoch.Add(6 * time.Hour)
	if released := b.open(id); len(released) > 0 {
		t.Errorf("%+v", released)
	}
	b.verify()
	b.readsTheSame()
}
