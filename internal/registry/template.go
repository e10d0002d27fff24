package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// templateKey is the key of a version of a template: several versions of one template stand side by side.
func templateKey(name, version string) string {
	if version == "" {
		return KindTemplate + "/" + name
	}
	return KindTemplate + "/" + name + "@" + version
}

// template is the version of a template that is named, or the newest one.
func (s *Sources) template(ref TemplateRef) (newest *Manifest, versions []string) {
	for _, m := range s.OfKind(KindTemplate) {
		if m.Name() != ref.Name || !m.whole {
			continue
		}
		_, version, _ := strings.Cut(m.Key, "@")
		versions = append(versions, version)
		if ref.Version == "" && (newest == nil || compareVersions(version, strings.TrimPrefix(newest.Key, templateKey(ref.Name, "")+"@")) > 0) || ref.Version != "" && ref.Version == version {
			newest = m
		}
	}
	return newest, versions
}

// Chain are the templates that an environment is made of, the most general first. Without a template it is empty.
func (s *Sources) Chain(environment string) ([]*Manifest, error) {
	m, found := s.Manifest(KindEnvironment + "/" + environment)
	if !found {
		return nil, nil
	}
	e, err := m.index()
	if err != nil {
		return nil, m.errorAt(err)
	}
	if e.environment.Template.Name == "" {
		return nil, nil
	}
	return s.extended(m, "/spec/template", e.environment.Template, nil)
}

// extended is the chain that ends with the template which is named at a path of a manifest; below are the names that led there.
func (s *Sources) extended(by *Manifest, path string, ref TemplateRef, below []string) ([]*Manifest, error) {
	if i := slices.Index(below, ref.Name); i >= 0 {
		return nil, by.errorAt(wrong(path, "the templates %s extend each other in a circle", strings.Join(below[i:], ", ")))
	}
	m, versions := s.template(ref)
	switch {
	case m == nil && len(versions) > 0:
		return nil, by.errorAt(wrong(path, "version %s of template %s is pinned, and there is only %s: keep the manifest of a version as long as something pins it", ref.Version, ref.Name, strings.Join(versions, ", ")))
	case m == nil:
		return nil, by.errorAt(wrong(path, "there is no template %s%s", ref.Name, didYouMean(ref.Name, s.names(KindTemplate))))
	}
	t, err := m.index()
	if err != nil {
		return nil, m.errorAt(err)
	}
	if t.template.Extends.Name == "" {
		return []*Manifest{m}, nil
	}
	chain, err := s.extended(m, "/spec/extends", t.template.Extends, append(below, ref.Name))
	return append(chain, m), err
}

func (s *Sources) names(kind string) []string {
	var out []string
	for _, m := range s.OfKind(kind) {
		out = append(out, m.Name())
	}
	return slices.Compact(out)
}

func didYouMean(name string, among []string) string {
	if near := config.Nearest(name, among); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// Sorts of rules: locks as manifests write them, and what else a template demands of resources.
const (
	lockValue    = "value"
	lockDeletion = "deletion"
	lockMaximum  = "maximum"
	lockMinimum  = "minimum"
	constraint   = "constraint"
	immutable    = "immutable"
	required     = "required"
	facts        = "facts"
)

// A rule is something that a template demands of resources.
type rule struct {
	sort      string
	name      string // <template>/<name>, by which waivers name it
	template  *Manifest
	at        string          // path in the template's manifest
	resources string          // key or pattern
	path      string          // into the value
	value     json.RawMessage // of a lock; nil where the templates say it
	bound     float64
	shape     *shape
}

// place is where the rule stands.
func (r *rule) place() Place { return r.template.PlaceOf(r.at) }

// ruled checks a template and indexes its rules.
func (i *index) ruled(m *Manifest) error {
	t := i.template
	names := map[string]bool{immutable: true, required: true, facts: true} // those are the rules that are not named
	add := func(r rule, name string) error {
		if (r.sort == constraint || r.sort != immutable) && names[name] {
			return wrong(r.at, "the rule %q stands twice, or has a name that is taken", name)
		}
		if err := CheckName(name); err != nil {
			return wrong(r.at, "the name of a rule: %v", err)
		}
		names[name] = true
		r.name, r.template = m.Name()+"/"+name, m
		i.rules = append(i.rules, r)
		if err := checkSelection(r.at, r.resources); err != nil {
			return err
		}
		return checkPointer(r.at, r.path)
	}
	for n, c := range t.Constraints {
		at := "/spec/constraints/" + strconv.Itoa(n)
		compiled, err := compileShape(c.Schema.JSON)
		if err != nil {
			return wrong(at, "%v", err)
		}
		if err := add(rule{sort: constraint, at: at, resources: c.Resources, shape: compiled}, c.Name); err != nil {
			return err
		}
	}
	for n, l := range t.Locked {
		at := "/spec/locked/" + strconv.Itoa(n)
		r := rule{sort: l.Lock, at: at, resources: l.Resources, path: l.Path, value: l.Value.JSON}
		if err := r.checkLock(); err != nil {
			return err
		}
		if err := add(r, l.Name); err != nil {
			return err
		}
	}
	for n, s := range t.Immutable {
		if err := add(rule{sort: immutable, at: "/spec/immutable/" + strconv.Itoa(n), resources: s.Resources, path: s.Path}, immutable); err != nil {
			return err
		}
	}
	for n, p := range t.Overridable {
		if err := checkSelection("/spec/overridable/"+strconv.Itoa(n), p.Resources); err != nil {
			return err
		}
	}
	for n, key := range t.Required {
		if err := CheckKey(key); err != nil {
			return wrong("/spec/required/"+strconv.Itoa(n), "%v", err)
		}
	}
	for _, fact := range slices.Sorted(maps.Keys(t.Facts)) {
		if _, err := parseRange(t.Facts[fact]); err != nil {
			return wrong("/spec/facts/"+escape(fact), "%v", err)
		}
	}
	return checkVersion("/spec/version", t.Version)
}

func (r *rule) checkLock() error {
	if r.sort == "" {
		return wrong(r.at, "say what is locked: value, deletion, maximum or minimum")
	}
	if err := oneOf(r.at, r.sort, lockValue, lockDeletion, lockMaximum, lockMinimum); err != nil {
		return err
	}
	var err error
	switch r.sort {
	case lockMaximum, lockMinimum:
		if r.bound, err = number(r.value); err != nil {
			return wrong(r.at, "a %s has a number as its value", r.sort)
		}
	case lockDeletion:
		if r.value != nil {
			return wrong(r.at, "a lock of deletion has no value: it says that the field is there")
		}
	}
	return nil
}

// number is a JSON number; canonical ones are doubles.
func number(value json.RawMessage) (float64, error) {
	var out *float64
	if len(value) == 0 {
		return 0, fmt.Errorf("there is no number")
	}
	if err := json.Unmarshal(value, &out); err != nil || out == nil {
		return 0, fmt.Errorf("%s is no number", value)
	}
	return *out, nil
}
