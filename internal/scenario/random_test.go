package scenario

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

var (
	cycles = flag.Int("scenario.cycles", 6, "how often a random schedule kills, freezes or cuts something")
	seed   = flag.Uint64("scenario.seed", 0, "of the first random schedule; 0 is another one each time")
)

// schedule is how many cycles one world lives through.
const schedule = 25

// TestRandomSchedulesOfKillsKeepTheInvariants kills, freezes and cuts off agents, publishers and the bus at random moments while
// changes run.
func TestRandomSchedulesOfKillsKeepTheInvariants(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64N(1 << 32)
	}
	for i, left := uint64(0), *cycles; left > 0; i, left = i+1, left-schedule {
		n := min(left, schedule)
		t.Run(fmt.Sprintf("-scenario.seed=%d -scenario.cycles=%d", first+i, n), func(t *testing.T) {
			t.Parallel()
			t.Logf("replay with: go test ./internal/scenario -run TestRandomSchedules -scenario.seed=%d -scenario.cycles=%d", first+i, n)
			newWorld(t, first+i, 2, 3).suffer(first+i, n)
		})
	}
}

// suffer plays cycles: a load of changes, one thing that happens under it, and the fleet in step again.
func (w *world) suffer(seed uint64, n int) {
	w.t.Helper()
	load := rand.New(rand.NewPCG(seed, 2))
	for cycle := range n {
		var loaded sync.WaitGroup
		for author := range 2 {
			commands := w.changes(load, cycle)
			loaded.Go(func() {
				for _, edit := range commands {
					w.change(author, edit)
				}
			})
		}
		w.moment()
		w.attack()
		loaded.Wait()
		w.settle()
		if cycle%10 == 9 {
			w.holds()
		}
	}
	w.holds()
}

// changes are edits of random environments: values that are set, and sometimes deleted.
func (w *world) changes(r *rand.Rand, cycle int) (edits []ledger.Edit) {
	for i := range 1 + r.IntN(4) {
		key := string(rune('a' + r.IntN(6)))
		where := "*"
		if r.IntN(2) == 0 {
			where = w.agents[r.IntN(len(w.agents))].environment
		}
		edit := set(where, key, fmt.Sprintf("%d.%d", cycle, i), "always", fmt.Sprintf("%d.%d.%d", cycle, i, r.Uint32()))
		if r.IntN(4) == 0 {
			edit.Delete = []string{"variable/gone", "endpoint/gone"}
		} else {
			edit.Set["variable/gone"], edit.Set["endpoint/gone"] = edit.Set["variable/"+key], edit.Set["endpoint/"+key]
		}
		edits = append(edits, edit)
	}
	return edits
}

// change proposes and approves; both may be refused where another author was first.
func (w *world) change(author int, edit ledger.Edit) {
	a, err := w.propose(edit)
	if err == nil {
		_, err = w.try(w.command("ben", a))
	}
	if kind := ledger.KindOf(err); err != nil && kind != ledger.KindConflict && kind != ledger.KindInvalid {
		w.t.Errorf("author %d: %v (%s)", author, err, api.KindOf(err))
	}
}

// moment lets the schedule's random time go by.
func (w *world) moment() {
	select {
	case <-time.After(time.Duration(w.random.IntN(60_000)) * time.Microsecond):
	case <-w.t.Context().Done():
	}
}

// attack does one thing, and undoes it a moment later.
func (w *world) attack() {
	w.t.Helper()
	a := w.agents[w.random.IntN(len(w.agents))]
	p := w.publishers[w.random.IntN(len(w.publishers))]
	switch w.random.IntN(16) {
	case 0, 1:
		a.kill()
		w.moment()
		a.start()
	case 2:
		a.kill()
		a.startAlone()
		w.moment()
		a.link.heal()
	case 3, 4:
		w.bus.Kill()
		w.moment()
		w.bus.Restart()
	case 5:
		w.bus.Kill()
		a.kill()
		a.start()
		p.kill()
		w.bus.Restart()
		p.start()
	case 6:
		p.kill()
		w.moment()
		p.start()
	case 7:
		for _, p := range w.publishers {
			p.kill()
		}
		w.moment()
		for _, p := range w.publishers {
			p.start()
		}
	case 8:
		a.link.cut()
		w.moment()
		a.kill()
		a.link.heal()
		a.start()
	case 9:
		for _, frozen := range []*process{a.process, p.process} {
			frozen.signal(w.t, syscall.SIGSTOP)
		}
		w.moment()
		for _, frozen := range []*process{p.process, a.process} {
			frozen.signal(w.t, syscall.SIGCONT)
		}
	case 10:
		p.link.cut()
		w.moment()
		p.link.heal()
	case 11:
		a.known() // one that cannot even start ends, and is somebody's to start again
		a.process.room(w.t, 0)
		w.moment()
		a.process.room(w.t, math.MaxInt64)
	case 12:
		off := time.Duration(w.random.IntN(3)-1) * time.Hour
		a.settings.Clock, p.settings.Clock = off, -off
		a.process.turnClock(w.t, a.settings.Clock)
		p.process.turnClock(w.t, p.settings.Clock)
	case 13:
		w.release(set(a.environment, "by-hand", "never"))
		a.says("something applied", func(s *agent.Status) bool { return s.Checkpoint.Revision > 1 }) // what was there before is not overwritten
		if w.random.IntN(2) == 0 {
			a.kill()
			a.edit()
			a.start()
		} else {
			a.edit()
			w.moment()
		}
		w.release(set(a.environment, "by-hand", fmt.Sprint(w.random.Uint32()))) // which overwrites it
	case 14:
		w.bus.Kill()
		if text := `"revision":1,`; w.bus.Holds(events.StreamReleases, text) {
			w.bus.FlipBit(events.StreamReleases, text)
		}
		w.bus.Restart()
	case 15:
		a.link.lose(events.LiveSubject(a.environment))
		p.link.cutAfter(events.SubjectLedger)
		w.moment()
		a.link.lose("")
		p.link.cutAfter("")
		p.link.heal()
	}
}

// edit changes a file of the instance by hand. An agent that is away finds it at its start, one that runs by a look of its own.
func (a *inst) edit() {
	a.w.t.Helper()
	must(a.w.t, os.WriteFile(filepath.Join(a.settings.Root, "variables.json"), []byte(`{"always": "by hand", "theirs": 7}`), 0o600))
}
