package registry

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// A document is a manifest as its author writes it; the tags are its format.
type document[S any] struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   Metadata `yaml:"metadata"`
	Spec       S        `yaml:"spec"`
}

// Metadata is what every manifest says of itself.
type Metadata struct {
	Name        string            `yaml:"name"`
	Labels      map[string]string `yaml:"labels"`
	Owner       string            `yaml:"owner"`
	Description string            `yaml:"description"`
}

// A Resource is the spec of a Flag, Variable, Endpoint, Connection, Secret or Document.
type Resource struct {
	Version     string                  `yaml:"version"` // semantic, of the definition
	Type        string                  `yaml:"type"`    // of the value: one of Types
	Schema      config.Value            `yaml:"schema"`  // of the value: JSON Schema 2020-12
	Lifecycle   string                  `yaml:"lifecycle"`
	Activation  Activation              `yaml:"activation"`
	Expires     string                  `yaml:"expires"`  // date; of flags
	ReviewBy    string                  `yaml:"reviewBy"` // date
	Severity    string                  `yaml:"severity"`
	SafeValue   config.Value            `yaml:"safeValue"`
	Default     config.Value            `yaml:"default"`
	Overrides   map[string]config.Value `yaml:"overrides"` // by environment name or pattern
	Overridable Overridable             `yaml:"overridable"`
	Requires    []Requirement           `yaml:"requires"`
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
	Environments []string          `yaml:"environments"`
	Labels       map[string]string `yaml:"labels"`
}

// A Requirement is something that a resource needs: exactly one of resource, agent and fact.
type Requirement struct {
	Resource string `yaml:"resource"`
	Agent    string `yaml:"agent"` // version range
	Fact     string `yaml:"fact"`
	Is       string `yaml:"is"` // version range of the fact
}

// Overridable says who may override a resource, and which of its paths. False, in YAML, is nobody.
type Overridable struct {
	Nobody bool     `yaml:"-"`
	By     []string `yaml:"by"`
	Paths  []string `yaml:"paths"`
}

// An Environment is the spec of an Environment. The environment itself is in the ledger.
type Environment struct {
	Template  TemplateRef             `yaml:"template"`
	Facts     map[string]string       `yaml:"facts"`
	Overrides map[string]config.Value `yaml:"overrides"` // by resource
	Waivers   []Waiver                `yaml:"waivers"`
}

// A TemplateRef names a template, or pins a version of it. In YAML the name alone is enough.
type TemplateRef struct {
	Name    string `yaml:"name"`
	Version string `yaml:"version"`
}

// A Waiver allows a deviation from a rule of a template, for a time.
type Waiver struct {
	Resource string `yaml:"resource"`
	Rule     string `yaml:"rule"` // <template>/<rule>
	Owner    string `yaml:"owner"`
	Reason   string `yaml:"reason"`
	Expires  string `yaml:"expires"` // date
}

// A Template is the spec of a Template.
type Template struct {
	Version     string                  `yaml:"version"`
	Extends     string                  `yaml:"extends"`
	Values      map[string]config.Value `yaml:"values"` // by resource
	Required    []string                `yaml:"required"`
	Constraints []Constraint            `yaml:"constraints"`
	Locked      []Lock                  `yaml:"locked"`
	Immutable   []Selection             `yaml:"immutable"`
	Overridable []Permission            `yaml:"overridable"`
	Facts       map[string]string       `yaml:"facts"`
}

// A Constraint is a JSON Schema that resources must satisfy.
type Constraint struct {
	Name      string       `yaml:"name"`
	Resources string       `yaml:"resources"`
	Schema    config.Value `yaml:"schema"`
}

// A Lock fixes or bounds a field of resources.
type Lock struct {
	Name      string       `yaml:"name"`
	Resources string       `yaml:"resources"`
	Path      string       `yaml:"path"`
	Lock      string       `yaml:"lock"` // value, deletion, maximum or minimum
	Value     config.Value `yaml:"value"`
}

// A Selection is a field of resources.
type Selection struct {
	Resources string `yaml:"resources"`
	Path      string `yaml:"path"`
}

// A Permission says who may override resources.
type Permission struct {
	Resources string   `yaml:"resources"`
	By        []string `yaml:"by"`
}

// A Policy is the spec of a Policy, shaped as Kubernetes' ValidatingAdmissionPolicy.
type Policy struct {
	MatchResources  Match         `yaml:"matchResources"`
	MatchConditions []Condition   `yaml:"matchConditions"`
	Variables       []Condition   `yaml:"variables"`
	Validations     []Validation  `yaml:"validations"`
	Actions         []string      `yaml:"actions"`
	Params          *config.Value `yaml:"params"`
}

// A Match says to which operations a policy applies.
type Match struct {
	Environments []string          `yaml:"environments"`
	Labels       map[string]string `yaml:"labels"`
	Resources    []string          `yaml:"resources"`
}

// A Condition is a named CEL expression.
type Condition struct {
	Name       string `yaml:"name"`
	Expression string `yaml:"expression"`
}

// A Validation is a CEL expression that must be true, and what is said where it is not.
type Validation struct {
	Expression        string `yaml:"expression"`
	Message           string `yaml:"message"`
	MessageExpression string `yaml:"messageExpression"`
	Reason            string `yaml:"reason"`
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
