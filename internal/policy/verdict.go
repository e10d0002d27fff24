package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// maxPlaces bounds the resources that a verdict names; the rest are counted.
	maxPlaces = 10
	// maxVerdicts bounds what is told, and kept, of one change; the least important are left out.
	maxVerdicts = 200
)

// actions are what verdicts say, the most important first.
var actions = []string{events.VerdictDeny, events.VerdictRequireApproval, events.VerdictRequireTicket, events.VerdictRisk, events.VerdictFreeze, events.VerdictWarn, events.VerdictAllow}

// A tally gathers verdicts: what one rule says in the same words of several resources is one.
type tally struct{ of map[utterance]*events.Verdict }

type utterance struct {
	policy                *Policy
	rule, action, message string
}

func newTally() *tally { return &tally{map[utterance]*events.Verdict{}} }

func (t *tally) add(p *Policy, e *Environment, key string, v events.Verdict, place registry.Place) {
	at := utterance{p, v.Rule, v.Action, v.Message}
	known, found := t.of[at]
	if !found {
		v.Policy, v.File, v.Line = p.Name(), place.File, place.Line
		known = &v
		t.of[at] = known
	}
	known.Total++
	if len(known.On) < maxPlaces {
		known.On = append(known.On, events.VerdictPlace{Environment: e.Name, Key: key})
	}
}

// verdicts are what was gathered. A policy of which a rule fired somewhere is not said to allow the rest.
func (t *tally) verdicts() []events.Verdict {
	fired := map[*Policy]bool{}
	for at := range t.of {
		fired[at.policy] = fired[at.policy] || at.action != events.VerdictAllow
	}
	var out []events.Verdict
	for at, v := range t.of {
		if at.action != events.VerdictAllow || !fired[at.policy] {
			out = append(out, *v)
		}
	}
	slices.SortFunc(out, compareVerdicts)
	return out[:min(len(out), maxVerdicts)]
}

func compareVerdicts(a, b events.Verdict) int {
	return cmp.Or(cmp.Compare(slices.Index(actions, a.Action), slices.Index(actions, b.Action)),
		strings.Compare(a.Policy, b.Policy), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Message, b.Message),
		strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
}

// follow notes what follows from the rules that fired on an operation.
func (j *judge) follow(p *Policy, e *Environment, o *Operation, fired []firing) {
	if len(fired) == 0 {
		j.tally.add(p, e, o.Key, events.Verdict{Action: events.VerdictAllow}, p.place)
		return
	}
	said := false
	say := func(v events.Verdict, place registry.Place) {
		said = true
		j.tally.add(p, e, o.Key, v, place)
	}
	defer func() {
		if !said {
			say(events.Verdict{Action: events.VerdictAllow}, p.place)
		}
	}()
	why := ""
	for _, f := range fired {
		if f.message != "" {
			why = f.message
		}
		message := cmp.Or(f.message, oneLine(p.Manifest.Metadata().Description), "it is not wanted")
		switch {
		case p.spec.Denies():
			say(events.Verdict{Rule: f.rule, Action: events.VerdictDeny, Message: message}, f.place)
		case p.spec.Warns():
			say(events.Verdict{Rule: f.rule, Action: events.VerdictWarn, Message: message}, f.place)
		}
	}
	if a := p.spec.RequireApproval; a != nil {
		say(events.Verdict{Rule: "requireApproval", Action: events.VerdictRequireApproval, Message: why, Approvals: a.Count, Roles: a.Roles},
			p.Manifest.PlaceOf("/spec/requireApproval"))
	}
	switch {
	case p.ticket == nil:
	case j.request.Change == nil:
		said = true // nothing, yet
	default:
		say(p.judgeTicket(j.request.Change.Ticket), p.Manifest.PlaceOf("/spec/requireTicket"))
	}
	if p.spec.Parity != nil && !j.request.Standing {
		if message := j.parity(p.spec.Parity, o); message != "" {
			say(events.Verdict{Rule: "parity", Action: events.VerdictDeny, Message: message}, p.Manifest.PlaceOf("/spec/parity"))
		}
	}
	if p.freeze != nil && j.request.Change != nil && stays(p.Manifest, e.Released) { // one that is on its way holds nothing yet
		if end := p.freeze.end(j.request.Change.Time); !end.IsZero() {
			say(events.Verdict{Rule: "freeze", Action: events.VerdictFreeze, Message: "approved before " + end.UTC().Format(time.RFC3339) + " it waits until then"}, p.Manifest.PlaceOf("/spec/freeze"))
		}
	}
	if p.spec.Risk != "" {
		say(events.Verdict{Rule: "risk", Action: events.VerdictRisk, Message: why, Risk: p.spec.Risk}, p.Manifest.PlaceOf("/spec/risk"))
	}
}

func (p *Policy) judgeTicket(ticket string) events.Verdict {
	v := events.Verdict{Rule: "requireTicket", Action: events.VerdictDeny}
	switch pattern := p.spec.RequireTicket.Pattern; {
	case p.ticket.MatchString(ticket):
		v.Action, v.Message = events.VerdictRequireTicket, "the ticket is "+ticket
	case ticket == "":
		v.Message = fmt.Sprintf("a ticket that matches %s is demanded: say it with --ticket", pattern)
	default:
		v.Message = fmt.Sprintf("the ticket %q does not match %s", ticket, pattern)
	}
	return v
}

// parity says which environment must have a resource first that is new here, or a flag that goes live here; nothing where one has it.
func (j *judge) parity(rule *registry.Parity, o *Operation) string {
	flag := strings.HasPrefix(o.Key, "flag/")
	switch {
	case o.After == nil, flag && (!live(o.After) || live(o.Before)), !flag && o.Before != nil:
		return ""
	}
	var first []string
	for _, other := range j.request.Elsewhere {
		if len(rule.Environments) > 0 && !matchesOne(rule.Environments, other.Name) || !hasLabels(other.Labels, rule.Labels) {
			continue
		}
		if has := other.Released(o.Key); flag && live(has) || !flag && has != nil {
			return ""
		}
		first = append(first, other.Name)
	}
	where := "no environment is one in which it could be first"
	if len(first) > 0 {
		where = "release it first to " + strings.Join(first[:min(len(first), 3)], " or ")
	}
	if flag {
		return "it may not be live here before it is live there: " + where
	}
	return "it may not be here before it is there: " + where
}

// live says whether a flag's definition is enabled.
func live(definition json.RawMessage) bool {
	var flag struct{ State string }
	return json.Unmarshal(definition, &flag) == nil && flag.State == "ENABLED"
}

// Denials are the verdicts that refuse the change.
func Denials(verdicts []events.Verdict) []events.Verdict { return only(verdicts, events.VerdictDeny) }

// Warnings are the verdicts of which people are told.
func Warnings(verdicts []events.Verdict) []events.Verdict { return only(verdicts, events.VerdictWarn) }

func only(verdicts []events.Verdict, action string) []events.Verdict {
	return slices.DeleteFunc(slices.Clone(verdicts), func(v events.Verdict) bool { return v.Action != action })
}

// Notes are what people should know of verdicts before they go on.
func Notes(verdicts []events.Verdict) []string {
	var out []string
	for _, v := range verdicts {
		switch v.Action {
		case events.VerdictDeny:
			out = append(out, "denied: "+Sentence(v))
		case events.VerdictWarn:
			out = append(out, "warning: "+Sentence(v))
		case events.VerdictRequireApproval, events.VerdictRisk, events.VerdictFreeze:
			out = append(out, Sentence(v))
		}
	}
	return out
}

// Risk is the highest class of risk that verdicts say; empty where none does.
func Risk(verdicts []events.Verdict) string {
	highest := -1
	for _, v := range verdicts {
		highest = max(highest, slices.Index(registry.Risks, v.Risk))
	}
	if highest < 0 {
		return ""
	}
	return registry.Risks[highest]
}

// Sentence says a verdict in one sentence, with the places that it is about and the line where the rule stands.
func Sentence(v events.Verdict) string {
	const most = 3
	var where []string
	for _, on := range v.On[:min(len(v.On), most)] {
		where = append(where, on.Key+" in "+on.Environment)
	}
	if more := v.Total - len(where); more > 0 {
		where = append(where, fmt.Sprintf("%d more", more))
	}
	return fmt.Sprintf("%s: %s (policy %s, %s%s:%d)", strings.Join(where, ", "), Demand(v), v.Policy, rule(v), v.File, v.Line)
}

func rule(v events.Verdict) string {
	if v.Rule == "" {
		return ""
	}
	return v.Rule + ", "
}

// Demand is what a verdict says, in words.
func Demand(v events.Verdict) string {
	says := ""
	switch v.Action {
	case events.VerdictRequireApproval:
		says = fmt.Sprintf("%d people must approve it", v.Approvals)
		if v.Approvals == 1 {
			says = "1 person must approve it"
		}
		if len(v.Roles) > 0 {
			says += ", in the roles " + strings.Join(v.Roles, ", ")
		}
	case events.VerdictRisk:
		says = "the risk is " + v.Risk
	case events.VerdictAllow:
		return "nothing is against it"
	}
	if says != "" && v.Message != "" {
		says += ": "
	}
	return says + v.Message
}
