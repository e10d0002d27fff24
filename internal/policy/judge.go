package policy

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Library keeps the policies that it was last asked for compiled. Its zero value is ready; it is safe for concurrent use.
type Library struct {
	mu       sync.Mutex
	compiled map[*registry.Manifest]*Policy
}

// Judge says what the policies in force say of a request: those of the sources that are released, and those of the sources after the
// change, so that nobody drops a policy with the change that it forbids. Verdicts are ordered, denials first. Errors are
// registry.Problems: policies after the change that cannot be read.
func (l *Library) Judge(r Request) ([]events.Verdict, error) {
	inForce, err := l.inForce(r.Environments)
	if err != nil {
		return nil, err
	}
	j := newJudge(r)
	for i := range r.Environments {
		e := &r.Environments[i]
		j.environment(e, inForce[sources{e.Released, e.After}])
	}
	return j.tally.verdicts(), nil
}

type sources struct{ released, after *registry.Sources }

// inForce are the policies of each pair of sources, ordered by name; one that the change leaves as it is stands once.
func (l *Library) inForce(environments []Environment) (map[sources][]*Policy, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[sources][]*Policy{}
	used := map[*registry.Manifest]*Policy{}
	var problems registry.Problems
	compiled := func(m *registry.Manifest) (*Policy, error) {
		if p, known := used[m]; known {
			return p, nil
		}
		p, known := l.compiled[m]
		if !known {
			var err error
			if p, err = Compile(m); err != nil {
				return nil, err
			}
		}
		used[m] = p
		return p, nil
	}
	for _, e := range environments {
		pair := sources{e.Released, e.After}
		if _, known := out[pair]; known {
			continue
		}
		list := []*Policy{}
		for _, m := range policies(e.After) {
			p, err := compiled(m)
			if err != nil {
				if !slices.ContainsFunc(problems, func(said error) bool { return said.Error() == err.Error() }) {
					problems = append(problems, err)
				}
				continue
			}
			list = append(list, p)
		}
		for _, m := range policies(e.Released) {
			if stays(m, e.After) {
				continue
			}
			if p, err := compiled(m); err == nil { // one that a rollback left in pieces is mended by the change
				list = append(list, p)
			}
		}
		slices.SortStableFunc(list, func(a, b *Policy) int { return strings.Compare(a.Name(), b.Name()) })
		out[pair] = list
	}
	l.compiled = used
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}

func policies(s *registry.Sources) []*registry.Manifest {
	if s == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.OfKind(registry.KindPolicy)), func(m *registry.Manifest) bool {
		_, whole := s.Manifest(m.Key)
		return !whole
	})
}

// stays says whether sources have the policy as it is.
func stays(m *registry.Manifest, after *registry.Sources) bool {
	if after == nil {
		return false
	}
	is, found := after.Manifest(m.Key)
	return found && m.Same(is)
}

// judge judges one request.
type judge struct {
	request Request
	change  *record
	known   map[question]answer
	tally   *tally
}

func newJudge(r Request) *judge {
	return &judge{request: r, change: r.Change.record(r.Environments), known: map[question]answer{}, tally: newTally()}
}

// A question is what a policy's answer depends on.
type question struct {
	policy        *Policy
	key           string
	environment   string // what the policy looks at
	was, is       *registry.Manifest
	value         *registry.Value
	before, after string
}

// An answer is what a policy says of an operation.
type answer struct {
	matched bool // its conditions are true
	fired   []firing
}

// A firing is a rule of a policy that fired.
type firing struct {
	rule    string
	place   registry.Place
	message string
}

func (j *judge) environment(e *Environment, policies []*Policy) {
	policies = slices.DeleteFunc(slices.Clone(policies), func(p *Policy) bool { return !j.can(p) || !p.inEnvironment(e) })
	if len(policies) == 0 {
		return
	}
	looked := make([]string, len(policies)) // what each of them looks at in the environment
	for i, p := range policies {
		looked[i] = p.uses.of(e)
	}
	environment := e.record()
	for o := range e.Operations {
		var s *subject
		for i, p := range policies {
			if !p.matches(&o) {
				continue
			}
			q := question{policy: p, key: o.Key, environment: looked[i], is: o.Is, value: o.Value}
			if p.uses.old || p.uses.request || o.Value == nil {
				q.before, q.after = string(o.Before), string(o.After)
			}
			if p.uses.old {
				q.was = e.was(o.Key)
			}
			answer, known := j.known[q]
			if !known {
				if s == nil {
					of := o // most operations are known, and need not be kept
					s = &subject{operation: &of, in: e, environment: environment, change: j.change}
				}
				answer = p.judge(s)
				j.known[q] = answer
			}
			if answer.matched {
				j.follow(p, e, &o, answer.fired)
			}
		}
	}
}

// can says whether there is enough to judge a policy by.
func (j *judge) can(p *Policy) bool {
	if j.request.Standing && (p.uses.old || p.uses.request || len(p.spec.MatchResources.Operations) > 0 || !p.spec.Denies() && !p.spec.Warns()) {
		return false
	}
	return j.change != nil || !p.uses.change
}

// of is what the policy looks at in an environment, as text.
func (u uses) of(e *Environment) string {
	out := ""
	if u.environment["name"] {
		out = e.Name
	}
	if u.environment["labels"] {
		out += fmt.Sprintf("%q", e.Labels) // printed in order
	}
	if u.environment["facts"] {
		out += fmt.Sprintf("/%q", e.Facts)
	}
	return out
}

// A subject is what expressions see of one operation, read when the first of them is evaluated.
type subject struct {
	operation   *Operation
	in          *Environment
	environment *record
	change      *record
	seen        map[string]any
}

func (s *subject) variables() map[string]any {
	if s.seen == nil {
		o := s.operation
		s.seen = map[string]any{
			"object": resource(o.Key, o.Is, o.After), "oldObject": resource(o.Key, s.in.was(o.Key), o.Before),
			"environment": s.environment, "request": fields(requestType, map[string]any{"operation": o.word()}),
		}
		if s.change != nil {
			s.seen["change"] = s.change
		}
	}
	return s.seen
}

// judge evaluates the policy on one operation that it matches.
func (p *Policy) judge(s *subject) answer {
	vars := make(map[string]any, 8)
	for name, value := range s.variables() {
		vars[name] = value
	}
	vars["params"] = p.params
	vars["variables"] = p.lazily(vars)
	matched, failed := true, error(nil)
	for _, condition := range p.conditions {
		is, err := truth(condition, vars)
		if err != nil {
			failed = err
		} else if !is {
			matched = false
		}
	}
	switch {
	case !matched, failed != nil && p.ignores():
		return answer{}
	case failed != nil:
		return answer{true, []firing{{"matchConditions", p.Manifest.PlaceOf("/spec/matchConditions"), oneLine("its conditions cannot be evaluated: " + failed.Error())}}}
	case len(p.validations) == 0:
		return answer{true, []firing{{"match", p.Manifest.PlaceOf("/spec/matchResources"), ""}}}
	}
	out := answer{matched: true}
	for _, v := range p.validations {
		is, err := truth(v.program, vars)
		switch {
		case err == nil && is, err != nil && p.ignores():
		case err != nil:
			out.fired = append(out.fired, firing{v.name, v.place, oneLine("it cannot be evaluated: " + err.Error())})
		default:
			out.fired = append(out.fired, firing{v.name, v.place, v.text(vars)})
		}
	}
	return out
}

func (p *Policy) ignores() bool { return p.spec.FailurePolicy == registry.Ignore }

// lazily are the policy's variables: each is evaluated once, when an expression asks for it.
func (p *Policy) lazily(vars map[string]any) *record {
	done := map[string]ref.Val{}
	return &record{p.variablesOf, func(name string) ref.Val {
		if v, known := done[name]; known {
			return v
		}
		i := slices.IndexFunc(p.variables, func(v variable) bool { return v.name == name })
		out, _, err := p.variables[i].program.Eval(vars)
		if err != nil {
			out = types.NewErr("variables.%s: %v", name, err)
		}
		done[name] = out
		return out
	}}
}

func truth(program cel.Program, vars map[string]any) (bool, error) {
	out, _, err := program.Eval(vars)
	if err != nil {
		return false, err
	}
	is, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("it gives %s; it must give true or false", out.Type().TypeName())
	}
	return bool(is), nil
}

// text is what is said where the validation is false: the messageExpression, and where that gives no line of text the message.
func (v *validation) text(vars map[string]any) string {
	if v.message != nil {
		if out, _, err := v.message.Eval(vars); err == nil {
			if s, ok := out.(types.String); ok && strings.TrimSpace(string(s)) != "" && !strings.Contains(string(s), "\n") {
				return oneLine(string(s))
			}
		}
	}
	return oneLine(v.says)
}

// maxMessage bounds a message, in bytes: the ledger keeps it.
const maxMessage = 400

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
