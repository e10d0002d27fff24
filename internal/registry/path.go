package registry

import (
	"cmp"
	"slices"
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
