package registry

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// A document is a manifest as its author writes it; the tags are its format.
type document[S any] struct {
	APIVersion string   `yaml:"apiVersion" doc:"lockstep/v1"`
	Kind       string   `yaml:"kind" doc:"what the manifest is of"`
	Metadata   Metadata `yaml:"metadata" doc:"what the manifest says of itself"`
	Spec       S        `yaml:"spec" doc:"what it is"`
}

// Metadata is what every manifest says of itself.
type Metadata struct {
	Name        string            `yaml:"name" doc:"with the kind, the identity of the manifest: file names and order mean nothing"`
	Labels      map[string]string `yaml:"labels" doc:"names and values to select by, such as product: shop"`
	Owner       string            `yaml:"owner" doc:"the team that answers for it"`
	Description string            `yaml:"description" doc:"what it is for"`
	NotSecret   []NotSecret       `yaml:"notSecret" doc:"values that look like secrets and are none"`
}

// A NotSecret lets a value stand that looks like a secret.
type NotSecret struct {
	Path        string `yaml:"path" doc:"JSON pointer into this manifest, as in /spec/default/key"`
	Fingerprint string `yaml:"fingerprint" doc:"of the value, as the refusal says it"`
	Reason      string `yaml:"reason" doc:"why it is no secret"`
}

// A Resource is the spec of a Flag, Variable, Endpoint, Connection, Secret or Document.
type Resource struct {
	Version     string                  `yaml:"version" doc:"semantic version of the definition"`
	Type        string                  `yaml:"type" doc:"type of the value" enum:"string,number,integer,boolean,object,array"`
	Schema      config.Value            `yaml:"schema" doc:"JSON Schema 2020-12 of the value"`
	Lifecycle   string                  `yaml:"lifecycle" doc:"active by default; draft and retired are rendered nowhere, deprecated is a warning" enum:"draft,active,deprecated,retired"`
	Activation  Activation              `yaml:"activation" doc:"where it is active; everywhere by default"`
	Expires     string                  `yaml:"expires" doc:"of a flag: the day after which it should be gone" format:"date"`
	ReviewBy    string                  `yaml:"reviewBy" doc:"the day by which somebody looks at it again" format:"date"`
	Severity    string                  `yaml:"severity" doc:"how much it matters when it is wrong" enum:"low,medium,high,critical"`
	SafeValue   config.Value            `yaml:"safeValue" doc:"what an instance may use where it has no other"`
	Default     config.Value            `yaml:"default" doc:"the value, on top of what templates say"`
	Overrides   map[string]config.Value `yaml:"overrides" doc:"by environment name or pattern: a JSON Merge Patch on the default; null takes the resource away there"`
	Overridable Overridable             `yaml:"overridable" doc:"who may override it, and which of its paths; false is nobody"`
	Requires    []Requirement           `yaml:"requires" doc:"what it needs to be there"`
}

// Lifecycles of resources; an absent one is active. A draft and a retired resource are rendered nowhere.
const (
	Draft      = "draft"
	Active     = "active"
	Deprecated = "deprecated"
	Retired    = "retired"
)

// An Activation says in which environments a resource is active: those that one of the patterns names and that have all labels.
type Activation struct {
	Environments []string          `yaml:"environments" doc:"names or patterns, such as prod-*"`
	Labels       map[string]string `yaml:"labels" doc:"all of which an environment must have"`
}

// A Requirement is something that a resource needs: exactly one of resource, agent and fact.
type Requirement struct {
	Resource string `yaml:"resource" doc:"<kind>/<name> that must be in the same environment"`
	Agent    string `yaml:"agent" doc:"version range of the agent, such as >=1.2"`
	Fact     string `yaml:"fact" doc:"name of a fact of the environment"`
	Is       string `yaml:"is" doc:"version range of the fact"`
}

// Overridable says who may override a resource, and which of its paths. False, in YAML, is nobody.
type Overridable struct {
	Nobody bool     `yaml:"-"`
	By     []string `yaml:"by" doc:"roles"`
	Paths  []string `yaml:"paths" doc:"JSON pointers into the value"`
}

// restricts says that not everything may be overridden.
func (o Overridable) restricts() bool { return o.Nobody || len(o.Paths) > 0 }

// An Environment is the spec of an Environment. The environment itself is in the ledger.
type Environment struct {
	Template  TemplateRef             `yaml:"template" doc:"the template that it is made of, by name, or name and version"`
	Facts     map[string]string       `yaml:"facts" doc:"what its instance is, such as platform.version: 9.2"`
	Overrides map[string]config.Value `yaml:"overrides" doc:"by resource: a JSON Merge Patch on everything else"`
	Waivers   []Waiver                `yaml:"waivers" doc:"deviations from rules of templates that are allowed for a time"`
}

// A TemplateRef names a template, or pins a version of it. In YAML the name alone is enough.
type TemplateRef struct {
	Name    string `yaml:"name" doc:"of the template"`
	Version string `yaml:"version" doc:"that is pinned"`
}

// A Waiver allows a deviation from a rule of a template, for a time.
type Waiver struct {
	Resource string `yaml:"resource" doc:"<kind>/<name> that deviates"`
	Rule     string `yaml:"rule" doc:"<template>/<rule>"`
	Owner    string `yaml:"owner" doc:"who answers for it"`
	Reason   string `yaml:"reason" doc:"why it deviates"`
	Expires  string `yaml:"expires" doc:"the last day on which it holds" format:"date"`
}

// A Template is the spec of a Template.
type Template struct {
	Version     string                  `yaml:"version" doc:"semantic version; several versions of a template stand side by side"`
	Extends     TemplateRef             `yaml:"extends" doc:"the template that this one goes on from, by name, or name and version"`
	Values      map[string]config.Value `yaml:"values" doc:"by resource: a JSON Merge Patch below its default"`
	Required    []string                `yaml:"required" doc:"resources that must be there"`
	Constraints []Constraint            `yaml:"constraints" doc:"JSON Schemas that resources must satisfy"`
	Locked      []Lock                  `yaml:"locked" doc:"fields that are fixed or bounded"`
	Immutable   []Selection             `yaml:"immutable" doc:"fields that keep their first value"`
	Overridable []Permission            `yaml:"overridable" doc:"who may override which resources"`
	Facts       map[string]string       `yaml:"facts" doc:"version ranges of facts that an environment must have"`
}

// A Constraint is a JSON Schema that resources must satisfy.
type Constraint struct {
	Name      string       `yaml:"name" doc:"by which a waiver names it"`
	Resources string       `yaml:"resources" doc:"<kind>/<name>, or a pattern such as endpoint/*"`
	Schema    config.Value `yaml:"schema" doc:"JSON Schema 2020-12 of the value"`
}

// A Lock fixes or bounds a field of resources.
type Lock struct {
	Name      string       `yaml:"name" doc:"by which a waiver names it"`
	Resources string       `yaml:"resources" doc:"<kind>/<name>, or a pattern such as endpoint/*"`
	Path      string       `yaml:"path" doc:"JSON pointer into the value; empty is all of it"`
	Lock      string       `yaml:"lock" doc:"what is locked" enum:"value,deletion,maximum,minimum"`
	Value     config.Value `yaml:"value" doc:"that the field must have, or its bound"`
}

// A Selection is a field of resources.
type Selection struct {
	Resources string `yaml:"resources" doc:"<kind>/<name>, or a pattern such as variable/*"`
	Path      string `yaml:"path" doc:"JSON pointer into the value; empty is all of it"`
}

// A Permission says who may override resources.
type Permission struct {
	Resources string   `yaml:"resources" doc:"<kind>/<name>, or a pattern such as variable/*"`
	By        []string `yaml:"by" doc:"roles"`
}

// ShortForm reads a template's name alone.
func (t *TemplateRef) ShortForm(scalar json.RawMessage) error {
	if json.Unmarshal(scalar, &t.Name) != nil {
		return errors.New("must be the name of a template, or its name and version")
	}
	return nil
}

// ShortForm reads false: nobody may override.
func (o *Overridable) ShortForm(scalar json.RawMessage) error {
	var anybody bool
	if json.Unmarshal(scalar, &anybody) != nil {
		return errors.New("must be false, or say who may override what")
	}
	o.Nobody = !anybody
	return nil
}

// UnmarshalJSON reads both forms.
func (t *TemplateRef) UnmarshalJSON(b []byte) error {
	type long TemplateRef
	return eitherForm(b, t.ShortForm, (*long)(t))
}

// UnmarshalJSON reads both forms.
func (o *Overridable) UnmarshalJSON(b []byte) error {
	type long Overridable
	return eitherForm(b, o.ShortForm, (*long)(o))
}

func eitherForm(b []byte, short func(json.RawMessage) error, long any) error {
	if b[0] != '{' {
		return short(b)
	}
	return json.Unmarshal(b, long)
}

// decode reads the manifest's leaves into its spec.
func decode[S any](m *Manifest) (*S, Metadata, error) {
	tree, err := m.Tree()
	if err != nil {
		return nil, Metadata{}, fmt.Errorf("%s: %w", m.Key, err)
	}
	var d document[S]
	if err := json.Unmarshal(tree, &d); err != nil {
		return nil, Metadata{}, fmt.Errorf("%s: %w", m.Key, err)
	}
	return &d.Spec, d.Metadata, nil
}
