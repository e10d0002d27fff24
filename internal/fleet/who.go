package fleet

import (
	"slices"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Who finds who answers for resources: the author of a change, and the owners that manifests name, each once and in order. Where no
// resources are named they are those that the change sets in the environment, or, where that is empty, in all of them; what manifests do
// not hold yet is looked for in those that the change proposes. What it returns reads the state, and must not outlive it.
func Who(s *ledger.State) func(environment, change string, resources []string) (author string, owners []string) {
	find := manifests(s.SourcesOfAll)
	return func(environment, change string, resources []string) (author string, owners []string) {
		owners = []string{}
		for _, key := range resources {
			owners = owned(owners, find(environment, key))
		}
		if c := s.Changes[change]; c != nil {
			author = c.Author
			if len(resources) == 0 {
				owners = ownersOf(s, find, c, environment)
			}
		}
		slices.Sort(owners)
		return author, slices.Compact(owners)
	}
}

// owned adds the owner that a manifest names.
func owned(owners []string, m *registry.Manifest) []string {
	if m != nil && m.Metadata().Owner != "" {
		owners = append(owners, m.Metadata().Owner)
	}
	return owners
}

// ownersOf are those of what a change sets in an environment, or in all where none is named.
func ownersOf(s *ledger.State, find manifestFinder, c *ledger.Change, environment string) []string {
	owners := []string{}
	proposed := manifests(func() (map[string]*registry.Sources, error) { return s.ProposedSources(c) })
	for _, part := range c.Parts {
		if environment != "" && part.Environment != environment {
			continue
		}
		for _, op := range part.Operations {
			m := find(part.Environment, op.Key)
			if m == nil && !part.InSources && op.Op == events.OpSet {
				m = proposed(part.Environment, op.Key)
			}
			owners = owned(owners, m)
		}
	}
	return owners
}

// A manifestFinder finds the manifest of a resource in an environment; nil where it has none.
type manifestFinder func(environment, key string) *registry.Manifest

// manifests finds manifests in the sources of environments, which are read when they are first asked for.
func manifests(read func() (map[string]*registry.Sources, error)) manifestFinder {
	var sources map[string]*registry.Sources
	return func(environment, key string) *registry.Manifest {
		if sources == nil {
			if sources, _ = read(); sources == nil {
				sources = map[string]*registry.Sources{} // what cannot be folded describes nothing
			}
		}
		if of := sources[environment]; of != nil {
			if m, found := of.Manifest(key); found {
				return m
			}
		}
		return nil
	}
}
