package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// APIVersion begins every manifest.
const APIVersion = "lockstep/v1"

// Kinds of manifests that are no resources.
const (
	KindEnvironment = "environment"
	KindTemplate    = "template"
	KindPolicy      = "policy"
)

// Kinds are all kinds of manifests as keys write them; manifests write them with a capital letter.
var Kinds = append([]string{KindEnvironment, KindTemplate, KindPolicy}, events.Kinds...)

// A Place is a line of a file.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

func (p Place) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// A Leaf is a scalar, a list or an empty object of a manifest.
type Leaf struct {
	Path   string          // JSON pointer
	Value  json.RawMessage // canonical JSON
	Place  Place
	Change string // that set it; empty in a directory
	items  []int  // lines of its items, where it is a list of mappings
	from   *layer // of a rendered value
}

// A Manifest is one document of its author's, as leaves. It never changes. Its kind and name stand in its key alone.
type Manifest struct {
	Key    string // <kind>/<name>, and of a template that has a version <kind>/<name>@<version>
	leaves []Leaf // ordered by comparePaths
	digest [sha256.Size]byte
	whole  bool                   // it begins as manifests do; what is left of one whose beginning was rolled back is none
	index  func() (*index, error) // what it means, read once
}

// newManifest takes leaves over; they are ordered and fit together.
func newManifest(key string, leaves []Leaf) *Manifest {
	m := &Manifest{Key: key, leaves: leaves}
	h := sha256.New()
	for _, l := range leaves {
		fmt.Fprintf(h, "%d:%s", len(l.Path), l.Path)
		h.Write(l.Value)
		h.Write([]byte{0})
	}
	h.Sum(m.digest[:0])
	_, m.whole = find(leaves, "/apiVersion")
	m.index = sync.OnceValues(func() (*index, error) { return newIndex(m) })
	return m
}

// Kind is the manifest's kind as in its key.
func (m *Manifest) Kind() string { kind, _, _ := strings.Cut(m.Key, "/"); return kind }

// Name is the manifest's name. The key of a template goes on with its version.
func (m *Manifest) Name() string {
	_, name, _ := strings.Cut(m.Key, "/")
	name, _, _ = strings.Cut(name, "@")
	return name
}

// IsResource says whether the manifest is of a resource.
func (m *Manifest) IsResource() bool { return slices.Contains(events.Kinds, m.Kind()) }

// Leaves are the manifest's leaves; they must not be changed.
func (m *Manifest) Leaves() []Leaf { return m.leaves }

// Place is where the manifest's first leaf stands.
func (m *Manifest) Place() Place {
	if len(m.leaves) == 0 {
		return Place{}
	}
	first := m.leaves[0].Place
	for _, l := range m.leaves[1:] {
		if l.Place.File == first.File && l.Place.Line < first.Line {
			first = l.Place
		}
	}
	return first
}

// PlaceOf is where a path stands: its own leaf, the first one below it, the item of a list that it leads into, or the nearest leaf above.
func (m *Manifest) PlaceOf(path string) Place {
	into := "" // what path had below the one that is tried
	for ; path != ""; path = parent(path) {
		if below := under(m.leaves, path); len(below) > 0 {
			place := below[0].Place
			if item, err := strconv.Atoi(into); err == nil && below[0].Path == path && 0 <= item && item < len(below[0].items) {
				place.Line = below[0].items[item]
			}
			return place
		}
		into = path[strings.LastIndexByte(path, '/')+1:]
	}
	return m.Place()
}

// ValueAt is the resource, and the path in its value, to which a path of the manifest belongs. Other paths are the manifest's own,
// and isValue is false.
func (m *Manifest) ValueAt(path string) (key, at string, isValue bool) {
	var layers string // whose members have values below them
	switch {
	case m.IsResource():
		for _, field := range []string{"/spec/default", "/spec/safeValue"} {
			if isUnder(path, field) {
				return m.Key, path[len(field):], true
			}
		}
		layers = "/spec/overrides/"
	case m.Kind() == KindTemplate:
		layers = "/spec/values/"
	case m.Kind() == KindEnvironment:
		layers = "/spec/overrides/"
	}
	name, found := strings.CutPrefix(path, layers)
	if layers == "" || !found {
		return m.Key, path, false
	}
	if i := strings.IndexByte(name, '/'); i >= 0 {
		name, at = name[:i], name[i:]
	}
	if m.IsResource() {
		return m.Key, at, true
	}
	return unescape(name), at, true
}

// same says whether two manifests have the same leaves, wherever those stand.
func (m *Manifest) same(other *Manifest) bool { return m == other || m.digest == other.digest }

// kindName is a kind as manifests write it.
func kindName(kind string) string { return strings.ToUpper(kind[:1]) + kind[1:] }

// Tree is the manifest as one JSON value, without kind and name.
func (m *Manifest) Tree() (json.RawMessage, error) { return assemble(m.leaves, "") }

// assemble is leaves below a prefix as canonical JSON.
func assemble(leaves []Leaf, prefix string) (json.RawMessage, error) {
	if len(leaves) == 1 && leaves[0].Path == prefix {
		return leaves[0].Value, nil
	}
	var b bytes.Buffer
	writeObject(&b, leaves, len(prefix))
	return events.Canonical(b.Bytes())
}

// writeObject writes leaves, whose paths go on behind offset, as an object.
func writeObject(b *bytes.Buffer, leaves []Leaf, offset int) {
	b.WriteByte('{')
	for i := 0; i < len(leaves); {
		rest := leaves[i].Path[offset+1:]
		segment, _, deeper := strings.Cut(rest, "/")
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(unescape(segment)) // a string
		b.Write(name)
		b.WriteByte(':')
		if !deeper {
			b.Write(leaves[i].Value)
			i++
			continue
		}
		end := i + 1
		prefix := leaves[i].Path[:offset+1+len(segment)+1]
		for end < len(leaves) && strings.HasPrefix(leaves[end].Path, prefix) {
			end++
		}
		writeObject(b, leaves[i:end], len(prefix)-1)
		i = end
	}
	b.WriteByte('}')
}
