package fleet

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// A Difference is a place inside a value at which it changes. An absent side is nil.
type Difference struct {
	Path          string // JSON pointer into the value; "" is all of it
	Before, After json.RawMessage
}

// maxDifferences is how many places are told apart; of a value that changes in more, all of it is shown.
const maxDifferences = 50

// Differences are the places at which an operation changes its resource: members of objects one by one, anything else whole.
func (o OperationView) Differences() []Difference {
	out := differences(nil, "", o.Before, o.After)
	if len(out) > maxDifferences {
		return []Difference{{"", o.Before, o.After}}
	}
	return out
}

func differences(out []Difference, path string, before, after json.RawMessage) []Difference {
	if bytes.Equal(before, after) {
		return out
	}
	a, b := members(before), members(after)
	if a == nil || b == nil {
		return append(out, Difference{path, before, after})
	}
	names := maps.Clone(a)
	maps.Copy(names, b)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = differences(out, path+"/"+pointer.Replace(name), a[name], b[name])
		if len(out) > maxDifferences {
			break
		}
	}
	return out
}

// pointer escapes a name for a JSON pointer (RFC 6901).
var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// members are those of an object; nil of anything else.
func members(v json.RawMessage) (out map[string]json.RawMessage) {
	if len(v) == 0 || v[0] != '{' || json.Unmarshal(v, &out) != nil {
		return nil
	}
	return out
}
