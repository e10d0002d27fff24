package policy

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// KindTest is the kind of a table of cases. It is no manifest: files that end in _test.yaml hold tables, and nothing else.
const KindTest = "PolicyTest"

// A table is a file's document as its author writes it.
type table struct {
	APIVersion string     `yaml:"apiVersion"`
	Kind       string     `yaml:"kind"`
	Policy     string     `yaml:"policy"`
	Cases      []testCase `yaml:"cases"`
}

// A testCase is one operation, and what the policy is to say of it.
type testCase struct {
	Name        string           `yaml:"name"`
	Environment where            `yaml:"environment"`
	Resource    string           `yaml:"resource"` // key; its manifest is the directory's, if that has one
	Before      *config.Value    `yaml:"before"`   // nil where it is new
	After       *config.Value    `yaml:"after"`    // nil where it is deleted
	Change      changed          `yaml:"change"`
	At          time.Time        `yaml:"at"`        // of the proposal
	Elsewhere   map[string]where `yaml:"elsewhere"` // other environments, for parity
	Expect      []string         `yaml:"expect"`    // actions; none where the policy does not match
	Message     string           `yaml:"message"`   // is in what one of them says
}

type where struct {
	Name   string            `yaml:"name"`
	Labels map[string]string `yaml:"labels"`
	Facts  map[string]string `yaml:"facts"`
	Value  *config.Value     `yaml:"value"` // of the resource, elsewhere
}

type changed struct {
	Author string `yaml:"author"`
	Reason string `yaml:"reason"`
	Ticket string `yaml:"ticket"`
	Kind   string `yaml:"kind"`
}

// A Result is what became of one case.
type Result struct {
	registry.Place
	Policy string `json:"policy"`
	Case   string `json:"case"`
	OK     bool   `json:"ok"`
	Says   string `json:"says,omitempty"` // what is otherwise than expected
}

// LoadTables reads the files of tables that lie in a directory, at any depth, as registry.Load reads those of manifests.
func LoadTables(fsys fs.FS, prefix string) ([]registry.File, error) {
	var out []registry.File
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !entry.Type().IsRegular() || !registry.IsTest(name):
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Size() > registry.MaxFile || len(out) == registry.MaxFiles {
			return fmt.Errorf("%s: the tables are too many or too large: at most %d files of %d bytes are read", path.Join(prefix, name), registry.MaxFiles, registry.MaxFile)
		}
		text, err := fs.ReadFile(fsys, name)
		out = append(out, registry.File{Name: path.Join(prefix, name), Text: string(text)})
		return err
	})
	return out, err
}

// Test judges the cases of tables by the policies of a directory. Results are in the order of files and cases; the names are of
// policies that have no case. Errors are registry.Problems, or of one table.
func Test(s *registry.Sources, tables []registry.File) (results []Result, without []string, err error) {
	compiled := map[string]*Policy{}
	var problems registry.Problems
	for _, m := range policies(s) {
		p, err := Compile(m)
		if err != nil {
			problems = append(problems, err)
		}
		compiled[m.Name()] = p
	}
	if len(problems) > 0 {
		return nil, nil, problems
	}
	tested := map[string]bool{}
	for _, f := range tables {
		documents, err := config.Documents(f.Name, []byte(f.Text))
		if err != nil {
			return nil, nil, err
		}
		for _, d := range documents {
			t, lines, err := readTable(d, slices.Sorted(maps.Keys(compiled)))
			if err != nil {
				return nil, nil, err
			}
			tested[t.Policy] = true
			for i, c := range t.Cases {
				says, err := c.judge(s, compiled[t.Policy])
				if err != nil {
					return nil, nil, &config.Error{File: f.Name, Line: lines[i], Column: 1, Message: err.Error()}
				}
				results = append(results, Result{Place: registry.Place{File: f.Name, Line: lines[i]}, Policy: t.Policy, Case: c.Name, OK: says == "", Says: says})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(compiled)) {
		if !tested[name] {
			without = append(without, name)
		}
	}
	return results, without, nil
}

// readTable reads one table, and on which line each of its cases stands.
func readTable(d config.Document, names []string) (table, []int, error) {
	var t table
	wrong := func(path, format string, args ...any) error {
		line := d.Line
		if leaves, err := d.Leaves(); err == nil {
			for _, l := range leaves {
				if l.Path == path {
					line = l.Line
				}
			}
		}
		return &config.Error{File: d.File, Line: line, Column: 1, Message: fmt.Sprintf(format, args...)}
	}
	if err := d.Decode(&t); err != nil {
		return t, nil, err
	}
	if t.APIVersion != registry.APIVersion || t.Kind != KindTest {
		return t, nil, wrong("/kind", "a file that ends in _test.yaml holds tables of cases: begin it with apiVersion: %s and kind: %s", registry.APIVersion, KindTest)
	}
	if !slices.Contains(names, t.Policy) {
		hint := ""
		if near := config.Nearest(t.Policy, names); near != "" {
			hint = "; did you mean " + near + "?"
		}
		return t, nil, wrong("/policy", "there is no policy %q%s", t.Policy, hint)
	}
	leaves, err := d.Leaves()
	if err != nil {
		return t, nil, err
	}
	for _, l := range leaves {
		if l.Path == "/cases" && len(t.Cases) > 0 && len(l.Items) == len(t.Cases) {
			return t, l.Items, nil
		}
	}
	return t, nil, wrong("/cases", "the table has no cases")
}

// judge says what is otherwise than the case expects; nothing where all is as expected.
func (c testCase) judge(s *registry.Sources, p *Policy) (string, error) {
	if c.Name == "" || c.Before == nil && c.After == nil {
		return "", fmt.Errorf("a case has a name, and before, after or both; this one lacks one of them")
	}
	if err := events.CheckKey(c.Resource); err != nil {
		return "", err
	}
	for _, action := range c.Expect {
		if !slices.Contains(actions, action) {
			return "", fmt.Errorf("%q is not one of %s", action, strings.Join(actions, ", "))
		}
	}
	r := c.request(s)
	j := newJudge(r)
	j.environment(&r.Environments[0], []*Policy{p})
	return c.otherwise(j.tally.verdicts()), nil
}

func (c testCase) request(s *registry.Sources) Request {
	m, _ := s.Manifest(c.Resource)
	o := Operation{Key: c.Resource, Before: jsonOf(c.Before), After: jsonOf(c.After), Is: m}
	r := Request{
		Change: &Change{Author: c.Change.Author, Reason: c.Change.Reason, Ticket: c.Change.Ticket, Kind: c.Change.Kind, Time: c.At},
		Environments: []Environment{{Name: c.Environment.Name, Labels: c.Environment.Labels, Facts: c.Environment.Facts, Released: s,
			Operations: slices.Values([]Operation{o})}},
	}
	for _, name := range slices.Sorted(maps.Keys(c.Elsewhere)) {
		other := c.Elsewhere[name]
		r.Elsewhere = append(r.Elsewhere, Elsewhere{Name: name, Labels: other.Labels, Released: func(string) json.RawMessage { return jsonOf(other.Value) }})
	}
	return r
}

func jsonOf(v *config.Value) json.RawMessage {
	if v == nil {
		return nil
	}
	return v.JSON
}

func (c testCase) otherwise(verdicts []events.Verdict) string {
	got, said := []string{}, false
	for _, v := range verdicts {
		if !slices.Contains(got, v.Action) {
			got = append(got, v.Action)
		}
		said = said || strings.Contains(v.Message, c.Message)
	}
	want := slices.SortedFunc(slices.Values(c.Expect), func(a, b string) int { return slices.Index(actions, a) - slices.Index(actions, b) })
	switch {
	case !slices.Equal(got, slices.Compact(want)):
		return fmt.Sprintf("expected %s, got %s", words(want), words(got)+because(verdicts))
	case c.Message != "" && !said:
		return fmt.Sprintf("expected a message with %q, got none%s", c.Message, because(verdicts))
	}
	return ""
}

func words(list []string) string {
	if len(list) == 0 {
		return "no match"
	}
	return strings.Join(list, ", ")
}

func because(verdicts []events.Verdict) string {
	var out []string
	for _, v := range verdicts {
		if v.Message != "" {
			out = append(out, v.Message)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, "; ")
}
