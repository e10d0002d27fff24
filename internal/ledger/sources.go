package ledger

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A DirectoryEdit is what a proposed directory edits in the sources of some environments.
type DirectoryEdit struct {
	Chunks  []events.Digest `json:"chunks,omitempty"` // contents: lists of registry.ManifestEdit, one after the other
	Drop    []string        `json:"drop,omitempty"`   // resources whose quick edits the directory takes over, or undoes
	Matched []string        `json:"matched"`          // environments, ordered
}

// edit says whether a directory edits the sources of an environment.
func (s Sources) edit(environment string) bool {
	return slices.ContainsFunc(s.Directory, func(e DirectoryEdit) bool { return bit(e.Matched, environment) == '1' })
}

// sourced are the sources of environments as far as they were folded. They are folded when somebody asks, not when the ledger is
// read; readers may ask at the same time.
type sourced struct {
	mu    sync.Mutex
	of    map[string]foldedSources
	empty *registry.Sources
}

type foldedSources struct {
	changes int // how many, of those that the environment had
	taken   int
	sources *registry.Sources
}

// adopt takes a change's edits into the sources of an environment.
func (s *State) adopt(c *Change, environment string) {
	e := s.Environments[environment]
	e.changes, e.version = append(e.changes, c.ID), e.version+1
	part, _ := c.PartFor(environment)
	part.InSources, part.adopted = true, s.Number
}

// abandon takes them out again.
func (s *State) abandon(c *Change, environment string) {
	e := s.Environments[environment]
	e.changes = slices.DeleteFunc(slices.Clone(e.changes), func(id string) bool { return id == c.ID })
	e.taken, e.version = e.taken+1, e.version+1
	part, _ := c.PartFor(environment)
	part.InSources, part.abandoned = false, s.Number
}

// SourcesOf are the sources of an environment: the fold of the edits of the changes that were released to it, or that changed
// nothing but them, and were not rolled back.
func (s *State) SourcesOf(environment string) (*registry.Sources, error) {
	all, err := s.allSources()
	if err != nil {
		return nil, err
	}
	of, found := all[environment]
	if !found {
		return nil, refuse(KindNotFound, "list them with 'publisher env list'", "there is no environment %s", environment)
	}
	return of.sources, nil
}

// SourcesOfAll are the sources of all environments by name, which costs no more than those of one.
func (s *State) SourcesOfAll() (map[string]*registry.Sources, error) {
	all, err := s.allSources()
	out := make(map[string]*registry.Sources, len(all))
	for name, of := range all {
		out[name] = of.sources
	}
	return out, err
}

// allSources folds what was released since, in all environments at once: those with the same history share their sources.
func (s *State) allSources() (map[string]foldedSources, error) {
	s.sourced.mu.Lock()
	defer s.sourced.mu.Unlock()
	if s.sourced.empty == nil {
		s.sourced.empty = &registry.Sources{}
	}
	after := make(map[string]foldedSources, len(s.Environments))
	var folder registry.Folder
	read := newEditReader(s)
	for name, e := range s.Environments {
		known := s.sourced.of[name]
		from, rest := s.sourced.empty, e.changes
		if known.sources != nil && known.taken == e.taken {
			from, rest = known.sources, e.changes[known.changes:]
		}
		steps, err := read.steps(rest, name)
		if err != nil {
			return nil, err
		}
		after[name] = foldedSources{len(e.changes), e.taken, folder.Fold(from, steps...)}
	}
	s.sourced.of = after
	return after, nil
}

// ProposedSources are the sources of the environments of a change as they will be with it, by name.
func (s *State) ProposedSources(c *Change) (map[string]*registry.Sources, error) {
	all, err := s.allSources()
	if err != nil {
		return nil, err
	}
	out := make(map[string]*registry.Sources, len(c.Parts))
	var folder registry.Folder
	read := newEditReader(s)
	for _, part := range c.Parts {
		steps, err := read.steps([]string{c.ID}, part.Environment)
		if err != nil {
			return nil, err
		}
		out[part.Environment] = folder.Fold(all[part.Environment].sources, steps...)
	}
	return out, nil
}

// pending are the changes that are approved for an environment and have neither reached it nor were left out there.
func (s *State) pending(environment string) []string {
	var out []string
	for _, id := range s.order {
		c := s.Changes[id]
		if c.status != StatusReleased {
			continue
		}
		if part, found := c.PartFor(environment); found && part.Revision == 0 && part.LeftOut == nil && !part.SourcesOnly() {
			out = append(out, id)
		}
	}
	return out
}

// editReader reads the edits of changes; environments that have the same edits of a change share them.
type editReader struct {
	state  *State
	lists  contents[[]registry.ManifestEdit]
	change map[string]*writtenEdits
}

// writtenEdits are the edits of one change.
type writtenEdits struct {
	sources Sources
	groups  map[string]*registry.Edits // by the edits that concern an environment
}

func newEditReader(s *State) *editReader {
	return &editReader{state: s, lists: contents[[]registry.ManifestEdit]{}, change: map[string]*writtenEdits{}}
}

func (r *editReader) steps(changes []string, environment string) ([]registry.Step, error) {
	steps := make([]registry.Step, len(changes))
	for i, id := range changes {
		edits, err := r.edits(id, environment)
		if err != nil {
			return nil, fmt.Errorf("the sources of change %s: %w", id, err)
		}
		steps[i] = registry.Step{Change: id, Edits: edits}
	}
	return steps, nil
}

// edits are what a change does to the sources of an environment.
func (r *editReader) edits(id, environment string) (*registry.Edits, error) {
	w, known := r.change[id]
	if !known {
		sources, err := r.state.WrittenSources(r.state.Changes[id])
		if err != nil {
			return nil, err
		}
		w = &writtenEdits{sources: sources, groups: map[string]*registry.Edits{}}
		r.change[id] = w
	}
	var concerning []byte // one bit of text per edit
	for _, e := range w.sources.Edits {
		concerning = append(concerning, bit(e.Matched, environment))
	}
	for _, e := range w.sources.Directory {
		concerning = append(concerning, bit(e.Matched, environment))
	}
	if edits, known := w.groups[string(concerning)]; known {
		return edits, nil
	}
	out := &registry.Edits{Quick: map[string]json.RawMessage{}}
	for i, e := range w.sources.Edits {
		if concerning[i] == '1' {
			e.quick(out.Quick)
		}
	}
	for i, e := range w.sources.Directory {
		if concerning[len(w.sources.Edits)+i] == '0' {
			continue
		}
		out.Drop = append(out.Drop, e.Drop...)
		for _, chunk := range e.Chunks {
			list, err := r.lists.read(r.state, chunk)
			if err != nil {
				return nil, err
			}
			out.Manifests = append(out.Manifests, list...)
		}
	}
	w.groups[string(concerning)] = out
	return out, nil
}

func bit(matched []string, environment string) byte {
	if _, found := slices.BinarySearchFunc(matched, environment, strings.Compare); found {
		return '1'
	}
	return '0'
}

// quick keeps the quick edits that were compiled for an environment; the same edits once.
func (s *Sources) quick(c Compiled) {
	if len(c.Edits.Quick) == 0 {
		return
	}
	edit := SourceEdit{Document: overrideDocument}
	for _, key := range slices.Sorted(maps.Keys(c.Edits.Quick)) {
		if value := c.Edits.Quick[key]; value == nil {
			edit.Delete = append(edit.Delete, key)
		} else {
			if edit.Set == nil {
				edit.Set = map[string]json.RawMessage{}
			}
			edit.Set[key] = value
		}
	}
	i := slices.IndexFunc(s.Edits, func(other SourceEdit) bool {
		return reflect.DeepEqual(other.Edit.Set, edit.Set) && slices.Equal(other.Delete, edit.Delete)
	})
	if i < 0 {
		i = len(s.Edits)
		s.Edits = append(s.Edits, edit)
	}
	s.Edits[i].Matched = append(s.Edits[i].Matched, c.Environment)
	s.Edits[i].Environments = s.Edits[i].Matched
}

// quick adds what an edit does to an override document.
func (e Edit) quick(values map[string]json.RawMessage) {
	for key, value := range e.Set {
		values[key] = value
	}
	for _, key := range e.Delete {
		values[key] = nil
	}
}
