package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Paths are JSON pointers (RFC 6901).

var (
	escaper   = strings.NewReplacer("~", "~0", "/", "~1")
	unescaper = strings.NewReplacer("~1", "/", "~0", "~")
)

// escape is a member's name as a segment of a path.
func escape(name string) string { return escaper.Replace(name) }

func unescape(segment string) string { return unescaper.Replace(segment) }

// comparePaths orders paths so that everything below one stands right behind it.
func comparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}

// isUnder says whether path is ancestor itself or lies below it.
func isUnder(path, ancestor string) bool {
	return strings.HasPrefix(path, ancestor) && (len(path) == len(ancestor) || path[len(ancestor)] == '/')
}

// touches says whether one of two paths lies on the other or below it.
func touches(a, b string) bool { return isUnder(a, b) || isUnder(b, a) }

// parent is the path above; of "" it is "".
func parent(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 0)] }

// under are the leaves at a path and below it.
func under(leaves []Leaf, path string) []Leaf {
	start, _ := slices.BinarySearchFunc(leaves, path, func(l Leaf, p string) int { return comparePaths(l.Path, p) })
	end := start
	for end < len(leaves) && isUnder(leaves[end].Path, path) {
		end++
	}
	return leaves[start:end:end]
}

// find is the leaf at a path.
func find(leaves []Leaf, path string) (Leaf, bool) {
	i, found := slices.BinarySearchFunc(leaves, path, func(l Leaf, p string) int { return comparePaths(l.Path, p) })
	if !found {
		return Leaf{}, false
	}
	return leaves[i], true
}

// pick is the value at a path of a JSON value; list items go by their number.
func pick(value json.RawMessage, path string) (json.RawMessage, bool) {
	for path != "" && value != nil {
		segment, rest, deeper := strings.Cut(path[1:], "/")
		path = ""
		if deeper {
			path = "/" + rest
		}
		switch value[0] {
		case '{':
			var members map[string]json.RawMessage
			_ = json.Unmarshal(value, &members) // it is canonical JSON
			value = members[unescape(segment)]
		case '[':
			var items []json.RawMessage
			_ = json.Unmarshal(value, &items)
			n, err := strconv.Atoi(segment)
			if err != nil || n < 0 || n >= len(items) {
				return nil, false
			}
			value = items[n]
		default:
			return nil, false
		}
	}
	return value, value != nil
}

// differing are the paths at which two JSON values differ: members of objects one by one, everything else as a whole.
func differing(a, b json.RawMessage, path string) []string {
	if bytes.Equal(a, b) {
		return nil
	}
	var ours, theirs map[string]json.RawMessage
	if len(a) == 0 || len(b) == 0 || a[0] != '{' || b[0] != '{' || json.Unmarshal(a, &ours) != nil || json.Unmarshal(b, &theirs) != nil {
		return []string{path}
	}
	names := maps.Clone(ours)
	maps.Copy(names, theirs)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, differing(ours[name], theirs[name], path+"/"+escape(name))...)
	}
	return out
}

// checkPointer says whether a path is a JSON pointer; the empty one is the whole value.
func checkPointer(at, path string) error {
	if path == "" || strings.HasPrefix(path, "/") {
		return nil
	}
	return wrong(at, "%q is no path into a value: write it as in /limits/max, or leave it out for the whole value", path)
}
