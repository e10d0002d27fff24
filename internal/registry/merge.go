package registry

import "slices"

var emptyObject = []byte("{}")

// put sets a leaf: what stood above it as a value, and what stood below it, gives way.
func put(leaves []Leaf, l Leaf) []Leaf {
	for above := l.Path; above != ""; {
		above = parent(above)
		if i, found := locate(leaves, above); found {
			leaves = slices.Delete(leaves, i, i+1)
		}
	}
	leaves = cut(leaves, l.Path)
	i, _ := locate(leaves, l.Path)
	return slices.Insert(leaves, i, l)
}

// cut removes the leaf at a path and everything below it.
func cut(leaves []Leaf, path string) []Leaf {
	start, _ := locate(leaves, path)
	return slices.Delete(leaves, start, start+len(under(leaves, path)))
}

func locate(leaves []Leaf, path string) (int, bool) {
	return slices.BinarySearchFunc(leaves, path, func(l Leaf, p string) int { return comparePaths(l.Path, p) })
}

// mergePatch is RFC 7396 leaf by leaf: each leaf of the patch sets its path, null removes it, an empty object asks for an object. What
// a removal leaves empty is an empty object, whose origin is the removal. The target is taken over; a nil target is absent.
func mergePatch(target, patch []Leaf) []Leaf {
	for _, l := range patch {
		switch {
		case string(l.Value) == "null" && l.Path != "":
			target = cut(target, l.Path)
			if above := parent(l.Path); !isObject(target, above) {
				empty := l
				empty.Path, empty.Value = above, emptyObject
				target = put(target, empty)
			}
		case string(l.Value) == "{}" && isObject(target, l.Path):
		default:
			target = put(target, l)
		}
	}
	return target
}

// isObject says whether there is an object at a path.
func isObject(leaves []Leaf, path string) bool {
	below := under(leaves, path)
	return len(below) > 0 && (len(below[0].Path) > len(path) || string(below[0].Value) == "{}")
}
