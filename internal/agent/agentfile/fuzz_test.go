package agentfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/agent/agentfile"
	"github.com/lockstep-dev/lockstep/internal/config"
)

// FuzzRead: an agent's file makes sense as a whole and has its defaults, or the error is one line that names a place in it.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		connectors, "state: /var/lib/x\nlisten: none\nmaxStaleness: 5m\nstep: true\nonFirstContact: overwrite\nsecrets:\n  env: [CRM_*]\n  files: [/run/secrets]\n" + connectors,
		"connectors: []\n", "connectors:\n- name: app\n", "connectors:\n- name: x\n  exec: {command: [sh], resources: [flag/*]}\n", "maxStaleness: -1s\n" + connectors,
		"secrets: {env: ['*'], files: [relative]}\n" + connectors, "listen: \"\"\n" + connectors, "onFirstContact: maybe\n" + connectors, "state: [a]\n", "a: &x [*x]\n", "\tstate: x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := agentfile.Read(path)
		if err != nil {
			place, is := errors.AsType[*config.Error](err)
			if !is || place.File != path || place.Line < 1 || place.Column < 1 || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%#v", err)
			}
			return
		}
		if !filepath.IsAbs(file.State) || file.Listen == "" || file.MaxStaleness <= 0 || len(file.Connectors) == 0 {
			t.Fatalf("%+v", file)
		}
	})
}
