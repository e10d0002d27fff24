package main

import (
	"bytes"
	"flag"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
)

var update = flag.Bool("update", false, "write the manual's worked example, or the list of metrics, anew")

// TestTheManualsWorkedExampleIsTrue runs every command of the worked example, one after the other, and compares what it says.
// -update writes the page anew: read the difference then.
func TestTheManualsWorkedExampleIsTrue(t *testing.T) {
	path, err := filepath.Abs("../../docs/environments-as-code.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, example, found := strings.Cut(string(page), "\n## A worked example\n")
	if !found {
		t.Fatal("there is no worked example")
	}
	server := httptest.NewServer(api.New(api.Options{Backend: apitest.New(t)}))
	t.Cleanup(server.Close)
	t.Chdir(t.TempDir())
	for name, value := range map[string]string{"LOCKSTEP_SERVER": server.URL, "LOCKSTEP_AS": "anna", "XDG_CONFIG_HOME": t.TempDir(), "NO_COLOR": "1"} {
		t.Setenv(name, value)
	}
	commands := 0
	is := regexp.MustCompile("(?ms)^```console\n(.*?)^```$").ReplaceAllStringFunc(example, func(block string) string {
		text := strings.TrimSuffix(strings.TrimPrefix(block, "```console\n"), "```")
		out := "```console\n"
		for i, part := range strings.Split("\n"+text, "\n$ ")[1:] {
			command, _, _ := strings.Cut(part, "\n")
			commands++
			if i > 0 {
				out += "\n"
			}
			out += "$ " + command + "\n" + perform(t, command)
		}
		return out + "```"
	})
	if commands < 20 {
		t.Fatalf("the worked example has %d commands", commands)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+"\n## A worked example\n"+is), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, got := strings.Split(timeless(example), "\n"), strings.Split(timeless(is), "\n")
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Fatalf("line %d of the worked example is\n%s\nand is run to\n%s", i+1, strings.Join(want[i:min(i+5, len(want))], "\n"), strings.Join(got[i:min(i+5, len(got))], "\n"))
		}
	}
}

// perform runs one command: ours here, others in a shell. What it writes is in one place, as on a terminal.
func perform(t *testing.T, command string) string {
	t.Helper()
	line, ours := strings.CutPrefix(command, "publisher ")
	if !ours {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		return string(out)
	}
	var out bytes.Buffer
	line, quiet := strings.CutSuffix(line, " 2>/dev/null")
	stderr := io.Writer(&out)
	if quiet {
		stderr = io.Discard
	}
	run(t.Context(), words(line), strings.NewReader(""), &out, stderr)
	return out.String()
}

// words are those of a command line, as a shell takes it apart: quotes hold them together.
func words(line string) (out []string) {
	word, quote, begun := "", rune(0), false
	for _, r := range line + " " {
		switch {
		case quote == 0 && (r == '\'' || r == '"'):
			quote, begun = r, true
		case r == quote:
			quote = 0
		case quote == 0 && r == ' ':
			if begun {
				out = append(out, word)
			}
			word, begun = "", false
		default:
			word, begun = word+string(r), true
		}
	}
	return out
}

// timeless is a text without what is otherwise each time.
func timeless(text string) string {
	for pattern, word := range map[string]string{
		`just now|[0-9.]+(ms|s|m) ago`:    "AGO",
		`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`: "TIME",
		`[0-9a-f]{64}`:                    "DIGEST",
		`sha256:[0-9a-f]+`:                "DIGEST",
		`  +`:                             "  ",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, word)
	}
	return text
}
