package file

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"

	"github.com/pelletier/go-toml/v2"
)

// A tomlDocument holds the file's values in TOML's own types, so that dates and large integers that are not ours survive.
type tomlDocument struct {
	native map[string]any
	values map[string]any
}

func parseTOML(src []byte) (document, error) {
	native := map[string]any{}
	if err := toml.Unmarshal(src, &native); err != nil {
		if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := decode.Position()
			return nil, &syntaxError{line, column, "not valid TOML"}
		}
		return nil, &syntaxError{message: "not valid TOML"}
	}
	values, _ := fromTOML(native).(map[string]any)
	return &tomlDocument{native, values}, nil
}

func fromTOML(v any) any {
	switch t := v.(type) {
	case string, bool:
		return t
	case int64:
		return number(strconv.FormatInt(t, 10))
	case float64:
		if math.IsNaN(t) || math.IsInf(t, 0) {
			return unheld(fmt.Sprint(t))
		}
		return number(strconv.FormatFloat(t, 'g', -1, 64))
	case []any:
		array := make([]any, len(t))
		for i, item := range t {
			array[i] = fromTOML(item)
		}
		return array
	case map[string]any:
		object := make(map[string]any, len(t))
		for k, item := range t {
			object[k] = fromTOML(item)
		}
		return object
	default: // dates and times
		return unheld(fmt.Sprint(v))
	}
}

func toTOML(v any) any {
	switch t := v.(type) {
	case float64:
		if t == math.Trunc(t) && math.Abs(t) < 1<<53 {
			return int64(t)
		}
	case []any:
		array := make([]any, len(t))
		for i, item := range t {
			array[i] = toTOML(item)
		}
		return array
	case map[string]any:
		object := make(map[string]any, len(t))
		for k, item := range t {
			object[k] = toTOML(item)
		}
		return object
	}
	return v
}

// normalTOML refuses null, which TOML does not have, and whatever the library would not read back.
func normalTOML(v any) (any, error) {
	if hasNull(v) {
		return nil, errors.New("TOML has no null: leave the key out")
	}
	text, err := toml.Marshal(map[string]any{"k": toTOML(v)})
	if err != nil {
		return nil, errors.New("TOML cannot hold the value")
	}
	read, err := parseTOML(text)
	if err != nil || !reflect.DeepEqual(read.tree()["k"], v) {
		return nil, errors.New("TOML does not give the value back as it is")
	}
	return v, nil
}

func hasNull(v any) bool {
	switch t := v.(type) {
	case nil:
		return true
	case []any:
		for _, item := range t {
			if hasNull(item) {
				return true
			}
		}
	case map[string]any:
		for _, item := range t {
			if hasNull(item) {
				return true
			}
		}
	}
	return false
}

func (d *tomlDocument) tree() map[string]any { return d.values }

func (d *tomlDocument) edit(path []string, changes edits) ([]byte, error) {
	native := edits{set: make(map[string]any, len(changes.set)), del: changes.del}
	for k, v := range changes.set {
		native.set[k] = toTOML(v)
	}
	text, err := toml.Marshal(with(d.native, path, native))
	if err != nil {
		return nil, errors.New("the file cannot be rendered as TOML")
	}
	return text, nil
}
