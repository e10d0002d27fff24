package ledger

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// keepRules refuses what breaks rules of templates and of resources, with everything that does.
func (d *decision) keepRules(p Propose, c Compilation) error {
	var broken []registry.Violation
	r := registry.NewRenderer()
	for _, e := range c.Environments {
		verdict, err := d.verdict(r, e, len(p.Edits) > 0)
		if err != nil {
			return err
		}
		broken = append(broken, verdict.Violations...)
		for _, w := range verdict.Waived {
			d.notes = append(d.notes, w.String())
		}
	}
	if len(broken) == 0 {
		return nil
	}
	next := ""
	if slices.ContainsFunc(broken, func(v registry.Violation) bool { return strings.Count(v.Rule, "/") == 1 }) {
		next = "comply, or write a waiver with owner, reason and expiry into the manifest of the environment"
	}
	return refuse(KindInvalid, next, "rules would be broken: %s", violations(broken))
}

// verdict judges an environment. A quick edit answers for what it breaks itself, and not for what was broken before.
func (d *decision) verdict(r *registry.Renderer, e Compiled, quick bool) (registry.Verdict, error) {
	at := d.Environments[e.Environment]
	e.Rendering.Target.Agents = d.agents[e.Environment]
	c := registry.Case{Sources: e.Sources, Rendering: e.Rendering, Edits: e.Edits, Before: e.Before, Was: func(key string) json.RawMessage {
		now, _ := at.Fold.State.Get(key)
		return now.Value
	}}
	for _, op := range e.Operations {
		c.Changed = append(c.Changed, op.Key)
	}
	verdict, err := r.Judge(c, d.now)
	if err != nil || !quick || len(verdict.Violations) == 0 {
		return verdict, err
	}
	rendering, err := r.Render(e.Before, target(at))
	if err != nil {
		return verdict, unrendered(at, err)
	}
	rendering.Target.Agents = d.agents[e.Environment]
	before, err := r.Judge(registry.Case{Sources: e.Before, Rendering: rendering}, d.now)
	if err != nil {
		return verdict, err
	}
	verdict.Violations = slices.DeleteFunc(verdict.Violations, func(v registry.Violation) bool {
		return slices.ContainsFunc(before.Violations, func(b registry.Violation) bool {
			return b.Resource == v.Resource && b.Path == v.Path && b.Rule == v.Rule && b.Message == v.Message
		})
	})
	return verdict, nil
}

// violations are rules that are broken, for people: what environments break alike stands once.
func violations(list []registry.Violation) string {
	var lines []string
	where := map[registry.Violation][]string{}
	var order []registry.Violation
	for _, v := range list {
		alike := v
		alike.Environment = ""
		if where[alike] == nil {
			order = append(order, alike)
		}
		where[alike] = append(where[alike], v.Environment)
	}
	for _, v := range order {
		v.Environment = strings.Join(where[v], ", ")
		line := v.String()
		if v.Place.File != "" {
			line = v.Place.String() + ": " + line
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}
