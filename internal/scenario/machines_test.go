package scenario

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// What machines do to the programs on them: disks fill up, clocks are wrong, checkpoints are taken from elsewhere, connections break
// at the worst moment.
var machines = []scenario{
	{"checkpoint file from another environment", 1, func(w *world) {
		w.settle()
		a, b := w.agents[0], w.agents[1]
		a.foreign(b.settings.State, "env-1")
	}},
	{"checkpoint file from another ledger", 1, func(w *world) {
		other := newWorld(w.t, 2, 1, 1)
		other.settle()
		w.settle()
		other.agents[0].kill()
		w.agents[0].foreign(other.agents[0].settings.State, other.state.ID)
	}},
	{"command whose answer was lost", 1, func(w *world) {
		w.settle()
		p := w.publishers[0]
		for i := range 3 {
			c := w.command("anna", ledger.Propose{Reason: fmt.Sprintf("lost answer %d", i), Edits: []ledger.Edit{set(env0, "x", fmt.Sprint(i))}})
			p.link.cutAfter(events.SubjectLedger) // the bus has it, nobody heard that
			answered := make(chan error, 1)
			go func() {
				ctx, cancel := w.context()
				defer cancel()
				_, err := p.calls().Do(ctx, c, false)
				answered <- err
			}()
			bustest.Eventually(w.t, "the connection breaks after the append", p.link.isDown)
			p.link.heal()
			if err := <-answered; err != nil && api.KindOf(err) != api.KindUnavailable {
				w.t.Errorf("the answer was %v", err)
			}
			first, err := w.try(c)
			must(w.t, err)
			again, err := w.try(c)
			must(w.t, err)
			if again.Change != first.Change || !again.Again {
				w.t.Errorf("%+v, then %+v", first, again)
			}
			w.do("ben", ledger.Approve{Change: first.Change, Digest: w.digest(first.Change)})
		}
		w.read()
		if n := len(w.state.ChangeList()); n != 4 { // with the one before
			w.t.Errorf("%d changes", n)
		}
	}},
	{"publisher killed between decision and release", 1, func(w *world) {
		w.between(func(dead *pub) { dead.start() })
	}},
	{"publisher killed between decision and release; two publishers", 2, func(w *world) {
		w.between(func(dead *pub) {
			bustest.Eventually(w.t, "the other one finishes", func() bool { return w.agents[0].known().Checkpoint.Revision == 3 })
			dead.start()
		})
	}},
	{"disk full at agent", 1, func(w *world) {
		w.settle()
		a := w.agents[0]
		a.process.room(w.t, 0)
		w.release(set(env0, "x", "no room"))
		a.says("behind, at 2", func(s *agent.Status) bool { return s.Checkpoint.Revision == 2 && s.Retry != nil })
		w.stands(a, standing{fleet.Behind, a.known().Retry.Reason, 2})
		w.read()
		if e := w.state.Environments[env0]; e.Agents["one"].Applied(3) != nil {
			w.t.Error("it was called applied")
		}
		if err := a.instanceAt(2); err != nil {
			w.t.Error(err)
		}
		a.process.room(w.t, math.MaxInt64)
		a.says("at 3", func(s *agent.Status) bool { return s.Checkpoint.Revision == 3 })
		a.process.room(w.t, 0) // and a restart while there is none
		w.release(set(env0, "x", "no room again"))
		a.says("behind, at 3", func(s *agent.Status) bool { return s.Checkpoint.Revision == 3 && s.Retry != nil })
		a.kill()
		a.start()
	}},
	{"disk full at bus", 1, func(w *world) {
		w.settle()
		a, err := w.propose(set("*", "x", "released when there is room"))
		must(w.t, err)
		c := w.command("ben", a)
		served := w.serving()
		w.bus.Room(0)
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second) // nobody waits for ever
		defer cancel()
		if out, err := w.publishers[0].calls().Do(ctx, c, false); api.KindOf(err) != api.KindUnavailable || len(out.Released) > 0 {
			w.t.Errorf("approved without room: %+v (%v)", out, err)
		}
		bustest.Eventually(w.t, "doctor finds something wrong", func() bool {
			_, code := run(w.t, "publisher", "doctor", "--server", w.publishers[0].calls().Server())
			return code == 1
		})
		served()
		w.offline(func() {}) // with room
		if out, err := w.try(c); err != nil || len(out.Released) != 2 {
			w.t.Errorf("%+v, %v", out, err)
		}
	}},
	{"disk full at publisher", 1, func(w *world) {
		w.settle()
		p := w.publishers[0]
		p.process.room(w.t, 0) // its copy of the ledger cannot be written
		a, err := w.propose(set("*", "x", "no room"))
		if err != nil && api.KindOf(err) != api.KindUnavailable {
			w.t.Error(err)
		}
		bustest.Eventually(w.t, "it is read-only, and says that its store fails", func() bool {
			v := w.fleet()
			return v != nil && !v.Ledger.Writable && v.Ledger.Reason == events.ReasonStore
		})
		p.process.room(w.t, math.MaxInt64)
		bustest.Eventually(w.t, "it is open again", func() bool { v := w.fleet(); return v != nil && v.Ledger.Writable })
		if err == nil {
			w.do("ben", a)
		}
		w.release(set("*", "y", "room"))
	}},
	{"agent clock off by an hour, ahead", 1, func(w *world) { w.offByAnHour(time.Hour) }},
	{"agent clock off by an hour, behind", 1, func(w *world) { w.offByAnHour(-time.Hour) }},
	{"publisher clock turned back", 1, func(w *world) {
		w.settle()
		p := w.publishers[0]
		for _, off := range []time.Duration{time.Hour, 0, -time.Hour} {
			p.settings.Clock = off
			p.process.turnClock(w.t, off)
			w.release(set("*", "x", off.String()))
			w.settle()
		}
		p.kill()
		p.start() // an hour behind, and agents heard pulses of an hour ahead
		w.release(set("*", "x", "after"))
		w.settle()
		ctx, cancel := w.context()
		defer cancel()
		last := time.Time{}
		must(w.t, w.conn.ReadLedger(ctx, 1, func(s bus.Stored) error {
			e, err := events.DecodeEntry(s.Payload)
			if err == nil && e.Time.Before(last) {
				w.t.Errorf("entry %d is recorded at %s, the one before at %s", s.Sequence, e.Time, last)
			}
			last = e.Time
			return err
		}))
	}},
}

// foreign gives an agent the state of another one: it refuses to start, says whose it is and what to do, and touches nothing.
func (a *inst) foreign(state, of string) {
	w := a.w
	w.t.Helper()
	a.kill()
	own, db := filepath.Join(shortDir(w.t), "agent.db"), filepath.Join(a.settings.State, "agent.db")
	copyFile(w.t, db, own)
	copyFile(w.t, filepath.Join(state, "agent.db"), db)
	a.start()
	a.process.wait()
	if said := a.log.String(); a.process.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, db) || !strings.Contains(said, of) {
		w.t.Errorf("it ends with %s and says %s", a.process.cmd.ProcessState, said)
	}
	if err := a.instanceAt(2); err != nil {
		w.t.Error(err)
	}
	must(w.t, os.Remove(db)) // it begins anew, as it said
	a.start()
	w.settle()
	a.kill()
	copyFile(w.t, own, db) // or from its own backup
	if err := os.Remove(filepath.Join(a.settings.State, "pending")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Error(err)
	}
	a.start()
}

// between kills the first publisher that sends when a decision is in the ledger and none of its releases is in the stream.
func (w *world) between(then func(dead *pub)) {
	w.t.Helper()
	w.settle()
	a, err := w.propose(set("*", "x", "decided"))
	must(w.t, err)
	for _, p := range w.publishers {
		p.link.lose(events.ReleaseSubject("")) // only the one that holds the lease sends
	}
	w.do("ben", a)
	var dead *pub
	bustest.Eventually(w.t, "a release is on its way", func() bool {
		for _, p := range w.publishers {
			if dead == nil && p.link.losses() > 0 {
				dead = p
			}
		}
		return dead != nil
	})
	ctx, cancel := w.context()
	defer cancel()
	head, err := w.conn.Head(ctx, env0)
	must(w.t, err)
	if _, revision, _, err := events.PeekRelease(head.Payload); err != nil || revision != 2 {
		w.t.Fatalf("the stream holds revision %d (%v)", revision, err)
	}
	dead.kill()
	for _, p := range w.publishers {
		p.link.lose("")
	}
	then(dead)
}

// offByAnHour starts an agent with a wrong clock and turns another one's while it runs: lag is what it was, and the skew is shown.
func (w *world) offByAnHour(off time.Duration) {
	w.t.Helper()
	started, turned := w.agents[0], w.agents[1]
	started.kill()
	started.settings.Clock = off
	started.start()
	turned.settings.Clock = off
	turned.process.turnClock(w.t, off)
	w.release(set("*", "x", "while the clocks are wrong"))
	w.settle()
	w.recorded()
	bustest.Eventually(w.t, "the skew is shown, and no lag of an hour", func() bool {
		v := w.fleet()
		if v == nil {
			return false
		}
		for _, e := range v.Environments {
			if e.Delivered == nil || e.LagSeconds != 0 || math.Abs(e.Delivered.Seconds) > bustest.Deadline.Seconds() {
				w.t.Fatalf("%s: lag %v, delivered after %+v", e.Name, e.LagSeconds, e.Delivered)
			}
			if math.Abs(e.Agents[0].ClockSkew-off.Seconds()) > bustest.Deadline.Seconds() {
				return false
			}
		}
		return true
	})
}
