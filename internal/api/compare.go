package api

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

// A Comparison is what differs between two environments.
type Comparison struct {
	A         string     `json:"a"`
	B         string     `json:"b"`
	Resources []Compared `json:"resources"` // that differ, ordered by key
	Same      int        `json:"same"`      // resources that do not
}

// A Compared is a resource that differs.
type Compared struct {
	Key   string     `json:"key"`
	Paths []Contrast `json:"paths"`
}

// A Contrast is a path at which it differs. An origin that is nil has nothing there.
type Contrast struct {
	Path string  `json:"path"` // JSON pointer into the value
	A    *Origin `json:"a,omitempty"`
	B    *Origin `json:"b,omitempty"`
}

// Add compares a resource. The function adds to origins what is known of their changes.
func (c *Comparison) Add(key string, a, b []registry.Origin, told func(registry.Origin) Origin) {
	side := func(o *registry.Origin) *Origin {
		if o == nil {
			return nil
		}
		return new(told(*o))
	}
	var paths []Contrast
	for _, at := range registry.Compare(a, b) {
		paths = append(paths, Contrast{at.Path, side(at.A), side(at.B)})
	}
	if len(paths) == 0 {
		c.Same++
		return
	}
	c.Resources = append(c.Resources, Compared{key, paths})
}

func registerComparisons(api huma.API, b Backend) {
	get(api, "/compare", "compare", "What differs between two environments", func(_ context.Context, in *struct {
		A string `query:"a" required:"true" doc:"an environment"`
		B string `query:"b" required:"true" doc:"another"`
	}) (out Comparison, err error) {
		b.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { out, err = compare(s, in.A, in.B) })
		return out, err
	})
	get(api, "/impact/{kind}/{resource}", "impact", "What depends on a resource, and where", func(_ context.Context, in *struct {
		Kind     string `path:"kind"`
		Resource string `path:"resource" doc:"name of the resource"`
	}) (out registry.Impact, err error) {
		b.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { out, err = impact(s, in.Kind+"/"+in.Resource) })
		return out, err
	})
}

// compare compares what is released.
func compare(s *ledger.State, a, b string) (Comparison, error) {
	out := Comparison{A: a, B: b, Resources: []Compared{}}
	renderer := registry.NewRenderer()
	var sides [2]*ledger.Environment
	var rendered [2]*registry.Rendering
	keys := map[string]bool{}
	for i, name := range []string{a, b} {
		sources, err := s.SourcesOf(name)
		if err != nil {
			return out, err
		}
		sides[i] = s.Environments[name]
		if rendered[i], err = renderer.Render(sources, registry.Target{Name: name, Labels: sides[i].Labels}); err != nil {
			return out, err
		}
		for key := range sides[i].Fold.State.Values() {
			keys[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		var of [2][]registry.Origin
		for i, e := range sides {
			of[i], _ = origins(e, rendered[i], key)
		}
		out.Add(key, of[0], of[1], func(o registry.Origin) Origin { return told(s, o) })
	}
	return out, nil
}

// impact looks at every environment that is not retired.
func impact(s *ledger.State, key string) (registry.Impact, error) {
	var sites []registry.Site
	there := false
	for _, e := range s.EnvironmentList() {
		if e.Retired {
			continue
		}
		sources, err := s.SourcesOf(e.Name)
		if err != nil {
			return registry.Impact{}, err
		}
		_, managed := sources.Manifest(key)
		now, _ := e.Fold.State.Get(key)
		there = there || managed || now.Value != nil
		sites = append(sites, registry.Site{Target: registry.Target{Name: e.Name, Labels: e.Labels}, Sources: sources, Value: func(key string) json.RawMessage {
			now, _ := e.Fold.State.Get(key)
			return now.Value
		}})
	}
	if !there {
		return registry.Impact{}, &ledger.Error{Kind: ledger.KindNotFound, Message: "no environment has a resource " + key, Next: "list them with 'publisher get ENV'"}
	}
	return registry.ImpactOf(key, sites), nil
}
