package config

import (
	"encoding"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// nodeReader is what a type implements that reads itself from the tree (the parser library's NodeUnmarshaler).
type nodeReader interface{ UnmarshalYAML(ast.Node) error }

// shortForm is what a struct implements that may also be written as a scalar.
type shortForm interface {
	ShortForm(scalar json.RawMessage) error
}

func bind(root ast.Node, into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return errors.New("decode needs a pointer")
	}
	if root == nil {
		return nil
	}
	return bindValue(root, v.Elem())
}

// bindValue is one strict walk over tree and type: the parser library's own decoder converts too much (a number into a text field)
// and does not say where every error is.
func bindValue(n ast.Node, v reflect.Value) error {
	switch reader := v.Addr().Interface().(type) {
	case nodeReader:
		return reader.UnmarshalYAML(n)
	case encoding.TextUnmarshaler:
		if _, scalar := n.(ast.ScalarNode); !scalar {
			return wrongKind(n, "text")
		}
		if err := reader.UnmarshalText([]byte(text(n))); err != nil {
			return at(n, "%v", err)
		}
		return nil
	case shortForm:
		if _, scalar := n.(ast.ScalarNode); scalar {
			var short Value
			if err := short.UnmarshalYAML(n); err != nil {
				return err
			}
			if err := reader.ShortForm(short.JSON); err != nil {
				return at(n, "%v", err)
			}
			return nil
		}
	}
	if _, null := n.(*ast.NullNode); null {
		return nil
	}
	if t, ok := n.(*ast.TagNode); ok && t.Value != nil && strings.HasPrefix(t.Start.Value, "!!") {
		n = t.Value
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text(n))
		if err != nil {
			return at(n, "must be a duration such as 500ms, 5s or 1h")
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return bindValue(n, v.Elem())
	case reflect.Struct:
		return bindStruct(n, v)
	case reflect.Map:
		return bindMap(n, v)
	case reflect.Slice:
		return bindSlice(n, v)
	case reflect.Interface:
		tree, err := JSON(n, refuse)
		if err == nil && tree != nil {
			v.Set(reflect.ValueOf(tree))
		}
		return err
	}
	return bindScalar(n, v)
}

func bindScalar(n ast.Node, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		tree, err := JSON(n, refuse)
		if err != nil {
			return err
		}
		s, ok := tree.(string)
		if !ok {
			return wrongKind(n, "text (put it in quotes)")
		}
		v.SetString(s)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return wrongKind(n, "true or false")
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(text(n), 10, v.Type().Bits())
		if _, integer := n.(*ast.IntegerNode); !integer || err != nil {
			return wrongKind(n, "a whole number")
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		i, err := strconv.ParseUint(text(n), 10, v.Type().Bits())
		if _, integer := n.(*ast.IntegerNode); !integer || err != nil {
			return wrongKind(n, "a whole number, not negative")
		}
		v.SetUint(i)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text(n), v.Type().Bits())
		if err != nil || !looksNumeric(text(n)) {
			return wrongKind(n, "a number")
		}
		v.SetFloat(f)
	default:
		return at(n, "cannot be configured")
	}
	return nil
}

func bindStruct(n ast.Node, v reflect.Value) error {
	list, err := mapping(n)
	if err != nil {
		return err
	}
	known := fields(v)
	for _, e := range list {
		field, ok := known[e.name]
		if !ok {
			return at(e.key, "unknown key %q%s", e.name, didYouMean(e.name, known))
		}
		if err := bindValue(e.value, field); err != nil {
			return err
		}
	}
	return nil
}

func bindMap(n ast.Node, v reflect.Value) error {
	list, err := mapping(n)
	if err != nil {
		return err
	}
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(list)))
	}
	for _, e := range list {
		item := reflect.New(v.Type().Elem()).Elem()
		if err := bindValue(e.value, item); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(e.name).Convert(v.Type().Key()), item)
	}
	return nil
}

func bindSlice(n ast.Node, v reflect.Value) error {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		return wrongKind(n, "a list")
	}
	items := reflect.MakeSlice(v.Type(), len(sequence.Values), len(sequence.Values))
	for i, item := range sequence.Values {
		if err := bindValue(item, items.Index(i)); err != nil {
			return err
		}
	}
	v.Set(items)
	return nil
}

func mapping(n ast.Node) ([]entry, error) {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return entries(n, refuse)
	}
	return nil, wrongKind(n, "a mapping")
}

func wrongKind(n ast.Node, want string) error {
	kind := "text"
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		kind = "a mapping"
	case *ast.SequenceNode:
		kind = "a list"
	case *ast.NullNode:
		kind = "null"
	case *ast.BoolNode:
		kind = "true or false"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		kind = "a number"
	}
	return at(n, "this is %s, but must be %s", kind, want)
}

// fields are a struct's settable fields by their name in YAML.
func fields(v reflect.Value) map[string]reflect.Value {
	known := map[string]reflect.Value{}
	for field, value := range v.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case !field.IsExported() || name == "-":
		case options == "inline":
			for name, inner := range fields(value) {
				known[name] = inner
			}
		case name == "":
			known[strings.ToLower(field.Name)] = value
		default:
			known[name] = value
		}
	}
	return known
}

// didYouMean names the nearest known key, or all of them when none is near.
func didYouMean(name string, known map[string]reflect.Value) string {
	names := slices.Sorted(maps.Keys(known))
	if near := Nearest(name, names); near != "" {
		return ": did you mean " + strconv.Quote(near) + "?"
	}
	return ": known here are " + strings.Join(names, ", ")
}

// Nearest is the name that somebody may have meant; "" when none is near.
func Nearest(name string, among []string) string {
	best, distance := "", min(len(name)/2, 3)+1
	for _, candidate := range among {
		if d := editDistance(strings.ToLower(name), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
