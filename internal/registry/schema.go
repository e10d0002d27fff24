package registry

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// AnyKind names the schema of every manifest, whatever its kind.
const AnyKind = "manifest"

// Schema is the JSON Schema (2020-12) of the manifests of a kind, for editors. It says which fields there are and what they are for;
// what only several manifests together tell it does not check. It is made from the types of the format and their tags.
func Schema(kind string) ([]byte, error) {
	s := schemas{defs: map[string]any{}}
	var out map[string]any
	switch {
	case kind == AnyKind:
		out = s.any()
	case slices.Contains(Kinds, kind):
		out = s.manifest(kind)
	default:
		return nil, fmt.Errorf("there is no schema of %q; there are those of %s, %s", kind, AnyKind, strings.Join(Kinds, ", "))
	}
	out["$schema"], out["$id"], out["$defs"] = "https://json-schema.org/draft/2020-12/schema", "https://lockstep.dev/schemas/v1/"+kind+".json", s.defs
	b, err := json.MarshalIndent(out, "", "  ")
	return append(b, '\n'), err
}

// schemas writes schemas; the types that fields are of are definitions.
type schemas struct{ defs map[string]any }

// any is a manifest of any kind; its field kind says which.
func (s schemas) any() map[string]any {
	var names []string
	var cases []any
	for _, kind := range Kinds {
		name := kindName(kind)
		names = append(names, name)
		s.defs[name+"Manifest"] = s.manifest(kind)
		cases = append(cases, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"kind": map[string]any{"const": name}}, "required": []string{"kind"}},
			"then": map[string]any{"$ref": "#/$defs/" + name + "Manifest"},
		})
	}
	return map[string]any{
		"description": "A manifest of environments as code.", "type": "object", "required": []string{"apiVersion", "kind", "metadata"},
		"properties": map[string]any{"kind": map[string]any{"enum": names}}, "allOf": cases,
	}
}

func (s schemas) manifest(kind string) map[string]any {
	out := s.object(reflect.TypeOf(blank(kind)).Elem())
	out["description"], out["required"] = "A manifest of kind "+kindName(kind)+".", []string{"apiVersion", "kind", "metadata"}
	properties := out["properties"].(map[string]any)
	properties["apiVersion"] = map[string]any{"const": APIVersion, "description": "the version of this format"}
	properties["kind"] = map[string]any{"const": kindName(kind), "description": "what the manifest is of"}
	name := map[string]any{"pattern": "^[a-z0-9](-?[a-z0-9])*$", "maxLength": 63}
	if slices.Contains(events.Kinds, kind) {
		name = map[string]any{"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 128}
	}
	properties["metadata"] = map[string]any{
		"$ref": "#/$defs/Metadata", "description": "what the manifest says of itself", "required": []string{"name"},
		"properties": map[string]any{"name": name},
	}
	return out
}

// object is a struct with all its fields, and no others.
func (s schemas) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	for f := range t.Fields() {
		name := f.Tag.Get("yaml")
		if name == "-" {
			continue
		}
		field := s.value(f.Type)
		field["description"] = f.Tag.Get("doc")
		if words := f.Tag.Get("enum"); words != "" {
			field["enum"] = strings.Split(words, ",")
		}
		if format := f.Tag.Get("format"); format != "" {
			field["format"] = format
		}
		properties[name] = field
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}

// value is what may stand in a field.
func (s schemas) value(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[*config.Value](), reflect.TypeFor[config.Value]():
		return map[string]any{}
	case reflect.TypeFor[TemplateRef]():
		return map[string]any{"anyOf": []any{map[string]any{"type": "string"}, s.defined(t)}}
	case reflect.TypeFor[Overridable]():
		return map[string]any{"anyOf": []any{map[string]any{"const": false}, s.defined(t)}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.value(t.Elem())
	case reflect.Struct:
		return s.defined(t)
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.value(t.Elem())}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.value(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	}
	return map[string]any{"type": "string"}
}

func (s schemas) defined(t reflect.Type) map[string]any {
	if _, known := s.defs[t.Name()]; !known {
		s.defs[t.Name()] = nil // a type may hold itself
		s.defs[t.Name()] = s.object(t)
	}
	return map[string]any{"$ref": "#/$defs/" + t.Name()}
}
