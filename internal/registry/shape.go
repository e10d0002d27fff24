package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// A shape is a JSON Schema 2020-12, compiled. It refers to nothing outside itself; formats are asserted.
type shape struct{ schema *jsonschema.Schema }

var printer = message.NewPrinter(language.English)

// shapeAt is the address of a schema while it is compiled.
const shapeAt = "lockstep:///schema"

// alone loads no other schemas.
type alone struct{}

func (alone) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is another document, and a schema here stands alone: write what it refers to under $defs", url)
}

func compileShape(schema json.RawMessage) (*shape, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(alone{})
	if err := c.AddResource(shapeAt, document); err != nil {
		return nil, err
	}
	compiled, err := c.Compile(shapeAt)
	if invalid, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		err = joined(violations(invalid.Err)) // its own text is a tree of many lines
	}
	if err != nil {
		return nil, fmt.Errorf("this is no JSON Schema 2020-12: %w", err)
	}
	return &shape{compiled}, nil
}

// A valueError is wrong at a path of a value.
type valueError struct{ path, message string }

func (e *valueError) Error() string { return prefixed(e.path, e.message) }

// prefixed is a message about a path of a value; the whole value has no path.
func prefixed(path, message string) string {
	if path == "" {
		return message
	}
	return path + " " + message
}

// check is what the schema does not allow of a value.
func (s *shape) check(value json.RawMessage) []*valueError {
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err == nil {
		err = s.schema.Validate(instance)
	}
	if err == nil {
		return nil
	}
	out := violations(err)
	for _, e := range out {
		e.message = "does not fit the schema: " + e.message
	}
	return out
}

// fits says whether a value is what the schema allows.
func (s *shape) fits(value json.RawMessage) error { return joined(s.check(value)) }

// joined is all of what is wrong as one error; nil where nothing is.
func joined(found []*valueError) error {
	if len(found) == 0 {
		return nil
	}
	for _, more := range found[1:] {
		found[0].message += "; " + more.Error()
	}
	return found[0]
}

// violations are what a validation found, ordered by path, each on one line.
func violations(err error) []*valueError {
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []*valueError{{"", strings.Join(strings.Fields(err.Error()), " ")}}
	}
	var out []*valueError
	for _, c := range complaints(invalid) {
		path := ""
		for _, segment := range c.InstanceLocation {
			path += "/" + escape(segment)
		}
		out = append(out, &valueError{path, c.ErrorKind.LocalizedString(printer)})
	}
	slices.SortFunc(out, func(a, b *valueError) int {
		return cmp.Or(comparePaths(a.path, b.path), strings.Compare(a.message, b.message))
	})
	return out
}

// complaints are the causes at the bottom; of alternatives only that of the one which went furthest, for it was meant.
func complaints(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return []*jsonschema.ValidationError{e}
	}
	var all []*jsonschema.ValidationError
	for _, cause := range e.Causes {
		all = append(all, complaints(cause)...)
	}
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		furthest := all[0]
		for _, c := range all {
			if len(c.InstanceLocation) > len(furthest.InstanceLocation) {
				furthest = c
			}
		}
		return []*jsonschema.ValidationError{furthest}
	}
	return all
}
