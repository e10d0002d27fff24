// Package flagd checks flag definitions: against the JSON Schema that the flagd project publishes (open-feature/flagd-schemas v0.2.13,
// Apache License 2.0, which the module embeds), and beyond it for what that cannot say.
//
// A flag/NAME resource holds one flag of a flagd file. What such a file says beside its flags, shared evaluators and metadata of the
// flag set, is the resource document/flagd.
//
// Guarantees: a definition that passes has a default variant that exists, variants of one type, no targeting rule that names a variant
// that is not there, and fractions that can be drawn. It is pure, and says where in the definition it is wrong. It evaluates nothing.
package flagd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// SetKey is the resource that holds what a flagd file says beside its flags.
const SetKey = "document/flagd"

// SchemaURL names the schema, as flagd files do under $schema.
const SchemaURL = "https://flagd.dev/schema/v0/flags.json"

// An Error says what is wrong where in a definition.
type Error struct {
	Path    string // JSON pointer
	Message string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Path + ": " + e.Message
}

func wrong(path, format string, args ...any) error {
	return &Error{path, fmt.Sprintf(format, args...)}
}

// A Reference is a place where targeting names a shared evaluator.
type Reference struct {
	Path string // JSON pointer
	Name string
}

// Check says whether a canonical JSON value is a flag definition, and which shared evaluators it names. Errors are *Error.
func Check(value json.RawMessage) ([]Reference, error) {
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return nil, wrong("", "a flag definition is JSON: %v", err)
	}
	flag, ok := tree.(map[string]any)
	if !ok {
		return nil, wrong("", `a flag is defined as flagd does it, as in {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}`)
	}
	variants, schema, err := variantsOf(flag)
	if err != nil {
		return nil, err
	}
	if err := operations(flag["targeting"], "/targeting"); err != nil {
		return nil, err
	}
	if err := validate(schema, flag); err != nil {
		return nil, err
	}
	if name, given := flag["defaultVariant"].(string); given {
		if _, there := variants[name]; !there {
			return nil, wrong("/defaultVariant", "there is no variant %q; there are %s", name, names(variants))
		}
	}
	t := targeting{variants: variants}
	t.walk(flag["targeting"], "/targeting", true)
	return t.references, t.err
}

// variantsOf is the variants of a flag, and the schema for their type.
func variantsOf(flag map[string]any) (map[string]any, string, error) {
	variants, ok := flag["variants"].(map[string]any)
	if !ok || len(variants) == 0 {
		return nil, "", wrong("/variants", `a flag has variants, as in "variants": {"on": true, "off": false}`)
	}
	first := ""
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		switch is := typeOf(variants[name]); {
		case schemaOf[is] == "":
			return nil, "", wrong("/variants/"+escape(name), "the value of a variant is a boolean, a string, a number or an object, and this is %s", is)
		case first == "":
			first = name
		case is != typeOf(variants[first]):
			return nil, "", wrong("/variants/"+escape(name), "all variants of a flag have one type: %q is %s, and %q is %s", first, typeOf(variants[first]), name, is)
		}
	}
	return variants, schemaOf[typeOf(variants[first])], nil
}

// schemaOf are the schema's definitions by the type of the variants.
var schemaOf = map[string]string{"a boolean": "booleanFlag", "a string": "stringFlag", "a number": "numberFlag", "an object": "objectFlag"}

func typeOf(v any) string {
	switch v.(type) {
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	}
	return "null"
}

func names(variants map[string]any) string {
	return strings.Join(slices.Sorted(maps.Keys(variants)), ", ")
}

// CheckSet says whether a value may be SetKey's: shared evaluators, and metadata of the flag set. Errors are *Error.
func CheckSet(value json.RawMessage) error {
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return wrong("", "what a flagd file says beside its flags is JSON: %v", err)
	}
	set, ok := tree.(map[string]any)
	if !ok {
		return wrong("", `what a flagd file says beside its flags is an object, as in {"$evaluators": {…}, "metadata": {…}}`)
	}
	if _, given := set["flags"]; given {
		return wrong("/flags", "each flag is a resource of its own, flag/NAME")
	}
	evaluators, _ := set["$evaluators"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(evaluators)) {
		at := "/$evaluators/" + escape(name)
		if err := operations(evaluators[name], at); err != nil {
			return err
		}
		t := targeting{}
		if t.walk(evaluators[name], at, false); t.err == nil && len(t.references) > 0 {
			t.err = wrong(t.references[0].Path, "an evaluator that refers to another is not resolved by flagd: write its rule out")
		}
		if t.err != nil {
			return t.err
		}
	}
	return validate("baseConfig", set)
}

// Evaluators are the names of the shared evaluators that a value of SetKey defines.
func Evaluators(value json.RawMessage) map[string]bool {
	var set struct {
		Evaluators map[string]json.RawMessage `json:"$evaluators"`
	}
	out := map[string]bool{}
	if len(value) > 0 && json.Unmarshal(value, &set) == nil {
		for name := range set.Evaluators {
			out[name] = true
		}
	}
	return out
}

// validate checks a value with a definition of the schema.
func validate(definition string, value any) error {
	compiled, err := schema()
	if err != nil {
		return wrong("", "flagd's schema cannot be read: %v", err)
	}
	err = compiled[definition].Validate(value)
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if err == nil || !ok {
		return err
	}
	at := deepest(invalid)
	path := ""
	for _, segment := range at.InstanceLocation {
		path += "/" + escape(segment)
	}
	return wrong(path, "flagd's schema does not allow this: %v", at.ErrorKind.LocalizedString(printer))
}

// deepest is the complaint that lies deepest in the value: the schema tries many alternatives, and the one that went furthest was meant.
func deepest(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	best := e
	for _, cause := range e.Causes {
		if d := deepest(cause); len(d.InstanceLocation) > len(best.InstanceLocation) || len(best.Causes) > 0 && len(d.InstanceLocation) == len(best.InstanceLocation) {
			best = d
		}
	}
	return best
}
