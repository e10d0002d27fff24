package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A ruleset is what a chain of templates demands. Environments with the same chain share it.
type ruleset struct {
	chain []*Manifest
	rules []chained
}

// A chained rule knows how many templates of the chain speak before it, with its own.
type chained struct {
	*rule
	depth int
}

// names are the names by which waivers can name rules.
func (s *ruleset) names() []string {
	var out []string
	for _, m := range s.chain {
		for _, name := range []string{required, immutable, facts} {
			out = append(out, m.Name()+"/"+name)
		}
	}
	for _, r := range s.rules {
		out = append(out, r.name)
	}
	return out
}

// link is a template behind others.
type link struct {
	before   *ruleset
	template *Manifest
}

// ruleset is what the chain of an environment demands.
func (r *Renderer) ruleset(chain []*Manifest) *ruleset {
	s := r.noRules
	for _, m := range chain {
		next, known := r.rulesets[link{s, m}]
		if !known {
			next = &ruleset{chain: append(slices.Clone(s.chain), m), rules: slices.Clone(s.rules)}
			rules := m.meaning().rules
			for i := range rules {
				next.rules = append(next.rules, chained{&rules[i], len(next.chain)})
			}
			r.rulesets[link{s, m}] = next
		}
		s = next
	}
	return s
}

// below is what templates of the chain say of a resource, and with the default what it is where nothing overrides it; nil: nothing.
func (r *Renderer) below(templates []*Manifest, m *Manifest, withDefault bool) json.RawMessage {
	i := m.meaning()
	var top *stack
	for _, t := range templates {
		if l := t.meaning().values[m.Key]; l != nil {
			top = r.on(top, l, m, i)
		}
	}
	if withDefault && i.defaults != nil {
		top = r.on(top, i.defaults, m, i)
	}
	if top == nil || top.value == nil {
		return nil
	}
	value, _ := assemble(top.value.leaves, "") // leaves of values that were read
	return value
}

// meant is what a lock holds a field at: its own value, what the templates up to its own say, or what it is where nothing overrides it.
func (r *Renderer) meant(s *ruleset, of chained, m *Manifest) (json.RawMessage, bool) {
	if of.value != nil {
		return of.value, true
	}
	if m == nil {
		return nil, false
	}
	if value, found := pick(r.below(s.chain[:of.depth], m, false), of.path); found {
		return value, true
	}
	return pick(r.below(s.chain, m, true), of.path)
}

// breaks is what a value breaks of the rules of an environment, whatever the environment.
func (r *Renderer) breaks(s *ruleset, key string, m *Manifest, value json.RawMessage) (out []Violation) {
	for _, of := range s.rules {
		if !matches(of.resources, key) {
			continue
		}
		is, found := pick(value, of.path)
		said := func(path, format string, args ...any) {
			out = append(out, Violation{Resource: key, Path: path, Rule: of.name, At: of.place(), Message: fmt.Sprintf(format, args...)})
		}
		switch of.sort {
		case constraint:
			for _, e := range of.shape.check(value) {
				said(e.path, "%s", e.message)
			}
		case lockMaximum, lockMinimum:
			n, err := number(is)
			if found && (err != nil || of.sort == lockMaximum && n > of.bound || of.sort == lockMinimum && n < of.bound) {
				said(of.path, "is %s, and its %s is %s", brief(is), of.sort, of.value)
			}
		case lockValue:
			want, is0 := r.meant(s, of, m)
			switch {
			case is0 && !found:
				said(of.path, "is not there, and is locked at %s", brief(want))
			case is0 && string(is) != string(want):
				said(of.path, "is %s, and is locked at %s", brief(is), brief(want))
			case !is0 && found && m != nil:
				said(of.path, "is %s, and is locked where no template and no default says it", brief(is))
			}
		case lockDeletion:
			if _, there := r.meant(s, of, m); there && !found {
				said(of.path, "is taken away, and is locked against that")
			}
		}
	}
	return append(out, r.overrides(s, key, m, value)...)
}

// overrides is what a value breaks of what its resource says about overrides.
func (r *Renderer) overrides(s *ruleset, key string, m *Manifest, value json.RawMessage) (out []Violation) {
	if m == nil {
		return nil
	}
	allowed := m.Resource().Overridable
	if !allowed.restricts() {
		return nil
	}
	for _, path := range differing(r.below(s.chain, m, true), value, "") {
		if slices.ContainsFunc(allowed.Paths, func(a string) bool { return isUnder(path, a) }) {
			continue
		}
		message := "is overridden, and nobody may override it"
		if !allowed.Nobody {
			message = fmt.Sprintf("is overridden, and only %q may be", allowed.Paths)
		}
		out = append(out, Violation{Resource: key, Path: path, Rule: key + "/overridable", At: m.PlaceOf("/spec/overridable"), Message: message})
	}
	return out
}

// brief is a value for people.
func brief(value json.RawMessage) string {
	const most = 60
	if len(value) > most {
		return strings.ToValidUTF8(string(value[:most]), "") + "…"
	}
	return string(value)
}
