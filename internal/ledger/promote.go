package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// A Promotion proposes that environments have what another one has. Its manifests come along, with all that they say for each
// environment, and the quick edits that were made there. What is particular to an environment stays behind: its own manifest, values
// that an override gives there, and its agents, labels and approvals.
type Promotion struct {
	From        string   `json:"from"`
	To          []string `json:"to"`                  // names or patterns
	Resources   []string `json:"resources,omitempty"` // only these, keys or patterns; all by default, with templates and policies
	Prune       bool     `json:"prune,omitempty"`     // resources may be deleted
	ConfirmMany int      `json:"confirmMany,omitempty"`
}

// maxStays is how many values that stay behind an answer lists.
const maxStays = 100

// compilePromotion compiles a promotion, demands what it needs, and stores its edits.
func (d *decision) compilePromotion(p *Promotion, id string) (Sources, Compilation, error) {
	c, err := d.promote(p, id)
	if err != nil {
		return Sources{}, c, err
	}
	d.notes = c.Notes
	if err := c.allowed(p.Prune, p.ConfirmMany, "publisher env compare "+p.From+" ENV"); err != nil {
		return Sources{}, c, err
	}
	sources, err := d.storeEdits(c)
	return sources, c, err
}

func (s *State) promote(p *Promotion, change string) (Compilation, error) {
	from, err := s.activeEnvironment(p.From)
	if err != nil {
		return Compilation{}, err
	}
	to, err := s.targets(p)
	if err != nil {
		return Compilation{}, err
	}
	all, err := s.allSources()
	if err != nil {
		return Compilation{}, err
	}
	origin := &promoting{sources: all[from.Name].sources, patterns: p.Resources}
	c := s.newCompiler(change, func(now *registry.Sources) *registry.Sources { return now.Promoted(origin.sources, origin.selects) })
	if origin.manifests, err = c.renderer.Manifests(origin.sources, target(from)); err != nil {
		return Compilation{}, unrendered(from, err)
	}
	if origin.rendering, err = c.renderer.Render(origin.sources, target(from)); err != nil {
		return Compilation{}, unrendered(from, err)
	}
	if err := origin.known(from.Name); err != nil {
		return Compilation{}, err
	}
	var stays stayedBehind
	for _, e := range to {
		compiled, err := c.manifests(e, all[e.Name].sources)
		if err != nil {
			return Compilation{}, err
		}
		origin.quickly(c, &compiled)
		compiled.finish(e)
		stays.compare(origin, compiled)
		c.out.Environments = append(c.out.Environments, compiled)
	}
	c.out.Notes = stays.notes(from.Name)
	return c.out, nil
}

// targets are the environments to which something is promoted, ordered by name.
func (s *State) targets(p *Promotion) ([]*Environment, error) {
	var names []string
	for _, pattern := range p.To {
		matched, err := s.match(pattern)
		if err != nil {
			return nil, err
		}
		names = append(names, matched...)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == p.From })
	if len(names) == 0 {
		return nil, refuse(KindInvalid, "name others with --to", "there is no environment but %s to promote to", p.From)
	}
	var out []*Environment
	for _, name := range names {
		out = append(out, s.Environments[name])
	}
	return out, nil
}

// promoting is what an environment has that is promoted.
type promoting struct {
	sources   *registry.Sources
	manifests *registry.Rendering // without quick edits
	rendering *registry.Rendering
	patterns  []string
}

func (p *promoting) selects(key string) bool {
	return len(p.patterns) == 0 || slices.ContainsFunc(p.patterns, func(pattern string) bool {
		matched, _ := path.Match(pattern, key)
		return matched || pattern == key
	})
}

// known refuses names of resources that the environment does not have.
func (p *promoting) known(environment string) error {
	for _, pattern := range p.patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return refuse(KindInvalid, "", "%q is no pattern of resources", pattern)
		}
		one := &promoting{patterns: []string{pattern}}
		if !slices.ContainsFunc(p.rendering.Resources, func(r registry.Rendered) bool { return one.selects(r.Key) }) &&
			!slices.ContainsFunc(p.sources.Manifests(), func(m *registry.Manifest) bool { return m.IsResource() && one.selects(m.Key) }) {
			return refuse(KindNotFound, "list them with 'publisher get "+environment+"'", "%s has no resource %s", environment, pattern)
		}
	}
	return nil
}

// quickly adds to what is compiled for an environment the quick edits that were made where it comes from.
func (p *promoting) quickly(c *compiler, out *Compiled) {
	quick := map[string]json.RawMessage{}
	for _, q := range p.sources.Quick() {
		if !p.selects(q.Key) {
			continue
		}
		there, _ := p.manifests.Get(q.Key)
		here, _ := out.Rendering.Get(q.Key)
		value := q.Onto(there.Value, here.Value)
		mine, edited := out.Sources.QuickOf(q.Key)
		switch {
		case same(here.Value, value):
			if edited {
				out.Drop = append(out.Drop, q.Key)
			}
		case !edited || !bytes.Equal(mine.Value, value):
			quick[q.Key] = value
		}
	}
	if len(quick) > 0 {
		out.Edits = &registry.Edits{Manifests: out.Edits.Manifests, Quick: quick}
		out.Sources = c.folder.Fold(out.Before, registry.Step{Change: c.change, Edits: out.Edits})
	}
}

// same says whether a rendered value, or none, is a value, or none.
func same(rendered *registry.Value, value json.RawMessage) bool {
	if rendered == nil {
		return value == nil
	}
	return bytes.Equal(rendered.JSON, value)
}

// A stay is a value that stays behind: what it is, and what it is where the promotion comes from.
type stay struct{ what, here, there string }

// stayedBehind are the values that differ after a promotion still, with their environments.
type stayedBehind struct {
	order []stay
	in    map[stay][]string
}

// compare notes where an environment differs from the one that is promoted, after that.
func (s *stayedBehind) compare(p *promoting, c Compiled) {
	from, to := p.rendering.Resources, c.Rendering.Resources
	for i, j := 0, 0; i < len(from) || j < len(to); {
		var there, here registry.Rendered // of the next key; one may be absent
		both := i < len(from) && j < len(to) && from[i].Key == to[j].Key
		if both || j == len(to) || i < len(from) && from[i].Key < to[j].Key {
			there = from[i]
			i++
		}
		if there.Value == nil || both {
			here = to[j]
			j++
		}
		key := cmp.Or(there.Key, here.Key)
		if there.Value == here.Value || !p.selects(key) {
			continue
		}
		var before, after []registry.Origin
		if there.Value != nil {
			before = there.Origins()
		}
		if here.Value != nil {
			after = here.Origins()
		}
		for _, at := range registry.Compare(before, after) {
			what := key
			if at.Path != "" {
				what += " at " + at.Path
			}
			s.add(c.Environment, stay{what, told(at.B), told(at.A)})
		}
	}
}

// told is a value with where it comes from.
func told(o *registry.Origin) string {
	switch {
	case o == nil:
		return "absent"
	case o.File != "":
		return fmt.Sprintf("%s (%s, %s:%d)", clip(string(o.Value), 80), o.Layer, o.File, o.Line)
	}
	return fmt.Sprintf("%s (%s)", clip(string(o.Value), 80), o.Layer)
}

func (s *stayedBehind) add(environment string, what stay) {
	if s.in == nil {
		s.in = map[stay][]string{}
	}
	if s.in[what] == nil {
		s.order = append(s.order, what)
	}
	s.in[what] = append(s.in[what], environment)
}

func (s *stayedBehind) notes(from string) (out []string) {
	for i, what := range s.order {
		if i == maxStays {
			return append(out, fmt.Sprintf("%d more values stay behind; see them with 'publisher env compare %s ENV'", len(s.order)-i, from))
		}
		out = append(out, fmt.Sprintf("%s stays %s in %s; in %s it is %s", what.what, what.here, strings.Join(s.in[what], ", "), from, what.there))
	}
	return out
}
