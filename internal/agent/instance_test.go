package agent_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// files opens a connector for files below a root.
func files(t *testing.T, root string, list ...file.File) *connector.Router {
	t.Helper()
	config := file.Config{Root: root, Files: list}
	c, err := file.Open("files", config, "", "test")
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	r, err := connector.NewRouter([]connector.Route{{Resources: config.Resources(), Connector: c}})
	must(t, err)
	return r
}

var dotenv = file.File{Path: ".env", Key: "upper-snake", Resources: []connector.Glob{"variable/*"}}

// text fails the test where a file does not hold exactly this.
func text(t *testing.T, path, want string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	if string(b) != want {
		t.Errorf("%s holds %q, want %q", path, b, want)
	}
}

// turn lets a link lead to a directory.
func turn(t *testing.T, link, to string) {
	t.Helper()
	must(t, os.Symlink(to, link+".next"))
	must(t, os.Rename(link+".next", link))
}

func TestAnotherDirectoryInThePlaceOfTheInstanceIsNotInStepBeforeItWasCompared(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "current")
	for _, name := range []string{"r1", "r2"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	must(t, os.WriteFile(filepath.Join(dir, "r2", ".env"), []byte("A=old\n"), 0o600))
	turn(t, link, "r1")
	o := w.options(connectortest.NewFake("none"))
	o.Router = files(t, link, dotenv)
	a := start(t, o)
	w.set("variable/a", `"1"`, "variable/b", `"2"`)
	w.applied(2)

	turn(t, link, "r2")
	s := a.condition(agent.Differing, events.ReasonReadBack)
	if len(s.Differing) != 2 {
		t.Errorf("differing %v", s.Differing)
	}
	w.beat("differing", func(b events.Beat) bool { return b.Condition == agent.Differing && b.Observed != b.State })
	must(t, a.Retry(t.Context()))
	text(t, filepath.Join(dir, "r2", ".env"), "A=1\nB=2\n")
	text(t, filepath.Join(dir, "r1", ".env"), "A=1\nB=2\n")

	must(t, os.RemoveAll(filepath.Join(dir, "r2")))
	a.condition(agent.Differing, connector.ReasonUnreadable)
	must(t, os.Mkdir(filepath.Join(dir, "r2"), 0o700))
	a.condition(agent.Differing, events.ReasonReadBack)
	w.set("variable/a", `"3"`)
	if ack := w.applied(3); len(ack.Differing) > 0 {
		t.Errorf("ack %+v", ack)
	}
	text(t, filepath.Join(dir, "r2", ".env"), "A=3\nB=2\n")
	a.is("compared", func(s agent.Status) bool { return s.Condition.Word != agent.Differing && !s.Unverified })

	turn(t, link, "r1") // a deployment that is taken back
	a.condition(agent.Differing, events.ReasonReadBack)
	text(t, filepath.Join(dir, "r1", ".env"), "A=1\nB=2\n")
}

// The instance is replaced between the apply and its read-back, with an intent declared: the new one must be whole before anything is said
// of it, and the old one is left as it was.
func TestAnInstanceThatIsReplacedWhileItIsAppliedToIsAppliedToAnew(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "current")
	for _, name := range []string{"r1", "r2"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name, "a.json"), []byte(`{"own":"`+name+`"}`), 0o600))
	}
	turn(t, link, "r1")
	o := w.options(connectortest.NewFake("none"))
	o.Router = files(t, link, file.File{Path: "a.json", Resources: []connector.Glob{"variable/*"}}, file.File{Path: "b.json", Resources: []connector.Glob{"endpoint/*"}})
	var armed atomic.Bool
	o.Fault = func(p fault.Point, s fault.Stage) error {
		if p == fault.InstanceReadBack && s == fault.Before && armed.Swap(false) {
			text(t, filepath.Join(dir, "r1", "a.json"), `{"own":"r1", "a": 1}`)
			turn(t, link, "r2")
		}
		return nil
	}
	a := start(t, o)
	w.applied(1)
	armed.Store(true)
	w.set("variable/a", `1`, "endpoint/e", `2`)
	if ack := w.applied(2); len(ack.Differing) > 0 || !ack.ReadBack {
		t.Errorf("ack %+v", ack)
	}
	for _, word := range w.words() {
		if word == events.WordFailed || word == events.WordTorn {
			t.Errorf("it is said to be %s", word)
		}
	}
	text(t, filepath.Join(dir, "r1", "a.json"), `{"own":"r1"}`)
	text(t, filepath.Join(dir, "r2", "a.json"), `{"own":"r2", "a": 1}`)
	text(t, filepath.Join(dir, "r2", "b.json"), "{\n  \"e\": 2\n}\n")
	a.is("compared", func(s agent.Status) bool { return !s.Unverified && len(s.Differing) == 0 && s.Whole })
	if left, err := filepath.Glob(filepath.Join(o.State, "pre-images", "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestAClashOfNamesIsCuredByRollbackAndARenameIsNone(t *testing.T) {
	w := newWorld(t)
	o, root := w.options(connectortest.NewFake("none")), t.TempDir()
	o.Router = files(t, root, dotenv)
	a := start(t, o)
	w.set("variable/log-level", `"a"`)
	w.applied(2)
	clash := w.set("variable/log_level", `"b"`)
	if ack := w.word(events.WordFailed, 3); ack.Reason != connector.ReasonValueUnsupported || !strings.Contains(ack.Message, "variable/log-level") {
		t.Errorf("ack %+v", ack)
	}
	text(t, filepath.Join(root, ".env"), "LOG_LEVEL=a\n")
	w.send(w.Rollback(clash)...)
	w.applied(4)
	w.set("variable/log-level", "", "variable/log_level", `"c"`)
	if ack := w.applied(5); len(ack.Differing) > 0 || !ack.ReadBack {
		t.Errorf("ack %+v", ack)
	}
	text(t, filepath.Join(root, ".env"), "LOG_LEVEL=c\n")
	a.stop()

	start(t, o) // where only what is to be there tells whose the place is
	w.set("variable/log-level", `"d"`, "variable/log_level", "")
	w.applied(6)
	text(t, filepath.Join(root, ".env"), "LOG_LEVEL=d\n")
}

func TestAnInstanceThatCannotBeReadIsNotInStep(t *testing.T) {
	w := newWorld(t)
	fake := connectortest.NewFake("fake")
	o := w.options(fake)
	a := start(t, o)
	w.set("variable/a", `1`)
	w.applied(2)
	a.stop()
	var readable atomic.Bool
	fake.Fault = func(op string) error {
		if op == "observe" && !readable.Load() {
			return connector.Permanent(connector.ReasonUnreadable, "no instance")
		}
		return nil
	}
	a = start(t, o)
	a.condition(agent.Differing, connector.ReasonUnreadable)
	w.beat("differing", func(b events.Beat) bool {
		return b.Condition == agent.Differing && strings.Contains(b.Message, "no instance")
	})
	readable.Store(true)
	a.is("compared", func(s agent.Status) bool { return s.Condition.Word != agent.Differing && !s.Unverified })
}

// A running agent finds what is edited by hand by itself, held or not, says where, and leaves it: until it is edited back, or the steward or
// a release sets it again.
func TestARunningAgentTellsWhatIsEditedByHandAndLeavesIt(t *testing.T) {
	w := newWorld(t)
	o, root := w.options(connectortest.NewFake("none")), t.TempDir()
	path := filepath.Join(root, "app.json")
	o.Router = files(t, root, file.File{Path: "app.json", Resources: []connector.Glob{"variable/*", "endpoint/*"}})
	a := start(t, o)
	w.set("endpoint/crm", `{"url":"https://crm.example","retries":3}`, "variable/level", `"info"`)
	w.applied(2)
	must(t, a.Hold(t.Context(), time.Now().Add(time.Hour), "audit"))
	good, err := os.ReadFile(path)
	must(t, err)
	edited := strings.Replace(string(good), "https://crm.example", "http://localhost", 1)
	must(t, os.WriteFile(path, []byte(edited), 0o600))
	where := []events.DifferingResource{{Resource: "endpoint/crm", Fields: []string{"/url"}}}
	if s := a.condition(agent.Differing, events.ReasonReadBack); !reflect.DeepEqual(s.Differing, where) || !strings.Contains(s.Condition.Message, "endpoint/crm (/url)") || s.Checkpoint.Revision != 2 {
		t.Errorf("status %+v", s)
	}
	b := w.beat("differing", func(b events.Beat) bool { return b.Condition == agent.Differing && b.Reason == events.ReasonReadBack })
	if !reflect.DeepEqual(b.Differing, where) || b.Drift != 1 || b.Observed == b.State || strings.Contains(jsonOf(t, b), "localhost") {
		t.Errorf("beat %+v", b)
	}
	text(t, path, edited)
	must(t, os.WriteFile(path, good, 0o600))
	mended := func(s agent.Status) bool { return s.Condition.Word != agent.Differing && len(s.Differing) == 0 }
	a.is("as it should be", mended)
	must(t, a.Resume(t.Context()))

	must(t, os.WriteFile(path, []byte("{"), 0o600))
	a.condition(agent.Differing, connector.ReasonUnreadable)
	must(t, os.WriteFile(path, []byte(edited), 0o600))
	a.condition(agent.Differing, events.ReasonReadBack)
	must(t, a.Retry(t.Context()))
	text(t, path, string(good))
	a.is("as it should be", mended)

	must(t, os.WriteFile(path, []byte(edited), 0o600))
	must(t, a.Retry(t.Context())) // it looks before it says that there is nothing to do
	text(t, path, string(good))
	must(t, os.WriteFile(path, []byte(edited), 0o600))
	a.condition(agent.Differing, events.ReasonReadBack)
	w.set("variable/level", `"debug"`)
	w.applied(3)
	text(t, path, strings.Replace(string(good), "info", "debug", 1))
	a.is("as it should be", mended)
}

// Somebody edits a file by hand between the plan and the apply of several: nothing was touched, so that nothing is torn, and the next try
// plans anew.
func TestAHandEditInTheMiddleOfAnApplyTearsNothing(t *testing.T) {
	w := newWorld(t)
	o, root := w.options(connectortest.NewFake("none")), t.TempDir()
	o.Router = files(t, root, file.File{Path: "a.json", Resources: []connector.Glob{"variable/*"}}, file.File{Path: "b.json", Resources: []connector.Glob{"endpoint/*"}})
	var armed atomic.Bool
	o.Fault = func(p fault.Point, s fault.Stage) error {
		if p == fault.InstanceApplied && s == fault.Before && armed.Swap(false) {
			must(t, os.WriteFile(filepath.Join(root, "b.json"), []byte(`{"e": 7, "own": 1}`), 0o600))
		}
		return nil
	}
	a := start(t, o)
	w.set("variable/a", `1`, "endpoint/e", `1`)
	w.applied(2)
	armed.Store(true)
	w.set("variable/a", `2`, "endpoint/e", `2`)
	if ack := w.applied(3); len(ack.Differing) > 0 || !ack.ReadBack {
		t.Errorf("ack %+v", ack)
	}
	for _, word := range w.words() {
		if word == events.WordFailed || word == events.WordTorn {
			t.Errorf("it is said to be %s", word)
		}
	}
	text(t, filepath.Join(root, "b.json"), `{"e": 2, "own": 1}`)
	a.is("whole", func(s agent.Status) bool { return s.Whole && len(s.Differing) == 0 })
	if left, err := filepath.Glob(filepath.Join(o.State, "pre-images", "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}
