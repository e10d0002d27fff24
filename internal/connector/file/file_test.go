package file

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"golang.org/x/sys/unix"
)

// applied applies want to a file of the given text and returns the text after.
func applied(t *testing.T, entry, text string, want connector.Values) (string, error) {
	t.Helper()
	dir := t.TempDir()
	cfg := parseConfig(t, "{root: ., files: ["+entry+"]}")
	path := filepath.Join(dir, cfg.Files[0].Path)
	if text != "" {
		write(t, path, text)
	}
	c := opened(t, cfg, dir)
	plan, err := c.Plan(t.Context(), want)
	if err == nil {
		err = c.Apply(t.Context(), plan)
	}
	if err != nil || len(plan.Units) == 0 {
		return text, err
	}
	return read(t, path), nil
}

func TestEditsLookAsAPersonWouldMakeThem(t *testing.T) {
	for _, c := range []struct {
		name, entry, text string
		want              connector.Values
		after             string
	}{
		{"new json", "{path: a.json, at: /flags, resources: [flag/*]}", "", connector.Values{"flag/b": []byte(`{"x":[1]}`), "flag/a": []byte("true")},
			"{\n  \"flags\": {\n    \"a\": true,\n    \"b\": {\n      \"x\": [\n        1\n      ]\n    }\n  }\n}\n"},
		{"json keeps indent and order", "{path: a.json, resources: [flag/*]}", "{\n\t\"z\": 1,\n\t\"a\": {\"k\":  2}\n}", connector.Values{"flag/m": []byte(`{"x":1}`), "flag/z": []byte("2")},
			"{\n\t\"z\": 2,\n\t\"a\": {\"k\":  2},\n\t\"m\": {\n\t\t\"x\": 1\n\t}\n}"},
		{"json on one line stays there", "{path: a.json, resources: [flag/*]}", `{"a":1,"b":2}`, connector.Values{"flag/a": nil, "flag/c": []byte(`{"x":1}`)}, `{"b":2, "c": {"x":1}}`},
		{"json last goes", "{path: a.json, at: /f, resources: [flag/*]}", "{\n  \"f\": {\n    \"a\": 1\n  }\n}\n", connector.Values{"flag/a": nil}, "{\n  \"f\": {}\n}\n"},
		{"new yaml", "{path: a.yaml, at: /flags, resources: [flag/*]}", "", connector.Values{"flag/b": []byte(`{"x":[1,{"y":"z"}],"t":"http://a:80/b"}`), "flag/a": []byte(`"yes"`)},
			"flags:\n  a: \"yes\"\n  b:\n    t: http://a:80/b\n    x:\n      - 1\n      - {\"y\": \"z\"}\n"},
		{"yaml keeps comments", "{path: a.yaml, resources: [flag/*]}", "# head\na: 1   # why\n\n# on b\nb:\n  x: 1\n  # gone with b's value\n  y: 2\n# foot\n", connector.Values{"flag/a": []byte("2"), "flag/b": []byte(`"t"`), "flag/c": []byte("3")},
			"# head\na: 2   # why\n\n# on b\nb: t\nc: 3\n# foot\n"},
		{"yaml flow becomes block", "{path: a.yaml, at: /f, resources: [flag/*]}", "# head\nf: {a: 1, z: [x]} # why\ng: 1\n", connector.Values{"flag/b": []byte("2")},
			"# head\nf: # why\n  a: 1\n  b: 2\n  z:\n    - x\ng: 1\n"},
		{"yaml empty mapping", "{path: a.yaml, at: /f, resources: [flag/*]}", "f: {} # why\n# more\ng: 1\n", connector.Values{"flag/b": []byte("2")}, "f: # why\n  b: 2\n# more\ng: 1\n"},
		{"yaml last goes", "{path: a.yaml, at: /f, resources: [flag/*]}", "f: # why\n  a: 1\n  # more\ng: 1\n", connector.Values{"flag/a": nil}, "f: {} # why\n  # more\ng: 1\n"},
		{"yaml without a last line end", "{path: a.yaml, resources: [flag/*]}", "a: 1", connector.Values{"flag/b": []byte("2")}, "a: 1\nb: 2\n"},
		{"dotenv", "{path: .env, key: upper-snake, resources: [variable/*]}", "# head\nexport A_B=old # why\nC='x'\n# foot", connector.Values{"variable/a-b": []byte(`"it's $5"`), "variable/c": nil, "variable/n": []byte("1.5"), "variable/j": []byte(`{"a":1}`)},
			"# head\nexport A_B=\"it's \\$5\" # why\n# foot\nJ='{\"a\":1}'\nN=1.5\n"},
		{"own removes the rest", "{path: a.json, at: /f, own: file, resources: [flag/*]}", `{"f":{"a":1,"b":2},"g":3}`, connector.Values{"flag/b": []byte("2")}, `{"f":{"b":2},"g":3}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, err := applied(t, c.entry, c.text, c.want)
			if err != nil || after != c.after {
				t.Errorf("%v\n got %q\nwant %q", err, after, c.after)
			}
		})
	}
}

func TestWhatCannotBeEditedSafelyIsRefusedForGood(t *testing.T) {
	for _, c := range []struct{ entry, text, says string }{
		{"{path: a.json}", "{\n  \"a\": 1,\n  \"a\": 2}", `a.json:3:`},
		{"{path: a.json}", "{\n  \"a\": tru}", `a.json:2:11: not valid JSON`},
		{"{path: a.json}", "[]", `a.json:1:1: the top is not an object`},
		{"{path: a.json, at: /x/y}", `{"x": {"y": 1}}`, `/x/y is not a mapping`},
		{"{path: a.yaml}", "a: 1\n b: 2\n", `a.yaml:1:`},
		{"{path: a.yaml}", "a: 1\n---\nb: 2\n", `a.yaml:3:1: a second document begins`},
		{"{path: a.yaml, at: /x}", "y: &y {b: 1}\nz: &z\n  a: 1\nx: *z\n", `cannot be edited without disturbing`},
		{"{path: a.yaml, at: /x}", "x: &x\n  a: 1\nz: *x\n", `cannot be edited without disturbing`},
		{"{path: a.yaml}", "k: &k 1\nz: *k\n", `cannot be edited without disturbing`},
		{"{path: a.yaml, at: /x}", "x: {b: !secret 1}\n", `cannot be edited without disturbing`},
		{"{path: a.toml}", "a = 1\nb = \n", `a.toml:2:5: not valid TOML`},
		{"{path: a.env}", "A=1\nB-C=2\n", `a.env:2:2: not a valid dotenv file`},
		{"{path: a.env}", "A='1\n", `a.env:1:3: not a valid dotenv file`},
	} {
		entry := strings.TrimSuffix(c.entry, "}") + ", resources: [flag/*]}"
		after, err := applied(t, entry, c.text, connector.Values{"flag/k": []byte(`"s3cret"`)})
		e := connector.AsError(err)
		if e == nil || !e.Permanent || e.Reason != connector.ReasonUnreadable || !strings.Contains(e.Error(), c.says) || strings.Contains(e.Error(), "s3cret") {
			t.Errorf("%s in %q: %v, want %s", c.entry, c.text, err, c.says)
		}
		if after != c.text {
			t.Errorf("%q became %q", c.text, after)
		}
	}
}

func TestErrorsTellNothingOfTheFile(t *testing.T) {
	for _, c := range []struct{ path, text string }{
		{"a.json", `{"password": "s3cret", "x": s3cret}`}, {"a.json", `{"password": "s3cret`}, {"a.yaml", "password: s3cret\n  s3cret: [s3cret\n"},
		{"a.yaml", "password: \"s3cret\n"}, {"a.yaml", "s3cret"}, {"a.toml", "password = s3cret\n"}, {"a.toml", "s3cret"}, {"a.env", "PASSWORD-X=s3cret"},
		{"a.env", "PASSWORD='s3cret"}, {"a.yaml", "a: *s3cret\n"}, {"a.yaml", "a: !<s3cret\n"}, {"a.yaml", "%s3cret\n"}, {"a.yaml", "- s3cret\n"},
	} {
		_, err := applied(t, "{path: "+c.path+", resources: [flag/*]}", c.text, connector.Values{"flag/k": []byte("1")})
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

func TestExtraKeysOfAnOwnedFileAreNamedWithoutTheirValues(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.json"), `{"extra": "s3cret"}`)
	c := opened(t, parseConfig(t, "{root: ., files: [{path: a.json, own: file, resources: [flag/*]}]}"), dir)
	plan, err := c.Plan(t.Context(), nil)
	if err != nil || len(plan.Changes) != 1 || plan.Changes[0].Key != "" || plan.Changes[0].Place != "a.json /extra" || plan.Changes[0].Before != nil {
		t.Errorf("%v, %+v", err, plan.Changes)
	}
}

func TestTwoResourcesInOnePlaceAreRefused(t *testing.T) {
	c := opened(t, parseConfig(t, "{root: ., files: [{path: .env, key: upper-snake, resources: [variable/*, flag/*]}]}"), t.TempDir())
	for _, pair := range [][2]string{{"variable/a-b", "variable/a.b"}, {"variable/x", "flag/x"}} {
		want := connector.Values{pair[0]: []byte("1"), pair[1]: []byte("2")}
		_, err := c.Plan(t.Context(), want)
		_, observeErr := c.Observe(t.Context(), want)
		for _, err := range []error{err, observeErr} {
			if e := connector.AsError(err); e == nil || !e.Permanent || !strings.Contains(e.Error(), pair[0]) || !strings.Contains(e.Error(), pair[1]) {
				t.Errorf("%v: %v", pair, err)
			}
		}
	}
}

func TestAPlaceInTheFileIsFreeOnceItsResourceGoes(t *testing.T) {
	dir := t.TempDir()
	c := opened(t, parseConfig(t, "{root: ., files: [{path: .env, key: upper-snake, resources: [variable/*, flag/*]}]}"), dir)
	for _, step := range []struct {
		want  connector.Values
		after string
	}{
		{connector.Values{"variable/a-b": []byte(`"one"`)}, "A_B=one\n"},
		{connector.Values{"variable/a-b": nil, "variable/a.b": nil, "variable/a_b": []byte(`"two"`)}, "A_B=two\n"},
		{connector.Values{"variable/a-b": []byte(`"three"`), "variable/a_b": nil}, "A_B=three\n"},
		{connector.Values{"variable/a-b": nil, "flag/a-b": nil}, ""},
	} {
		plan, err := c.Plan(t.Context(), step.want)
		if err == nil {
			err = c.Apply(t.Context(), plan)
		}
		if err != nil {
			t.Fatalf("%v: %v", step.want.Keys(), err)
		}
		if after := read(t, filepath.Join(dir, ".env")); after != step.after {
			t.Errorf("the file is %q, want %q", after, step.after)
		}
		held, err := c.Observe(t.Context(), step.want)
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range step.want {
			if string(held[key]) != string(value) {
				t.Errorf("%s is observed as %s, want %s", key, held[key], value)
			}
		}
	}
	write(t, filepath.Join(dir, ".env"), "A_B=by hand\n")
	held, err := c.Observe(t.Context(), connector.Values{"variable/a-b": nil, "variable/a_b": nil})
	if err != nil || len(held) == 0 {
		t.Errorf("what stands where nothing should is not seen: %v, %v", held, err)
	}
}

func TestValueThatAFormatCannotHoldIsRefusedByNormal(t *testing.T) {
	for _, c := range []struct{ entry, key, value string }{
		{"{path: a.toml}", "flag/k", `{"a":[null]}`}, {"{path: a.env}", "flag/k", `null`}, {"{path: a.env}", "flag/k", `"\u0000"`},
		{"{path: a.env}", "flag/k", `"it's\n\\"`}, {"{path: a.env}", "flag/log-level", `"x"`},
	} {
		c2 := opened(t, parseConfig(t, "{root: ., files: ["+strings.TrimSuffix(c.entry, "}")+", resources: [flag/*]}]}"), t.TempDir())
		_, err := c2.Normal(c.key, []byte(c.value))
		if e := connector.AsError(err); e == nil || !e.Permanent || e.Reason != connector.ReasonValueUnsupported {
			t.Errorf("%s %s: %v", c.entry, c.value, err)
		}
	}
}

func TestModeIsKeptAndNewFilesGetTheConfiguredOne(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "old.json"), "{}")
	if err := os.Chmod(filepath.Join(dir, "old.json"), 0o604); err != nil {
		t.Fatal(err)
	}
	c := opened(t, parseConfig(t, `{root: ., mode: "0660", files: [{path: old.json, resources: [flag/*]}, {path: new.json, resources: [variable/*]}]}`), dir)
	plan, err := c.Plan(t.Context(), connector.Values{"flag/a": []byte("1"), "variable/a": []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"old.json": 0o604, "new.json": 0o660} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
	if err := c.Undo(t.Context(), plan.Units); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "old.json")); err != nil || info.Mode() != 0o604 {
		t.Errorf("after the undo: %v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new.json")); !os.IsNotExist(err) {
		t.Error("the new file is still there")
	}
}

func TestNothingOutsideTheRootIsTouched(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "a.json"), `{"k":0}`)
	root := t.TempDir()
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(outside, "a.json"), "file.json")
	link(outside, "dir")
	write(t, filepath.Join(root, "inside.json"), `{"k":0}`)
	link("inside.json", "alias.json")
	for _, path := range []string{"file.json", "dir/a.json", "alias.json"} {
		c := open(t, parseConfig(t, "{root: ., files: [{path: "+path+", resources: [flag/*]}]}"), root)
		_, observeErr := c.Observe(t.Context(), connector.Values{"flag/k": nil})
		_, planErr := c.Plan(t.Context(), connector.Values{"flag/k": []byte("1")})
		for _, err := range []error{observeErr, planErr} {
			if e := connector.AsError(err); e == nil || !e.Permanent || e.Reason != connector.ReasonPathEscapes {
				t.Errorf("%s: %v", path, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, filepath.Join(outside, "a.json")); got != `{"k":0}` {
		t.Errorf("outside: %s", got)
	}
}

func TestMissingDirectoryIsAPermanentErrorOfApply(t *testing.T) {
	_, err := applied(t, "{path: no/a.json, resources: [flag/*]}", "", connector.Values{"flag/k": []byte("1")})
	if e := connector.AsError(err); e == nil || !e.Permanent || e.Reason != connector.ReasonWriteFailed {
		t.Errorf("got %v", err)
	}
}

func TestSecondAgentOnOneRootIsRefusedByName(t *testing.T) {
	dir := t.TempDir()
	cfg := parseConfig(t, "{root: ., files: [{path: a.json, resources: [flag/*]}]}")
	first := open(t, cfg, dir)
	_, err := Open("files", cfg, dir, "prod/agent-2")
	if err == nil || !strings.Contains(err.Error(), "prod/agent-1") {
		t.Errorf("got %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	opened(t, cfg, dir)
}

func TestLeftoverOfACrashIsRemovedAtOpen(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, tempName("a.json")), "s3cret")
	opened(t, parseConfig(t, "{root: ., files: [{path: a.json, resources: [flag/*]}]}"), dir)
	if _, err := os.Stat(filepath.Join(dir, tempName("a.json"))); !os.IsNotExist(err) {
		t.Error("it is still there")
	}
}

func TestFailedReloadIsPutBackAndReloadedAgain(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "reload.sh"), "cat a.json >> log\ngrep -q bad a.json && { echo 'refused' >&2; exit 2; }\nexit 0\n")
	write(t, filepath.Join(dir, "a.json"), `{"k":"good"}`)
	c := opened(t, parseConfig(t, "{root: ., files: [{path: a.json, resources: [flag/*]}], reload: {command: [sh, reload.sh], timeout: 10s}}"), dir)
	plan, err := c.Plan(t.Context(), connector.Values{"flag/k": []byte(`"bad"`)})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Apply(t.Context(), plan)
	if e := connector.AsError(err); e == nil || e.Reason != connector.ReasonReloadFailed || !e.Permanent || !strings.Contains(e.Error(), "refused") {
		t.Fatalf("got %v", err)
	}
	if err := c.Undo(t.Context(), plan.Units); err != nil {
		t.Fatal(err)
	}
	if log := read(t, filepath.Join(dir, "log")); log != `{"k":"bad"}{"k":"good"}` {
		t.Errorf("the application read %s", log)
	}
	if plan, err := c.Plan(t.Context(), connector.Values{"flag/k": []byte(`"good"`)}); err != nil || len(plan.Units) != 0 {
		t.Errorf("%v, %v", plan.Units, err)
	}
}

// A crash between the last rename and the reload: the files are right, the application is not.
func TestInterruptedReloadIsDoneByTheNextApply(t *testing.T) {
	dir := t.TempDir()
	cfg := parseConfig(t, "{root: ., files: [{path: a.json, resources: [flag/*]}], reload: {command: [sh, -c, 'echo reloaded >> log']}}")
	c := open(t, cfg, dir)
	want := connector.Values{"flag/k": []byte("1")}
	plan, err := c.Plan(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	c.disk.fault = func(p fault.Point, _ fault.Stage) error {
		if p == fault.DirectorySynced {
			return unix.EIO
		}
		return nil
	}
	if err := c.Apply(t.Context(), plan); err == nil {
		t.Fatal("the apply did not fail")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = opened(t, cfg, dir)
	again, err := c.Plan(t.Context(), want)
	if err != nil || len(again.Units) != 1 || len(again.Changes) != 0 {
		t.Fatalf("%v, %v", again.Units, err)
	}
	if err := c.Prepare(t.Context(), &again, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if log := read(t, filepath.Join(dir, "log")); log != "reloaded\n" {
		t.Errorf("log %q", log)
	}
	if rest, err := c.Plan(t.Context(), want); err != nil || len(rest.Units) != 0 {
		t.Errorf("%v, %v", rest.Units, err)
	}
}

func TestReloadBySignalReachesTheProcessInThePIDFile(t *testing.T) {
	dir := t.TempDir()
	signalled := make(chan os.Signal, 1)
	signal.Notify(signalled, syscall.SIGUSR1)
	t.Cleanup(func() { signal.Stop(signalled) })
	c := opened(t, parseConfig(t, "{root: ., files: [{path: a.json, resources: [flag/*]}], reload: {signal: USR1, pidFile: app.pid}}"), dir)
	plan, err := c.Plan(t.Context(), connector.Values{"flag/k": []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	if e := connector.AsError(c.Apply(t.Context(), plan)); e == nil || e.Permanent || e.Reason != connector.ReasonReloadFailed {
		t.Fatalf("without a process: %v", e)
	}
	write(t, filepath.Join(dir, "app.pid"), fmt.Sprintln(os.Getpid()))
	if err := c.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	select {
	case <-signalled:
	case <-time.After(time.Minute):
		t.Fatal("no signal came")
	}
}

func TestValidateNamesTheField(t *testing.T) {
	const ok = "path: a.json, resources: [flag/*]"
	for text, field := range map[string]string{
		"{files: [{" + ok + "}]}": "root:",
		"{root: .}":               "files:",
		"{root: ., mode: rw, files: [{" + ok + "}]}":                             "mode:",
		"{root: ., mode: \"0400\", files: [{" + ok + "}]}":                       "mode:",
		"{root: ., files: [{resources: [flag/*]}]}":                              "files[0]: path:",
		"{root: ., files: [{path: ../a.json, resources: [flag/*]}]}":             "files[0]: path:",
		"{root: ., files: [{path: /a.json, resources: [flag/*]}]}":               "files[0]: path:",
		"{root: ., files: [{path: b/../a.json, resources: [flag/*]}]}":           "files[0]: path:",
		"{root: ., files: [{path: .lockstep.lock, resources: [flag/*]}]}":        "files[0]: path:",
		"{root: ., files: [{path: a.txt, resources: [flag/*]}]}":                 "files[0]: format:",
		"{root: ., files: [{format: xml, " + ok + "}]}":                          "files[0]: format:",
		"{root: ., files: [{path: a.json}]}":                                     "files[0]: resources:",
		"{root: ., files: [{path: a.json, resources: ['*']}]}":                   "files[0]: resources:",
		"{root: ., files: [{at: flags, " + ok + "}]}":                            "files[0]: at:",
		"{root: ., files: [{at: /, " + ok + "}]}":                                "files[0]: at:",
		"{root: ., files: [{path: .env, at: /a, resources: [flag/*]}]}":          "files[0]: at:",
		"{root: ., files: [{own: all, " + ok + "}]}":                             "files[0]: own:",
		"{root: ., files: [{key: camel, " + ok + "}]}":                           "files[0]: key:",
		"{root: ., files: [{" + ok + "}, {path: a.json, resources: [flag/*]}]}":  "files[1]: path:",
		"{root: ., files: [{" + ok + "}, {path: b.json, resources: [flag/x]}]}":  "files[1]: resources:",
		"{root: ., files: [{" + ok + "}], reload: {}}":                           "reload: give",
		"{root: ., files: [{" + ok + "}], reload: {signal: KILL, pidFile: p}}":   "reload: signal:",
		"{root: ., files: [{" + ok + "}], reload: {signal: HUP, pidFile: ../p}}": "reload: pidFile:",
		"{root: ., files: [{" + ok + "}], reload: {command: [a], timeout: -1s}}": "reload: timeout:",
	} {
		if err := parseConfig(t, text).Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v, want %s", text, err, field)
		}
	}
	if err := parseConfig(t, "{root: ., files: [{"+ok+"}]}").Validate(); err != nil {
		t.Error(err)
	}
}
