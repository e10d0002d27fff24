package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-dev/lockstep/internal/changefile"
	"github.com/lockstep-dev/lockstep/internal/console/consoletest"
)

func readDocs(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheManualNamesEveryVerb(t *testing.T) {
	manual := readDocs(t)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Hidden || sub.Name() == "completion" {
				continue // what the program starts by itself, and what cobra brings
			}
			walk(sub)
			name := strings.TrimPrefix(sub.CommandPath(), "publisher ")
			if !regexp.MustCompile("`(help )?"+name+"[ `]").MatchString(manual) && !sub.HasSubCommands() {
				t.Errorf("%s is not in docs/cli.md", name)
			}
			if sub.Short == "" {
				t.Errorf("%s does not say what it does", name)
			}
			sub.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if kind, _ := pflag.UnquoteUsage(f); strings.HasPrefix(kind, "string") {
					t.Errorf("%s --%s does not say what it takes: put the word in backquotes", name, f.Name)
				}
			})
		}
	}
	walk(newRoot(&cli{}, nil))
}

func TestCommandsOnEveryPageFitTheProgram(t *testing.T) {
	consoletest.CheckPages(t, "../..", newRoot(&cli{}, nil))
}

func TestTheManualKnowsTheExitCodes(t *testing.T) {
	manual := strings.ReplaceAll(readDocs(t), "`", "")
	for line := range strings.Lines(exitCodesTopic().Long) {
		code, meaning, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.Contains(manual, "| "+code+" | "+strings.TrimSpace(meaning)+" |") {
			t.Errorf("docs/cli.md does not say: %s", line)
		}
	}
}

func TestTheManualsChangeFileCanBeRead(t *testing.T) {
	_, rest, _ := strings.Cut(readDocs(t), "## Change files\n\n```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if _, err := changefile.Parse("cli.md", []byte(example), changefile.Said{}); err != nil || !found {
		t.Error(err)
	}
}
