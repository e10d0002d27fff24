package arch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// told is a command of ours in a runbook: one that was typed, or one in the text.
var told = regexp.MustCompile("(?m)^\\$ ((?:publisher|agent) .*)$|`((?:publisher|agent) [^`]*)`")

// groups are the verbs that have verbs below them.
var groups = []string{"env", "ledger", "trust", "checkpoint"}

// runbookCommands are the different commands that runbooks tell people to type.
func runbookCommands(t *testing.T) (lines []commandLine) {
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range told.FindAllStringSubmatch(string(text), -1) {
			words := strings.Fields(m[1] + m[2])
			if len(words) > 2 && slices.Contains(groups, words[1]) && !strings.HasPrefix(words[2], "-") {
				words = slices.Concat(words[:1], []string{words[1] + " " + words[2]}, words[3:])
			}
			words = slices.DeleteFunc(words, func(word string) bool { return word == "-m" || word == "-o" })
			line := parseCommandLine(filepath.Base(page), words)
			if verb := fmt.Sprint(line.program, line.verb, line.flags); !known[verb] {
				known[verb] = true
				lines = append(lines, line)
			}
		}
	}
	if len(pages) == 0 || len(lines) < len(pages) {
		t.Errorf("%d runbooks tell %d commands", len(pages), len(lines))
	}
	return lines
}

// TestCommandLinesFitThePrograms asks the programs themselves what flags their verbs have.
func TestCommandLinesFitThePrograms(t *testing.T) {
	lines := slices.Concat(unitCommands(t), composeCommands(t), dockerfileCommands(t), runbookCommands(t))
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "./cmd/...")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	started := map[string]bool{}
	for _, line := range lines {
		started[line.program] = true
		out, err := exec.Command(filepath.Join(bin, line.program), append(strings.Fields(line.verb), "--help")...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %s %s --help: %v: %s", line.where, line.program, line.verb, err, out)
			continue
		}
		if !regexp.MustCompile(`(?m)^\s*` + line.program + ` ` + line.verb + `\b`).Match(out) {
			t.Errorf("%s: %s has no verb %s", line.where, line.program, line.verb)
		}
		for _, flag := range line.flags {
			if flag != "--help" && !regexp.MustCompile(regexp.QuoteMeta(flag)+`(\s|,)`).Match(out) {
				t.Errorf("%s: %s %s has no flag %s", line.where, line.program, line.verb, flag)
			}
		}
	}
	if !started["publisher"] || !started["agent"] {
		t.Errorf("only %v are deployed", started)
	}
}
