package schemas_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// comments are what pkg/events says of its types and fields, and the constants of its string types.
type comments struct {
	types  map[string]string            // :: type → comment
	fields map[string]map[string]string // :: type → field → comment
	values map[string][]any             // :: type → constants
}

func readComments(t *testing.T) comments {
	t.Helper()
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	c := comments{map[string]string{}, map[string]map[string]string{}, map[string][]any{}}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range group.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					c.addType(spec, group.Doc)
				case *ast.ValueSpec:
					c.addConstant(t, spec)
				}
			}
		}
	}
	return c
}

func (c comments) addType(spec *ast.TypeSpec, doc *ast.CommentGroup) {
	c.types[spec.Name.Name] = text(doc)
	body, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	c.fields[spec.Name.Name] = map[string]string{}
	for _, field := range body.Fields.List {
		for _, name := range field.Names {
			c.fields[spec.Name.Name][name.Name] = text(field.Doc) + text(field.Comment)
		}
	}
}

func (c comments) addConstant(t *testing.T, spec *ast.ValueSpec) {
	name, ok := spec.Type.(*ast.Ident)
	if !ok || len(spec.Values) != 1 {
		return
	}
	literal, ok := spec.Values[0].(*ast.BasicLit)
	if !ok {
		return
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	c.values[name.Name] = append(c.values[name.Name], value)
}

func text(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }

// A generator makes the schema of one type; structs inside it become $defs.
type generator struct {
	comments
	strict bool
	defs   map[string]any
}

func (g *generator) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		optional := options != ""
		schema := g.value(f.Type, optional)
		if comment := g.fields[t.Name()][f.Name]; comment != "" {
			schema["description"] = comment
		}
		properties[name] = schema
		if !optional {
			required = append(required, name)
		}
	}
	schema := map[string]any{"type": "object", "description": g.types[t.Name()], "properties": properties, "required": required}
	if g.strict {
		schema["additionalProperties"] = false
	}
	return schema
}

const maxSafeInteger = 1<<53 - 1

// value is the schema of a field. A list or map that is always written is null when it is empty.
func (g *generator) value(t reflect.Type, optional bool) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	case reflect.TypeFor[events.Digest]():
		g.defs["Digest"] = map[string]any{"type": "string", "pattern": "^([0-9a-f]{64})?$", "description": g.types["Digest"]}
		return map[string]any{"$ref": "#/$defs/Digest"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.value(t.Elem(), optional)
	case reflect.Struct:
		if g.defs[t.Name()] == nil {
			g.defs[t.Name()] = true // ends a recursion
			g.defs[t.Name()] = g.object(t)
		}
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	case reflect.Slice:
		return map[string]any{"type": orNull("array", optional), "items": g.value(t.Elem(), true)}
	case reflect.Map:
		return map[string]any{"type": orNull("object", optional), "additionalProperties": g.value(t.Elem(), true)}
	case reflect.String:
		schema := map[string]any{"type": "string"}
		if t.Name() == "ReleaseKind" { // closed for good; the other named strings may grow
			schema["enum"] = g.values[t.Name()]
		}
		return schema
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0, "maximum": maxSafeInteger}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer", "minimum": -maxSafeInteger, "maximum": maxSafeInteger}
	}
	panic("no schema for " + t.String())
}

func orNull(name string, optional bool) any {
	if optional {
		return name
	}
	return []string{name, "null"}
}
