package agentfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent/agentfile"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

const connectors = "connectors:\n- name: app\n  file:\n    root: app\n    files:\n    - path: app.json\n      resources: [variable/*]\n"

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFileHasItsDefaultsBesideIt(t *testing.T) {
	path := write(t, connectors)
	f, err := agentfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if f.State != filepath.Join(filepath.Dir(path), "lockstep-agent") || f.OnFirstContact != "refuse" || f.MaxStaleness != 2*time.Minute || f.Listen != "127.0.0.1:0" {
		t.Errorf("%+v", f)
	}
}

func TestAFileSaysEverythingThatAnAgentNeeds(t *testing.T) {
	path := write(t, "state: /var/lib/x\nlisten: 127.0.0.1:0\nmaxStaleness: 5m\nstep: true\nonFirstContact: overwrite\nsecrets:\n  env: [CRM_*]\n  files: [/run/secrets]\n"+connectors)
	if err := os.Mkdir(filepath.Join(filepath.Dir(path), "app"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := agentfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	e := &keys.Enrolment{Environment: "dev", Agent: "one"}
	router, closer, err := f.Open(e)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	o := f.Options(e, router)
	if o.State != "/var/lib/x" || o.Listen != "127.0.0.1:0" || o.MaxStale != 5*time.Minute || !o.Step || !o.Overwrite || o.Secrets.Env[0] != "CRM_*" || o.Secrets.Files[0] != "/run/secrets" {
		t.Errorf("%+v", o)
	}
	if _, _, err := f.Open(&keys.Enrolment{Environment: "dev", Agent: "two"}); err == nil || !strings.Contains(err.Error(), "dev/one") {
		t.Errorf("a second agent on the instance: %v", err)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"conectors: []\n":                      "agent.yaml:1:1: ",
		"step: 1\n" + connectors:               "agent.yaml:1:7: ",
		"onFirstContact: merge\n" + connectors: "want refuse or overwrite",
		"maxStaleness: -1s\n" + connectors:     "maxStaleness",
		"secrets: {files: [x]}\n" + connectors: "secrets: files",
		"secrets: {env: ['[']}\n" + connectors: "secrets: env",
		"":                                     "connectors: is empty",
		"connectors: [{name: a}]\n":            "connectors[0]: a: give one kind",
	} {
		if _, err := agentfile.Read(write(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := agentfile.Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestTheManualsExamplesCanBeRead(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(manual), "```yaml\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("docs/agent.md has no examples")
	}
	for _, rest := range blocks {
		example, _, closed := strings.Cut(rest, "```")
		if _, err := agentfile.Read(write(t, example)); err != nil || !closed {
			t.Errorf("%v in\n%s", err, example)
		}
	}
}
