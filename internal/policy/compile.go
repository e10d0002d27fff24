package policy

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

const (
	// maxCost bounds what one expression does on one resource, in CEL's units.
	maxCost = 1_000_000
	// maxExpression bounds one expression, in characters.
	maxExpression = 8 << 10
	// maxExpressions bounds the expressions of one policy.
	maxExpressions = 64
)

// base is the environment that expressions of all policies are read in.
var base = sync.OnceValues(func() (*world, error) {
	plain, err := cel.NewEnv(
		cel.OptionalTypes(), ext.Strings(), ext.Lists(), ext.Sets(), ext.Math(), ext.Regex(), ext.TwoVarComprehensions(),
		cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxExpression), cel.ParserRecursionLimit(100),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
	)
	if err != nil {
		return nil, err
	}
	p := newProvider(plain.CELTypeProvider(), objectType, environmentType, changeType, requestType)
	env, err := plain.Extend(
		cel.CustomTypeProvider(p),
		cel.Variable("object", objectType.cel()), cel.Variable("oldObject", objectType.cel()),
		cel.Variable("environment", environmentType.cel()), cel.Variable("change", changeType.cel()), cel.Variable("request", requestType.cel()),
		cel.Variable("params", cel.DynType),
	)
	return &world{env, p}, err
})

type world struct {
	env      *cel.Env
	provider *provider
}

// A Policy is a policy whose expressions were read and type-checked. It never changes.
type Policy struct {
	Manifest    *registry.Manifest
	spec        *registry.Policy
	place       registry.Place
	ticket      *regexp.Regexp
	freeze      *freeze
	params      any
	variables   []variable
	variablesOf *recordType
	conditions  []cel.Program
	validations []validation
	uses        uses
}

type variable struct {
	name    string
	program cel.Program
}

type validation struct {
	name    string // as verdicts name it
	place   registry.Place
	program cel.Program
	message cel.Program // nil without a messageExpression
	says    string
}

// uses is what the expressions of a policy look at, beside object and params.
type uses struct {
	change, old, request bool
	environment          map[string]bool // its fields
}

// Compile reads the expressions of a policy's manifest. Errors are *config.Error, with file and line.
func Compile(m *registry.Manifest) (*Policy, error) {
	w, err := base()
	if err != nil {
		return nil, err
	}
	spec := m.Policy()
	if spec == nil {
		return nil, m.ErrorAt("/spec", "what a rollback left of it is no policy; propose the directory again")
	}
	c := &compiler{world: *w, manifest: m, out: &Policy{Manifest: m, spec: spec, place: m.Place(), uses: uses{environment: map[string]bool{}}}}
	if n := len(spec.Variables) + len(spec.MatchConditions) + len(spec.Validations); n > maxExpressions {
		return nil, m.ErrorAt("/spec", "the policy has %d expressions; at most %d are read: make it several policies", n, maxExpressions)
	}
	if err := c.compile(spec); err != nil {
		return nil, err
	}
	if spec.RequireTicket != nil {
		if c.out.ticket, err = regexp.Compile(spec.RequireTicket.Pattern); err != nil {
			return nil, m.ErrorAt("/spec/requireTicket/pattern", "%v", err)
		}
	}
	if c.out.freeze, err = newFreeze(spec.Freeze); err != nil {
		return nil, m.ErrorAt("/spec/freeze/rrule", "%v", err)
	}
	if c.out.params, err = native(spec.Params.JSON); err != nil {
		return nil, m.ErrorAt("/spec/params", "%v", err)
	}
	return c.out, nil
}

// compiler compiles one policy.
type compiler struct {
	world
	manifest *registry.Manifest
	out      *Policy
}

func (c *compiler) compile(spec *registry.Policy) error {
	if err := c.variables(spec.Variables); err != nil {
		return err
	}
	for i, condition := range spec.MatchConditions {
		program, _, err := c.program(at("matchConditions", i), "the condition "+condition.Name, condition.Expression, cel.BoolType)
		if err != nil {
			return err
		}
		c.out.conditions = append(c.out.conditions, program)
	}
	for i, v := range spec.Validations {
		path, name := at("validations", i), "validation "+strconv.Itoa(i+1)
		program, _, err := c.program(path, name, v.Expression, cel.BoolType)
		if err != nil {
			return err
		}
		out := validation{name: name, place: c.manifest.PlaceOf(path), program: program, says: v.Message}
		if out.says == "" {
			out.says = "it must be that " + strings.Join(strings.Fields(v.Expression), " ")
		}
		if v.MessageExpression != "" {
			if out.message, _, err = c.program(path, "the messageExpression of "+name, v.MessageExpression, cel.StringType); err != nil {
				return err
			}
		}
		c.out.validations = append(c.out.validations, out)
	}
	return nil
}

func at(list string, i int) string { return "/spec/" + list + "/" + strconv.Itoa(i) }

// variables reads the variables in their order: each can use those before it.
func (c *compiler) variables(list []registry.Condition) error {
	of := &recordType{"lockstep.Variables", map[string]*types.Type{}}
	c.out.variablesOf = of
	var err error
	if c.env, err = c.env.Extend(cel.CustomTypeProvider(c.provider.with(of)), cel.Variable("variables", of.cel())); err != nil {
		return err
	}
	for i, v := range list {
		program, t, err := c.program(at("variables", i), "the variable "+v.Name, v.Expression, nil)
		if err != nil {
			return err
		}
		of.fields[v.Name] = t
		c.out.variables = append(c.out.variables, variable{v.Name, program})
	}
	return nil
}

// program reads one expression, which must give a type; nil is any.
func (c *compiler) program(path, what, expression string, want *types.Type) (cel.Program, *types.Type, error) {
	if strings.TrimSpace(expression) == "" {
		return nil, nil, c.manifest.ErrorAt(path, "%s has no expression", what)
	}
	checked, issues := c.env.Compile(expression)
	if issues != nil && issues.Err() != nil {
		return nil, nil, c.manifest.ErrorAt(path, "%s: %s", what, oneLine(said(issues)))
	}
	t := checked.OutputType()
	if want != nil && !t.IsExactType(want) && !t.IsExactType(types.DynType) {
		return nil, nil, c.manifest.ErrorAt(path, "%s gives %s; it must give %s", what, cel.FormatCELType(t), cel.FormatCELType(want))
	}
	c.out.uses.add(checked.NativeRep())
	program, err := c.env.Program(checked, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, nil, c.manifest.ErrorAt(path, "%s: %v", what, err)
	}
	return program, t, nil
}

// said is what is wrong with an expression.
func said(issues *cel.Issues) string {
	var out []string
	for _, e := range issues.Errors() {
		out = append(out, fmt.Sprintf("%s (at %d:%d of the expression)", e.Message, e.Location.Line(), e.Location.Column()+1))
	}
	return strings.Join(out, "; ")
}

// add notes what an expression looks at.
func (u *uses) add(expression *ast.AST) {
	inner := map[int64]bool{} // environments of which a field is taken
	ast.PreOrderVisit(expression.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			if of := e.AsSelect().Operand(); of.Kind() == ast.IdentKind && of.AsIdent() == "environment" {
				u.environment[e.AsSelect().FieldName()] = true
				inner[of.ID()] = true
			}
		case ast.IdentKind:
			switch e.AsIdent() {
			case "change":
				u.change = true
			case "oldObject":
				u.old = true
			case "request":
				u.request = true
			case "environment":
				if !inner[e.ID()] {
					u.environment["name"], u.environment["labels"], u.environment["facts"] = true, true, true
				}
			}
		}
	}))
}

// Name is the policy's name.
func (p *Policy) Name() string { return p.Manifest.Name() }

// inEnvironment says whether the policy matches an environment.
func (p *Policy) inEnvironment(e *Environment) bool {
	m := p.spec.MatchResources
	return (len(m.Environments) == 0 || matchesOne(m.Environments, e.Name)) && hasLabels(e.Labels, m.Labels)
}

// matches says whether the policy matches an operation on a resource.
func (p *Policy) matches(o *Operation) bool {
	m := p.spec.MatchResources
	return (len(m.Resources) == 0 || matchesOne(m.Resources, o.Key)) && (len(m.Operations) == 0 || slices.Contains(m.Operations, o.word()))
}

func matchesOne(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		matched, _ := path.Match(pattern, name)
		return matched
	})
}

func hasLabels(labels, wanted map[string]string) bool {
	for name, value := range wanted {
		if has, found := labels[name]; !found || has != value {
			return false
		}
	}
	return true
}
