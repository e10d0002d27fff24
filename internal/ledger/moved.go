package ledger

import (
	"bytes"
	"slices"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// outdated says why what was compiled for an environment does not hold any more: its sources have moved since, and the same edits come
// to something else over them, or break a rule that came in between. It is empty where the change can go on.
func (d *decision) outdated(c *Change, part Part, e *Environment) (string, error) {
	if part.version == e.version {
		return "", nil
	}
	all, err := d.allSources()
	if err != nil {
		return "", err
	}
	edits, err := newEditReader(d.State).edits(c.ID, e.Name)
	if err != nil {
		return "", err
	}
	var folder registry.Folder
	r := registry.NewRenderer()
	now := Compiled{Environment: e.Name, Before: all[e.Name].sources, Edits: edits, Operations: part.Operations}
	now.Sources = folder.Fold(now.Before, registry.Step{Change: c.ID, Edits: edits})
	if now.Rendering, err = r.Render(now.Sources, target(e)); err != nil {
		return "with the sources that " + e.Name + " has now, it cannot be rendered: " + err.Error(), nil
	}
	if key := now.elsewise(r, e); key != "" {
		return key + " in " + e.Name + " comes to something else with the sources that it has now, which changed since this was compiled", nil
	}
	verdict, err := d.verdict(r, now, len(edits.Manifests)+len(edits.Drop) == 0)
	if err != nil || len(verdict.Violations) == 0 {
		return "", err
	}
	return "rules that came since would be broken: " + clip(violations(verdict.Violations), 1000), nil
}

// elsewise is a resource of which the change does not do what its edits come to. What differed from the sources before them is not its
// doing.
func (c Compiled) elsewise(r *registry.Renderer, e *Environment) string {
	for _, op := range c.Operations {
		if rendered, found := c.Rendering.Get(op.Key); found != (op.Op == events.OpSet) || found && !bytes.Equal(rendered.Value.JSON, op.Value) {
			return op.Key
		}
	}
	done := c.Operations
	c.Operations, c.Had = nil, e.Fold.State.Len()
	c.operate(e)
	more := slices.DeleteFunc(c.Operations, func(op events.Operation) bool {
		return slices.ContainsFunc(done, func(did events.Operation) bool { return did.Key == op.Key })
	})
	if len(more) == 0 {
		return ""
	}
	before, err := r.Render(c.Before, target(e))
	if err != nil {
		return more[0].Key
	}
	for _, op := range more {
		was, there := before.Get(op.Key)
		if there != (op.Op == events.OpSet) || there && !bytes.Equal(was.Value.JSON, op.Value) {
			return op.Key
		}
	}
	return ""
}
