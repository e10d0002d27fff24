package schemas_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/schemas"
)

// go test ./pkg/events/schemas -update writes the schemas anew, after a type in pkg/events has changed.
var update = flag.Bool("update", false, "write the schemas anew")

// data is the data of every golden vector, by type.
func data(t *testing.T) map[events.Type][]json.RawMessage {
	t.Helper()
	read := func(name string, into any) {
		b, err := os.ReadFile("../testdata/v1/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatal(err)
		}
	}
	type vector struct{ Payload string }
	var entries, statements []vector
	var releases struct{ Releases []vector }
	read("entries.json", &entries)
	read("statements.json", &statements)
	read("releases.json", &releases)

	all := map[events.Type][]json.RawMessage{}
	add := func(payload string) {
		var e events.Event
		if err := json.Unmarshal([]byte(payload), &e); err != nil {
			t.Fatal(err)
		}
		all[e.Type] = append(all[e.Type], e.Data)
	}
	for _, v := range entries {
		e, err := events.DecodeEntry([]byte(v.Payload))
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range e.Events {
			all[event.Type] = append(all[event.Type], event.Data)
		}
	}
	for _, v := range append(statements, releases.Releases...) {
		add(v.Payload)
	}
	return all
}

// goType is the struct that the data of a type is read into, and whether its readers are strict.
func goType(t *testing.T, kind events.Type, data json.RawMessage) (_ reflect.Type, strict bool) {
	t.Helper()
	switch kind {
	case events.TypeReleasePublished:
		return reflect.TypeFor[events.Release](), true
	case events.TypeReleaseAcknowledged:
		return reflect.TypeFor[events.Ack](), false
	case events.TypeAgentBeat:
		return reflect.TypeFor[events.Beat](), false
	case events.TypePublisherPulse:
		return reflect.TypeFor[events.Pulse](), false
	}
	fact, err := events.DecodeFact(events.Event{Type: kind, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return reflect.TypeOf(fact).Elem(), true
}

func TestSchemasFollowFromTheTypes(t *testing.T) {
	comments := readComments(t)
	vectors := data(t)
	for kind, data := range vectors {
		root, strict := goType(t, kind, data[0])
		g := generator{comments: comments, strict: strict, defs: map[string]any{}}
		schema := g.object(root)
		schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		schema["$id"] = events.SchemaURI(kind)
		schema["title"] = string(kind)
		if len(g.defs) > 0 {
			schema["$defs"] = g.defs
		}
		want, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		file := string(kind) + ".json"
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := schemas.Files.ReadFile(file)
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what follows from %s (%v): go test ./pkg/events/schemas -update", file, root, err)
		}
	}
	files, err := fs.Glob(schemas.Files, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if vectors[events.Type(strings.TrimSuffix(file, ".json"))] == nil {
			t.Errorf("%s has no type", file)
		}
	}
}

func compile(t *testing.T, kind events.Type) *jsonschema.Schema {
	t.Helper()
	b, err := schemas.Files.ReadFile(string(kind) + ".json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(events.SchemaURI(kind), doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(events.SchemaURI(kind))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGoldenVectorsAreValidAndAlteredOnesAreNot(t *testing.T) {
	for kind, vectors := range data(t) {
		schema := compile(t, kind)
		_, strict := goType(t, kind, vectors[0])
		for _, v := range vectors {
			instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(v))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(instance); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			object := instance.(map[string]any)
			object["grease"] = true
			if err := schema.Validate(object); (err == nil) == strict {
				t.Errorf("%s with an unknown field: %v", kind, err)
			}
			delete(object, "grease")
			for name, value := range object {
				object[name] = true // no field but ReadBack is a boolean
				if _, boolean := value.(bool); !boolean && name != "json" && schema.Validate(object) == nil {
					t.Errorf("%s is valid with true for %s", kind, name)
				}
				object[name] = value
			}
		}
		if schema.Validate(map[string]any{}) == nil {
			t.Errorf("%s: nothing is required", kind)
		}
	}
}
