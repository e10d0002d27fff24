package registry

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Policy is the spec of a Policy, shaped as Kubernetes' ValidatingAdmissionPolicy. It fires where it matches and one of its
// validations is false; one without validations fires wherever it matches. What follows then are its consequences: Actions and what
// stands below them. Expressions are CEL; this package does not read them.
type Policy struct {
	MatchResources  Match        `yaml:"matchResources" doc:"to which operations it applies"`
	MatchConditions []Condition  `yaml:"matchConditions" doc:"CEL expressions that must all be true for it to apply"`
	Variables       []Condition  `yaml:"variables" doc:"CEL expressions that others use as variables.NAME"`
	Validations     []Validation `yaml:"validations" doc:"CEL expressions that must be true"`
	FailurePolicy   string       `yaml:"failurePolicy" enum:"Fail,Ignore" doc:"Fail: an expression that fails counts as false; Ignore: it does not count"`
	Params          config.Value `yaml:"params" doc:"what the expressions use as params"`

	Actions         []string  `yaml:"actions" doc:"what follows where a validation is false: Deny or Warn"`
	RequireApproval *Approval `yaml:"requireApproval" doc:"more people must approve"`
	RequireTicket   *Ticket   `yaml:"requireTicket" doc:"the change must have a ticket"`
	Parity          *Parity   `yaml:"parity" doc:"where a new resource, or a flag that goes live, must be first"`
	Risk            string    `yaml:"risk" enum:"low,medium,high,critical" doc:"the change is at least of this class of risk"`
	Freeze          *Freeze   `yaml:"freeze" doc:"when releases wait"`
}

// Actions of policies.
const (
	Deny = "Deny"
	Warn = "Warn"
)

// Failure policies.
const (
	Fail   = "Fail"
	Ignore = "Ignore"
)

// Operations that policies match.
const (
	Create = "CREATE"
	Update = "UPDATE"
	Delete = "DELETE"
)

// Risks are the classes of risk, the lowest first.
var Risks = []string{"low", "medium", "high", "critical"}

// A Match says to which operations a policy applies; what is not said is everything.
type Match struct {
	Environments []string          `yaml:"environments" doc:"names or patterns"`
	Labels       map[string]string `yaml:"labels" doc:"all of which an environment must have"`
	Resources    []string          `yaml:"resources" doc:"<kind>/<name>, or patterns"`
	Operations   []string          `yaml:"operations" doc:"CREATE, UPDATE or DELETE"`
}

// A Condition is a named CEL expression.
type Condition struct {
	Name       string `yaml:"name" doc:"of the expression"`
	Expression string `yaml:"expression" doc:"CEL"`
}

// A Validation is a CEL expression that must be true, and what is said where it is not.
type Validation struct {
	Expression        string `yaml:"expression" doc:"CEL"`
	Message           string `yaml:"message" doc:"what is said where it is false"`
	MessageExpression string `yaml:"messageExpression" doc:"CEL that gives the message"`
	Reason            string `yaml:"reason" doc:"a word for programs"`
}

// An Approval says how many people must approve, not counting the author, and in which roles.
type Approval struct {
	Count int      `yaml:"count" doc:"how many people, not counting the author"`
	Roles []string `yaml:"roles" doc:"of those who approve"`
}

// A Ticket says what a change's ticket must look like.
type Ticket struct {
	Pattern string `yaml:"pattern" doc:"regular expression that the ticket matches"`
}

// A Parity says in which environments a new resource, or a flag that goes live, must be first: in one of them at least.
type Parity struct {
	Environments []string          `yaml:"environments" doc:"names or patterns"`
	Labels       map[string]string `yaml:"labels" doc:"all of which an environment must have"`
}

// A Freeze is a time in which releases wait, though they are approved.
type Freeze struct {
	Start     string `yaml:"start" doc:"local time at which it first begins, as in 2026-12-18T18:00"`
	TimeZone  string `yaml:"timeZone" doc:"of start, as in Europe/Berlin; UTC where it is not said"`
	RRule     string `yaml:"rrule" doc:"how it repeats (RFC 5545), as in FREQ=WEEKLY;BYDAY=FR; once where it is not said"`
	Duration  string `yaml:"duration" doc:"how long it lasts, as in 60h"`
	Rollbacks bool   `yaml:"rollbacks" doc:"rollbacks are refused in it too"`
}

// StartFormat is how a freeze's start is written.
const StartFormat = "2006-01-02T15:04"

// Times are the freeze's first start, and how long it lasts.
func (f *Freeze) Times() (start time.Time, lasts time.Duration, err error) {
	zone, err := time.LoadLocation(f.TimeZone)
	if err != nil || f.TimeZone == "Local" {
		return start, 0, wrong("/spec/freeze/timeZone", "%q is no time zone: write it as in Europe/Berlin", f.TimeZone)
	}
	if start, err = time.ParseInLocation(StartFormat, f.Start, zone); err != nil || start.Year() < 2000 {
		return start, 0, wrong("/spec/freeze/start", "%q is no local time since 2000: write it as in 2026-12-18T18:00", f.Start)
	}
	if lasts, err = time.ParseDuration(f.Duration); err != nil || lasts < time.Minute || lasts > maxFreeze {
		return start, 0, wrong("/spec/freeze/duration", "%q is no duration from 1m to %.0fh: write it as in 60h", f.Duration, maxFreeze.Hours())
	}
	return start, lasts, nil
}

// maxFreeze is the longest freeze.
const maxFreeze = 366 * 24 * time.Hour

// check says whether a policy is well-formed, but for its expressions.
func (p *Policy) check() error {
	for _, check := range []func() error{p.MatchResources.check, p.checkNames, p.checkActions, p.checkConsequences} {
		if err := check(); err != nil {
			return err
		}
	}
	if p.nothing() {
		return wrong("/spec", "the policy matches, and says nothing about it: give it validations, or what follows (actions, requireApproval, requireTicket, parity, risk, freeze)")
	}
	return nil
}

// nothing says that neither a rule nor a consequence is there.
func (p *Policy) nothing() bool { return len(p.Validations)+len(p.Actions) == 0 && !p.hasConsequence() }

// hasConsequence says that something else follows than an action.
func (p *Policy) hasConsequence() bool {
	return p.RequireApproval != nil || p.RequireTicket != nil || p.Parity != nil || p.Risk != "" || p.Freeze != nil
}

// Denies says whether what fires is denied.
func (p *Policy) Denies() bool {
	return slices.Contains(p.Actions, Deny) || len(p.Actions) == 0 && !p.hasConsequence()
}

// Warns says whether people are warned of what fires.
func (p *Policy) Warns() bool { return slices.Contains(p.Actions, Warn) }

func (m Match) check() error {
	const at = "/spec/matchResources"
	if err := checkPatterns(at+"/environments", m.Environments); err != nil {
		return err
	}
	for i, pattern := range m.Resources {
		if err := checkSelection(at+"/resources/"+strconv.Itoa(i), pattern); err != nil {
			return err
		}
	}
	for _, operation := range m.Operations {
		if err := oneOf(at+"/operations", operation, Create, Update, Delete); err != nil {
			return err
		}
	}
	return nil
}

// checkSelection says whether a text is the key of a resource, or a pattern of keys.
func checkSelection(at, pattern string) error {
	kind, _, both := strings.Cut(pattern, "/")
	if _, err := path.Match(pattern, ""); err != nil || !both {
		return wrong(at, "%q is no resource and no pattern of resources: write it as in flag/checkout or flag/*", pattern)
	}
	if !isPattern(kind) && !slices.Contains(events.Kinds, kind) {
		return wrong(at, "%q names the kind %s, which is not one of %s%s", pattern, kind, strings.Join(events.Kinds, ", "), didYouMean(kind, events.Kinds))
	}
	return nil
}

func checkPatterns(at string, patterns []string) error {
	for i, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return wrong(at+"/"+strconv.Itoa(i), "%q is no pattern of environment names", pattern)
		}
	}
	return nil
}

var identifier = regexp.MustCompile(`^[a-z_][A-Za-z0-9_]*$`)

// checkNames says whether conditions and variables are named, each once.
func (p *Policy) checkNames() error {
	for i, v := range p.Variables {
		if !identifier.MatchString(v.Name) {
			return wrong("/spec/variables/"+strconv.Itoa(i), "%q is no name that an expression can use: write it as in isProd", v.Name)
		}
	}
	if err := named("/spec/variables/", p.Variables); err != nil {
		return err
	}
	return named("/spec/matchConditions/", p.MatchConditions)
}

func named(at string, list []Condition) error {
	names := map[string]bool{}
	for i, c := range list {
		if c.Name == "" || names[c.Name] {
			return wrong(at+strconv.Itoa(i), "the name %q is missing or stands twice", c.Name)
		}
		names[c.Name] = true
	}
	return nil
}

func (p *Policy) checkActions() error {
	for _, action := range p.Actions {
		if err := oneOf("/spec/actions", action, Deny, Warn); err != nil {
			return err
		}
	}
	if p.Warns() && slices.Contains(p.Actions, Deny) {
		return wrong("/spec/actions", "Deny and Warn stand together: what is denied needs no warning")
	}
	if err := oneOf("/spec/failurePolicy", p.FailurePolicy, Fail, Ignore); err != nil {
		return err
	}
	for i, v := range p.Validations {
		if err := oneOf("/spec/validations/"+strconv.Itoa(i), v.Reason, "Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge"); err != nil {
			return err
		}
	}
	return nil
}

const maxApprovals = 100

func (p *Policy) checkConsequences() error {
	if a := p.RequireApproval; a != nil && (a.Count < 1 || a.Count > maxApprovals) {
		return wrong("/spec/requireApproval/count", "%d people are demanded: want 1 to %d", a.Count, maxApprovals)
	}
	if t := p.RequireTicket; t != nil {
		if _, err := regexp.Compile(t.Pattern); err != nil || t.Pattern == "" {
			return wrong("/spec/requireTicket/pattern", "%q is no regular expression: write it as in '^OPS-[0-9]+$'", t.Pattern)
		}
	}
	if parity := p.Parity; parity != nil {
		if len(parity.Environments)+len(parity.Labels) == 0 {
			return wrong("/spec/parity", "it does not say where the resource must be first: name environments or labels")
		}
		if err := checkPatterns("/spec/parity/environments", parity.Environments); err != nil {
			return err
		}
	}
	if p.Freeze != nil {
		if _, _, err := p.Freeze.Times(); err != nil {
			return err
		}
	}
	return oneOf("/spec/risk", p.Risk, Risks...)
}

// Same says whether two manifests have the same leaves, wherever those stand.
func (m *Manifest) Same(other *Manifest) bool { return m.same(other) }

// ErrorAt is an error at a path of the manifest, with file and line.
func (m *Manifest) ErrorAt(path, format string, args ...any) error {
	return m.errorAt(wrong(path, format, args...))
}
