package agent

import (
	"testing"
	"time"
)

// TestAnAgentWithoutPulsesTriesOtherServersMoreAndMoreRarely: its own may be cut off from the publisher's.
func TestAnAgentWithoutPulsesTriesOtherServersMoreAndMoreRarely(t *testing.T) {
	const every = 15 * time.Second
	start := time.Now()
	e := elsewhere{every: every}
	tries := func(from, to time.Duration, pulse time.Time, connected bool) (at []time.Duration) {
		for d := from; d < to; d += time.Second {
			if e.due(start.Add(d), pulse, connected) {
				at = append(at, d-from)
			}
		}
		return at
	}
	gaps := func(at []time.Duration) {
		t.Helper()
		last := time.Duration(0)
		for i, d := range at {
			least := pulsesMissed * every << min(i, mostDoublings)
			if gap := d - last; gap < least || gap > least+every+time.Second {
				t.Errorf("try %d comes %s after the one before", i, gap)
			}
			last = d
		}
	}
	at := tries(0, time.Hour, time.Time{}, true)
	if len(at) < 7 || len(at) > 8 { // the eighth after 3,555 s at the soonest
		t.Errorf("an hour without any pulse: tries at %v", at)
	}
	gaps(at)
	at = tries(2*time.Hour, 2*time.Hour+5*time.Minute, start.Add(2*time.Hour), true)
	if len(at) != 2 {
		t.Errorf("five minutes after a pulse: tries at %v", at)
	}
	gaps(at)
	if at := tries(3*time.Hour, 4*time.Hour, start.Add(2*time.Hour), false); len(at) > 0 {
		t.Errorf("without a connection: tries at %v", at)
	}
	if at := tries(4*time.Hour, 4*time.Hour+3*time.Minute-time.Second, start.Add(2*time.Hour), true); len(at) > 0 {
		t.Errorf("no sooner than that after the connection came back: tries at %v", at)
	}
}

func TestAnAgentThatHearsPulsesStays(t *testing.T) {
	const every = 15 * time.Second
	start := time.Now()
	e := elsewhere{every: every}
	for d := time.Duration(0); d < time.Hour; d += time.Second {
		if e.due(start.Add(d), start.Add(d.Truncate(2*every)), true) { // every second one is lost
			t.Fatalf("tries another server after %s", d)
		}
	}
}
