package registry

import (
	"encoding/json"
	"slices"
)

// Merge carries what changed from base to mine over to theirs, which came from the same base. Where both change a path, or one lies
// below the other, and not to the same, the paths are returned and there is no result. A nil value is none.
func Merge(base, mine, theirs json.RawMessage) (merged json.RawMessage, both []string) {
	if string(base) == string(theirs) || string(mine) == string(theirs) {
		return mine, nil
	}
	if base != nil && (mine == nil || theirs == nil) {
		return nil, []string{""}
	}
	flat := func(v json.RawMessage) []Leaf {
		if v == nil {
			return nil
		}
		return (&Quick{Value: v}).leaves()
	}
	result := flat(theirs)
	other := changedLeaves(flat(base), result)
	for _, m := range changedLeaves(flat(base), flat(mine)) {
		switch i := slices.IndexFunc(other, func(l Leaf) bool { return touches(l.Path, m.Path) }); {
		case i < 0 && m.Value == nil:
			m.Value = json.RawMessage("null")
			result = mergePatch(result, []Leaf{m})
		case i < 0:
			result = put(result, m)
		case other[i].Path != m.Path || string(other[i].Value) != string(m.Value):
			both = append(both, m.Path)
		}
	}
	if len(both) > 0 {
		return nil, both
	}
	merged, err := assemble(result, "")
	if err != nil {
		return nil, []string{""} // they were canonical JSON
	}
	return merged, nil
}

// changedLeaves are the leaves that make one value into another; those without a value are removed.
func changedLeaves(from, to []Leaf) (out []Leaf) {
	for _, was := range from {
		if _, still := find(to, was.Path); !still {
			out = append(out, Leaf{Path: was.Path})
		}
	}
	for _, is := range to {
		if was, found := find(from, is.Path); !found || string(was.Value) != string(is.Value) {
			out = append(out, is)
		}
	}
	return out
}
