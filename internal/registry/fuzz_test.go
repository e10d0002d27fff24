package registry_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// FuzzRead: whatever a directory says, it is refused with file, line and column, or is read, written, rendered, judged and folded: the
// same each time, and without a word that is no JSON.
func FuzzRead(f *testing.F) {
	example := "../example/files"
	err := filepath.WalkDir(example, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".yaml") || registry.IsTest(path) {
			return err
		}
		text, err := os.ReadFile(path)
		f.Add(string(text))
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		manifest("Environment", "prod", "template: {name: t, version: ^1.0.0}\noverrides: {variable/a: null, document/d: {x: [1]}}") + "---\n" +
			manifest("Template", "t", "version: 1.2.3\nvalues: {variable/a: 1, document/d: {x: {y: 2}}}\nlocked: [{name: l, resources: 'document/*', path: /x, lock: value}]\nrequired: [variable/a]") + "---\n" +
			manifest("Variable", "a", "type: integer\noverrides: {'p*': 2}\nrequires: [{resource: document/d}]") + "---\n" + manifest("Document", "d", "default: {x: 1e2}"),
		manifest("Flag", "f", "default: {state: ENABLED, variants: {'on': true}, defaultVariant: 'on', targeting: {if: [{==: [{var: a}, 1]}, 'on', null]}}"),
		manifest("Secret", "s", "default: {$secret: {ref: 'env://A', version: '2'}}"),
		manifest("Policy", "p", "freeze: {start: 2026-12-18T18:00, rrule: FREQ=YEARLY, duration: 400h, timeZone: Europe/Berlin}"),
		"{apiVersion: lockstep/v1, kind: Endpoint, metadata: {name: a}, spec: {default: &a {b: 1, c: [*a]}}}", "---\n---\n", "\ufeffa: 1", "apiVersion: lockstep/v1\nkind: [",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := registry.Read([]registry.File{{Name: "f.yaml", Text: text}})
		if err != nil {
			located(t, err)
			return
		}
		again, err := registry.Read([]registry.File{{Name: "f.yaml", Text: text}})
		if err != nil || !registry.Difference(s, again).Empty() {
			t.Fatalf("read twice it is another one (%v)", err)
		}
		empty, err := registry.Read(nil)
		if err != nil {
			t.Fatal(err)
		}
		folded := new(registry.Folder).Fold(empty, registry.Step{Change: "c1", Edits: registry.Difference(empty, s)})
		if d := registry.Difference(folded, s); !d.Empty() {
			t.Fatalf("folded it is another one: %+v", d)
		}
		for _, m := range s.Manifests() {
			if tree, err := m.Tree(); err != nil || !json.Valid(tree) {
				t.Fatalf("%s: %s is not JSON (%v)", m.Key, tree, err)
			}
		}
		for _, e := range s.OfKind(registry.KindEnvironment) {
			rendered(t, s, e.Name())
		}
		rendered(t, s, "prod-eu")
	})
}

// rendered renders and judges an environment twice.
func rendered(t *testing.T, s *registry.Sources, environment string) {
	t.Helper()
	r := registry.NewRenderer()
	is, err := r.Render(s, registry.Target{Name: environment})
	if err != nil {
		located(t, err)
		return
	}
	for _, resource := range is.Resources {
		if value := resource.Value.JSON; !json.Valid(value) {
			t.Fatalf("%s in %s is %q", resource.Key, environment, value)
		}
	}
	judge := func(r *registry.Renderer) registry.Verdict {
		rendering, err := r.Render(s, registry.Target{Name: environment})
		if err != nil {
			t.Fatalf("rendered again: %v", err)
		}
		v, err := r.Judge(registry.Case{Sources: s, Rendering: rendering, Was: func(string) json.RawMessage { return nil }}, today)
		if err != nil {
			located(t, err)
		}
		return v
	}
	if first, second := judge(r), judge(registry.NewRenderer()); !reflect.DeepEqual(first, second) {
		t.Fatalf("the same sources have other verdicts: %+v, %+v", first, second)
	}
}

// located says where an error does not name its file, or has several lines.
func located(t *testing.T, err error) {
	t.Helper()
	problems, several := err.(registry.Problems)
	if !several {
		problems = registry.Problems{err}
	}
	for _, p := range problems {
		if !strings.HasPrefix(p.Error(), "f.yaml:") || strings.Contains(p.Error(), "\n") {
			t.Fatalf("%q does not say where, on one line", p)
		}
	}
}
