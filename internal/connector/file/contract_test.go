package file

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"golang.org/x/sys/unix"
)

// parseConfig reads a configuration as the agent does.
func parseConfig(t testing.TB, text string) Config {
	t.Helper()
	var c Config
	if err := config.Decode("agent.yaml", []byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t testing.TB, c Config, dir string) *Connector {
	t.Helper()
	conn, err := Open("files", c, dir, "prod/agent-1")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// opened is open with Close at the test's end.
func opened(t testing.TB, c Config, dir string) *Connector {
	t.Helper()
	conn := open(t, c, dir)
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryFormatAndOwnershipKeepsTheContract(t *testing.T) {
	rest := map[string]string{
		"json":   "{\n    \"foreign\": [1,  2],\n    \"own\": {}\n}\n",
		"yaml":   "# head\nforeign: {a:  1} # line\nown:\n  # inner\n# foot\n",
		"toml":   "foreign = 1979-05-27\n",
		"dotenv": "# head\nexport FOREIGN=\"x $Y\" # line\n",
	}
	for _, c := range []struct{ name, config string }{
		{"json keys", "{path: a.json}"},
		{"json keys below", "{path: a.json, at: /own}"},
		{"json keys far below", "{path: a.json, at: /own/deep~1er/x}"},
		{"json file below", "{path: a.json, at: /own, own: file}"},
		{"yaml keys", "{path: a.yaml}"},
		{"yaml keys below", "{path: a.yml, format: yaml, at: /own}"},
		{"yaml keys far below", "{path: a.yml, at: /own/deeper}"},
		{"yaml file below", "{path: a.yml, at: /own, own: file}"},
		{"toml keys", "{path: a.toml}"},
		{"toml keys below", "{path: a.toml, at: /own}"},
		{"toml file below", "{path: a.toml, at: /own, own: file}"},
		{"dotenv keys", "{path: .env, key: upper-snake}"},
		{"json file", "{path: a.json, own: file}"},
		{"yaml file", "{path: a.yaml, own: file}"},
		{"toml file", "{path: a.toml, own: file}"},
		{"dotenv file", "{path: .env, key: upper-snake, own: file}"},
	} {
		for _, there := range []bool{false, true} {
			name := c.name + map[bool]string{false: " in a new file", true: " in a file with other things"}[there]
			t.Run(name, func(t *testing.T) {
				t.Parallel() // most of the time is spent on fsync
				connectortest.Run(t, func(t *testing.T) connectortest.Fixture { return contractFixture(t, c.config, there, rest) })
			})
		}
	}
}

func contractFixture(t *testing.T, entry string, there bool, rest map[string]string) connectortest.Fixture {
	dir := t.TempDir()
	cfg := parseConfig(t, "{root: ., files: ["+entry+"]}")
	cfg.Files[0].Resources = []connector.Glob{"variable/*", "flag/*"}
	path := filepath.Join(dir, cfg.Files[0].Path)
	target := target{File: cfg.Files[0]}
	var err error
	if target.format, err = target.File.format(); err != nil {
		t.Fatal(err)
	}
	target.at, _ = target.pointer()
	foreign := map[*format]string{formats["json"]: "foreign", formats["yaml"]: "foreign", formats["toml"]: "foreign", dotenv: "FOREIGN"}[target.format]
	if there && (target.Own != ownFile || len(target.at) > 0) {
		for name, f := range formats {
			if f == target.format {
				write(t, path, rest[name])
			}
		}
	} else {
		foreign = ""
	}
	return connectortest.Fixture{
		Open: func(t *testing.T) connector.Connector { return open(t, cfg, dir) },
		Keys: [3]string{"variable/log-level", "variable/db.host", "flag/checkout"},
		Foreign: func(t *testing.T, key, text string) {
			doc, err := target.format.parse([]byte(read(t, path)))
			if err != nil {
				t.Fatal(err)
			}
			edited, _, err := target.format.render(doc, target.at, edits{set: map[string]any{target.keyOf(key): text}})
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, string(edited))
		},
		Rest: func(t *testing.T) string {
			if foreign == "" {
				return ""
			}
			doc, err := target.format.parse([]byte(read(t, path)))
			if err != nil {
				t.Fatal(err)
			}
			return string(canonical(doc.tree()[foreign]))
		},
		FailHalfway: func(t *testing.T, c connector.Connector) {
			disk := c.(*Connector).disk
			disk.fault = func(p fault.Point, _ fault.Stage) error {
				if p != fault.DirectorySynced {
					return nil
				}
				disk.fault = nil
				return unix.ENOSPC
			}
		},
	}
}

// Several files change together or not at all, wherever it fails.
func TestFailureAtEveryStepLeavesAllOrNothing(t *testing.T) {
	cfg := parseConfig(t, `
root: .
files:
- {path: a.json, resources: [flag/*]}
- {path: b.yaml, resources: [variable/*]}
- {path: new.env, resources: [endpoint/*]}
`)
	want := func(v string) connector.Values {
		return connector.Values{"flag/x": []byte(v), "variable/x": []byte(v), "endpoint/x": []byte(v)}
	}
	state := func(t *testing.T, dir string) map[string]string {
		all := map[string]string{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != lockName && e.Name() != "pre" {
				all[e.Name()] = read(t, filepath.Join(dir, e.Name()))
			}
		}
		return all
	}
	failures := 0
	for step := 0; ; step++ {
		for _, restart := range []bool{false, true} {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "a.json"), `{"other": 1}`)
			write(t, filepath.Join(dir, "b.yaml"), "x: 0 # comment\n")
			before := state(t, dir)
			c := open(t, cfg, dir)
			plan, err := c.Plan(t.Context(), want("1"))
			if err != nil || len(plan.Units) != 3 {
				t.Fatal(err, plan.Units)
			}
			if err := c.Prepare(t.Context(), &plan, filepath.Join(dir, "pre")); err != nil {
				t.Fatal(err)
			}
			count := 0
			c.disk.fault = func(_ fault.Point, s fault.Stage) error {
				if s == fault.After {
					return nil
				}
				if count++; count == step+1 {
					return unix.ENOSPC
				}
				return nil
			}
			err = c.Apply(t.Context(), plan)
			if err == nil {
				if after := state(t, dir); len(after) != 3 || step != 3*2+2+1 { // three are staged, torn too; all are replaced, torn too; the directory is synced
					t.Fatalf("step %d: %v", step, after)
				}
				return // no step left to fail
			}
			failures++
			if e := connector.AsError(err); e.Reason != connector.ReasonDiskFull || e.Permanent {
				t.Fatalf("step %d: %v", step, err)
			}
			c.disk.fault = nil
			if restart {
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				c = open(t, cfg, dir)
			}
			if err := c.Undo(t.Context(), plan.Units); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			if after := state(t, dir); len(after) != len(before) || after["a.json"] != before["a.json"] || after["b.yaml"] != before["b.yaml"] {
				t.Fatalf("step %d, restart %v: %v, want %v", step, restart, after, before)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestUndoThatFailsCanBeTriedAgain(t *testing.T) {
	dir := t.TempDir()
	c := opened(t, parseConfig(t, `{root: ., files: [{path: a.json, resources: [flag/*]}]}`), dir)
	write(t, filepath.Join(dir, "a.json"), `{"x":1}`)
	plan, err := c.Plan(t.Context(), connector.Values{"flag/x": []byte("2")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	for _, op := range []fault.Point{fault.FileStaged, fault.FilesReplaced} {
		c.disk.fault = func(at fault.Point, _ fault.Stage) error {
			if at == op {
				return unix.EIO
			}
			return nil
		}
		if err := c.Undo(t.Context(), plan.Units); !errors.Is(err, unix.EIO) {
			t.Fatalf("%s: %v", op, err)
		}
	}
	c.disk.fault = nil
	if err := c.Undo(t.Context(), plan.Units); err != nil || read(t, filepath.Join(dir, "a.json")) != `{"x":1}` {
		t.Error(err)
	}
}
