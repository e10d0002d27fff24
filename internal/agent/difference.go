package agent

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// What is told of one resource at most: a beat has room for it.
const (
	mostFields  = 8
	longestPath = 96 // bytes
)

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// difference says in which fields a resource's value in the instance is not what it should be: members of objects one by one, everything
// else as a whole. A field whose pointer would be too long is told by what it lies in.
func difference(key string, held, is json.RawMessage) events.DifferingResource {
	d := events.DifferingResource{Resource: key}
	for _, path := range differingPaths(held, is, "") {
		switch {
		case path == "" || slices.Contains(d.Fields, path):
		case len(d.Fields) == mostFields:
			d.More++
		default:
			d.Fields = append(d.Fields, path)
		}
	}
	return d
}

func differingPaths(a, b json.RawMessage, path string) (paths []string) {
	if bytes.Equal(a, b) {
		return nil
	}
	var held, is map[string]json.RawMessage
	if len(a) == 0 || len(b) == 0 || a[0] != '{' || b[0] != '{' || json.Unmarshal(a, &held) != nil || json.Unmarshal(b, &is) != nil {
		return []string{path}
	}
	names := maps.Clone(held)
	maps.Copy(names, is)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		below := path + "/" + pointerEscapes.Replace(name)
		if len(below) > longestPath {
			return append(paths, path)
		}
		paths = append(paths, differingPaths(held[name], is[name], below)...)
	}
	return paths
}
