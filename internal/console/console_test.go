package console

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// program is one with a verb, a group of verbs, and flags.
func program(args ...string) (*cobra.Command, *strings.Builder) {
	var format Format
	root := &cobra.Command{Use: "program", SilenceErrors: true, SilenceUsage: true}
	root.PersistentFlags().VarP(&format, "output", "o", "as `FORMAT`")
	verb := &cobra.Command{Use: "status [NAME]", Args: cobra.MaximumNArgs(1), RunE: func(*cobra.Command, []string) error { return nil }}
	verb.Flags().Bool("watch", false, "")
	holder := &cobra.Command{Use: "trust"}
	Group(root)
	Group(holder)
	holder.AddCommand(&cobra.Command{Use: "show", RunE: verb.RunE})
	root.AddCommand(verb, holder, VersionCommand("program", &format))
	Strict(root, args)
	var out strings.Builder
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(io.Discard)
	return root, &out
}

func TestAWordThatIsNotThereEndsWithWhatMayHaveBeenMeant(t *testing.T) {
	for line, want := range map[string]string{
		"stats":                 `there is no command "stats"; did you mean "status"?; see 'program --help'`,
		"nothing-like-it":       `there is no command "nothing-like-it"; see 'program --help'`,
		"trust sow":             `there is no command "sow"; did you mean "show"?; see 'program trust --help'`,
		"trust sow --all":       `there is no command "sow"; did you mean "show"?; see 'program trust --help'`,
		"status --wach":         `unknown flag: --wach; did you mean "--watch"?; see 'program status --help'`,
		"status --ouptut json":  `unknown flag: --ouptut; did you mean "--output"?; see 'program status --help'`,
		"status -x":             `unknown shorthand flag: 'x' in -x; see 'program status --help'`,
		"status a b":            `these arguments do not fit; write program status [NAME]; see 'program status --help'`,
		"version now":           `these arguments do not fit; write program version; see 'program version --help'`,
		"version -o xml":        `invalid argument "xml" for "-o, --output" flag: want table, json or yaml; see 'program version --help'`,
		"help stats":            `there is no command "stats"; did you mean "status"?; see 'program --help'`,
		"completion bsh":        `there is no command "bsh"; did you mean "bash"?; see 'program completion --help'`,
		"completion bash extra": `these arguments do not fit; write program completion bash; see 'program completion bash --help'`,
	} {
		root, out := program(strings.Fields(line)...)
		err := root.Execute()
		exit, ok := errors.AsType[*ExitError](err)
		if !ok || exit.Code != ExitUsage || exit.Message != want || out.Len() > 0 {
			t.Errorf("%s: %v (%q), want %s", line, err, out, want)
		}
	}
}

func TestDataIsWrittenInTheFormatThatIsAskedFor(t *testing.T) {
	for line, want := range map[string]string{
		"version":         "program ",
		"version -o json": "{\n  \"go\": \"go",
		"version -o yaml": "go: go",
		"trust":           "Usage:",
		"help trust":      "Usage:",
	} {
		root, out := program(strings.Fields(line)...)
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, %q", line, err, out)
		}
	}
}

type full struct{ io.Writer }

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestWhatCannotBeWrittenIsNoSuccess(t *testing.T) {
	out := &Output{Writer: full{}}
	if _, err := out.Write([]byte("a")); err == nil || out.Err() == nil || !strings.Contains(out.Err().Error(), "not whole: no space left") {
		t.Errorf("%v, %v", err, out.Err())
	}
	if err := Format("json").Show(&Output{Writer: full{}}, 1, nil); err == nil {
		t.Error("data that nobody could write")
	}
	if err := Format("json").Show(io.Discard, make(chan int), nil); err == nil {
		t.Error("data that is no JSON")
	}
}
