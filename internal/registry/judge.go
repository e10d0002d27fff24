package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// A Case is what sources come to in one environment, to be judged. Without a before only that is judged which needs none.
type Case struct {
	Sources   *Sources
	Rendering *Rendering
	Edits     *Edits                           // that led to them; nil: unknown
	Before    *Sources                         // they were
	Was       func(key string) json.RawMessage // the value that is released; nil where there is none
	Changed   []string                         // resources whose value is not the one that is released
}

// A Verdict is what an environment would break, ordered by resource as far as it is about resources, and what waivers allow it to break.
type Verdict struct {
	Violations []Violation
	Waived     []Waived
}

// A Violation is a rule that an environment would break.
type Violation struct {
	Environment string
	Resource    string // key; empty where the environment itself breaks the rule
	Path        string // into the resource's value, or into its manifest
	Rule        string // <template>/<rule>, or <kind>/<name>/<field> of the resource's manifest
	At          Place  // where the rule stands
	Place       Place  // where what breaks it stands; none for a quick edit
	Message     string
}

func (v Violation) String() string {
	what := strings.TrimSuffix(v.Environment+": "+v.Resource, ": ")
	return fmt.Sprintf("%s (rule %s, %s)", prefixed(what, prefixed(v.Path, v.Message)), v.Rule, v.At)
}

// err places the violation where what breaks it stands.
func (v Violation) err() error {
	return &config.Error{File: v.Place.File, Line: max(v.Place.Line, 1), Column: 1, Message: v.String()}
}

// judged is a value under rules: what it breaks of them is the same in every environment.
type judged struct {
	rules *ruleset
	value *Value
}

// judge judges one environment.
type judge struct {
	*Renderer
	Case
	rules *ruleset
	out   Verdict
}

// Judge says what an environment would break on a day: the rules of its templates, what resources demand, and what was released and
// has to stay compatible. One renderer judges a value that environments share once.
func (r *Renderer) Judge(c Case, today time.Time) (Verdict, error) {
	chain, err := c.Sources.Chain(c.Rendering.Target.Name)
	if err != nil {
		return Verdict{}, err
	}
	j := judge{Renderer: r, Case: c, rules: r.ruleset(chain)}
	j.resources()
	j.missing()
	j.environment()
	for _, key := range c.Changed {
		j.change(key)
	}
	if c.Edits != nil {
		j.types()
	}
	if m, found := c.Sources.Manifest(KindEnvironment + "/" + c.Rendering.Target.Name); found {
		j.out.waive(m, j.rules, today)
	}
	return j.out, nil
}

// resources judges each resource. Most are the same under the same rules as in the environment before, and had nothing to say there:
// they are told by where they lie, without a look at them, so that many resources cost no more each than few.
func (j *judge) resources() {
	quiet := j.quiet[j.rules]
	list := j.Rendering.Resources
	if len(quiet) < len(list) {
		quiet = append(quiet, make([]Rendered, len(list)-len(quiet))...)
		j.quiet[j.rules] = quiet
	}
	for n, rendered := range list {
		if rendered == quiet[n] {
			continue
		}
		broken := j.value(rendered)
		if m := rendered.Manifest; m != nil && len(m.Resource().Requires) > 0 {
			j.requires(m)
		} else if !broken && rendered.Quick == nil {
			quiet[n] = rendered
		}
	}
}

func (j *judge) add(v Violation) {
	v.Environment = j.Rendering.Target.Name
	rendered, found := j.Rendering.Get(v.Resource)
	m, declared := j.Sources.Manifest(KindEnvironment + "/" + v.Environment)
	switch {
	case v.Place != (Place{}), found && rendered.Quick != nil: // a quick edit stands in no file
	case found:
		v.Place = rendered.Value.place(v.Path)
	case declared:
		v.Place = m.Place()
	}
	j.out.Violations = append(j.out.Violations, v)
}

// value judges the value of a resource; where manifests give it, its type and schema were checked when it was rendered.
func (j *judge) value(rendered Rendered) (broken bool) {
	if m := rendered.Manifest; len(j.rules.rules) == 0 && rendered.Quick == nil && m != nil && !m.Resource().Overridable.restricts() {
		return false // nobody says anything about it
	}
	key := judged{j.rules, rendered.Value}
	found, known := j.verdicts[key]
	if !known {
		found = j.breaks(j.rules, rendered.Key, rendered.Manifest, rendered.Value.JSON)
		if rendered.Quick != nil && rendered.Manifest != nil {
			found = append(found, quickly(rendered.Key, rendered.Manifest, rendered.Value.JSON)...)
		}
		j.verdicts[key] = found
	}
	for _, v := range found {
		j.add(v)
	}
	return len(found) > 0
}

// quickly is what the value of a quick edit breaks of what the resource's manifest says of it.
func quickly(key string, m *Manifest, value json.RawMessage) (out []Violation) {
	i := m.meaning()
	if err := checkType(i.resource.Type, value); err != nil {
		out = append(out, Violation{Resource: key, Rule: key + "/type", At: m.PlaceOf("/spec/type"), Message: err.Error()})
	}
	if i.shape == nil {
		return out
	}
	s, err := i.shape()
	if err != nil {
		return append(out, Violation{Resource: key, Rule: key + "/schema", At: m.PlaceOf("/spec/schema"), Message: err.Error()})
	}
	for _, e := range s.check(value) {
		out = append(out, Violation{Resource: key, Path: e.path, Rule: key + "/schema", At: m.PlaceOf("/spec/schema"), Message: e.message})
	}
	return out
}

// missing judges resources that are active in the environment and are not there: an override took them away.
func (j *judge) missing() {
	var locks []chained
	for _, of := range j.rules.rules {
		if of.sort == lockValue || of.sort == lockDeletion {
			locks = append(locks, of)
		}
	}
	for _, m := range j.guarded(j.Sources, j.rules, locks) {
		if _, found := j.Rendering.Get(m.Key); found || !m.Resource().activeIn(j.Rendering.Target) {
			continue
		}
		for _, of := range locks {
			if _, there := j.meant(j.rules, of, m); there && matches(of.resources, m.Key) && j.below(j.rules.chain, m, true) != nil {
				j.add(Violation{Resource: m.Key, Path: of.path, Rule: of.name, At: of.place(), Place: m.Place(), Message: "is taken away with the resource, and is locked"})
			}
		}
		for _, v := range j.overrides(j.rules, m.Key, m, nil) {
			j.add(v)
		}
	}
}

// guardedIn are sources under rules.
type guardedIn struct {
	sources *Sources
	rules   *ruleset
}

// guarded are the resources that may not just be taken away: locks or the resource itself say so.
func (r *Renderer) guarded(s *Sources, rules *ruleset, locks []chained) []*Manifest {
	key := guardedIn{s, rules}
	out, known := r.guards[key]
	if known {
		return out
	}
	for _, m := range s.manifests {
		locked := func(of chained) bool { return matches(of.resources, m.Key) }
		if m.whole && m.IsResource() && (m.Resource().Overridable.restricts() || slices.ContainsFunc(locks, locked)) {
			out = append(out, m)
		}
	}
	r.guards[key] = out
	return out
}

// environment judges what templates demand of the environment itself.
func (j *judge) environment() {
	for _, t := range j.rules.chain {
		for n, key := range t.Template().Required {
			if _, found := j.Rendering.Get(key); !found {
				j.add(Violation{Resource: key, Rule: t.Name() + "/" + required, At: t.PlaceOf("/spec/required/" + strconv.Itoa(n)), Message: "is required, and is not there"})
			}
		}
		for _, fact := range slices.Sorted(maps.Keys(t.Template().Facts)) {
			want := t.Template().Facts[fact]
			if message := j.fact(fact, want); message != "" {
				j.add(Violation{Rule: t.Name() + "/" + facts, At: t.PlaceOf("/spec/facts/" + escape(fact)), Message: message})
			}
		}
	}
}

// fact says what is wrong with a fact of the environment; nothing where it lies in the range.
func (j *judge) fact(name, want string) string {
	switch is, found := j.Rendering.Target.Facts[name]; {
	case !found:
		return fmt.Sprintf("has no fact %s, and %s is demanded: write it under facts in its manifest", name, want)
	case !inRange(want, is):
		return fmt.Sprintf("has the fact %s: %s, and %s is demanded", name, is, want)
	}
	return ""
}

// requires judges what a resource needs where it is.
func (j *judge) requires(m *Manifest) {
	for n, need := range m.Resource().Requires {
		v := Violation{Resource: m.Key, Path: "/spec/requires/" + strconv.Itoa(n), Rule: m.Key + "/requires"}
		v.At = m.PlaceOf(v.Path)
		v.Place = v.At
		switch _, found := j.Rendering.Get(need.Resource); {
		case need.Resource != "" && !found:
			v.Message = "requires " + need.Resource + ", which is not there"
			j.add(v)
		case need.Fact != "":
			if v.Message = j.fact(need.Fact, need.Is); v.Message != "" {
				j.add(v)
			}
		case need.Agent != "":
			for _, agent := range slices.Sorted(maps.Keys(j.Rendering.Target.Agents)) {
				if version := j.Rendering.Target.Agents[agent]; !inRange(need.Agent, version) {
					v.Message = fmt.Sprintf("requires agents of version %s, and %s has %s", need.Agent, agent, version)
					j.add(v)
				}
			}
		}
	}
}

// change judges what becomes of a resource that was released.
func (j *judge) change(key string) {
	was := j.Was(key)
	if was == nil {
		return
	}
	var now json.RawMessage
	if rendered, found := j.Rendering.Get(key); found {
		now = rendered.Value.JSON
	}
	for _, of := range j.rules.rules {
		if of.sort != immutable && of.sort != lockDeletion || !matches(of.resources, key) {
			continue
		}
		before, there := pick(was, of.path)
		after, stays := pick(now, of.path)
		v := Violation{Resource: key, Path: of.path, Rule: of.name, At: of.place()}
		switch {
		case there && !stays && !j.said(v):
			v.Message = "is taken away, and is locked against that"
			if of.sort == immutable {
				v.Message = "was " + brief(before) + " and is taken away, and never changes"
			}
			j.add(v)
		case of.sort == immutable && there && string(before) != string(after):
			v.Message = "was " + brief(before) + " and is " + brief(after) + ", and never changes"
			j.add(v)
		}
	}
	if strings.HasPrefix(key, "flag/") && now != nil {
		if is, will := variantType(was), variantType(now); is != "" && will != "" && is != will {
			j.add(Violation{Resource: key, Path: "/variants", Rule: key + "/type", At: j.manifestPlace(key), Message: fmt.Sprintf(
				"are of type %s where %s is released: whoever reads the flag breaks; give the new flag another name, and retire this one", will, is)})
		}
	}
}

// said says whether a rule was broken already at a path of a resource.
func (j *judge) said(v Violation) bool {
	return slices.ContainsFunc(j.out.Violations, func(o Violation) bool {
		return o.Rule == v.Rule && o.Resource == v.Resource && o.Path == v.Path
	})
}

// variantType is the type of a flag's values.
func variantType(flag json.RawMessage) string {
	variants, _ := pick(flag, "/variants")
	var values map[string]json.RawMessage
	if json.Unmarshal(variants, &values) != nil {
		return ""
	}
	for _, value := range values {
		return typeOf(value)
	}
	return ""
}

func (j *judge) manifestPlace(key string) Place {
	if m, found := j.Sources.Manifest(key); found {
		return m.Place()
	}
	return Place{}
}

// types judges edited manifests: what was released with one type is read as that type.
func (j *judge) types() {
	for _, e := range j.Edits.Manifests {
		after, stays := j.Sources.Manifest(e.Key)
		before, was := j.Before.Manifest(e.Key)
		if !stays || !was || !after.IsResource() || before == after || j.Was(e.Key) == nil {
			continue
		}
		if is, will := before.Resource().Type, after.Resource().Type; is != will && is != "" && will != "" && (is != "number" || will != "integer") {
			at := after.PlaceOf("/spec/type")
			j.add(Violation{Resource: e.Key, Path: "/spec/type", Rule: e.Key + "/type", At: at, Place: at, Message: fmt.Sprintf(
				"becomes %s where %s is released: whoever reads it breaks; give the new resource another name, and retire this one", will, is)})
		}
	}
}
