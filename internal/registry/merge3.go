package registry

import "encoding/json"

// Merge carries what changed from base to mine over to theirs, which came from the same base. Where both change a path, or one lies
// below the other, and not to the same, the paths are returned and there is no result. A nil value is none.
func Merge(base, mine, theirs json.RawMessage) (merged json.RawMessage, both []string) {
	switch string(theirs) {
	case string(base), string(mine):
		return mine, nil
	}
	if string(base) == string(mine) {
		return theirs, nil
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
		same, differs := false, false
		for _, o := range other {
			agree := o.Path == m.Path && string(o.Value) == string(m.Value)
			same, differs = same || agree, differs || touches(o.Path, m.Path) && !agree
		}
		switch {
		case differs:
			both = append(both, m.Path)
		case same:
		case m.Value == nil:
			m.Value = json.RawMessage("null")
			result = mergePatch(result, []Leaf{m})
		default:
			result = put(result, m)
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

// changedLeaves are the leaves that make one value into another; those without a value are removed, with all below them. An object that
// gets its first member, or loses its last, is an object still.
func changedLeaves(from, to []Leaf) (out []Leaf) {
	for _, was := range from {
		if _, still := find(to, was.Path); still || string(was.Value) == "{}" && isObject(to, was.Path) {
			continue
		}
		path := was.Path
		for path != "" && parent(path) != "" && len(under(to, parent(path))) == 0 {
			path = parent(path)
		}
		if len(out) == 0 || out[len(out)-1].Path != path {
			out = append(out, Leaf{Path: path})
		}
	}
	for _, is := range to {
		if was, found := find(from, is.Path); found && string(was.Value) == string(is.Value) || string(is.Value) == "{}" && isObject(from, is.Path) {
			continue
		}
		out = append(out, is)
	}
	return out
}
