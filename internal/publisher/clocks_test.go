package publisher_test

import (
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A publisher whose clock is behind that of the one before it sends pulses that agents take for new all the same: they say which was
// the last one they heard. Whoever says that it heard one from the far future changes nothing.
func TestPulsesGoOnAfterTheLastOneHeardWhateverTheClocksSay(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir(), func(o *publisher.Options) { o.PulseInterval = 50 * time.Millisecond })
	addEnvironments(t, p, "dev")
	one := enrol(t, p, "dev", "one")
	counters := make(chan uint64, 100)
	stop, err := one.conn.SubscribePulse(func(payload []byte, signature string) {
		pulse, err := events.DecodePulse(payload, signature, func(string) bool { return true })
		if err != nil {
			t.Error(err)
		}
		select {
		case counters <- pulse.Counter:
		default:
		}
	})
	must(t, err)
	defer stop()
	heard := uint64(time.Now().Add(48 * time.Hour).UnixMicro())
	one.beat(func(b *events.Beat) { b.Heard = heard })
	taken(t, p, one, "boot", 1) // before the next one replaces it
	one.beat(func(b *events.Beat) { b.Heard = 1<<64 - 1 })
	ctx, last := bustest.Context(t), uint64(0)
	for last <= heard+1 {
		select {
		case counter := <-counters:
			if counter <= last || counter > heard+1000 {
				t.Fatalf("a pulse has the counter %d after %d", counter, last)
			}
			last = counter
		case <-ctx.Done():
			t.Fatalf("the last pulse has the counter %d, an agent heard %d before", last, heard)
		}
	}
}

// taken waits until a beat of an agent is its newest.
func taken(t testing.TB, p *publisher.Publisher, a *agent, boot string, number uint64) {
	t.Helper()
	bustest.Eventually(t, "the beat of "+boot+" is taken", func() (is bool) {
		p.Read(func(_ *ledger.State, r fleet.Reports, _ time.Time) {
			b := r.Beats[a.id]
			is = b.Boot == boot && b.Number == number
		})
		return is
	})
}

// An agent whose clock was turned back and that was started again is heard: it has heard later pulses than the start before. A beat
// of that start is none any more, however far ahead its clock was.
func TestAnAgentWhoseClockIsTurnedBackIsHeard(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	addEnvironments(t, p, "dev")
	one := enrol(t, p, "dev", "one")
	beat := func(boot string, number uint64, clock time.Duration, pulses uint64) {
		t.Helper()
		one.beat(func(b *events.Beat) {
			b.Boot, b.Number, b.Heard, b.Clock = boot, number, pulses, events.Stamp(time.Now().Add(clock))
		})
	}
	beat("ahead", 7, time.Hour, 10)
	taken(t, p, one, "ahead", 7)
	beat("right", 1, 0, 10) // it has heard nothing new yet
	beat("right", 2, 0, 11)
	taken(t, p, one, "right", 2)
	beat("ahead", 8, time.Hour, 12) // held back, or said again
	beat("right", 3, 0, 11)
	taken(t, p, one, "right", 3)
}
