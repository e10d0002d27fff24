package registry

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// Promoted are the sources with every manifest that another environment's sources have, where it is selected. An environment's own
// manifest stays as it is; one that is not there comes along. The override document stays.
func (s *Sources) Promoted(from *Sources, selected func(key string) bool) *Sources {
	out := &Sources{quick: s.quick}
	i, j := 0, 0
	for i < len(s.manifests) || j < len(from.manifests) {
		order := compareHeads(s.manifests[i:], from.manifests[j:])
		var mine, theirs *Manifest
		if order <= 0 {
			mine = s.manifests[i]
			i++
		}
		if order >= 0 {
			theirs = from.manifests[j]
			j++
		}
		m, either := mine, cmp.Or(mine, theirs)
		if either.Kind() == KindEnvironment {
			m = either
		} else if selected(either.Key) {
			m = theirs
		}
		if m != nil {
			out.manifests = append(out.manifests, m)
		}
	}
	return out
}

// specific says whether a leaf comes from a layer that is for some environments only.
func (l Leaf) specific() bool { return l.from != nil && strings.HasPrefix(l.from.name, "override ") }

// Onto is what a quick edit comes to in another environment: what it changed over what the manifests give there, over what they give
// here, but for what is particular to one of the two. A nil value is none.
func (q Quick) Onto(there, here *Value) json.RawMessage {
	if q.Value == nil || there == nil || here == nil {
		return q.Value
	}
	particular := func(path string) bool {
		at := func(l Leaf) bool { return l.specific() && touches(l.Path, path) }
		return slices.ContainsFunc(there.leaves, at) || slices.ContainsFunc(here.leaves, at)
	}
	result := slices.Clone(here.leaves)
	for _, l := range changedLeaves(there.leaves, q.leaves()) {
		switch {
		case particular(l.Path):
		case l.Value == nil:
			l.Value = json.RawMessage("null")
			result = mergePatch(result, []Leaf{l})
		default:
			result = put(result, l)
		}
	}
	value, err := assemble(result, "")
	if err != nil {
		return here.JSON // both are canonical JSON
	}
	return value
}
