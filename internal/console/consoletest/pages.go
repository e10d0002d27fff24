// Package consoletest holds the command lines on pages against the programs that they start.
package consoletest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// CheckPages wants of every command line of a program on the pages of a repository that its verb and its flags are there.
func CheckPages(t *testing.T, repository string, root *cobra.Command) {
	t.Helper()
	lines := 0
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != repository {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, words := range commands(string(page), root.Name()) {
			lines++
			if why := fits(root, words); why != "" {
				t.Errorf("%s: %s %s: %s", path, root.Name(), strings.Join(words, " "), why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if lines < 10 {
		t.Errorf("%d command lines were found", lines)
	}
}

var (
	fence  = regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```")
	inline = regexp.MustCompile("`([^`\n]+)`")
	ends   = regexp.MustCompile(`^(?:[|>&;#(]|2>).*`)
)

// commands are the words behind a program's name, of every command in a page: lines of code that begin with it, and code within a line.
func commands(page, program string) (out [][]string) {
	var code []string
	page = fence.ReplaceAllStringFunc(page, func(block string) string {
		code = append(code, strings.Split(strings.ReplaceAll(block, "\\\n", " "), "\n")...)
		return ""
	})
	for _, span := range inline.FindAllStringSubmatch(page, -1) {
		code = append(code, span[1])
	}
	for _, line := range code {
		words := fields(strings.TrimPrefix(strings.TrimSpace(line), "$ "))
		for i, word := range words {
			if word == program && (i == 0 || words[i-1] == "&&" || words[i-1] == "sudo") {
				out = append(out, words[i+1:])
			}
		}
	}
	for i, words := range out {
		for j, word := range words {
			if ends.MatchString(word) {
				out[i] = words[:j]
				break
			}
		}
	}
	return out
}

// fields are the words of a line; what stands in quotes is one word.
func fields(line string) (out []string) {
	word, quote, open := "", rune(0), false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, open = r, true
		case quote == 0 && r == ' ':
			if word != "" || open {
				out = append(out, word)
			}
			word, open = "", false
		default:
			word += string(r)
		}
	}
	if word != "" || open {
		out = append(out, word)
	}
	return out
}

// fits says which word of a command line is none of the program's; "" where all are.
func fits(root *cobra.Command, words []string) string {
	cmd, rest, err := root.Find(words)
	switch {
	case err != nil:
		return err.Error()
	case cmd.HasSubCommands() && cmd != root && len(rest) > 0 && !strings.HasPrefix(rest[0], "-"):
		return "there is no verb " + rest[0]
	}
	cmd.InitDefaultHelpFlag()
	for _, word := range rest {
		name, long := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		var flag *pflag.Flag
		switch {
		case long && name != "":
			flag = lookup(cmd, func(f *pflag.FlagSet) *pflag.Flag { return f.Lookup(name) })
		case !long && len(word) == 2 && word[0] == '-' && word[1] != '-':
			flag = lookup(cmd, func(f *pflag.FlagSet) *pflag.Flag { return f.ShorthandLookup(word[1:]) })
		default:
			continue
		}
		if flag == nil {
			return "there is no flag " + word
		}
	}
	return ""
}

func lookup(cmd *cobra.Command, in func(*pflag.FlagSet) *pflag.Flag) *pflag.Flag {
	if f := in(cmd.Flags()); f != nil {
		return f
	}
	return in(cmd.InheritedFlags())
}
