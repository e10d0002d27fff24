package exchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Conflict is a resource that a directory declares already, with another value in the environment.
type Conflict struct {
	Key   string
	Place registry.Place // of the directory's value
}

// ErrNothing: the directory says all of it already.
var ErrNothing = errors.New("the directory says all of this already")

// Manifests are what must be added to a directory, which may be empty, so that an environment has the values there: YAML text.
//
// Where the directory is for this environment alone, the values are defaults; otherwise they are overrides for it. An environment that
// the directory does not declare yet gets a manifest of its own: it overrides what the directory says otherwise, and takes away what
// the directory gives it and the format would hold. In one that is declared, such values are conflicts: nothing that people wrote is changed.
func Manifests(files []registry.File, target registry.Target, format string, values Values) (string, []Conflict, error) {
	dir, err := registry.Read(files)
	if err != nil {
		return "", nil, err
	}
	has, err := registry.NewRenderer().Render(dir, target)
	if err != nil {
		return "", nil, err
	}
	w := writer{dir: dir, target: target, has: has, format: format, overrides: map[string]json.RawMessage{}}
	w.declared = slices.ContainsFunc(dir.Targets(), func(t registry.Target) bool { return t.Name == target.Name })
	w.alone = !slices.ContainsFunc(dir.Targets(), func(t registry.Target) bool { return t.Name != target.Name })
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := w.resource(key, values[key]); err != nil {
			return "", nil, err
		}
	}
	if !w.declared {
		if err := w.environment(values); err != nil {
			return "", nil, err
		}
	}
	if len(w.conflicts) > 0 || w.text.Len() == 0 {
		if len(w.conflicts) == 0 {
			err = ErrNothing
		}
		return "", w.conflicts, err
	}
	return w.text.String(), nil, w.proven(files, values)
}

// writer writes manifests that a directory lacks.
type writer struct {
	dir             *registry.Sources
	target          registry.Target
	has             *registry.Rendering
	format          string
	declared, alone bool
	overrides       map[string]json.RawMessage // of the environment's manifest
	conflicts       []Conflict
	text            bytes.Buffer
}

// A manifest as it is written; the order of the fields is that of the text.
type manifest struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       spec     `json:"spec"`
}

type metadata struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
}

type spec struct {
	Default   json.RawMessage            `json:"default,omitempty"`
	Overrides map[string]json.RawMessage `json:"overrides,omitempty"`
}

func (w *writer) resource(key string, value json.RawMessage) error {
	m, managed := w.dir.Manifest(key)
	is, rendered := w.has.Get(key)
	switch {
	case rendered && bytes.Equal(is.Value.JSON, value):
		return nil
	case managed && w.declared:
		place := m.PlaceOf("/spec")
		if rendered {
			o := is.Origins()[0]
			place = registry.Place{File: o.File, Line: o.Line}
		}
		w.conflicts = append(w.conflicts, Conflict{key, place})
		return nil
	case managed:
		w.overrides[key] = value
		if rendered {
			w.overrides[key] = patch(is.Value.JSON, value)
		}
		return nil
	}
	kind, name, _ := strings.Cut(key, "/")
	out := manifest{registry.APIVersion, kindName(kind), metadata{Name: name}, spec{Default: value}}
	if !w.alone {
		out.Spec.Default, out.Spec.Overrides = nil, map[string]json.RawMessage{w.target.Name: value}
	}
	return w.write(out)
}

// environment declares the environment, with what is different in it.
func (w *writer) environment(values Values) error {
	for _, r := range w.has.Resources {
		if _, wanted := values[r.Key]; !wanted && Holds(w.format, r.Key) {
			w.overrides[r.Key] = json.RawMessage("null")
		}
	}
	return w.write(manifest{registry.APIVersion, "Environment", metadata{w.target.Name, w.target.Labels}, spec{Overrides: w.overrides}})
}

func (w *writer) write(m manifest) error {
	b, err := events.Encode(m)
	if err == nil {
		b, err = config.YAML(b)
	}
	if err != nil {
		return fmt.Errorf("%s/%s: %w", m.Kind, m.Metadata.Name, err)
	}
	if w.text.Len() > 0 {
		w.text.WriteString("---\n")
	}
	w.text.Write(b)
	return nil
}

// proven renders what was written beside what was there: nothing may be lost on the way.
func (w *writer) proven(files []registry.File, values Values) error {
	dir, err := registry.Read(append(slices.Clone(files), registry.File{Name: "imported", Text: w.text.String()}))
	if err != nil {
		return err
	}
	has, err := registry.NewRenderer().Render(dir, w.target)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if is, rendered := has.Get(key); !rendered || !bytes.Equal(is.Value.JSON, values[key]) {
			return fmt.Errorf("%s cannot be written as a manifest: an object in it has a member that is null, which removes it there; leave the member out", key)
		}
	}
	return nil
}

// patch is the JSON Merge Patch (RFC 7396) that makes one value into another.
func patch(from, to json.RawMessage) json.RawMessage {
	var before, after map[string]json.RawMessage
	if json.Unmarshal(from, &before) != nil || json.Unmarshal(to, &after) != nil || before == nil || after == nil {
		return to
	}
	out := map[string]json.RawMessage{}
	for name := range before {
		if _, stays := after[name]; !stays {
			out[name] = json.RawMessage("null")
		}
	}
	for name, value := range after {
		if old, was := before[name]; !was {
			out[name] = value
		} else if !bytes.Equal(old, value) {
			out[name] = patch(old, value)
		}
	}
	b, err := events.Encode(out)
	if err != nil {
		return to // raw JSON that was decoded before
	}
	return b
}
