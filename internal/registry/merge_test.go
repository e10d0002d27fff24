package registry_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// anyValue is a JSON value of few names, so that layers meet.
func anyValue(depth int, null bool) *rapid.Generator[any] {
	list := []*rapid.Generator[any]{
		rapid.IntRange(0, 3).AsAny(), rapid.SampledFrom([]any{"x", true, []any{}, []any{1, nil}, map[string]any{}}),
	}
	if null {
		list = append(list, rapid.Just[any](nil))
	}
	if depth > 0 {
		member := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "a-b", "a/b", "~"}), anyValue(depth-1, null), 1, 3).AsAny()
		list = append(list, member, member)
	}
	return rapid.OneOf(list...)
}

// naivePatch is RFC 7396, section 2, word for word.
func naivePatch(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range members {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = naivePatch(object[name], value)
		}
	}
	return object
}

func plain(v any) (out any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

func text(v any) string { b, _ := json.Marshal(v); return string(b) }

// TestLayersMergeAsRFC7396 renders a resource of random layers and compares with the naive merge; every leaf of the result has one
// origin, which says where it stands, and the order of files means nothing.
func TestLayersMergeAsRFC7396(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		layer := func(name string) any { return anyValue(3, true).Draw(t, name) }
		layers := []any{layer("base"), layer("template"), layer("default"), layer("all"), layer("pattern"), layer("exact"), layer("environment")}
		texts := []string{
			manifest("Environment", "prod-eu", "template: special\noverrides: {document/d: "+text(layers[6])+"}"),
			manifest("Template", "special", "extends: base\nvalues: {document/d: "+text(layers[1])+"}"),
			manifest("Template", "base", "values: {document/d: "+text(layers[0])+"}"),
			manifest("Document", "d", "default: "+text(layers[2])+"\noverrides: {prod-eu: "+text(layers[5])+", '*': "+text(layers[3])+", 'prod-*': "+text(layers[4])+"}"),
		}
		s := read(t, texts...)
		r, err := registry.NewRenderer().Render(s, registry.Target{Name: "prod-eu"})
		if err != nil {
			t.Fatal(err)
		}
		var want any
		for _, l := range layers {
			want = naivePatch(want, plain(l))
		}
		got, found := r.Get("document/d")
		if !found {
			if want != nil {
				t.Fatalf("not rendered, want %s", text(want))
			}
			return
		}
		var have any
		if err := json.Unmarshal(got.Value.JSON, &have); err != nil || !reflect.DeepEqual(have, want) {
			t.Fatalf("have %s, want %s", got.Value.JSON, text(want))
		}
		var paths []string
		for _, o := range got.Origins() {
			paths = append(paths, o.Path+"="+string(o.Value))
			if o.File == "" || o.Line == 0 || o.Manifest == "" || o.Layer == "" {
				t.Fatalf("no origin: %+v", o)
			}
		}
		slices.Sort(paths)
		if leaves := slices.Sorted(slices.Values(leavesOf("", want))); !slices.Equal(paths, leaves) {
			t.Fatalf("origins of %v, want %v", paths, leaves)
		}
		again := slices.Clone(texts)
		rand.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		other, err := registry.NewRenderer().Render(read(t, again...), registry.Target{Name: "prod-eu"})
		if err != nil {
			t.Fatal(err)
		}
		if twin, _ := other.Get("document/d"); string(twin.Value.JSON) != string(got.Value.JSON) {
			t.Fatalf("in another order: %s, want %s", twin.Value.JSON, got.Value.JSON)
		}
	})
}

// leavesOf are the leaves of a value as path=value.
func leavesOf(path string, v any) []string {
	members, ok := v.(map[string]any)
	if !ok || len(members) == 0 {
		return []string{path + "=" + text(v)}
	}
	var out []string
	for name, value := range members {
		out = append(out, leavesOf(path+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), value)...)
	}
	return out
}

func TestTheLastLayerWinsAndSaysWhereItStands(t *testing.T) {
	s := read(t,
		manifest("Environment", "prod-eu", "template: {name: production, version: 1.0.0}\noverrides:\n  variable/d: {e: environment}"),
		manifest("Template", "production", "version: 1.0.0\nvalues:\n  variable/d: {a: template, b: template}"),
		manifest("Variable", "d", "default: {b: default, c: default}\noverrides:\n  '*': {c: any, d: any}\n  prod-*: {d: prod}\n  dev: {d: dev}"))
	r, err := registry.NewRenderer().Render(s, registry.Target{Name: "prod-eu"})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := r.Get("variable/d")
	var got []string
	for _, o := range d.Origins() {
		got = append(got, fmt.Sprintf("%s=%s %s %s:%d", o.Path, o.Value, o.Layer, o.File, o.Line))
	}
	want := []string{
		`/a="template" template production f1.yaml:7`, `/b="default" default f2.yaml:5`, `/c="any" override * f2.yaml:7`,
		`/d="prod" override prod-* f2.yaml:8`, `/e="environment" override of environment prod-eu f0.yaml:7`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatIsRenderedWhere(t *testing.T) {
	s := read(t,
		manifest("Variable", "draft", "lifecycle: draft\ndefault: 1"), manifest("Variable", "retired", "lifecycle: retired\ndefault: 1"),
		manifest("Variable", "deprecated", "lifecycle: deprecated\ndefault: 1"),
		manifest("Variable", "by-name", "default: 1\nactivation: {environments: ['prod-*', dev]}"),
		manifest("Variable", "by-label", "default: 1\nactivation: {labels: {stage: prod}}"),
		manifest("Variable", "not-here", "default: 1\noverrides: {prod-eu: null}"), manifest("Variable", "only-here", "overrides: {prod-eu: 1}"),
		manifest("Variable", "no-value", "type: string"))
	for target, want := range map[string]string{
		"prod-eu": "variable/by-label variable/by-name variable/deprecated variable/only-here",
		"dev":     "variable/by-name variable/deprecated variable/not-here",
		"test":    "variable/deprecated variable/not-here",
	} {
		labels := map[string]string{}
		if target == "prod-eu" {
			labels["stage"] = "prod"
		}
		r, err := registry.NewRenderer().Render(s, registry.Target{Name: target, Labels: labels})
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, resource := range r.Resources {
			keys = append(keys, resource.Key)
		}
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
}

func TestWhatCannotBeRenderedIsSaidWithItsPlace(t *testing.T) {
	for name, c := range map[string]struct {
		texts []string
		want  string
	}{
		"no template":           {[]string{manifest("Environment", "dev", "template: prodution"), manifest("Template", "production", "version: '1'")}, "f0.yaml:5:1: environment/dev: there is no template prodution; did you mean production?"},
		"circle":                {[]string{manifest("Environment", "dev", "template: a"), manifest("Template", "a", "extends: b"), manifest("Template", "b", "extends: a")}, "f2.yaml:5:1: template/b: the templates a, b extend each other in a circle"},
		"itself":                {[]string{manifest("Environment", "dev", "template: a"), manifest("Template", "a", "extends: a")}, "the templates a extend each other in a circle"},
		"another version":       {[]string{manifest("Environment", "dev", "template: {name: a, version: 1.0.0}"), manifest("Template", "a", "version: 1.1.0")}, "version 1.0.0 of template a is pinned, and there is only 1.1.0"},
		"no such resource":      {[]string{manifest("Environment", "dev", "overrides: {variable/loglevel: 1}"), manifest("Variable", "log-level", "default: 1")}, "f0.yaml:5:1: environment/dev: there is no manifest of variable/loglevel; did you mean variable/log-level?"},
		"another type":          {[]string{manifest("Variable", "a", "type: string\ndefault: 5")}, "f0.yaml:6:1: variable/a: its value is of type number, and spec.type is string"},
		"another type by layer": {[]string{manifest("Variable", "a", "type: integer\ndefault: 5\noverrides: {dev: 5.5}")}, "f0.yaml:7:1: variable/a: its value is of type number, and spec.type is integer"},
		"a secret":              {[]string{manifest("Secret", "a", "default: hunter2")}, "f0.yaml:5:1: secret/a: a secret's value is a reference"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := registry.NewRenderer().Render(read(t, c.texts...), registry.Target{Name: "dev"})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
		})
	}
}

func TestWhatEnvironmentsShareIsRenderedOnce(t *testing.T) {
	s := read(t, manifest("Template", "base", "values: {variable/a: 1}"), manifest("Environment", "x", "template: base"), manifest("Environment", "y", "template: base"),
		manifest("Variable", "a", "type: integer"), manifest("Variable", "b", "default: {x: 1}\noverrides: {'*': {y: 2}}"))
	r := registry.NewRenderer()
	x, err := r.Render(s, registry.Target{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	y, err := r.Render(s, registry.Target{Name: "y"})
	if err != nil || len(x.Resources) != 2 {
		t.Fatal(x.Resources, err)
	}
	for i := range x.Resources {
		if x.Resources[i].Value != y.Resources[i].Value {
			t.Errorf("%s is rendered twice", x.Resources[i].Key)
		}
	}
}
