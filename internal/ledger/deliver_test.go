package ledger_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// delivered is a book with an agent in each of dev and prod, and one change released to both as revision 2.
func delivered(t *testing.T) (*book, string) {
	b := environments(t, "dev", "prod")
	b.enrol("dev", "a")
	b.enrol("prod", "a")
	return b, b.release(set("*", "variable/x", "1"))
}

func TestWhatNoEnrolledAgentSignedIsNotRecorded(t *testing.T) {
	b, _ := delivered(t)
	b.enrol("prod", "gone")
	b.must("op", ledger.RevokeAgent{Environment: "prod", Agent: "gone", Reason: "stolen"})
	forged := b.ack("prod", "a", events.WordApplied, 1, 2)
	forged.Ack = []byte(strings.Replace(string(forged.Ack), `"word":"applied"`, `"word":"refused"`, 1))
	elsewhere := b.ack("prod", "a", events.WordApplied, 1, 2)
	elsewhere.Environment = "dev"
	otherKey := b.ack("prod", "a", events.WordApplied, 1, 2)
	otherKey.Signature = b.ack("dev", "a", events.WordApplied, 1, 2).Signature
	noEnvironment := b.ack("prod", "a", events.WordApplied, 1, 2)
	noEnvironment.Environment = "stage"
	both := b.ack("prod", "a", events.WordApplied, 1, 2)
	both.Beat = b.beat("prod", "a", 2).Beat
	big := b.ack("prod", "a", events.WordApplied, 1, 2, func(a *events.Ack) { a.Message = strings.Repeat("x", 70<<10) })
	for name, d := range map[string]struct {
		delivery events.Delivery
		reason   events.Reason
	}{
		"altered":             {forged, events.ReasonSignature},
		"for another place":   {elsewhere, events.ReasonSignature},
		"with another key":    {otherKey, events.ReasonSignature},
		"unknown environment": {noEnvironment, ""},
		"unknown agent":       {b.ack("prod", "nobody", events.WordApplied, 1, 2), ""},
		"revoked agent":       {b.ack("prod", "gone", events.WordApplied, 1, 2), ""},
		"another ledger":      {b.ack("prod", "a", events.WordApplied, 1, 2, func(a *events.Ack) { a.Ledger = "other" }), events.ReasonWrongLedger},
		"another chain":       {b.ack("prod", "a", events.WordApplied, 1, 2, func(a *events.Ack) { a.Chain[0] ^= 1 }), events.ReasonLedgerForked},
		"beyond the head":     {b.ack("prod", "a", events.WordApplied, 1, 3), events.ReasonLedgerForked},
		"failed beyond it":    {b.ack("prod", "a", events.WordFailed, 1, 99), events.ReasonLedgerForked},
		"nothing":             {events.Delivery{Environment: "prod", Agent: "a", Stamp: b.now}, events.ReasonMalformed},
		"ack and beat":        {both, events.ReasonMalformed},
		"too big":             {big, events.ReasonMalformed},
		"beat elsewhere":      {b.beat("prod", "a", 2, func(beat *events.Beat) { beat.Ledger = "other" }), events.ReasonWrongLedger},
		"beat, other chain":   {b.beat("prod", "a", 2, func(beat *events.Beat) { beat.Chain[0] ^= 1 }), events.ReasonLedgerForked},
		"beat of nothing":     {b.beat("prod", "a", 0), events.ReasonLedgerForked},
	} {
		if _, _, err := b.state.Read(d.delivery); err == nil || events.ReasonOf(err) != d.reason {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := b.record(d.delivery); !errors.Is(err, ledger.ErrNothingNew) {
			t.Errorf("%s: recorded (%v)", name, err)
		}
	}
	if b.agent("prod", "a").Position != 0 {
		t.Error("the agent moved")
	}
	// What is not valid stops nothing beside it.
	b.recorded(forged, b.ack("prod", "a", events.WordApplied, 1, 2), elsewhere)
	if b.agent("prod", "a").Position != 2 {
		t.Error("the valid one is not recorded")
	}
	b.verify()
}

func TestTheSameStatementIsRecordedOnce(t *testing.T) {
	b, _ := delivered(t)
	ack := b.ack("prod", "a", events.WordApplied, 1, 2)
	again := ack
	again.Stamp = ack.Stamp.Add(time.Hour)
	b.recorded(ack, again, ack)
	if n := len(b.agent("prod", "a").Said()); n != 1 {
		t.Fatalf("%d deliveries", n)
	}
	for _, d := range []events.Delivery{ack, again, b.beat("prod", "a", 2), b.beat("prod", "a", 1)} {
		if _, err := b.record(d); !errors.Is(err, ledger.ErrNothingNew) {
			t.Errorf("recorded again (%v)", err)
		}
	}
	b.verify()
}

func TestLagCountsFromTheEarliestWordOfARevision(t *testing.T) {
	b, _ := delivered(t)
	ack := b.ack("prod", "a", events.WordApplied, 1, 2)
	beat := b.beat("prod", "a", 2)
	beat.Stamp = ack.Stamp.Add(10 * time.Second)
	b.recorded(beat)
	if d := b.agent("prod", "a").Applied(2); d == nil || !d.AtMost || !d.Stamp.Equal(beat.Stamp) || d.First != 1 {
		t.Fatalf("%+v: a beat says that it arrived by then", d)
	}
	b.recorded(ack)
	for _, r := range []uint64{1, 2} {
		if d := b.agent("prod", "a").Applied(r); d == nil || d.AtMost || !d.Stamp.Equal(ack.Stamp) {
			t.Errorf("revision %d: %+v: the ack came before", r, d)
		}
	}
	if b.agent("prod", "a").Applied(0) != nil || b.agent("prod", "a").Applied(3) != nil {
		t.Error("what is not there is applied")
	}
	b.verify()
}

func TestAChangeIsDeliveredWhenEveryAgentThatCountsHasAppliedIt(t *testing.T) {
	b := environments(t, "dev", "prod")
	b.enrol("dev", "a")
	b.enrol("prod", "a")
	b.enrol("prod", "b")
	c := b.release(set("*", "variable/x", "1"))
	b.enrol("dev", "late") // does not count for c
	steps := []events.Delivery{
		b.ack("dev", "a", events.WordApplied, 1, 2),
		b.ack("prod", "a", events.WordApplied, 1, 2),
		b.ack("prod", "b", events.WordFailed, 1, 2),
		b.ack("prod", "b", events.WordApplied, 1, 1),
	}
	for i, d := range steps {
		b.recorded(d)
		if b.status(c) != ledger.StatusReleased {
			t.Fatalf("after step %d it is %s", i, b.status(c))
		}
	}
	b.recorded(b.beat("prod", "b", 2))
	if b.status(c) != ledger.StatusDelivered || b.state.Changes[c].Completed.IsZero() {
		t.Fatal(b.status(c))
	}
	two := b.release(set("dev", "variable/x", "2"))
	b.recorded(b.ack("dev", "a", events.WordApplied, 3, 3))
	if b.status(two) != ledger.StatusReleased {
		t.Error("the late one counts from now on")
	}
	b.recorded(b.ack("dev", "late", events.WordApplied, 1, 3))
	if b.status(two) != ledger.StatusDelivered {
		t.Error(b.status(two))
	}
	b.verify()
}

func TestWhoeverIsGoneIsNotWaitedFor(t *testing.T) {
	b, c := delivered(t)
	b.enrol("prod", "b")
	two := b.release(set("prod", "variable/y", "1"))
	b.recorded(b.ack("prod", "a", events.WordApplied, 1, 3))
	b.must("op", ledger.RevokeAgent{Environment: "prod", Agent: "b", Reason: "broken host"})
	if b.status(two) != ledger.StatusDelivered || b.status(c) != ledger.StatusReleased {
		t.Errorf("%s, %s", b.status(two), b.status(c))
	}
	b.must("op", ledger.RetireEnvironment{Name: "dev", Reason: "moved"})
	if b.status(c) != ledger.StatusDelivered {
		t.Error(b.status(c))
	}
	b.verify()
}

func TestWhatARevokedAgentAcknowledgedStaysAcknowledged(t *testing.T) {
	b, c := delivered(t)
	b.recorded(b.ack("prod", "a", events.WordApplied, 1, 2))
	b.must("op", ledger.RevokeAgent{Environment: "prod", Agent: "a", Reason: "broken host"})
	b.enrol("prod", "b")
	if b.status(c) != ledger.StatusReleased {
		t.Fatal(b.status(c))
	}
	b.recorded(b.ack("dev", "a", events.WordApplied, 1, 2))
	if b.status(c) != ledger.StatusDelivered {
		t.Errorf("%s, and every agent that was there has acknowledged it", b.status(c))
	}
	b.verify()
}

func TestWhereAChangeIsUndoneItIsNotWaitedFor(t *testing.T) {
	b, c := delivered(t)
	b.must("op", ledger.Rollback{Change: c, Environments: []string{"dev"}, Reason: "r"})
	b.recorded(b.ack("prod", "a", events.WordApplied, 1, 2))
	if b.status(c) != ledger.StatusDelivered {
		t.Error(b.status(c))
	}
	b.must("op", ledger.Rollback{Change: c, Reason: "r"})
	if b.status(c) != ledger.StatusRolledBack {
		t.Error(b.status(c))
	}
	b.verify()
}

func TestAnEnvironmentWithoutAgentsHasReceivedNothing(t *testing.T) {
	b := environments(t, "dev", "prod")
	b.enrol("dev", "a")
	c := b.release(set("*", "variable/x", "1"))
	b.recorded(b.ack("dev", "a", events.WordApplied, 1, 2))
	if b.status(c) != ledger.StatusReleased {
		t.Error(b.status(c))
	}
}

func TestAFailureStandsUntilItIsOvercome(t *testing.T) {
	b, _ := delivered(t)
	b.release(set("prod", "variable/x", "2"))
	because := func(reason events.Reason) func(*events.Ack) { return func(a *events.Ack) { a.Reason = reason } }
	says := func(word events.Word, first, last uint64, alter ...func(*events.Ack)) {
		t.Helper()
		b.recorded(b.ack("prod", "a", word, first, last, alter...))
	}
	open := func(want events.Word) {
		t.Helper()
		got := events.Word("")
		if o := b.agent("prod", "a").Open; o != nil {
			got = o.Word
		}
		if got != want {
			t.Errorf("what stands is %q, want %q", got, want)
		}
	}
	says(events.WordApplied, 1, 1)
	open("")
	says(events.WordRetrying, 2, 2, because(events.ReasonConnector))
	open(events.WordRetrying)
	says(events.WordFailed, 2, 2, because(events.ReasonConnector))
	open(events.WordFailed)
	says(events.WordBlocked, 3, 3, because(events.ReasonConnector))
	open(events.WordFailed)
	says(events.WordTorn, 2, 3, because(events.ReasonUndo))
	open(events.WordTorn)
	says(events.WordRetrying, 2, 3, because(events.ReasonUndo))
	open(events.WordTorn) // it is the undo that is retried
	says(events.WordSuperseded, 2, 2)
	open(events.WordTorn)
	says(events.WordApplied, 2, 2)
	open(events.WordTorn)
	says(events.WordApplied, 3, 3)
	open("")
	says(events.WordFailed, 2, 2, because(events.ReasonConnector))
	open("") // old news
	says(events.WordTorn, 3, 3, because(events.ReasonUndo))
	open(events.WordTorn)
	b.release(set("prod", "variable/x", "3"))
	says(events.WordFailed, 4, 4, because(events.ReasonConnector))
	open(events.WordFailed)
	says(events.WordSuperseded, 4, 4)
	open("")
	says(events.WordRefused, 5, 5, because(events.ReasonSignature))
	open(events.WordRefused)
	b.verify()
}

func TestOneEntryHoldsWhatFitsAndTheRestComesNext(t *testing.T) {
	b, _ := delivered(t)
	var many []events.Delivery
	for i := range ledger.MaxDeliveries + 50 {
		many = append(many, b.ack("prod", "a", events.WordRetrying, 2, 2, func(a *events.Ack) { a.Message = fmt.Sprintf("try %d %s", i, strings.Repeat("x", i%2*8000)) }))
	}
	rounds := 0
	for ; ; rounds++ {
		if _, err := b.record(many...); errors.Is(err, ledger.ErrNothingNew) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := b.deliveries(); n != len(many) || rounds < 3 {
		t.Errorf("%d of %d recorded in %d entries", n, len(many), rounds)
	}
	b.verify()
}

func TestStatementsThatAreNotRecordedYetAreSeenWithoutBeingKept(t *testing.T) {
	b, _ := delivered(t)
	b.recorded(b.ack("prod", "a", events.WordApplied, 1, 1))
	s, agent, err := b.state.Read(b.ack("prod", "a", events.WordApplied, 2, 2))
	if err != nil {
		t.Fatal(err)
	}
	before := picture(b.state)
	seen := agent.With([]ledger.Statement{s, s})
	if seen.Position != 2 || len(seen.Said()) != 2 || seen.Applied(2) == nil {
		t.Errorf("%+v", seen)
	}
	if d := difference(before, picture(b.state)); d != "" || agent.Position != 1 || agent.Applied(2) != nil {
		t.Errorf("it was kept: %s", d)
	}
	if agent.With(nil) != agent {
		t.Error("a copy for nothing")
	}
}

func TestAKeyIsEnrolledOnce(t *testing.T) {
	b := environments(t, "dev", "prod")
	b.enrol("prod", "a")
	b.refused("steward", ledger.EnrolAgent{Environment: "prod", Agent: "a", Key: signer("new").Public()}, ledger.KindConflict, "choose another name: one that was used is never used again")
	b.refused("steward", ledger.EnrolAgent{Environment: "dev", Agent: "b", Key: signer("prod/a").Public()}, ledger.KindConflict, "a in prod")
	b.must("op", ledger.RevokeAgent{Environment: "prod", Agent: "a", Reason: "r"})
	b.refused("op", ledger.RevokeAgent{Environment: "prod", Agent: "a", Reason: "r"}, ledger.KindNotFound)
	b.refused("steward", ledger.EnrolAgent{Environment: "prod", Agent: "a", Key: signer("new").Public()}, ledger.KindConflict, "never used again")
	b.verify()
}
