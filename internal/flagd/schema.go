package flagd

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	schemas "github.com/open-feature/flagd-schemas/json"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema is the published schema, compiled once, by definition.
var schema = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) { return compile(merged) })

// compile compiles the definitions of the published schema, after a transformation of its part for targeting.
func compile(transform func(targeting map[string]any) error) (map[string]*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	for name, text := range map[string]string{"flags": schemas.FlagSchema, "targeting": schemas.TargetingSchema} {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return nil, err
		}
		if definitions, ok := document.(map[string]any)["definitions"].(map[string]any); ok && name == "targeting" {
			if err := transform(definitions); err != nil {
				return nil, err
			}
		}
		if err := c.AddResource("https://flagd.dev/schema/v0/"+name+".json", document); err != nil {
			return nil, err
		}
	}
	out := map[string]*jsonschema.Schema{}
	for _, definition := range slices.AppendSeq([]string{"baseConfig"}, maps.Values(schemaOf)) {
		compiled, err := c.Compile(SchemaURL + "#/definitions/" + definition)
		if err != nil {
			return nil, err
		}
		out[definition] = compiled
	}
	return out, nil
}

// merged puts the operations, which the published schema tries one definition after the other, into one definition: to rules that
// have one operation it means the same, takes a fraction of the time, and complains about the operation that is there.
func merged(definitions map[string]any) error {
	anyRule, _ := definitions["anyRule"].(map[string]any)
	alternatives, _ := anyRule["anyOf"].([]any)
	operations := map[string]any{}
	for _, a := range alternatives {
		ref, _ := a.(map[string]any)["$ref"].(string)
		rule, _ := definitions[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any)
		properties, ok := rule["properties"].(map[string]any)
		if !ok || rule["additionalProperties"] != false {
			return fmt.Errorf("its definition %s is no list of operations", ref)
		}
		maps.Copy(operations, properties)
	}
	definitions["anyRule"] = map[string]any{"type": "object", "additionalProperties": false, "properties": operations}
	return nil
}
