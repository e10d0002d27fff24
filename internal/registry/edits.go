package registry

import (
	"encoding/json"
	"slices"
	"strings"
)

// Edits are what a change does to the sources of an environment. They never change.
type Edits struct {
	Manifests []ManifestEdit             `json:"manifests,omitempty"` // ordered by key
	Quick     map[string]json.RawMessage `json:"quick,omitempty"`     // entries of the override document by resource; a nil value takes the resource away
	Drop      []string                   `json:"drop,omitempty"`      // resources whose entry leaves the override document
}

// A ManifestEdit edits one manifest leaf by leaf: first it is removed or loses leaves, then leaves are set.
type ManifestEdit struct {
	Key     string    `json:"key"`
	File    string    `json:"file,omitempty"`    // where the leaves stand
	Removed bool      `json:"removed,omitempty"` // with all leaves that it has then
	Delete  []string  `json:"delete,omitempty"`  // paths
	Set     []SetLeaf `json:"set,omitempty"`
}

// A SetLeaf is a leaf that an edit sets.
type SetLeaf struct {
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
	Line  int             `json:"line"`
	Items []int           `json:"items,omitempty"` // lines of its items, where it is a list of mappings
}

// Empty says that the edits do nothing.
func (e *Edits) Empty() bool { return len(e.Manifests)+len(e.Quick)+len(e.Drop) == 0 }

// A Step is the edits of one change.
type Step struct {
	Change string
	Edits  *Edits
}

// A Folder folds edits over sources. What is folded twice from the same sources with the same edits is the same sources: it must not
// outlive the sources that are in use.
type Folder struct{ done map[folding]*Sources }

type folding struct {
	sources *Sources
	step    Step
}

// Fold is the sources after the steps, in their order.
func (f *Folder) Fold(s *Sources, steps ...Step) *Sources {
	if f.done == nil {
		f.done = map[folding]*Sources{}
	}
	for _, step := range steps {
		after, known := f.done[folding{s, step}]
		if !known {
			after = s.with(step)
			f.done[folding{s, step}] = after
		}
		s = after
	}
	return s
}

// with is the sources after one step.
func (s *Sources) with(step Step) *Sources {
	if step.Edits.Empty() {
		return s
	}
	out := &Sources{manifests: s.manifests, quick: s.quick}
	if len(step.Edits.Manifests) > 0 {
		out.manifests = s.edited(step)
	}
	if len(step.Edits.Quick)+len(step.Edits.Drop) > 0 {
		out.quick = s.quickly(step)
	}
	return out
}

func (s *Sources) edited(step Step) []*Manifest {
	out := make([]*Manifest, 0, len(s.manifests)+len(step.Edits.Manifests))
	i := 0
	for _, e := range step.Edits.Manifests {
		for i < len(s.manifests) && s.manifests[i].Key < e.Key {
			out = append(out, s.manifests[i])
			i++
		}
		before := &Manifest{}
		if i < len(s.manifests) && s.manifests[i].Key == e.Key {
			before = s.manifests[i]
			i++
		}
		if leaves := e.apply(before.leaves, step.Change); len(leaves) > 0 {
			out = append(out, newManifest(e.Key, leaves))
		}
	}
	return append(out, s.manifests[i:]...)
}

// apply is a manifest's leaves after the edit.
func (e ManifestEdit) apply(before []Leaf, change string) []Leaf {
	var leaves []Leaf
	if !e.Removed {
		leaves = slices.DeleteFunc(slices.Clone(before), func(l Leaf) bool { _, gone := slices.BinarySearchFunc(e.Delete, l.Path, comparePaths); return gone })
	}
	if len(leaves) == 0 {
		leaves = make([]Leaf, 0, len(e.Set))
	}
	for _, set := range e.Set {
		leaves = put(leaves, Leaf{Path: set.Path, Value: set.Value, Place: Place{e.File, set.Line}, Change: change, items: set.Items})
	}
	return leaves
}

func (s *Sources) quickly(step Step) []Quick {
	out := slices.Clone(s.quick)
	for key, value := range step.Edits.Quick {
		i, found := slices.BinarySearchFunc(out, key, compareQuick)
		if !found {
			out = slices.Insert(out, i, Quick{})
		}
		if string(value) == "null" {
			value = nil
		}
		out[i] = Quick{key, value, step.Change}
	}
	return slices.DeleteFunc(out, func(q Quick) bool { return slices.Contains(step.Edits.Drop, q.Key) })
}

// A Conflict is a place that two edits touch.
type Conflict struct {
	Manifest string
	Path     string // that the first of them touches
}

// Conflicts are the places of e that another edit touches too: the same leaf, one above it, or one below.
func (e *Edits) Conflicts(other *Edits) []Conflict {
	var out []Conflict
	for _, mine := range e.Manifests {
		i, found := slices.BinarySearchFunc(other.Manifests, mine.Key, func(m ManifestEdit, key string) int { return strings.Compare(m.Key, key) })
		if !found {
			continue
		}
		theirs := other.Manifests[i].paths()
		for _, path := range mine.paths() {
			if slices.ContainsFunc(theirs, func(p string) bool { return touches(p, path) }) {
				out = append(out, Conflict{mine.Key, path})
			}
		}
	}
	return out
}

// Holds says whether sources say at a place already what the edits set there, or lack what they delete.
func (e *Edits) Holds(at Conflict, s *Sources) bool {
	i := slices.IndexFunc(e.Manifests, func(m ManifestEdit) bool { return m.Key == at.Manifest })
	m, found := s.Manifest(at.Manifest)
	if !found {
		return e.Manifests[i].Removed || slices.Contains(e.Manifests[i].Delete, at.Path)
	}
	if at.Path == "" {
		return false
	}
	is, there := find(m.leaves, at.Path)
	if j := slices.IndexFunc(e.Manifests[i].Set, func(l SetLeaf) bool { return l.Path == at.Path }); j >= 0 {
		return there && string(is.Value) == string(e.Manifests[i].Set[j].Value)
	}
	return len(under(m.leaves, at.Path)) == 0
}

// paths are what the edit touches.
func (e ManifestEdit) paths() []string {
	if e.Removed {
		return []string{""}
	}
	out := slices.Clone(e.Delete)
	for _, set := range e.Set {
		out = append(out, set.Path)
	}
	return out
}

// Concern says whether edits matter in an environment: what resources say for other environments, resources that it does not have,
// other environments' manifests and templates that are not in its chain do not.
func (e *Edits) Concern(environment string, chain []*Manifest, has func(key string) bool) bool {
	return slices.ContainsFunc(e.Manifests, func(m ManifestEdit) bool {
		kind, name, _ := strings.Cut(m.Key, "/")
		switch kind {
		case KindEnvironment:
			return name == environment
		case KindTemplate:
			return slices.ContainsFunc(chain, func(t *Manifest) bool { return t.Key == m.Key })
		case KindPolicy:
			return true
		}
		return has(m.Key) && slices.ContainsFunc(m.paths(), func(path string) bool {
			pattern, isOverride := strings.CutPrefix(path, "/spec/overrides/")
			pattern, _, _ = strings.Cut(pattern, "/")
			return !isOverride || matches(unescape(pattern), environment)
		})
	})
}
