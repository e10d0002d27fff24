package registry

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestEveryFieldOfASchemaIsDescribed(t *testing.T) {
	for _, kind := range append([]string{AnyKind}, Kinds...) {
		b, err := Schema(kind)
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		if err := json.Unmarshal(b, &tree); err != nil {
			t.Fatal(err)
		}
		defs := tree["$defs"].(map[string]any)
		described := 0
		for name, def := range defs {
			for field, schema := range def.(map[string]any)["properties"].(map[string]any) {
				described++
				if text, _ := schema.(map[string]any)["description"].(string); text == "" {
					t.Errorf("%s: %s.%s is not described: give it a tag doc", kind, name, field)
				}
			}
		}
		if described < 10 {
			t.Errorf("%s describes %d fields", kind, described)
		}
	}
}

func compileSchema(t *testing.T, kind string) *jsonschema.Schema {
	t.Helper()
	b, err := Schema(kind)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(kind, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(kind)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestSchemasSayWhatReadersSay: what stands in a manifest is good for its schemas exactly when it can be read.
func TestSchemasSayWhatReadersSay(t *testing.T) {
	for _, c := range []struct {
		kind, rest string
		good       bool
	}{
		{"Flag", `"metadata":{"name":"a","owner":"shop"},"spec":{"lifecycle":"active","expires":"2027-03-01","default":{"state":"ENABLED"}}`, true},
		{"Flag", `"metadata":{"name":"a"},"spec":{"expires":"tomorrow"}`, false},
		{"Variable", `"metadata":{"name":"a"},"spec":{"type":"string","overrides":{"prod-*":"warn","lab":null},"overridable":false}`, true},
		{"Variable", `"metadata":{"name":"a"},"spec":{"overridable":{"by":["steward"],"paths":["/state"]}}`, true},
		{"Variable", `"metadata":{"name":"a"},"spec":{"type":"text"}`, false},
		{"Variable", `"metadata":{"name":"a"},"spec":{"defualt":1}`, false},
		{"Variable", `"metadata":{"name":"-a"}`, false},
		{"Variable", `"metadata":{"owner":"shop"}`, false},
		{"Variable", `"spec":{}`, false},
		{"Environment", `"metadata":{"name":"dev"},"spec":{"template":"base","overrides":{"variable/a":1}}`, true},
		{"Environment", `"metadata":{"name":"dev"},"spec":{"template":{"name":"base","version":"1.0.0"}}`, true},
		{"Environment", `"metadata":{"name":"Dev"}`, false},
		{"Environment", `"metadata":{"name":"dev"},"spec":{"template":7}`, false},
		{"Template", `"metadata":{"name":"base"},"spec":{"extends":"other","values":{"variable/a":1},"locked":[{"name":"n","resources":"endpoint/*","path":"/tls","lock":"value","value":true}]}`, true},
		{"Room", `"metadata":{"name":"a"}`, false},
	} {
		text := `{"apiVersion":"lockstep/v1","kind":"` + c.kind + `",` + c.rest + `}`
		if _, err := Read([]File{{"a.json", text}}); (err == nil) != c.good {
			t.Errorf("%s: read: %v", text, err)
		}
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		schemas := []string{AnyKind}
		if c.kind != "Room" {
			schemas = append(schemas, strings.ToLower(c.kind))
		}
		for _, kind := range schemas {
			if err := compileSchema(t, kind).Validate(instance); (err == nil) != c.good {
				t.Errorf("%s: schema %s: %v", text, kind, err)
			}
		}
	}
	if _, err := Schema("room"); err == nil || !strings.Contains(err.Error(), "there are those of manifest, environment") {
		t.Error(err)
	}
}
