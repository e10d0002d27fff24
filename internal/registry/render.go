package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/flagd"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// maxValue bounds a rendered value in bytes: more fits no release.
const maxValue = 512 << 10

// A Target is an environment that is rendered.
type Target struct {
	Name   string
	Labels map[string]string
	Facts  map[string]string // of its instance, as its manifest says; rendering fills them in
	Agents map[string]string // versions of the agents that were heard there, by name
}

// A Rendering is what sources come to in one environment.
type Rendering struct {
	Target    Target
	Resources []Rendered // ordered by key
}

// A Rendered is a resource of an environment.
type Rendered struct {
	Key      string
	Manifest *Manifest // nil where only the override document has the resource
	Value    *Value
	Quick    *Quick // the entry of the override document that gives the value; nil where the manifests do
}

// Get finds a resource.
func (r *Rendering) Get(key string) (Rendered, bool) {
	i, found := slices.BinarySearchFunc(r.Resources, key, compareRendered)
	if !found {
		return Rendered{}, false
	}
	return r.Resources[i], true
}

// A Value is the result of some layers. Environments with the same layers share it.
type Value struct {
	JSON       json.RawMessage   // canonical
	leaves     []Leaf            // where manifests give it
	references []flagd.Reference // of a flag, to shared evaluators
}

// An Origin says where a leaf of a value comes from.
type Origin struct {
	Path     string          `json:"path"` // JSON pointer into the value
	Value    json.RawMessage `json:"value"`
	Layer    string          `json:"layer"`              // template NAME, default, override PATTERN, override of environment NAME, or override document
	Manifest string          `json:"manifest,omitempty"` // key; empty for the override document
	File     string          `json:"file,omitempty"`
	Line     int             `json:"line,omitempty"`
	Change   string          `json:"change,omitempty"` // that set it; empty where a directory is rendered
}

// OverrideDocument is the layer of quick edits.
const OverrideDocument = "override document"

// Origins are the leaves of a rendered resource, each with its one origin.
func (r Rendered) Origins() []Origin {
	leaves := r.Value.leaves
	if r.Quick != nil {
		leaves = r.Quick.leaves()
	}
	out := make([]Origin, 0, len(leaves))
	for _, l := range leaves {
		o := Origin{Path: l.Path, Value: l.Value, Layer: OverrideDocument, File: l.Place.File, Line: l.Place.Line, Change: l.Change}
		if l.from != nil {
			o.Layer, o.Manifest = l.from.name, l.from.manifest.Key
		}
		out = append(out, o)
	}
	return out
}

// A Renderer renders environments; what several of them share it renders and checks once.
type Renderer struct {
	stacks map[stacked]*stack
	plain  map[*Sources]*plain

	noRules  *ruleset
	rulesets map[link]*ruleset
	verdicts map[judged][]Violation
	quiet    map[*ruleset][]Rendered // by place, what had nothing to say in the environment before
	guards   map[guardedIn][]*Manifest
}

// plain is what sources come to in an environment that no layer but the defaults knows.
type plain struct {
	resources []Rendered // ordered by key; without a value where there is no default
	special   []special  // those that differ between environments by what their manifests say
	problems  Problems
}

// A special resource lies at a place of the list.
type special struct {
	at      int
	meaning *index
}

// A stack is layers on one another, of one resource.
type stack struct {
	value *Value // nil where the layers take the resource away
	err   error
}

type stacked struct {
	below *stack
	layer *layer
}

// NewRenderer is a renderer for one compilation.
func NewRenderer() *Renderer {
	return &Renderer{stacks: map[stacked]*stack{}, plain: map[*Sources]*plain{},
		noRules: &ruleset{}, rulesets: map[link]*ruleset{}, verdicts: map[judged][]Violation{}, quiet: map[*ruleset][]Rendered{}, guards: map[guardedIn][]*Manifest{}}
}

// Render is what sources come to in an environment. Errors are Problems.
func (r *Renderer) Render(s *Sources, t Target) (*Rendering, error) {
	out, err := r.Manifests(s, t)
	if err != nil {
		return nil, err
	}
	out.Put(s.quick)
	return out, nil
}

// Manifests is what the manifests alone come to, without the override document. Errors are Problems.
func (r *Renderer) Manifests(s *Sources, t Target) (*Rendering, error) {
	common := r.common(s)
	values, problems := s.templateValues(t.Name)
	if problems = append(problems, common.problems...); len(problems) > 0 {
		return nil, problems.err()
	}
	if m, found := s.Manifest(KindEnvironment + "/" + t.Name); found {
		t.Facts = m.Environment().Facts
	}
	out := &Rendering{Target: t, Resources: slices.Clone(common.resources)}
	again := func(i int, meaning *index) {
		m := out.Resources[i].Manifest
		out.Resources[i].Value = nil
		if !meaning.resource.activeIn(t) {
			return
		}
		value, err := r.value(m, meaning, t.Name, values[m.Key])
		if err != nil {
			problems = append(problems, err)
		}
		out.Resources[i].Value = value
	}
	for _, s := range common.special {
		again(s.at, s.meaning)
	}
	for key := range values {
		if i, found := slices.BinarySearchFunc(out.Resources, key, compareRendered); found {
			again(i, out.Resources[i].Manifest.meaning())
		}
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	out.Resources = slices.DeleteFunc(out.Resources, func(r Rendered) bool { return r.Value == nil })
	return out, nil
}

func compareRendered(r Rendered, key string) int { return strings.Compare(r.Key, key) }

// common renders what all environments of some sources have in common.
func (r *Renderer) common(s *Sources) *plain {
	if p, known := r.plain[s]; known {
		return p
	}
	p := &plain{}
	r.plain[s] = p
	for _, m := range s.manifests {
		if !m.whole || !m.IsResource() {
			continue
		}
		i, err := m.index()
		if err != nil {
			p.problems = append(p.problems, m.errorAt(err))
			continue
		}
		rendered := Rendered{Key: m.Key, Manifest: m}
		if a := i.resource.Activation; len(i.overrides)+len(a.Environments)+len(a.Labels) > 0 {
			p.special = append(p.special, special{len(p.resources), i})
		} else if i.resource.activeIn(Target{}) {
			if rendered.Value, err = r.value(m, i, "", layersOf{}); err != nil {
				p.problems = append(p.problems, err)
			}
		}
		p.resources = append(p.resources, rendered)
	}
	return p
}

// layersOf are what templates, and behind them the environment, say of a resource.
type layersOf struct {
	templates   []*layer
	environment *layer
}

// templateValues are the layers of an environment that stand in no resource's manifest.
func (s *Sources) templateValues(environment string) (map[string]layersOf, Problems) {
	chain, err := s.Chain(environment)
	if err != nil {
		return nil, Problems{err}
	}
	out := map[string]layersOf{}
	for _, m := range chain {
		for key, l := range m.meaning().values {
			of := out[key]
			of.templates = append(of.templates, l)
			out[key] = of
		}
	}
	if m, found := s.Manifest(KindEnvironment + "/" + environment); found {
		for key, l := range m.meaning().values {
			of := out[key]
			of.environment = l
			out[key] = of
		}
	}
	var problems Problems
	for _, key := range slices.Sorted(maps.Keys(out)) {
		if _, found := s.Manifest(key); !found {
			problems = append(problems, s.noResource(key, out[key]))
		}
	}
	return out, problems
}

func (s *Sources) noResource(key string, of layersOf) error {
	l := of.environment
	if len(of.templates) > 0 {
		l = of.templates[0]
	}
	kind, _, _ := strings.Cut(key, "/")
	var keys []string
	for _, m := range s.OfKind(kind) {
		keys = append(keys, m.Key)
	}
	path := "/spec/values/" + escape(key)
	if l == of.environment {
		path = "/spec/overrides/" + escape(key)
	}
	return l.manifest.errorAt(wrong(path, "there is no manifest of %s%s", key, didYouMean(key, keys)))
}

// activeIn says whether a resource is rendered in an environment.
func (r *Resource) activeIn(t Target) bool {
	if r.Lifecycle == Draft || r.Lifecycle == Retired {
		return false
	}
	for name, label := range r.Activation.Labels {
		if t.Labels[name] != label {
			return false
		}
	}
	return len(r.Activation.Environments) == 0 || slices.ContainsFunc(r.Activation.Environments, func(pattern string) bool { return matches(pattern, t.Name) })
}

func matches(pattern, name string) bool {
	if !isPattern(pattern) {
		return pattern == name
	}
	matched, _ := path.Match(pattern, name)
	return matched
}

// value renders one resource in one environment; nil where it has no value there.
func (r *Renderer) value(m *Manifest, i *index, environment string, of layersOf) (*Value, error) {
	var top *stack
	for _, l := range of.templates {
		top = r.on(top, l, m, i)
	}
	if i.defaults != nil {
		top = r.on(top, i.defaults, m, i)
	}
	for _, o := range i.overrides {
		if matches(o.pattern, environment) {
			top = r.on(top, o.layer, m, i)
		}
	}
	if of.environment != nil {
		top = r.on(top, of.environment, m, i)
	}
	if top == nil {
		return nil, nil
	}
	if top.err == nil && top.value != nil && top.value.JSON == nil {
		top.err = top.value.finish(m, i)
	}
	return top.value, top.err
}

// on is a stack with one more layer on it.
func (r *Renderer) on(below *stack, l *layer, m *Manifest, i *index) *stack {
	key := stacked{below, l}
	if s, known := r.stacks[key]; known {
		return s
	}
	var target []Leaf
	if below != nil && below.value != nil {
		target = slices.Clone(below.value.leaves)
	}
	s := &stack{}
	if target == nil && !slices.ContainsFunc(l.leaves, func(l Leaf) bool { return string(l.Value) == "null" }) {
		target = l.leaves // nothing to merge with
	} else {
		target = mergePatch(target, l.leaves)
	}
	if len(target) != 1 || target[0].Path != "" || string(target[0].Value) != "null" {
		s.value = &Value{leaves: target}
	}
	r.stacks[key] = s
	return s
}

// finish writes a value and checks it.
func (v *Value) finish(m *Manifest, i *index) error {
	var err error
	if v.JSON, err = assemble(v.leaves, ""); err == nil {
		err = checkValue(m.Key, i.resource, v.JSON)
	}
	if err == nil && i.shape != nil {
		s, broken := i.shape()
		if broken != nil {
			return broken
		}
		err = s.fits(v.JSON)
	}
	if err == nil {
		v.references, err = checkFlag(m.Key, v.JSON)
	}
	if err == nil {
		return nil
	}
	return v.errorAt(m.Key, err)
}

// errorAt places an error about a value where the value comes from.
func (v *Value) errorAt(key string, err error) error {
	path := ""
	if e, ok := errors.AsType[*flagd.Error](err); ok {
		path = e.Path
	} else if e, ok := errors.AsType[*valueError](err); ok {
		path = e.path
	}
	place := v.place(path)
	return &config.Error{File: place.File, Line: max(place.Line, 1), Column: 1, Message: key + ": " + err.Error()}
}

// place is where a path of a value comes from: its own leaf, the first one below it, or the nearest one above.
func (v *Value) place(path string) Place {
	for ; path != ""; path = parent(path) {
		if below := under(v.leaves, path); len(below) > 0 {
			return below[0].Place
		}
	}
	return v.leaves[len(v.leaves)-1].Place
}

// checkValue says whether a value may be the resource's.
func checkValue(key string, r *Resource, value json.RawMessage) error {
	if len(value) > maxValue {
		return fmt.Errorf("the value has %d bytes; at most %d fit a release: keep it elsewhere and refer to it", len(value), maxValue)
	}
	if err := events.CheckValue(key, value); err != nil {
		return err
	}
	return checkType(r.Type, value)
}

// Put puts entries of an override document on top of what the manifests give.
func (r *Rendering) Put(quick []Quick) {
	for _, q := range quick {
		i, found := slices.BinarySearchFunc(r.Resources, q.Key, compareRendered)
		if q.Value == nil {
			if found {
				r.Resources = slices.Delete(r.Resources, i, i+1)
			}
			continue
		}
		if !found {
			r.Resources = slices.Insert(r.Resources, i, Rendered{Key: q.Key})
		}
		r.Resources[i].Value, r.Resources[i].Quick = &Value{JSON: q.Value}, &q
	}
}

// leaves takes the value of a quick edit apart.
func (q *Quick) leaves() []Leaf {
	var out []Leaf
	var walk func(path string, value json.RawMessage)
	walk = func(path string, value json.RawMessage) {
		var members map[string]json.RawMessage
		if value[0] == '{' {
			_ = json.Unmarshal(value, &members) // it is canonical JSON
		}
		if len(members) == 0 {
			out = append(out, Leaf{Path: path, Value: value, Change: q.Change})
		}
		for name, member := range members {
			walk(path+"/"+escape(name), member)
		}
	}
	walk("", q.Value)
	slices.SortFunc(out, func(a, b Leaf) int { return comparePaths(a.Path, b.Path) })
	return out
}
