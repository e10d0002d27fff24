package agent_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/fault"
)

var everyDeath = flag.Bool("agent.deaths", false, "let agents die everywhere in every kind of instance; otherwise everywhere in some")

// A visit is a point at which agents of some kinds die: how often they come to it on the way from one revision to the next, or on the
// one that it names, and how many of those times it has a middle.
type visit struct {
	point       fault.Point
	kinds       []string
	first, last int
	torn        int    // the last of them with a middle
	from        string // what the agent begins with; "": revision 2, with revision 3 on the bus
}

const (
	nothing = "nothing" // neither state nor instance
	foreign = "foreign" // no state, and an instance with other values
	held    = "held"    // as "", and its steward holds it
)

var (
	every   = []string{oneFile, severalFiles, twoConnectors, aProgram, reloading, refusing}
	onDisk  = []string{oneFile, severalFiles, twoConnectors, reloading, refusing}
	several = []string{severalFiles, twoConnectors, aProgram, reloading, refusing}
	accepts = []string{oneFile, severalFiles, twoConnectors, aProgram, reloading}
	reloads = []string{reloading, refusing}
)

// visits are all points of the agent.
var visits = []visit{
	{point: fault.InstanceLocked, kinds: []string{severalFiles, twoConnectors}, first: 1, last: 1, torn: 1},
	{point: fault.StoreMade, kinds: []string{severalFiles}, first: 1, last: 1, torn: 1, from: nothing},
	{point: fault.TrustReadAhead, kinds: []string{severalFiles}, first: 1, last: 1, torn: 1, from: nothing},
	{point: fault.PendingWritten, kinds: every, first: 1, last: 1, torn: 1},
	{point: fault.PendingNamed, kinds: every, first: 1, last: 1},
	{point: fault.BackupMade, kinds: several, first: 1, last: 1, from: foreign},
	{point: fault.PreImageSaved, kinds: several, first: 1, last: 1, torn: 1},
	{point: fault.PreImageSaved, kinds: []string{severalFiles, twoConnectors}, first: 2, last: 2, torn: 2},
	{point: fault.PreImageSaved, kinds: []string{severalFiles}, first: 1, last: 2, torn: 2, from: foreign},
	{point: fault.IntentDeclared, kinds: several, first: 1, last: 1, torn: 1},
	{point: fault.InstanceApplied, kinds: []string{twoConnectors, aProgram}, first: 1, last: 1, torn: 1},
	{point: fault.InstanceApplied, kinds: []string{oneFile, severalFiles, reloading}, first: 1, last: 1},
	{point: fault.FileStaged, kinds: onDisk, first: 1, last: 1, torn: 1},
	{point: fault.FileStaged, kinds: []string{severalFiles, twoConnectors}, first: 2, last: 2, torn: 2},
	{point: fault.FileStaged, kinds: []string{refusing}, first: 3, last: 4, torn: 4}, // they are put back
	{point: fault.ReloadMarked, kinds: reloads, first: 1, last: 1},
	{point: fault.FilesReplaced, kinds: []string{severalFiles, reloading, refusing}, first: 1, last: 1, torn: 1},
	{point: fault.FilesReplaced, kinds: []string{oneFile, twoConnectors}, first: 1, last: 1},
	{point: fault.FilesReplaced, kinds: []string{refusing}, first: 2, last: 3},
	{point: fault.DirectorySynced, kinds: onDisk, first: 1, last: 1, torn: 1},
	{point: fault.DirectorySynced, kinds: []string{refusing}, first: 2, last: 3},
	{point: fault.ReloadDone, kinds: reloads, first: 1, last: 1},
	{point: fault.InstanceReadBack, kinds: accepts, first: 1, last: 1},
	{point: fault.CheckpointMoved, kinds: accepts, first: 1, last: 1, torn: 1},
	{point: fault.PreImagesDropped, kinds: []string{severalFiles, twoConnectors, aProgram, reloading}, first: 3, last: 3, torn: 3},
	{point: fault.PendingDropped, kinds: accepts, first: 2, last: 2},
	{point: fault.AckSent, kinds: accepts, first: 1, last: 1, torn: 1},
	{point: fault.AcksForgotten, kinds: []string{severalFiles, aProgram}, first: 1, last: 1, torn: 1},
	{point: fault.InstancePutBack, kinds: []string{refusing}, first: 1, last: 1},
	{point: fault.IntentWithdrawn, kinds: []string{refusing}, first: 1, last: 1, torn: 1},
	{point: fault.FailureKept, kinds: []string{refusing}, first: 1, last: 1, torn: 1},
	{point: fault.HoldKept, kinds: []string{severalFiles}, first: 1, last: 1, torn: 1, from: held},
}

func TestAgentsDieAtEveryPoint(t *testing.T) {
	var visited []fault.Point
	torn := map[fault.Point]bool{}
	for _, v := range visits {
		if !slices.Contains(visited, v.point) {
			visited = append(visited, v.point)
		}
		torn[v.point] = torn[v.point] || v.torn > 0
	}
	for _, p := range fault.Of("agent") {
		if !slices.Contains(visited, p) || torn[p] == p.Whole {
			t.Errorf("no agent dies there at every stage: %s", p)
		}
	}
	if len(visited) != len(fault.Of("agent")) {
		t.Error("agents are to die where there is no point")
	}
}

var crashKeys = []string{"variable/a", "variable/b", "endpoint/e"}

// An agent killed at any point ends, after a restart and without the bus, at the old or at the new revision, whole, and then catches
// up: also after power loss, and with the bus at once.
func TestAnAgentKilledAnywhereEndsWhole(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"old"`, "variable/b", `"old"`, "endpoint/e", `"old"`)
	base := map[string]child{}
	for _, kind := range every {
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

	for _, v := range visits {
		kinds := v.kinds
		if !*everyDeath {
			kinds = kinds[:min(len(kinds), 1)]
		}
		for _, kind := range kinds {
			for nth := v.first; nth <= v.last; nth++ {
				for _, stage := range v.point.Stages() {
					if stage == fault.Torn && nth > v.torn {
						continue
					}
					d := death{v.point.Name, stage, nth}
					t.Run(fmt.Sprintf("%s %s %s", kind, v.from, d), func(t *testing.T) {
						t.Parallel()
						c := child{Enrolment: enrolment, Kind: kind, Dies: d, Held: v.from == held}
						c.begin(t, base[kind], v.from)
						if !c.run(t) {
							t.Fatalf("the agent did not come to %s", d)
						}
						dead := c
						for _, restart := range restarts {
							c.copy(t, dead)
							restart.end(t, w, c, v.from)
						}
					})
				}
			}
		}
	}
}

// restarts are how it goes on.
var restarts = []restart{{"alone", false, true}, {"alone, what was not synced is lost", true, true}, {"with the bus", false, false}}

type restart struct {
	name        string
	lost, alone bool
}

// end restarts a dead agent and compares.
func (how restart) end(t *testing.T, w *world, c child, from string) {
	t.Helper()
	if how.lost {
		if err := os.Remove(filepath.Join(c.State, "pending")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	before := map[string]string{"": "old old old", held: "old old old", nothing: "", foreign: "theirs theirs theirs"}[from]
	if how.alone {
		r, stop := c.start(t, w, false)
		s := r.is("resolved", func(s agent.Status) bool { return s.Whole })
		stop()
		switch got := c.contents(t); {
		case got != before && got != "new new new":
			t.Errorf("%s: the instance is torn: %s", how.name, got)
		case s.Checkpoint.Revision == 3 && got != "new new new":
			t.Errorf("%s: the checkpoint is ahead of the instance: %s", how.name, got)
		case !how.lost && s.Checkpoint.Revision < 3 && got != before:
			t.Errorf("%s: what was under way is not finished: %s", how.name, got)
		case c.Held && (s.Hold != nil) != (c.Dies.Stage == fault.After):
			t.Errorf("%s: the hold is %+v", how.name, s.Hold)
		}
	}
	if c.Kind == refusing {
		c.Kind = reloading // somebody mended the application
	}
	r, stop := c.start(t, w, true)
	if c.Held {
		must(t, r.Resume(t.Context()))
	}
	r.at(3)
	r.is("has sent its ack", func(s agent.Status) bool { return s.Outbox == 0 })
	stop()
	if got := c.contents(t); got != "new new new" {
		t.Errorf("%s: after catching up: %s", how.name, got)
	}
	if from == foreign {
		if saved, err := filepath.Glob(filepath.Join(c.State, "backup-*", "*")); err != nil || len(saved) == 0 {
			t.Errorf("%s: what was overwritten is not backed up", how.name)
		}
	}
	c.nothingLeft(t)
}

// begin gives a child what it begins with.
func (c *child) begin(t *testing.T, base child, from string) {
	t.Helper()
	switch from {
	case "", held:
		c.copy(t, base)
	case nothing:
		c.State, c.Root = shortDir(t), instanceDir(t)
	case foreign:
		c.copy(t, base)
		c.State = shortDir(t)
		must(t, filepath.WalkDir(c.Root, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(strings.ReplaceAll(string(b), "old", "theirs")), 0o600)
		}))
	}
}

// copy gives a child directories of its own with what another one has in its.
func (c *child) copy(t *testing.T, of child) {
	t.Helper()
	state, root := filepath.Join(shortDir(t), "s"), filepath.Join(shortDir(t), "r")
	_ = os.Remove(filepath.Join(of.State, "agent.sock")) // of the dead
	must(t, os.CopyFS(state, os.DirFS(of.State)))
	must(t, os.CopyFS(root, os.DirFS(of.Root)))
	c.State, c.Root = state, root
}

// start runs the agent of a child in this process, with or without the bus.
func (c child) start(t *testing.T, w *world, withBus bool) (*running, func()) {
	t.Helper()
	c.Dies = death{}
	router, closeAll, err := openKind(c, nil)
	must(t, err)
	o := agent.Options{Enrolment: w.enrol(), State: c.State, Router: router, Intervals: quick, Overwrite: true}
	if !withBus {
		o.Enrolment.Bus.URL = "nats://127.0.0.1:1"
	}
	r := start(t, o)
	return r, func() { r.stop(); closeAll() }
}

// contents are the values of crashKeys as an application would read them.
func (c child) contents(t *testing.T) string {
	t.Helper()
	c.Dies = death{}
	router, closeAll, err := openKind(c, nil)
	must(t, err)
	defer closeAll()
	want := connector.Values{}
	for _, key := range crashKeys {
		want[key] = nil
	}
	held, err := router.Observe(t.Context(), want)
	must(t, err)
	var list []string
	for _, key := range crashKeys {
		list = append(list, strings.Trim(string(held[key]), `"`))
	}
	return strings.TrimSpace(strings.Join(list, " "))
}

func (c child) nothingLeft(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{filepath.Join(c.State, "pending"), filepath.Join(c.State, "pre-images"), filepath.Join(c.Root, "*.lockstep-tmp"),
		filepath.Join(c.Root, "*", "*.lockstep-tmp"), filepath.Join(c.State, "agent.db.new-*")} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v (%v)", left, err)
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
