package exchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// rendered is what a directory comes to in an environment.
func rendered(t interface{ Fatal(...any) }, files []registry.File, target registry.Target) Values {
	s, err := registry.Read(files)
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.NewRenderer().Render(s, target)
	if err != nil {
		t.Fatal(err)
	}
	out := Values{}
	for _, r := range r.Resources {
		out[r.Key] = r.Value.JSON
	}
	return out
}

// TestRenderExportImportRenderIsTheIdentity: two environments with different values, each rendered, exported and imported into one new
// directory, come to the same there.
func TestRenderExportImportRenderIsTheIdentity(t *testing.T) {
	for _, format := range Imports {
		t.Run(format, func(t *testing.T) {
			carried := 0
			rapid.Check(t, func(t *rapid.T) {
				var files []registry.File
				wanted := map[string]Values{}
				for _, environment := range []string{"staging", "prod-eu"} {
					all := values(t)
					target := registry.Target{Name: environment}
					text, _, err := Manifests(nil, target, JSON, all)
					if err != nil {
						return // a null inside an object is refused, and says so
					}
					before := rendered(t, []registry.File{{Name: "a.yaml", Text: text}}, target)
					if !same(before, all) {
						t.Fatalf("%s is rendered as %s", all, before)
					}
					file, leftOut, err := Export(format, environment, before)
					if err != nil {
						return
					}
					for _, key := range leftOut {
						delete(before, key)
					}
					if len(before) == 0 {
						return
					}
					imported, _, err := Import(format, "file", file)
					if err != nil {
						t.Fatal(err)
					}
					text, conflicts, err := Manifests(files, target, format, imported)
					if err != nil || len(conflicts) > 0 {
						t.Fatal(err, conflicts)
					}
					files = append(files, registry.File{Name: environment + ".yaml", Text: text})
					wanted[environment] = before
				}
				if again := rendered(t, files, registry.Target{Name: "prod-eu"}); !same(again, wanted["prod-eu"]) {
					t.Fatalf("%s\nis rendered as %s\ninstead of     %s", files, again, wanted["prod-eu"])
				}
				if err := declares(files, "prod-eu"); err != nil {
					t.Fatal(err)
				}
				carried++
			})
			if carried == 0 {
				t.Error("nothing was carried")
			}
		})
	}
}

// declares says whether the directory declares an environment, so that it can be proposed.
func declares(files []registry.File, name string) error {
	s, err := registry.Read(files)
	if err != nil {
		return err
	}
	for _, t := range s.Targets() {
		if t.Name == name {
			return nil
		}
	}
	return fmt.Errorf("%s is not declared", name)
}

func TestTheFirstEnvironmentOfADirectoryGivesTheDefaults(t *testing.T) {
	text, _, err := Manifests(nil, registry.Target{Name: "dev", Labels: map[string]string{"stage": "dev"}}, Dotenv, Values{"variable/A": []byte(`"x"`), "variable/B": []byte(`3`)})
	want := `apiVersion: lockstep/v1
kind: Variable
metadata:
  name: A
spec:
  default: x
---
apiVersion: lockstep/v1
kind: Variable
metadata:
  name: B
spec:
  default: 3
---
apiVersion: lockstep/v1
kind: Environment
metadata:
  name: dev
  labels:
    stage: dev
spec: {}
`
	if err != nil || text != want {
		t.Errorf("%v\n%s", err, text)
	}
	first := registry.File{Name: "dev.yaml", Text: text}

	// The second one says what is different there, and takes away what it does not have.
	second, _, err := Manifests([]registry.File{first}, registry.Target{Name: "prod"}, Dotenv, Values{"variable/A": []byte(`"y"`), "variable/C": []byte(`true`)})
	if err != nil {
		t.Fatal(err)
	}
	files := []registry.File{first, {Name: "prod.yaml", Text: second}}
	if got := rendered(t, files, registry.Target{Name: "prod"}); fmt.Sprintf("%s", got) != `map[variable/A:"y" variable/C:true]` {
		t.Errorf("%s", got)
	}
	if got := rendered(t, files, registry.Target{Name: "dev"}); fmt.Sprintf("%s", got) != `map[variable/A:"x" variable/B:3]` {
		t.Errorf("dev has changed: %s", got)
	}

	// What people wrote is not changed: a declared environment that says otherwise is a conflict.
	_, conflicts, err := Manifests(files, registry.Target{Name: "dev"}, Dotenv, Values{"variable/A": []byte(`"z"`), "variable/B": []byte(`3`), "variable/D": []byte(`1`)})
	if err != nil || fmt.Sprint(conflicts) != "[{variable/A dev.yaml:6}]" {
		t.Errorf("%v %v", conflicts, err)
	}
	if _, _, err := Manifests(files, registry.Target{Name: "dev"}, Dotenv, Values{"variable/A": []byte(`"x"`)}); !errors.Is(err, ErrNothing) {
		t.Error(err)
	}
	if _, _, err := Manifests(nil, registry.Target{Name: "dev"}, JSON, Values{"document/a": []byte(`{"b":{"c":null}}`)}); err == nil || !strings.HasPrefix(err.Error(), "document/a cannot be written as a manifest: an object in it has a member that is null") {
		t.Error(err)
	}
}

// TestPatchesMakeOneValueIntoAnother, whatever both are, as long as no member is null.
func TestPatchesMakeOneValueIntoAnother(t *testing.T) {
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		leaf := rapid.SampledFrom([]any{1, "x", true, []any{nil}, map[string]any{}})
		if depth == 0 {
			return leaf
		}
		return rapid.OneOf(leaf, rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c/~"}), value(depth-1), 1, 3), func(m map[string]any) any { return m }))
	}
	rapid.Check(t, func(t *rapid.T) {
		var pair [2]json.RawMessage
		for i := range pair {
			b, err := json.Marshal(value(3).Draw(t, "value"))
			if err != nil {
				t.Fatal(err)
			}
			pair[i] = b
		}
		if got := apply(t, pair[0], patch(pair[0], pair[1])); !bytes.Equal(got, pair[1]) {
			t.Fatalf("%s with %s is %s, want %s", pair[0], patch(pair[0], pair[1]), got, pair[1])
		}
	})
}

// apply is RFC 7396 as it is written there.
func apply(t *rapid.T, target, patch json.RawMessage) json.RawMessage {
	var members, changes map[string]json.RawMessage
	if json.Unmarshal(patch, &changes) != nil || changes == nil {
		return patch
	}
	if json.Unmarshal(target, &members) != nil || members == nil {
		members = map[string]json.RawMessage{}
	}
	for name, change := range changes {
		if string(change) == "null" {
			delete(members, name)
		} else {
			members[name] = apply(t, members[name], change)
		}
	}
	b, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
