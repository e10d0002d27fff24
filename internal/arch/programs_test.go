package arch

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestCommandLinesFitThePrograms asks the programs themselves what flags their verbs have.
func TestCommandLinesFitThePrograms(t *testing.T) {
	lines := slices.Concat(unitCommands(t), composeCommands(t), dockerfileCommands(t))
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "./cmd/...")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	started := map[string]bool{}
	for _, line := range lines {
		started[line.program] = true
		out, err := exec.Command(filepath.Join(bin, line.program), line.verb, "--help").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %s %s --help: %v: %s", line.where, line.program, line.verb, err, out)
			continue
		}
		if !regexp.MustCompile(`(?m)^\s*` + line.program + ` ` + line.verb + `\b`).Match(out) {
			t.Errorf("%s: %s has no verb %s", line.where, line.program, line.verb)
		}
		for _, flag := range line.flags {
			if !regexp.MustCompile(regexp.QuoteMeta(flag) + `(\s|,)`).Match(out) {
				t.Errorf("%s: %s %s has no flag %s", line.where, line.program, line.verb, flag)
			}
		}
	}
	if !started["publisher"] || !started["agent"] {
		t.Errorf("only %v are deployed", started)
	}
}
