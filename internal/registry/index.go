package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Types are what a resource's value may be declared as.
var Types = []string{"string", "number", "integer", "boolean", "object", "array"}

// An index is what a manifest means.
type index struct {
	metadata    Metadata
	resource    *Resource
	environment *Environment
	template    *Template
	policy      *Policy

	defaults  *layer                 // of a resource; nil when it has none
	overrides []override             // of a resource, in the order in which they apply
	values    map[string]*layer      // of a template or an environment, by resource
	rules     []rule                 // of a template
	shape     func() (*shape, error) // of a resource's value; nil where it has no schema
}

// An override is a layer for some environments.
type override struct {
	pattern string
	layer   *layer
}

// Resource is the spec of a resource's manifest; nil for others.
func (m *Manifest) Resource() *Resource { return m.meaning().resource }

// Environment is the spec of an environment's manifest; nil for others.
func (m *Manifest) Environment() *Environment { return m.meaning().environment }

// Template is the spec of a template's manifest; nil for others.
func (m *Manifest) Template() *Template { return m.meaning().template }

// Policy is the spec of a policy's manifest; nil for others.
func (m *Manifest) Policy() *Policy { return m.meaning().policy }

// Metadata is what the manifest says of itself.
func (m *Manifest) Metadata() Metadata { return m.meaning().metadata }

// meaning is the index of a manifest that was read before.
func (m *Manifest) meaning() *index {
	if i, err := m.index(); err == nil {
		return i
	}
	return &index{}
}

func newIndex(m *Manifest) (*index, error) {
	i := &index{values: map[string]*layer{}}
	var err error
	switch m.Kind() {
	case KindEnvironment:
		if i.environment, i.metadata, err = decode[Environment](m); err == nil {
			err = i.keyed(m, "/spec/overrides", "override of environment "+m.Name(), slices.Collect(maps.Keys(i.environment.Overrides)))
		}
		if err == nil {
			err = i.environment.checkWaivers()
		}
	case KindTemplate:
		if i.template, i.metadata, err = decode[Template](m); err == nil {
			err = i.keyed(m, "/spec/values", "template "+m.Name(), slices.Collect(maps.Keys(i.template.Values)))
		}
		if err == nil {
			err = i.ruled(m)
		}
	case KindPolicy:
		if i.policy, i.metadata, err = decode[Policy](m); err == nil {
			err = i.policy.check()
		}
	default:
		if i.resource, i.metadata, err = decode[Resource](m); err == nil {
			err = i.layered(m)
		}
	}
	if err != nil {
		return nil, err
	}
	for n, listed := range i.metadata.NotSecret {
		if !strings.HasPrefix(listed.Path, "/") || listed.Fingerprint == "" || strings.TrimSpace(listed.Reason) == "" {
			return nil, wrong("/metadata/notSecret", "entry %d of notSecret has no path, fingerprint or reason: say all three", n+1)
		}
	}
	for _, label := range slices.Sorted(maps.Keys(i.metadata.Labels)) {
		if err := CheckName(label); err != nil {
			return nil, wrong("/metadata/labels/"+escape(label), "label: %v", err)
		}
	}
	return i, nil
}

// keyed indexes the layers of a template or an environment.
func (i *index) keyed(m *Manifest, prefix, name string, keys []string) error {
	for _, key := range keys {
		at := prefix + "/" + escape(key)
		if err := CheckKey(key); err != nil {
			return wrong(at, "%v", err)
		}
		i.values[key] = newLayer(m, at, name)
	}
	return nil
}

// layered checks a resource and indexes its layers: patterns by length, then by text, then the environment's own name.
func (i *index) layered(m *Manifest) error {
	r := i.resource
	if len(under(m.leaves, "/spec/default")) > 0 {
		i.defaults = newLayer(m, "/spec/default", "default")
	}
	for _, pattern := range slices.SortedFunc(maps.Keys(r.Overrides), comparePatterns) {
		at := "/spec/overrides/" + escape(pattern)
		if _, err := path.Match(pattern, ""); err != nil {
			return wrong(at, "%q is no pattern of environment names", pattern)
		}
		if !isPattern(pattern) {
			if err := CheckName(pattern); err != nil {
				return wrong(at, "environment: %v", err)
			}
		}
		i.overrides = append(i.overrides, override{pattern, newLayer(m, at, "override "+pattern)})
	}
	if err := oneOf("/spec/lifecycle", r.Lifecycle, Draft, Active, Deprecated, Retired); err != nil {
		return err
	}
	if err := oneOf("/spec/type", r.Type, Types...); err != nil {
		return err
	}
	if err := oneOf("/spec/severity", r.Severity, "low", "medium", "high", "critical"); err != nil {
		return err
	}
	if safe := r.SafeValue.JSON; len(safe) > 0 && m.Kind() != "flag" { // that of a flag may be one of its variants' values
		if err := checkType(r.Type, safe); err != nil {
			return wrong("/spec/safeValue", "%v", err)
		}
	}
	if err := isDate("/spec/expires", r.Expires); err != nil {
		return err
	}
	if err := isDate("/spec/reviewBy", r.ReviewBy); err != nil {
		return err
	}
	if len(r.Schema.JSON) > 0 {
		i.shape = sync.OnceValues(func() (*shape, error) {
			s, err := compileShape(r.Schema.JSON)
			if err != nil {
				err = m.errorAt(wrong("/spec/schema", "%v", err))
			}
			return s, err
		})
	}
	for n, need := range r.Requires {
		if err := need.check("/spec/requires/" + strconv.Itoa(n)); err != nil {
			return err
		}
	}
	for n, path := range r.Overridable.Paths {
		if err := checkPointer("/spec/overridable/paths/"+strconv.Itoa(n), path); err != nil {
			return err
		}
	}
	return checkVersion("/spec/version", r.Version)
}

// check says whether a requirement names one thing, and says of it what can be compared.
func (need Requirement) check(at string) error {
	if given := btoi(need.Resource != "") + btoi(need.Agent != "") + btoi(need.Fact != ""); given != 1 {
		return wrong(at, "the requirement names %d of resource, agent and fact: name one", given)
	}
	var err error
	switch {
	case need.Resource != "":
		err = CheckKey(need.Resource)
	case need.Agent != "":
		_, err = parseRange(need.Agent)
	default:
		_, err = parseRange(need.Is)
	}
	if err != nil {
		return wrong(at, "%v", err)
	}
	return nil
}

func isDate(at, date string) error {
	if _, err := time.Parse(time.DateOnly, date); date != "" && err != nil {
		return wrong(at, "%q is no date: write it as in 2027-03-01", date)
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func oneOf(at, word string, words ...string) error {
	if word == "" || slices.Contains(words, word) {
		return nil
	}
	return wrong(at, "%q is not one of %s", word, strings.Join(words, ", "))
}

func isPattern(name string) bool { return strings.ContainsAny(name, `*?[\`) }

// comparePatterns orders patterns as they apply: a later one wins.
func comparePatterns(a, b string) int {
	return cmp.Or(cmp.Compare(btoi(!isPattern(a)), btoi(!isPattern(b))), cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// A layer is what one part of a manifest says of a resource's value.
type layer struct {
	name     string
	manifest *Manifest
	leaves   []Leaf // their paths begin at the value
}

func newLayer(m *Manifest, prefix, name string) *layer {
	l := &layer{name: name, manifest: m}
	for _, leaf := range under(m.leaves, prefix) {
		leaf.Path, leaf.from = leaf.Path[len(prefix):], l
		l.leaves = append(l.leaves, leaf)
	}
	return l
}

// typeOf is the type of a JSON value.
func typeOf(value json.RawMessage) string {
	switch value[0] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// checkType says whether a value is of a declared type.
func checkType(declared string, value json.RawMessage) error {
	is := typeOf(value)
	switch {
	case declared == "" || declared == is || declared == "integer" && is == "number" && !strings.ContainsAny(string(value), ".eE"):
		return nil
	}
	return fmt.Errorf("its value is of type %s, and spec.type is %s", is, declared)
}
