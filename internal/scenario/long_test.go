package scenario

import (
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector/build"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

var weekly = flag.Int("scenario.weekly", 15, "how many changes a week an agent misses that is a month behind")

const week = 7 * 24 * time.Hour

// Two agents are away for a month, one that folds what it missed and one that applies it step by step. Meanwhile changes are released,
// and rolled back, by a publisher that is started again every week; acks of before are no longer on the bus. Then the agents start, a
// month later by their clocks too: every delivery is recorded, the fold as one, the steps one by one, measured and not estimated.
func TestAnAgentAMonthBehindCatchesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, 1)
	w.do("op", ledger.AddEnvironment{Name: "env-1", Approvals: 1})
	w.agents = append(w.agents, w.enrol("env-1", func(s *settings) {
		s.Connectors = []build.Config{{Name: "files", Step: true, File: &file.Config{Root: s.Root, Files: instanceFiles}}}
	}))
	w.release(set("*", "x", "first"))
	w.settle()
	for _, a := range w.agents {
		a.kill()
	}
	publisher := w.publishers[0]
	for n := range 4 {
		publisher.kill()
		publisher.settings.Clock += week
		publisher.start()
		for i := range *weekly {
			change := w.release(set("*", string(rune('a'+i%7)), time.Duration(n*(*weekly)+i).String()))
			if i%5 == 4 {
				w.do("ben", ledger.Rollback{Change: change, Reason: "it was wrong"})
			}
		}
	}
	w.released() // what an agent finds it folds; what is sent later is another run
	bustest.NewWire(t, w.bus.URL()).Thin(events.StreamAcks, events.SubjectAcks, 0, false)
	for _, a := range w.agents {
		a.settings.Clock = publisher.settings.Clock
		a.start()
	}
	w.settle()
	w.recorded()
	for _, a := range w.agents {
		e := w.state.Environments[a.environment]
		for r := uint64(3); r <= e.Head(); r++ {
			d := e.Agents["one"].Applied(r)
			first, last := uint64(3), e.Head()
			if len(a.settings.Connectors) > 0 {
				first, last = r, r
			}
			if d.First != first || d.Last != last || d.AtMost || d.Stamp.Before(e.Releases[r-1].Stamp) {
				t.Errorf("%s: revision %d, released at %s, is recorded as %+v", a.environment, r, e.Releases[r-1].Stamp, d)
			}
		}
	}
	w.holds()
}

// An agent's history is lost, its instance stays: where the instance is at the head it is not touched; where it is not, nothing is
// overwritten before the steward says so.
func TestAnAgentWhoseHistoryIsLostOverwritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, 1)
	a := w.agents[0]
	w.release(set(env0, "x", "first"))
	w.release(set(env0, "x", "second"))
	w.settle()
	db := filepath.Join(a.settings.State, "agent.db")
	before, err := os.Stat(filepath.Join(a.settings.Root, "variables.json"))
	must(t, err)
	a.kill()
	must(t, os.Remove(db))
	a.start()
	w.settle()
	after, err := os.Stat(filepath.Join(a.settings.Root, "variables.json"))
	must(t, err)
	if !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Error("a file that holds what it should was written again")
	}
	w.holds()

	a.kill()
	kept := filepath.Join(shortDir(t), "agent.db")
	copyFile(t, db, kept)
	must(t, os.Remove(db))
	w.release(set(env0, "x", "third"))
	a.start()
	a.says("that it would overwrite", func(s *agent.Status) bool {
		return s.Condition.Word == agent.Failing && s.Condition.Reason == events.ReasonFirstContact && s.Head == 4
	})
	w.read()
	if err := a.instanceAt(3); err != nil {
		t.Errorf("overwritten: %v", err)
	}
	a.kill()
	copyFile(t, kept, db) // it was found again
	a.start()
	w.holds()
}

// State and instance come from an old disk image, together or the instance alone: both catch up, or the difference is said until the
// steward lets it be mended.
func TestAnInstanceFromAnOldDiskImageIsNotCalledInStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, 1)
	a := w.agents[0]
	w.release(set(env0, "x", "first"))
	w.settle()
	a.kill()
	image := shortDir(t)
	must(t, os.CopyFS(filepath.Join(image, "app"), os.DirFS(a.settings.Root)))
	copyFile(t, filepath.Join(a.settings.State, "agent.db"), filepath.Join(image, "agent.db"))
	a.start()
	restored := func(files ...string) {
		t.Helper()
		a.kill()
		for _, f := range instanceFiles {
			copyFile(t, filepath.Join(image, "app", f.Path), filepath.Join(a.settings.Root, f.Path))
		}
		for _, name := range files {
			copyFile(t, filepath.Join(image, name), filepath.Join(a.settings.State, name))
		}
		a.start()
	}
	w.release(set(env0, "x", "second"))
	w.release(set(env0, "y", "third"))
	w.settle()
	restored("agent.db")
	a.says("at the head again", func(s *agent.Status) bool { return s.Checkpoint.Revision == 4 }) // until it speaks, nobody can know
	w.holds()

	restored()
	a.says("that the instance differs", func(s *agent.Status) bool {
		return s.Condition.Word == agent.Differing && s.Condition.Reason == events.ReasonReadBack && len(s.Differing) == 4
	})
	w.read()
	if err := a.instanceAt(2); err != nil {
		t.Errorf("touched: %v", err)
	}
	ctx, cancel := w.context()
	defer cancel()
	_, err := agent.NewClient(a.settings.State).Retry(ctx)
	must(t, err)
	w.holds()
}

// editedByHand edits the instance of an agent that runs: the agent says so within its interval, by field, every screen does, and nothing
// else happens, until it is edited back.
func (w *world) editedByHand(a *inst) {
	w.t.Helper()
	w.release(ledger.Edit{Environments: []string{a.environment}, Set: map[string]json.RawMessage{
		"variable/x": json.RawMessage(`"first"`), "variable/limits": json.RawMessage(`{"cpu":"2","memory":{"max":"1Gi"}}`)}})
	w.settle()
	path := filepath.Join(a.settings.Root, "variables.json")
	good, err := os.ReadFile(path)
	must(w.t, err)
	other, err := os.Stat(filepath.Join(a.settings.Root, "endpoints.yaml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	before := a.known()
	edited := `{"limits": {"cpu": "2", "memory": {"max": "64Gi"}}, "y": "first"}`
	must(w.t, os.WriteFile(path, []byte(edited), 0o600))
	where := []events.DifferingResource{{Resource: "variable/limits", Fields: []string{"/memory/max"}}, {Resource: "variable/x"}}
	a.says("what was edited", func(s *agent.Status) bool {
		return s.Condition.Word == agent.Differing && s.Condition.Reason == events.ReasonReadBack && reflect.DeepEqual(s.Differing, where)
	})
	var there fleet.Agent
	bustest.Eventually(w.t, "the fleet view shows what was edited", func() bool {
		v := w.fleet()
		if v == nil {
			return false
		}
		for _, e := range v.Environments {
			if e.Name == a.environment {
				there = e.Agents[0]
			}
		}
		return there.Condition == fleet.Differing && there.Reason == events.ReasonReadBack && !there.Since.IsZero()
	})
	if there.Drift != 2 || !reflect.DeepEqual(there.Differing, where) {
		w.t.Errorf("the fleet view says %+v", there)
	}
	if said, _ := run(w.t, "publisher", "status", a.environment, "--server", w.publishers[0].calls().Server()); !strings.Contains(said, "variable/limits (/memory/max)") || strings.Contains(said, "64Gi") {
		w.t.Errorf("status: %s", said)
	}
	text, err := os.ReadFile(path)
	must(w.t, err)
	if after, err := os.Stat(filepath.Join(a.settings.Root, "endpoints.yaml")); string(text) != edited || other != nil && (err != nil || !os.SameFile(other, after)) {
		w.t.Errorf("touched: %s, %v", text, err)
	}
	if s := a.known(); s.Checkpoint.Revision != before.Checkpoint.Revision || s.Checkpoint.Chain != before.Checkpoint.Chain || s.Outbox > 0 || s.LastAck != before.LastAck {
		w.t.Errorf("the checkpoint was %+v and is %+v", before.Checkpoint, s.Checkpoint)
	}
	must(w.t, os.WriteFile(path, good, 0o600))
	w.settle()
}
