package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/agent"
)

// points are all places where an agent can be killed, in the order of a release's way, and how often it comes to each.
var points = []struct {
	name string
	nth  int
}{
	{"pending", 1}, {"prepare", 1}, {"intent", 1}, {"apply", 1}, {"apply", 2}, {"applied", 1}, {"readback", 1}, {"checkpoint", 1}, {"ack", 1}, {"cleanup", 1},
}

var crashKeys = []string{"variable/a", "variable/b", "endpoint/e"}

// An agent killed at any point ends, after a restart and without the bus, at the old or at the new revision, whole, and then catches up.
func TestAnAgentKilledAnywhereEndsWhole(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"old"`, "variable/b", `"old"`, "endpoint/e", `"old"`)
	base := map[string]child{}
	for _, kind := range kinds {
		c := child{State: shortDir(t), Root: instanceDir(t), Kind: kind}
		r, stop := c.start(t, w, true)
		r.at(2)
		r.is("has sent its ack", func(s agent.Status) bool { return s.Outbox == 0 })
		stop()
		base[kind] = c
	}
	w.set("variable/a", `"new"`, "variable/b", `"new"`, "endpoint/e", `"new"`)
	enrolment := filepath.Join(shortDir(t), "enrolment")
	must(t, w.enrol().Write(enrolment))

	for _, kind := range kinds {
		for _, point := range points {
			for _, lost := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s %d/pending lost %v", kind, point.name, point.nth, lost), func(t *testing.T) {
					c := child{Enrolment: enrolment, State: shortDir(t), Root: instanceDir(t), Kind: kind, Point: point.name, Nth: point.nth}
					must(t, os.CopyFS(c.State+"/s", os.DirFS(base[kind].State)))
					must(t, os.CopyFS(c.Root+"/r", os.DirFS(base[kind].Root)))
					c.State, c.Root = c.State+"/s", c.Root+"/r"
					died := c.run(t)
					if expected := comesTo(kind, point.name, point.nth); died != expected {
						t.Fatalf("the agent died: %v, want %v", died, expected)
					}
					if lost { // as after power loss
						if err := os.Remove(filepath.Join(c.State, "pending")); err != nil && !os.IsNotExist(err) {
							t.Fatal(err)
						}
					}
					r, stop := c.start(t, w, false)
					s := r.is("resolved", func(s agent.Status) bool { return s.Whole })
					stop()
					switch got := c.contents(t); {
					case got != "old old old" && got != "new new new":
						t.Errorf("the instance is torn: %s", got)
					case s.Checkpoint.Revision == 3 && got != "new new new":
						t.Errorf("the checkpoint is ahead of the instance: %s", got)
					case !lost && s.Checkpoint.Revision == 2 && got != "old old old":
						t.Errorf("what was under way is not finished: %s", got)
					}
					r, stop = c.start(t, w, true)
					r.at(3)
					r.is("has sent its ack", func(s agent.Status) bool { return s.Outbox == 0 })
					stop()
					if got := c.contents(t); got != "new new new" {
						t.Errorf("after catching up: %s", got)
					}
					c.nothingLeft(t)
				})
			}
		}
	}
}

// comesTo says whether an instance of a kind has the point on its way: one file needs no intent.
func comesTo(kind, point string, nth int) bool {
	switch point {
	case "prepare", "intent":
		return kind != "one file"
	case "apply":
		return nth == 1 || kind == "two connectors"
	}
	return true
}

// start runs the agent of a child in this process, with or without the bus.
func (c child) start(t *testing.T, w *world, withBus bool) (*running, func()) {
	t.Helper()
	router, closeAll, err := openKind(c.Kind, c.Root)
	must(t, err)
	o := agent.Options{Enrolment: w.enrol(), State: c.State, Router: router, Intervals: quick}
	if !withBus {
		o.Enrolment.Bus.URL = "nats://127.0.0.1:1"
	}
	r := start(t, o)
	return r, func() { r.stop(); closeAll() }
}

// contents are the values of crashKeys as an application would read them.
func (c child) contents(t *testing.T) string {
	t.Helper()
	router, closeAll, err := openKind(c.Kind, c.Root)
	must(t, err)
	defer closeAll()
	held, err := router.Observe(t.Context(), crashKeys)
	must(t, err)
	var list []string
	for _, key := range crashKeys {
		list = append(list, strings.Trim(string(held[key]), `"`))
	}
	return strings.Join(list, " ")
}

func (c child) nothingLeft(t *testing.T) {
	t.Helper()
	for _, name := range []string{"pending", "pre-images"} {
		if _, err := os.Stat(filepath.Join(c.State, name)); !os.IsNotExist(err) {
			t.Errorf("%s is left behind", name)
		}
	}
}

func instanceDir(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	for _, sub := range []string{"one", "two"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o700))
	}
	return dir
}
