package registry

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// A Site is an environment with its sources and what it has.
type Site struct {
	Target  Target
	Sources *Sources
	Value   func(key string) json.RawMessage // nil where it has no such resource
}

// An Impact is what a change of a resource reaches.
type Impact struct {
	Resource   string      `json:"resource"`
	Values     []SharedBy  `json:"values"`     // that it has; the one that most environments share first
	Dependents []Dependent `json:"dependents"` // ordered by how far they are, then by key
}

// SharedBy is a value with the environments that have it; a nil value is none.
type SharedBy struct {
	Value        json.RawMessage `json:"value,omitempty"`
	Environments []string        `json:"environments"`
}

// A Dependent is a manifest that depends on a resource, or says something of it.
type Dependent struct {
	Manifest string `json:"manifest"`
	How      string `json:"how"`
	Via      string `json:"via,omitempty"` // the resource in between, where it does not depend on the resource itself
	Place
	Environments []string `json:"environments"` // where that is so
}

// ImpactOf is what a change of a resource reaches: manifests that need it or refer to it, through others too, and templates,
// environments and policies that speak of it.
func ImpactOf(key string, sites []Site) Impact {
	out := Impact{Resource: key, Values: []SharedBy{}, Dependents: []Dependent{}}
	for _, s := range sites {
		out.value(s, s.Value(key))
		s.depend(key, func(d Dependent) {
			same := func(other Dependent) bool {
				return other.Manifest == d.Manifest && other.How == d.How && other.Via == d.Via && other.Place == d.Place
			}
			i := slices.IndexFunc(out.Dependents, same)
			if i < 0 {
				i = len(out.Dependents)
				out.Dependents = append(out.Dependents, d)
			}
			out.Dependents[i].Environments = append(out.Dependents[i].Environments, s.Target.Name)
		})
	}
	slices.SortStableFunc(out.Values, func(a, b SharedBy) int {
		return cmp.Or(cmp.Compare(btoi(a.Value == nil), btoi(b.Value == nil)), cmp.Compare(len(b.Environments), len(a.Environments)))
	})
	slices.SortStableFunc(out.Dependents, func(a, b Dependent) int {
		return cmp.Or(cmp.Compare(btoi(a.Via != ""), btoi(b.Via != "")), strings.Compare(a.Manifest, b.Manifest), strings.Compare(a.How, b.How))
	})
	return out
}

func (i *Impact) value(s Site, value json.RawMessage) {
	at := slices.IndexFunc(i.Values, func(v SharedBy) bool { return string(v.Value) == string(value) })
	if at < 0 {
		at = len(i.Values)
		i.Values = append(i.Values, SharedBy{Value: value})
	}
	i.Values[at].Environments = append(i.Values[at].Environments, s.Target.Name)
}

// depend finds what depends on a resource in one environment, the nearest first.
func (s Site) depend(key string, found func(Dependent)) {
	seen := map[string]bool{key: true}
	for next := []string{key}; len(next) > 0; next = next[1:] {
		via := next[0]
		for _, m := range s.Sources.manifests {
			if !m.whole || !m.IsResource() || s.Value(m.Key) == nil {
				continue
			}
			how, path := m.needs(via)
			if how == "" || seen[m.Key] {
				continue
			}
			seen[m.Key] = true
			next = append(next, m.Key)
			d := Dependent{Manifest: m.Key, How: how, Place: m.PlaceOf(path)}
			if via != key {
				d.Via = via
			}
			found(d)
		}
	}
	s.spoken(key, found)
}

// needs says how a resource needs another, and where it says so; "" where it does not.
func (m *Manifest) needs(key string) (how, path string) {
	for _, need := range m.Resource().Requires {
		if need.Resource == key {
			return "requires it", "/spec/requires"
		}
	}
	text := strconv.Quote(key)
	for _, l := range m.leaves {
		if strings.HasSuffix(l.Path, "/$ref") && string(l.Value) == text {
			return "refers to it", l.Path
		}
	}
	return "", ""
}

// spoken finds templates, the environment and policies that say something of a resource.
func (s Site) spoken(key string, found func(Dependent)) {
	say := func(m *Manifest, path, how string) {
		found(Dependent{Manifest: m.Key, How: how, Place: m.PlaceOf(path)})
	}
	chain, _ := s.Sources.Chain(s.Target.Name) // what is released has been rendered
	for _, m := range chain {
		t := m.Template()
		if _, sets := t.Values[key]; sets {
			say(m, "/spec/values/"+escape(key), "gives it values")
		}
		if slices.Contains(t.Required, key) {
			say(m, "/spec/required", "demands it")
		}
		for _, c := range t.Constraints {
			if matches(c.Resources, key) {
				say(m, "/spec/constraints", "constrains it: "+c.Name)
			}
		}
		for _, l := range t.Locked {
			if matches(l.Resources, key) {
				say(m, "/spec/locked", "locks it: "+l.Name)
			}
		}
		for _, i := range t.Immutable {
			if matches(i.Resources, key) {
				say(m, "/spec/immutable", "makes it immutable")
			}
		}
	}
	if m, there := s.Sources.Manifest(KindEnvironment + "/" + s.Target.Name); there {
		e := m.Environment()
		if _, sets := e.Overrides[key]; sets {
			say(m, "/spec/overrides/"+escape(key), "overrides it")
		}
		for _, w := range e.Waivers {
			if w.Resource == key {
				say(m, "/spec/waivers", "waives "+w.Rule)
			}
		}
	}
	for _, m := range s.Sources.OfKind(KindPolicy) {
		if p := m.Policy(); m.whole && p != nil && p.MatchResources.covers(key, s.Target) {
			say(m, "/spec/matchResources", "is a policy for it")
		}
	}
}

// covers says whether a policy may judge a resource in an environment; its conditions are not asked.
func (m Match) covers(key string, t Target) bool {
	for name, label := range m.Labels {
		if t.Labels[name] != label {
			return false
		}
	}
	one := func(patterns []string, name string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, name) })
	}
	return one(m.Resources, key) && one(m.Environments, t.Name)
}
