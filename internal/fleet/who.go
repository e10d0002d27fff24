package fleet

import (
	"slices"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

// Who finds who answers for resources: the author of a change, and the owners that manifests name, each once and in order. Where no
// resources are named they are those that the change sets in the environment, or, where that is empty, in all of them. What it returns
// reads the state, and must not outlive it.
func Who(s *ledger.State) func(environment, change string, resources []string) (author string, owners []string) {
	find := manifests(s)
	return func(environment, change string, resources []string) (author string, owners []string) {
		owners = []string{}
		add := func(environment, key string) {
			if m := find(environment, key); m != nil && m.Metadata().Owner != "" {
				owners = append(owners, m.Metadata().Owner)
			}
		}
		for _, key := range resources {
			add(environment, key)
		}
		c := s.Changes[change]
		if c != nil {
			author = c.Author
		}
		if c != nil && len(resources) == 0 {
			for _, part := range c.Parts {
				for _, op := range part.Operations {
					if environment == "" || part.Environment == environment {
						add(part.Environment, op.Key)
					}
				}
			}
		}
		slices.Sort(owners)
		return author, slices.Compact(owners)
	}
}

// manifests finds the manifest of a resource in an environment; nil where it has none.
func manifests(s *ledger.State) func(environment, key string) *registry.Manifest {
	var sources map[string]*registry.Sources // read when they are first asked for
	return func(environment, key string) *registry.Manifest {
		if sources == nil {
			sources, _ = s.SourcesOfAll() // what cannot be folded describes nothing
		}
		if of := sources[environment]; of != nil {
			if m, found := of.Manifest(key); found {
				return m
			}
		}
		return nil
	}
}
