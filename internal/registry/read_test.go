package registry_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

// manifest is a manifest whose spec is indented by two.
func manifest(kind, name, spec string) string {
	return "apiVersion: lockstep/v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\n" + "spec:\n  " + strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  ") + "\n"
}

func files(texts ...string) []registry.File {
	var out []registry.File
	for i, text := range texts {
		out = append(out, registry.File{Name: fmt.Sprintf("f%d.yaml", i), Text: text})
	}
	return out
}

func read(t interface {
	Helper()
	Fatalf(string, ...any)
}, texts ...string) *registry.Sources {
	t.Helper()
	s, err := registry.Read(files(texts...))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

func TestWhatIsWrongIsSaidWithItsPlaceAndHowToWriteIt(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"no apiVersion":              {"kind: Flag\n", `f0.yaml:1:1: a manifest begins with apiVersion: lockstep/v1`},
		"other apiVersion":           {"apiVersion: v1\nkind: Flag\n", `f0.yaml:1:1: the apiVersion "v1" is not known here: write lockstep/v1`},
		"unknown kind":               {"apiVersion: lockstep/v1\nkind: Flags\n", `f0.yaml:2:1: the kind "Flags" is not known: did you mean "Flag"?`},
		"safe value of another type": {manifest("Variable", "a", "type: integer\ndefault: 1\nsafeValue: low"), `f0.yaml:7:1: variable/a: its value is of type string, and spec.type is integer`},
		"text behind a block's sign": {manifest("Variable", "a", "default: | password=hunter2\n  b"), `f0.yaml:5:12: not valid YAML: after the | or > that begins a block of text nothing else stands on the line`},
		"not UTF-8":                  {manifest("Variable", "a", "default: Gr\xfc\xdfe"), `f0.yaml:5:14: the file is no UTF-8 text from here on: save it as UTF-8`},
		"UTF-16":                     {"\xff\xfea\x00", `f0.yaml:1:1: the file is no UTF-8 text`},
		"no name":                    {"apiVersion: lockstep/v1\nkind: Flag\nspec: {}\n", `this one has no metadata.name`},
		"name":                       {manifest("Environment", "Prod_EU", "facts: {}"), `f0.yaml:3:12: "Prod_EU" is not a name: lower-case letters, digits and single hyphens between them, at most 63 characters; write prod-eu`},
		"name of a resource":         {manifest("Variable", "'log level'", "default: 1"), `write variable/log-level`},
		"name that is a number":      {manifest("Variable", "5", "default: 1"), `f0.yaml:3:18: this is a number, but must be text (put it in quotes)`},
		"unknown field":              {manifest("Flag", "a", "defualt: 1"), `f0.yaml:5:3: unknown key "defualt": did you mean "default"?`},
		"unknown field, second":      {manifest("Flag", "a", "default: 1") + "---\n" + manifest("Flag", "b", "defualt: 1"), `f0.yaml:11:3: unknown key`},
		"wrong kind of value":        {manifest("Environment", "dev", "facts: {platform.version: 9.2}"), `f0.yaml:5:29: this is a number, but must be text (put it in quotes)`},
		"duplicate key":              {manifest("Variable", "a", "default: 1\ndefault: 2"), `f0.yaml:6:3: the key "default" stands twice`},
		"duplicate key in a value":   {manifest("Document", "a", "default: {x: 1, x: 2}"), `the key "x" stands twice`},
		"anchors that explode":       {bomb, `aliases make the document too large`},
		"alias without anchor":       {"a: *b\n", `names no anchor`},
		"yes for a boolean":          {manifest("Variable", "a", "type: boolean\ndefault: yes"), `f0.yaml:6:3: a boolean is meant here, and a plain yes is text: write true`},
		"no for a boolean override":  {manifest("Variable", "a", "type: boolean\ndefault: true\noverrides: {dev: no}"), `a boolean is meant here, and a plain no is text: write false`},
		"no for a text":              {manifest("Variable", "a", "type: string\ndefault: no"), `a text is meant here, and a plain no is a boolean to some readers of YAML: write "no" in quotes`},
		"on for a variant":           {manifest("Flag", "a", "default: {variants: {on: true}, defaultVariant: on}"), `a text is meant here, and a plain on is a boolean`},
		"off for either":             {manifest("Variable", "a", "default: off"), `write false if a boolean is meant, or "off" in quotes if a text is`},
		"Norway":                     {manifest("Document", "a", "default: {countries: [se, no]}"), `in this list is a boolean to some readers`},
		"owner on":                   {"apiVersion: lockstep/v1\nkind: Flag\nmetadata: {name: a, owner: on}\n", `f0.yaml:3:21: a text is meant here`},
		"integer too large":          {manifest("Variable", "a", "default: 9007199254740993"), `beyond ±(2^53−1): write it in quotes`},
		"number that loses digits":   {manifest("Variable", "a", "default: 0.12345678901234567890123"), `has more digits than a double keeps`},
		"version as a number":        {manifest("Variable", "a", "version: 1.10\ndefault: 1"), `f0.yaml:5:12: this is a number, but must be text`},
		"octal":                      {manifest("Variable", "a", "default: 0777"), `octal`},
		"tab":                        {"apiVersion: lockstep/v1\nkind: Flag\nmetadata:\n\tname: a\n", `f0.yaml:4:1: a tab indents this line: YAML takes spaces only`},
		"no YAML":                    {"a: [", `f0.yaml:1:`},
		"lifecycle":                  {manifest("Variable", "a", "lifecycle: dead\ndefault: 1"), `f0.yaml:5:1: variable/a: "dead" is not one of draft, active, deprecated, retired`},
		"date":                       {manifest("Variable", "a", "expires: soon\ndefault: 1"), `"soon" is no date`},
		"pattern":                    {manifest("Variable", "a", "overrides: {'[': 1}"), `"[" is no pattern`},
		"override of no name":        {manifest("Variable", "a", "overrides: {Prod: 1}"), `write prod`},
		"requirement":                {manifest("Variable", "a", "requires: [{}]"), `the requirement names 0 of resource, agent and fact`},
		"value of no resource":       {manifest("Template", "a", "values: {loglevel: 1}"), `is not a resource: write <kind>/<name>`},
		"template":                   {manifest("Environment", "a", "template: [x]"), `this is a list, but must be a mapping`},
		"template short form":        {manifest("Environment", "a", "template: 5"), `must be the name of a template`},
		"overridable":                {manifest("Variable", "a", "overridable: never\ndefault: 1"), `must be false, or say who may override what`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := registry.Read(files(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v\nwant %s", err, c.want)
			}
			if e, ok := errors.AsType[*config.Error](err); !ok || e.Line == 0 {
				t.Errorf("no place: %v", err)
			}
		})
	}
}

func TestEveryProblemIsSaidAtOnceInTheOrderOfTheFiles(t *testing.T) {
	_, err := registry.Read(files(manifest("Flag", "B_", "defualt: 1")+"---\n"+manifest("Variable", "c", "default: yes"), manifest("Template", "X", "version: '1'")))
	problems, ok := errors.AsType[registry.Problems](err)
	if !ok || len(problems) != 3 || !strings.HasPrefix(problems[2].Error(), "f1.yaml") {
		t.Fatalf("%v", err)
	}
	if want := "and 2 more"; !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
}

func TestOneIdentityStandsOnce(t *testing.T) {
	_, err := registry.Read(files(manifest("Flag", "a", "default: 1"), "# so\n"+manifest("Flag", "a", "default: 1")))
	if want := "f1.yaml:2:1: flag/a stands here and at f0.yaml:1: keep one of them"; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestAFileHoldsSeveralManifestsAndWhatLooksLikeABoundaryInsideTextIsOne(t *testing.T) {
	s := read(t, "---\n"+manifest("Flag", "a", "default: 1")+"--- # next\n"+manifest("Variable", "b", "default: |\n  x\n   --- y\n  z")+"---\n---\r\n"+strings.ReplaceAll(manifest("Document", "c", "default: {}"), "\n", "\r\n"))
	if len(s.Manifests()) != 3 {
		t.Fatalf("%d manifests", len(s.Manifests()))
	}
	m, _ := s.Manifest("variable/b")
	if tree, err := m.Tree(); err != nil || !strings.Contains(string(tree), `"x\n --- y\nz\n"`) {
		t.Errorf("%s (%v)", tree, err)
	}
	if m, _ := s.Manifest("document/c"); m.Place().Line != 18 {
		t.Errorf("document/c begins at %s", m.Place())
	}
}

func TestADirectoryIsReadWithinLimits(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func() ([]registry.File, error) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		return registry.Load(root.FS(), "conf")
	}
	refused := func(want string) {
		t.Helper()
		if _, err := load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	refused("there are no manifests")
	write("a.yaml", manifest("Flag", "a", "default: 1"))
	write("deep/er/b.YML", manifest("Flag", "b", "default: 1"))
	write("c.json", `{"apiVersion": "lockstep/v1", "kind": "Flag", "metadata": {"name": "c"}}`)
	write(".git/d.yaml", "no manifest")
	write(".hidden.yaml", "no manifest")
	write("README.md", "no manifest")
	found, err := load()
	if err != nil || len(found) != 3 || found[0].Name != "conf/a.yaml" {
		t.Fatalf("%v, %v", found, err)
	}
	if s, err := registry.Read(found); err != nil || len(s.Manifests()) != 3 {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "secret.yaml")
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"out.yaml": outside, "up.yaml": "../../secret.yaml", "gone.yaml": "nothing.yaml", "etc": "/etc"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
		refused("conf/" + link + ": the symbolic link leaves the directory or leads nowhere")
		if err := os.Remove(filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("deep", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	refused("a symbolic link to a directory is not followed")
	if err := os.Remove(filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	write("huge.yaml", strings.Repeat("#", registry.MaxFile+1))
	refused("conf/huge.yaml: the file has 10485761 bytes; at most 10485760 are read")
}

func TestAFileOfTenMegabytesAndTenThousandFilesAreRead(t *testing.T) {
	var b strings.Builder
	for i := 0; b.Len() < registry.MaxFile-4096; i++ {
		fmt.Fprintf(&b, "---\n%s", manifest("Document", fmt.Sprintf("d%d", i), "default: |\n  "+strings.Repeat("x", 3000)))
	}
	if s := read(t, b.String()); len(s.Manifests()) < 3000 {
		t.Errorf("%d manifests", len(s.Manifests()))
	}
	many := make([]registry.File, 10_000)
	for i := range many {
		many[i] = registry.File{Name: fmt.Sprintf("%d.yaml", i), Text: manifest("Variable", fmt.Sprintf("v%d", i), "default: 1")}
	}
	if s, err := registry.Read(many); err != nil || len(s.Manifests()) != len(many) {
		t.Fatal(err)
	}
	if _, err := registry.Read(make([]registry.File, registry.MaxFiles+1)); err == nil || !strings.Contains(err.Error(), "at most 20000 are read") {
		t.Errorf("%v", err)
	}
	one := manifest("Document", "large", "default: "+strings.Repeat("x", config.MaxSize))
	if _, err := registry.Read(files(one)); err == nil || !strings.Contains(err.Error(), "keep large content elsewhere") {
		t.Errorf("%.200v", err)
	}
}
