package fleet_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// delivered is an ack of an agent whose clock is off by skew, and whose phases took so many milliseconds.
func delivered(released time.Time, skew time.Duration, deliver, verify, apply, commit, ack int) ledger.Delivery {
	at := released
	after := func(ms int) time.Time { at = at.Add(time.Duration(ms) * time.Millisecond); return at }
	d := ledger.Delivery{Word: events.WordApplied}
	d.Phases.Received = after(deliver).Add(skew)
	d.Phases.Verified = after(verify).Add(skew)
	d.Phases.Applied = after(apply).Add(skew)
	d.Phases.Committed = after(commit).Add(skew)
	d.Stamp = after(ack)
	return d
}

func TestPhasesFollowEachOtherAndAreTheTotal(t *testing.T) {
	released := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	const ms = time.Millisecond
	want := map[fleet.Phase]time.Duration{fleet.PhaseDeliver: 5 * ms, fleet.PhaseVerify: ms, fleet.PhaseApply: 7 * ms, fleet.PhaseCommit: 2 * ms, fleet.PhaseAck: 3 * ms, fleet.PhaseTotal: 18 * ms}
	for _, skew := range []time.Duration{0, time.Hour, -time.Hour} {
		if diff := cmp.Diff(want, fleet.PhasesOf(ledger.Release{Stamp: released}, delivered(released, skew, 5, 1, 7, 2, 3), skew)); diff != "" {
			t.Errorf("clock off by %s: %s", skew, diff)
		}
	}
}

func TestNoClockOfAnAgentChangesTheTotal(t *testing.T) {
	released := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.Int64Range(-int64(time.Hour), int64(time.Hour))
		d := delivered(released, 0, rapid.IntRange(0, 99).Draw(t, "deliver"), 1, 1, 1, rapid.IntRange(0, 99).Draw(t, "ack"))
		total := d.Stamp.Sub(released)
		for _, at := range []*time.Time{&d.Phases.Received, &d.Phases.Verified, &d.Phases.Applied, &d.Phases.Committed} {
			*at = at.Add(time.Duration(off.Draw(t, "off")))
		}
		phases := fleet.PhasesOf(ledger.Release{Stamp: released}, d, time.Duration(off.Draw(t, "skew")))
		if phases[fleet.PhaseTotal] != total {
			t.Fatalf("total %s, want %s", phases[fleet.PhaseTotal], total)
		}
		var sum time.Duration
		for phase, took := range phases {
			if took < 0 {
				t.Fatalf("%s took %s", phase, took)
			}
			if phase != fleet.PhaseTotal {
				sum += took
			}
		}
		if sum != total {
			t.Fatalf("the phases take %s together, the total is %s", sum, total)
		}
	})
}

func TestWithoutPhasesOrStampLessIsSaid(t *testing.T) {
	released := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	d := delivered(released, 0, 1, 1, 1, 1, 1)
	if got := fleet.PhasesOf(ledger.Release{}, d, 0); len(got) != 0 {
		t.Errorf("without the entry's stamp: %v", got)
	}
	d.Phases = events.Phases{}
	want := map[fleet.Phase]time.Duration{fleet.PhaseTotal: 5 * time.Millisecond}
	if diff := cmp.Diff(want, fleet.PhasesOf(ledger.Release{Stamp: released}, d, 0)); diff != "" {
		t.Error(diff)
	}
}
