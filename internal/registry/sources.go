package registry

import (
	"encoding/json"
	"slices"
	"strings"
)

// Sources are what an environment is rendered from: manifests, and the environment's override document, which quick edits fill.
// They never change; environments with the same history share them. The zero Sources are empty.
type Sources struct {
	manifests []*Manifest // ordered by key
	quick     []Quick     // ordered by key
}

// A Quick is an entry of an override document: it replaces the whole value of a resource, or takes the resource away.
type Quick struct {
	Key    string
	Value  json.RawMessage // nil takes it away
	Change string          // that set it
}

// Manifests are all manifests ordered by key; the list must not be changed.
func (s *Sources) Manifests() []*Manifest { return s.manifests }

// OfKind are the manifests of a kind, ordered by name.
func (s *Sources) OfKind(kind string) []*Manifest {
	at := func(prefix string) int {
		i, _ := slices.BinarySearchFunc(s.manifests, prefix, func(m *Manifest, key string) int { return strings.Compare(m.Key, key) })
		return i
	}
	return s.manifests[at(kind+"/"):at(kind+"0")] // '0' follows '/'
}

// Manifest finds a manifest by its key.
func (s *Sources) Manifest(key string) (*Manifest, bool) {
	i, found := slices.BinarySearchFunc(s.manifests, key, func(m *Manifest, key string) int { return strings.Compare(m.Key, key) })
	if !found || !s.manifests[i].whole {
		return nil, false
	}
	return s.manifests[i], true
}

// Quick are the entries of the override document, ordered by key; the list must not be changed.
func (s *Sources) Quick() []Quick { return s.quick }

// QuickOf finds an entry of the override document.
func (s *Sources) QuickOf(key string) (Quick, bool) {
	i, found := slices.BinarySearchFunc(s.quick, key, compareQuick)
	if !found {
		return Quick{}, false
	}
	return s.quick[i], true
}

func compareQuick(q Quick, key string) int { return strings.Compare(q.Key, key) }

// Difference is the edits that make the manifests of one into those of the other. Where a leaf stands makes no difference.
func Difference(from, to *Sources) *Edits {
	e := &Edits{}
	i, j := 0, 0
	for i < len(from.manifests) || j < len(to.manifests) {
		switch order := compareHeads(from.manifests[i:], to.manifests[j:]); {
		case order < 0:
			e.Manifests = append(e.Manifests, ManifestEdit{Key: from.manifests[i].Key, Removed: true})
			i++
		case order > 0:
			e.Manifests = append(e.Manifests, rewrite(&Manifest{}, to.manifests[j]))
			j++
		default:
			if !from.manifests[i].same(to.manifests[j]) {
				e.Manifests = append(e.Manifests, rewrite(from.manifests[i], to.manifests[j]))
			}
			i, j = i+1, j+1
		}
	}
	return e
}

// compareHeads compares the first manifests of two lists; an empty list is behind everything.
func compareHeads(a, b []*Manifest) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return strings.Compare(a[0].Key, b[0].Key)
}

// rewrite is the edit that makes one manifest into another.
func rewrite(from, to *Manifest) ManifestEdit {
	e := ManifestEdit{Key: to.Key, File: to.Place().File}
	i := 0
	for _, l := range to.leaves {
		for i < len(from.leaves) && comparePaths(from.leaves[i].Path, l.Path) < 0 {
			e.Delete = append(e.Delete, from.leaves[i].Path)
			i++
		}
		if i < len(from.leaves) && from.leaves[i].Path == l.Path {
			i++
			if string(from.leaves[i-1].Value) == string(l.Value) {
				continue
			}
		}
		e.Set = append(e.Set, SetLeaf{Path: l.Path, Value: l.Value, Line: l.Place.Line, Items: l.items})
	}
	for ; i < len(from.leaves); i++ {
		e.Delete = append(e.Delete, from.leaves[i].Path)
	}
	return e
}
