package scenario

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const env0 = "env-0"

// A scenario is something that happens, in a world of its own that begins in step at revision 2; all that must follow for it alone is in
// it, the invariants are checked after each.
type scenario struct {
	name       string
	publishers int
	play       func(w *world)
}

// The rows of the failure table (ARCHITECTURE.md).
var scenarios = []scenario{
	{"an agent is killed and starts without the bus", 1, func(w *world) {
		a := w.agents[0]
		for _, value := range []string{"b", "c", "d"} {
			w.release(set(env0, "x", value))
			a.kill()
			a.startAlone()
			w.read()
			if err := a.instanceAt(a.known().Checkpoint.Revision); err != nil {
				w.t.Error(err)
			}
			a.link.heal()
		}
	}},
	{"the bus is down and an agent starts meanwhile", 1, func(w *world) {
		a := w.agents[0]
		w.settle()
		w.bus.Kill()
		a.kill()
		a.start()
		a.says("stale, bus unreachable", func(s *agent.Status) bool {
			return s.Condition.Word == agent.Stale && s.Condition.Reason == events.ReasonBusDown && s.Checkpoint.Revision == 2
		})
		if err := a.instanceAt(2); err != nil {
			w.t.Error(err)
		}
		w.bus.Restart()
		w.release(set(env0, "x", "after"))
	}},
	{"the publisher is dead", 1, func(w *world) {
		w.settle()
		w.publishers[0].kill()
		for _, a := range w.agents {
			a.says("stale, no pulse", func(s *agent.Status) bool {
				return s.Condition.Word == agent.Stale && s.Condition.Reason == events.ReasonNoPulse && s.Checkpoint.Revision == 2
			})
		}
		w.publishers[0].start()
	}},
	{"the release stream is deleted", 1, func(w *world) {
		w.settle()
		bustest.NewWire(w.t, w.bus.URL()).DropStream(events.StreamReleases)
		w.released()
		w.release(set(env0, "x", "after"))
	}},
	{"the releases of an environment are purged", 1, func(w *world) {
		w.settle()
		ctx, cancel := w.context()
		defer cancel()
		must(w.t, w.conn.PurgeReleases(ctx, env0))
		w.released()
		w.release(set(env0, "x", "after"))
	}},
	{"a bit of the release stream flips", 1, func(w *world) {
		w.settle()
		w.bus.Kill()
		w.bus.FlipBit(events.StreamReleases, "first")
		w.bus.Restart()
		w.released()
		w.release(set(env0, "x", "after"))
	}},
	{"an agent starts from an old disk image", 1, func(w *world) {
		a := w.agents[0]
		w.settle()
		a.kill()
		image := shortDir(w.t)
		copyFile(w.t, filepath.Join(a.settings.State, "agent.db"), filepath.Join(image, "agent.db"))
		a.start()
		w.release(set(env0, "x", "new"))
		w.release(set(env0, "y", "new"))
		w.settle()
		a.kill()
		copyFile(w.t, filepath.Join(image, "agent.db"), filepath.Join(a.settings.State, "agent.db"))
		a.startAlone()
		if err := a.instanceAt(4); err != nil {
			w.t.Errorf("rewound: %v", err)
		}
		a.link.heal()
	}},
	{"an instance is edited by hand", 1, func(w *world) {
		w.editedByHand(w.agents[0])
		w.write(`{"x": "by hand", "y": 7}`)
		w.release(set(env0, "x", "after"))
	}},
	{"two authors change the same resource", 1, func(w *world) {
		one, err := w.propose(set(env0, "x", "one"))
		must(w.t, err)
		two, err := w.propose(set(env0, "x", "two"))
		must(w.t, err)
		w.do("ben", one)
		_, err = w.try(w.command("ben", two))
		if ledger.KindOf(err) != ledger.KindConflict || !strings.Contains(err.Error(), "variable/x") {
			w.t.Errorf("the second is told: %v", err)
		}
	}},
	{"a command is sent twice", 2, func(w *world) {
		a, err := w.propose(set(env0, "x", "once"))
		must(w.t, err)
		c := w.command("ben", a)
		first, err := w.try(c)
		must(w.t, err)
		for _, p := range w.publishers {
			ctx, cancel := w.context()
			again, err := p.calls().Do(ctx, c, false)
			cancel()
			if err != nil || !again.Again || again.Entry != first.Entry {
				w.t.Errorf("first %+v, then %+v, %v", first, again, err)
			}
		}
	}},
	{"a publisher is killed as it releases, the other one finishes", 2, func(w *world) {
		for _, value := range []string{"b", "c", "d"} {
			w.release(set("*", "x", value))
			w.publishers[0].kill()
			w.release(set("*", "y", value))
			w.publishers[0].start()
			w.publishers[0], w.publishers[1] = w.publishers[1], w.publishers[0]
		}
	}},
	{"the checkpoint is corrupt", 1, func(w *world) {
		a := w.agents[0]
		w.settle()
		a.kill()
		db := filepath.Join(a.settings.State, "agent.db")
		must(w.t, os.WriteFile(db, []byte(strings.Repeat("not a checkpoint ", 4096)), 0o600))
		a.start()
		a.process.wait()
		if said := a.log.String(); a.process.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, db) {
			w.t.Errorf("it ends with %s and says %s", a.process.cmd.ProcessState, said)
		}
		must(w.t, os.Remove(db)) // as it said
		a.start()
	}},
	{"a change is rolled back", 1, func(w *world) {
		change := w.release(set("*", "x", "wrong", "y", "wrong"))
		w.do("ben", ledger.Rollback{Change: change, Reason: "it was wrong"})
	}},
	{"an agent, a publisher and the bus are frozen", 1, func(w *world) {
		a, b := w.agents[0], w.agents[1]
		a.process.signal(w.t, syscall.SIGSTOP)
		change := w.release(set("*", "x", "meanwhile"))
		b.says("at 3", func(s *agent.Status) bool { return s.Checkpoint.Revision == 3 })
		a.process.signal(w.t, syscall.SIGCONT)
		w.settle()
		w.bus.Pause()
		b.says("stale", func(s *agent.Status) bool { return s.Condition.Word == agent.Stale })
		w.bus.Resume()
		w.do("ben", ledger.Rollback{Change: change, Reason: "again"})
	}},
	{"an agent is cut off", 1, func(w *world) {
		a := w.agents[0]
		a.link.cut()
		w.release(set(env0, "x", "b"))
		w.release(set(env0, "x", "c"))
		a.says("bus unreachable", func(s *agent.Status) bool {
			return s.Condition.Reason == events.ReasonBusDown && s.Checkpoint.Revision == 2
		})
		a.link.heal()
	}},
}

func TestWhateverHappensTheInvariantsHold(t *testing.T) {
	for _, s := range slices.Concat(scenarios, messages, halfway, machines, damages) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, s.publishers, 2)
			w.release(set("*", "x", "first", "y", "first"))
			w.settle()
			s.play(w)
			w.holds()
		})
	}
}
