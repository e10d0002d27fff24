package scenario

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A witness takes note of what a check says instead of failing, and does not wait long.
type witness struct {
	testing.TB
	ctx  context.Context
	said []any
}

func (w *witness) Context() context.Context  { return w.ctx }
func (w *witness) Error(args ...any)         { w.said = append(w.said, args...) }
func (w *witness) Errorf(f string, _ ...any) { w.said = append(w.said, f) }
func (w *witness) Fatal(args ...any)         { w.Error(args...); runtime.Goexit() }
func (w *witness) Fatalf(f string, _ ...any) { w.Errorf(f); runtime.Goexit() }

// finds says whether a check of the world fails, also where it waits in vain for so long.
func (w *world) finds(check func(), within time.Duration) bool {
	t := w.t
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	seen := &witness{TB: t, ctx: ctx}
	w.t = seen
	defer func() { w.t = t }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		check()
	}()
	<-done
	return len(seen.said) > 0
}

// TestEveryInvariantFindsWhatIsPlantedAgainstIt: a check that cannot fail proves nothing. Each is silent before, and speaks after, one
// violation was planted.
func TestEveryInvariantFindsWhatIsPlantedAgainstIt(t *testing.T) {
	stopAgents := func(w *world) {
		for _, a := range w.agents {
			a.kill()
		}
	}
	stopPublishers := func(w *world) {
		for _, p := range w.publishers {
			p.kill()
		}
	}
	for _, plant := range []struct {
		name  string
		check func(w *world)
		plant func(w *world)
		live  bool // agents run on
	}{
		{"instance is not what is called in step", (*world).settle, func(w *world) {
			w.write(`{"x": "by hand", "y": "first"}`)
		}, true},
		{"file holds parts of two revisions", func(w *world) { w.agents[0].check() }, func(w *world) {
			w.write(`{"x": "first"}`)
		}, false},
		{"file is cut", func(w *world) { w.agents[0].check() }, func(w *world) { w.write(`{"x": "fir`) }, false},
		{"checkpoint is another state than the ledger's fold", func(w *world) { w.agents[0].check() }, func(w *world) {
			copyFile(w.t, filepath.Join(w.agents[1].settings.State, "agent.db"), filepath.Join(w.agents[0].settings.State, "agent.db"))
		}, false},
		{"revision that the ledger does not have", func(w *world) { w.agents[0].check() }, func(w *world) {
			e := w.state.Environments[env0]
			e.Releases = e.Releases[:1]
		}, false},
		{"revisions in another order", func(w *world) { w.agents[0].check() }, func(w *world) {
			r := w.state.Environments[env0].Releases
			r[0], r[1] = r[1], r[0]
		}, false},
		{"release missing on the bus", func(w *world) { stopPublishers(w); w.released() }, func(w *world) {
			stopPublishers(w)
			bustest.NewWire(w.t, w.bus.URL()).Thin(events.StreamReleases, events.ReleaseSubject(env0), 1, true)
		}, false},
		{"release doubled on the bus", func(w *world) { stopPublishers(w); w.released() }, func(w *world) {
			live := w.live(env0)[1]
			stopPublishers(w)
			bustest.NewWire(w.t, w.bus.URL()).Store(env0, live.Payload, live.Signature)
		}, false},
		{"release unsigned on the bus", func(w *world) { stopPublishers(w); w.released() }, func(w *world) {
			live := w.live(env0)[1]
			stopPublishers(w)
			wire := bustest.NewWire(w.t, w.bus.URL())
			wire.Thin(events.StreamReleases, events.ReleaseSubject(env0), 1, true)
			wire.Store(env0, live.Payload, "")
		}, false},
		{"delivery that the ledger does not have", (*world).recorded, func(w *world) { w.state.Environments[env0].Agents["one"].Position = 1 }, true},
		{"ledger that does not verify", (*world).verified, func(w *world) { bustest.NewWire(w.t, w.bus.URL()).Shrink(events.StreamLedger) }, false},
		{"answer that the ledger does not have", (*world).onceEach, func(w *world) { w.proposed["a reason"] = "c99" }, false},
	} {
		t.Run(plant.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1, 2)
			w.release(set("*", "x", "first", "y", "first"))
			w.settle()
			w.recorded()
			w.released()
			if !plant.live {
				stopAgents(w)
			}
			check := func() { plant.check(w) }
			if w.finds(check, bustest.Deadline) {
				t.Fatal("the check finds something before anything is planted")
			}
			plant.plant(w)
			if !w.finds(check, time.Second) {
				t.Error("the check finds nothing")
			}
		})
	}
}

// write puts a text in the place of env-0's variables.
func (w *world) write(text string) {
	w.t.Helper()
	must(w.t, os.WriteFile(filepath.Join(w.agents[0].settings.Root, "variables.json"), []byte(text), 0o600))
}

func TestNothingIsCalledWhatItIsNot(t *testing.T) {
	whole, broken := func() error { return nil }, func() error { return errors.New("not whole") }
	for name, c := range map[string]struct {
		is    fleet.Environment
		at    uint64
		holds func() error
		lies  bool
	}{
		"in step at its head":           {fleet.Environment{Condition: fleet.InStep, Revision: 3, Head: 3}, 3, broken, false},
		"in step behind its head":       {fleet.Environment{Condition: fleet.InStep, Revision: 2, Head: 3}, 2, whole, true},
		"in step, its agent is behind":  {fleet.Environment{Condition: fleet.InStep, Revision: 3, Head: 3}, 2, broken, true},
		"in step, its agent lost state": {fleet.Environment{Condition: fleet.InStep, Revision: 3, Head: 3}, 0, whole, false},
		"stale with a reason":           {fleet.Environment{Condition: fleet.Stale, Reason: events.ReasonNoPulse}, 2, whole, false},
		"stale without a word":          {fleet.Environment{Condition: fleet.Stale}, 2, whole, true},
	} {
		if err := lie(c.is, c.at, c.holds); (err != nil) != c.lies {
			t.Errorf("%s: %v", name, err)
		}
	}
}
