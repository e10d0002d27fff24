package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// releases are two directories, with a link "current" to the first.
func releases(t testing.TB, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"r1", "r2"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(t, filepath.Join(dir, name, "a.json"), text)
		write(t, filepath.Join(dir, name, "b.json"), text)
	}
	must(t, os.Symlink("r1", filepath.Join(dir, "current")))
	return dir
}

// lead lets the link lead to another directory.
func lead(t testing.TB, dir, to string) {
	t.Helper()
	must(t, os.Symlink(to, filepath.Join(dir, "next")))
	must(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "current")))
}

const twoFiles = "{root: current, files: [{path: a.json, resources: [flag/*]}, {path: b.json, resources: [variable/*]}]"

var both = connector.Values{"flag/k": []byte("2"), "variable/k": []byte("2")}

func TestADirectoryThatIsNotTheInstanceAnyMoreIsNeitherReadNorWritten(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, dir string){
		"a link is turned": func(t *testing.T, dir string) { lead(t, dir, "r2") },
		"another is moved there": func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "current")))
			must(t, os.Rename(filepath.Join(dir, "r2"), filepath.Join(dir, "current")))
		},
		"it is removed and made again": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "r1")))
			must(t, os.Mkdir(filepath.Join(dir, "r1"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := releases(t, `{"k":1}`)
			c := opened(t, parseConfig(t, twoFiles+"}"), dir)
			plan, err := c.Plan(t.Context(), both)
			must(t, err)
			if c.Replaced() {
				t.Fatal("replaced by nothing")
			}
			replace(t, dir)
			_, planErr := c.Plan(t.Context(), both)
			_, observeErr := c.Observe(t.Context(), both)
			for _, err := range []error{planErr, observeErr, c.Apply(t.Context(), plan)} {
				if e := connector.AsError(err); e == nil || e.Permanent || e.Reason != connector.ReasonUnreadable {
					t.Errorf("got %v", err)
				}
			}
			if b, err := os.ReadFile(filepath.Join(dir, "r1", "a.json")); err == nil && string(b) != `{"k":1}` {
				t.Errorf("the directory before holds %s", b)
			}
			if !c.Replaced() {
				t.Fatal("not noticed")
			}
			must(t, c.Reopen())
			if plan, err = c.Plan(t.Context(), both); err == nil {
				err = c.Apply(t.Context(), plan)
			}
			must(t, err)
			held, err := c.Observe(t.Context(), both)
			if err != nil || string(held["flag/k"]) != "2" || string(held["variable/k"]) != "2" || c.Replaced() {
				t.Errorf("%v, %v", held, err)
			}
			if b := read(t, filepath.Join(dir, "current", "a.json")); !strings.Contains(b, "2") {
				t.Errorf("the instance holds %s", b)
			}
		})
	}
}

func TestARootThatIsGoneOrAnothersIsTakenOnceItIsThereAndFree(t *testing.T) {
	dir := releases(t, `{"k":1}`)
	cfg := parseConfig(t, twoFiles+"}")
	c := opened(t, cfg, dir)
	must(t, os.Remove(filepath.Join(dir, "current")))
	if e := connector.AsError(c.Reopen()); e == nil || e.Permanent || !errors.Is(e, os.ErrNotExist) || !c.Replaced() {
		t.Errorf("got %v", e)
	}
	must(t, os.Symlink("r2", filepath.Join(dir, "current")))
	other, err := Open("files", cfg, dir, "prod/agent-2")
	must(t, err)
	if e := connector.AsError(c.Reopen()); e == nil || e.Permanent || !strings.Contains(e.Error(), "prod/agent-2") || !c.Replaced() {
		t.Errorf("got %v", e)
	}
	must(t, other.Close())
	must(t, c.Reopen())
	if _, err := Open("files", cfg, dir, "prod/agent-2"); err == nil || !strings.Contains(err.Error(), "prod/agent-1") {
		t.Errorf("the new root is not locked: %v", err)
	}
	cfg.Root = "r1"
	opened(t, cfg, dir)
}

func TestWhatBeganInOneDirectoryEndsThereAndNothingOfItIsLeft(t *testing.T) {
	dir := releases(t, `{"k":1}`)
	c := opened(t, parseConfig(t, twoFiles+", reload: {command: [sh, -c, 'echo reloaded >> log']}}"), dir)
	plan, err := c.Plan(t.Context(), both)
	must(t, err)
	must(t, c.Prepare(t.Context(), &plan, t.TempDir()))
	c.disk.fault = func(p fault.Point, _ fault.Stage) error {
		if p == fault.DirectorySynced {
			lead(t, dir, "r2")
			return unix.EIO
		}
		return nil
	}
	if err := c.Apply(t.Context(), plan); err == nil {
		t.Fatal("the apply did not fail")
	}
	c.disk.fault = nil
	write(t, filepath.Join(dir, "r2", "a.json"), `{"k":3}`) // neither before nor after: another directory is not a torn one
	must(t, c.Undo(t.Context(), plan.Units))
	lead(t, dir, "r1")
	if !c.Replaced() {
		t.Error("a directory that was left and came back is taken for one that was there all the time")
	}
	must(t, c.Reopen())
	if c.Replaced() {
		t.Error("it is back")
	}
	lead(t, dir, "r2")
	write(t, filepath.Join(dir, "r1", tempName("a.json")), "s3cret")
	write(t, filepath.Join(dir, "r2", tempName("b.json")), "s3cret")
	must(t, c.Reopen())
	for name, want := range map[string]string{"r1/a.json": `{"k":1}`, "r1/b.json": `{"k":1}`, "r2/a.json": `{"k":3}`, "r2/b.json": `{"k":1}`} {
		if got := read(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s holds %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"r1/" + tempName("a.json"), "r2/" + tempName("b.json")} {
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is left, with its secrets", name)
		}
	}
	again, err := c.Plan(t.Context(), connector.Values{"flag/k": []byte("3")})
	must(t, err)
	must(t, c.Apply(t.Context(), again))
	if log := read(t, filepath.Join(dir, "log")); log != "reloaded\n" {
		t.Errorf("the reload that was due: %q", log)
	}
}
