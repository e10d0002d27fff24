package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Compilation is what a proposal comes to, per environment: of a directory, those that it declares; of quick edits, those in which
// they change something.
type Compilation struct {
	Environments []Compiled // ordered by name; of a directory also those in which nothing changes
	Notes        []string   // what people should know
}

// Compiled is what a proposal comes to in one environment.
type Compiled struct {
	Environment string
	Before      *registry.Sources   // as they were released
	Edits       *registry.Edits     // of them; environments with the same sources share those of a directory
	Drop        []string            // resources whose quick edits a directory takes over, or undoes
	Sources     *registry.Sources   // after the edits
	Rendering   *registry.Rendering // of those
	Operations  []events.Operation  // what that changes, ordered by key; the values before are in the environment's Fold.State
	Had         int                 // resources that the environment has now
	Changes     bool                // its resources change, or what its sources say of it: it is in the change
}

// many is how many resources are changed or deleted, where that is more than a fifth of them.
func (c Compiled) many() int {
	n := 0
	for _, op := range c.Operations {
		if op.Op == events.OpDelete || !op.Base.IsZero() {
			n++
		}
	}
	if n <= few || n*5 <= c.Had {
		return 0
	}
	return n
}

// operate compares what is rendered with what is released.
func (c *Compiled) operate(e *Environment) {
	state := &e.Fold.State
	kept := 0
	for _, r := range c.Rendering.Resources {
		now, _ := state.Get(r.Key)
		if now.Value != nil {
			kept++
		}
		if !bytes.Equal(now.Value, r.Value.JSON) {
			c.Operations = append(c.Operations, events.Operation{Op: events.OpSet, Key: r.Key, Value: r.Value.JSON, Base: now.Setter})
		}
	}
	if kept == c.Had {
		return // nothing is deleted, and resources are in order
	}
	for key := range state.Values() {
		if _, stays := c.Rendering.Get(key); !stays {
			now, _ := state.Get(key)
			c.Operations = append(c.Operations, events.Operation{Op: events.OpDelete, Key: key, Base: now.Setter})
		}
	}
	slices.SortFunc(c.Operations, func(a, b events.Operation) int { return strings.Compare(a.Key, b.Key) })
}

// compileQuick compiles quick edits: they change the override documents of environments, and nothing else there.
func (d *decision) compileQuick(overrides []override, change string) (Compilation, error) {
	var out Compilation
	all, err := d.allSources()
	if err != nil {
		return out, err
	}
	var folder registry.Folder
	renderer := registry.NewRenderer()
	for _, o := range overrides {
		e := d.Environments[o.environment]
		c := Compiled{Environment: e.Name, Before: all[e.Name].sources, Edits: &registry.Edits{Quick: o.values}, Operations: o.operations(e), Had: e.Fold.State.Len()}
		if c.Changes = len(c.Operations) > 0; !c.Changes {
			continue
		}
		c.Sources = folder.Fold(c.Before, registry.Step{Change: change, Edits: c.Edits})
		if c.Rendering, err = renderer.Render(c.Sources, target(e)); err != nil {
			return out, unrendered(e, err)
		}
		out.Environments = append(out.Environments, c)
	}
	return out, nil
}

// operations are what an override means for its environment now, ordered by key: what is so already is left out.
func (o override) operations(e *Environment) (out []events.Operation) {
	for _, key := range slices.Sorted(maps.Keys(o.values)) {
		value := o.values[key]
		now, _ := e.Fold.State.Get(key)
		if bytes.Equal(now.Value, value) {
			continue
		}
		op := events.Operation{Op: events.OpSet, Key: key, Value: value, Base: now.Setter}
		if value == nil {
			op.Op = events.OpDelete
		}
		out = append(out, op)
	}
	return out
}

// concerned says whether the environment is in a change of manifests.
func (c *Compiled) concerned(e *Environment) bool {
	before, _ := c.Before.Chain(e.Name) // one that is broken is mended by what is proposed
	after, _ := c.Sources.Chain(e.Name)
	return len(c.Operations)+len(c.Drop) > 0 || c.Edits.Concern(e.Name, slices.Concat(before, after), func(key string) bool {
		now, _ := e.Fold.State.Get(key)
		_, found := c.Rendering.Get(key)
		return found || now.Value != nil
	})
}

func target(e *Environment) registry.Target {
	return registry.Target{Name: e.Name, Labels: e.Labels}
}

func unrendered(e *Environment, err error) error {
	return &Error{Kind: KindInvalid, Message: fmt.Sprintf("%s cannot be rendered: %v", e.Name, err), Cause: err}
}
