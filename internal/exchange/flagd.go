package exchange

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/flagd"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func isFlag(key string) bool { return strings.HasPrefix(key, "flag/") || key == flagd.SetKey }

// writeFlagd writes one flagd file: the flags, and what the flag set says beside them.
func writeFlagd(values Values) ([]byte, error) {
	file := map[string]json.RawMessage{}
	if set := values[flagd.SetKey]; set != nil {
		if err := json.Unmarshal(set, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", flagd.SetKey, err)
		}
	}
	if file["$schema"] == nil {
		file["$schema"] = json.RawMessage(`"` + flagd.SchemaURL + `"`)
	}
	flags := map[string]json.RawMessage{}
	for key, value := range values {
		if name, ok := strings.CutPrefix(key, "flag/"); ok {
			flags[name] = value
		}
	}
	var err error
	if file["flags"], err = events.Encode(flags); err != nil {
		return nil, err
	}
	return indented(file)
}

// readFlagd reads a flagd file, its flags by name or as a list.
func readFlagd(data []byte) (Values, []string, error) {
	file, err := object(data)
	if err != nil {
		return nil, nil, err
	}
	flags, notes, err := flagsOf(file["flags"])
	if err != nil {
		return nil, nil, err
	}
	values := Values{}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if err := values.put("flag/"+name, flags[name]); err != nil {
			return nil, nil, err
		}
		if _, err := flagd.Check(values["flag/"+name]); err != nil {
			return nil, nil, fmt.Errorf("flag/%s: %w", name, err)
		}
	}
	delete(file, "flags")
	if string(file["$schema"]) == `"`+flagd.SchemaURL+`"` {
		delete(file, "$schema")
	}
	if len(file) > 0 {
		set, err := events.Encode(file)
		if err == nil {
			err = values.put(flagd.SetKey, set)
		}
		if err == nil {
			err = flagd.CheckSet(values[flagd.SetKey])
		}
		if err != nil {
			return nil, nil, fmt.Errorf("beside the flags: %w", err)
		}
		notes = append(notes, "what the file says beside its flags is "+flagd.SetKey)
	}
	return values, notes, nil
}

// flagsOf are flags by name.
func flagsOf(value json.RawMessage) (map[string]json.RawMessage, []string, error) {
	var flags map[string]json.RawMessage
	if len(value) > 0 && json.Unmarshal(value, &flags) == nil && flags != nil {
		return flags, nil, nil
	}
	var list []map[string]json.RawMessage
	if len(value) == 0 || json.Unmarshal(value, &list) != nil {
		return nil, nil, errors.New("a flagd file has flags, as an object or a list")
	}
	flags = map[string]json.RawMessage{}
	for i, flag := range list {
		var name string
		if json.Unmarshal(flag["key"], &name) != nil || flags[name] != nil {
			return nil, nil, fmt.Errorf("/flags/%d/key: every flag of a list has a key of its own", i)
		}
		delete(flag, "key")
		b, err := events.Encode(flag)
		if err != nil {
			return nil, nil, err
		}
		flags[name] = b
	}
	return flags, []string{"the flags stand in a list; an export writes them as an object"}, nil
}
