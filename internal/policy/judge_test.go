package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// policyNamed is a manifest of a policy with a spec.
func policyNamed(name, spec string) string {
	return "apiVersion: lockstep/v1\nkind: Policy\nmetadata: {name: " + name + ", description: what it is for}\nspec:\n  " + strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  ") + "\n"
}

func read(t testing.TB, manifests ...string) *registry.Sources {
	t.Helper()
	var files []registry.File
	for i, m := range manifests {
		files = append(files, registry.File{Name: fmt.Sprintf("p%d.yaml", i), Text: m})
	}
	s, err := registry.Read(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// set is the operation that gives a resource a value; before is empty where it is new.
func set(key, before, after string) Operation {
	o := Operation{Key: key}
	if before != "" {
		o.Before = json.RawMessage(before)
	}
	if after != "" {
		o.After = json.RawMessage(after)
	}
	return o
}

// prod is a request that changes one production environment.
func prod(s *registry.Sources, operations ...Operation) Request {
	return Request{
		Change: &Change{Author: "anna", Reason: "because", Ticket: "OPS-1", Kind: KindEdit, Time: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)},
		Environments: []Environment{{Name: "prod-eu", Labels: map[string]string{"stage": "prod"}, Facts: map[string]string{"platform.version": "9.2"},
			After: s, Operations: slices.Values(operations)}},
	}
}

func judged(t testing.TB, r Request) []string {
	t.Helper()
	verdicts, err := new(Library).Judge(r)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range verdicts {
		out = append(out, v.Action+" "+Sentence(v))
	}
	return out
}

func TestWhatAPolicySays(t *testing.T) {
	const https = "validations: [{expression: \"object == null || object.value.url.startsWith('https://')\", message: must be https}]\n"
	const endpoints = "matchResources: {resources: ['endpoint/*']}\n"
	plain := set("endpoint/payments", "", `{"url":"http://pay"}`)
	good := set("endpoint/payments", "", `{"url":"https://pay"}`)
	cases := map[string]struct {
		spec string
		on   Operation
		want string // action, and a part of the sentence
	}{
		"a false validation denies":                                 {endpoints + https, plain, "Deny endpoint/payments in prod-eu: must be https (policy p, validation 1, p0.yaml:6)"},
		"a true one allows":                                         {endpoints + https, good, "Allow"},
		"a deletion has no object":                                  {endpoints + https, set("endpoint/payments", `{"url":"http://pay"}`, ""), "Allow"},
		"a warning":                                                 {endpoints + https + "actions: [Warn]", plain, "Warn endpoint/payments"},
		"another resource does not match":                           {endpoints + https, set("variable/url", "", `"http://pay"`), ""},
		"another environment does not match":                        {"matchResources: {environments: ['dev-*']}\n" + https, plain, ""},
		"other labels do not match":                                 {"matchResources: {labels: {stage: dev}}\n" + https, plain, ""},
		"another operation does not match":                          {"matchResources: {operations: [DELETE]}\nactions: [Deny]", plain, ""},
		"an operation matches":                                      {"matchResources: {operations: [CREATE]}\nactions: [Deny]", plain, "Deny endpoint/payments in prod-eu: what it is for"},
		"a false condition leaves it out":                           {"matchConditions: [{name: dev, expression: environment.labels.stage == 'dev'}]\n" + https, plain, ""},
		"variables are lazy and build on each":                      {"variables: [{name: boom, expression: object.value.nothing}, {name: url, expression: object.value.url}, {name: tls, expression: variables.url.startsWith('https')}]\nvalidations: [{expression: variables.tls, messageExpression: \"'not ' + variables.url\"}]", plain, "not http://pay"},
		"a messageExpression that fails falls back":                 {"validations: [{expression: 'false', message: plain words, messageExpression: object.value.nothing}]", plain, "plain words"},
		"a messageExpression of two lines falls back":               {"validations: [{expression: 'false', message: plain words, messageExpression: \"'a\\\\nb'\"}]", plain, "plain words"},
		"without a message the expression is said":                  {"validations: [{expression: 1 > 2}]", plain, "it must be that 1 > 2"},
		"an expression that fails denies":                           {"validations: [{expression: object.value.nothing}]", plain, "Deny endpoint/payments in prod-eu: it cannot be evaluated: no such key: nothing"},
		"or is ignored":                                             {"failurePolicy: Ignore\nvalidations: [{expression: object.value.nothing}]", plain, "Allow"},
		"a condition that fails denies":                             {"matchConditions: [{name: x, expression: object.value.nothing}]\nvalidations: [{expression: 'true'}]", plain, "its conditions cannot be evaluated"},
		"a false condition beside one that fails":                   {"matchConditions: [{name: x, expression: object.value.nothing}, {name: y, expression: 'false'}]\nvalidations: [{expression: 'false'}]", plain, ""},
		"an expression that costs too much denies":                  {"params: [1,2,3,4,5,6,7,8,9,10]\nvalidations: [{expression: \"params.all(a, params.all(b, params.all(c, params.all(d, params.all(e, params.all(f, a+b+c+d+e+f > 0))))))\"}]", plain, "cost limit"},
		"what is no truth denies":                                   {"validations: [{expression: object.value.url}]", plain, "it gives string; it must give true or false"},
		"params":                                                    {"params: {max: 10}\nvalidations: [{expression: object.value <= params.max, message: too many}]", set("variable/pool", "5", "11"), "too many"},
		"whole numbers and others compare":                          {"params: {max: 10}\nvalidations: [{expression: object.value <= params.max, message: too many}]", set("variable/pool", "5", "9.5"), "Allow"},
		"the value before":                                          {"validations: [{expression: 'oldObject == null || object.value <= oldObject.value * 2', message: at most doubled}]", set("variable/pool", "5", "11"), "at most doubled"},
		"facts of the environment":                                  {"validations: [{expression: \"environment.facts['platform.version'] != '9.2'\", message: not there}]", plain, "not there"},
		"the author":                                                {"validations: [{expression: change.author != 'anna', message: not anna}]", plain, "not anna"},
		"the time":                                                  {"validations: [{expression: change.time.getDayOfWeek('Europe/Berlin') != 6, message: not on a Saturday}]", plain, "not on a Saturday"},
		"the operation":                                             {"validations: [{expression: request.operation == 'UPDATE'}]", plain, "Deny"},
		"approvals where a validation is false":                     {https + "requireApproval: {count: 2, roles: [ops]}", plain, "RequireApproval endpoint/payments in prod-eu: 2 people must approve it, in the roles ops: must be https"},
		"approvals of everything that matches":                      {endpoints + "requireApproval: {count: 2}", good, "RequireApproval"},
		"a ticket that is there":                                    {"requireTicket: {pattern: '^OPS-[0-9]+$'}", good, "RequireTicket endpoint/payments in prod-eu: the ticket is OPS-1"},
		"a ticket that is another":                                  {"requireTicket: {pattern: '^SHOP-[0-9]+$'}", good, `Deny endpoint/payments in prod-eu: the ticket "OPS-1" does not match`},
		"risk":                                                      {"risk: high", good, "Risk"},
		"a new resource is nowhere first":                           {"parity: {labels: {stage: staging}}", good, "Deny endpoint/payments in prod-eu: it may not be here before it is there: no environment"},
		"secrets are objects":                                       {"matchResources: {resources: ['secret/*']}\nvalidations: [{expression: \"'$secret' in object.value\", message: not a reference}]", set("secret/x", "", `{"$secret":{"ref":"vault://a#b"}}`), "Allow"},
		"a field that is not in a manifest is empty, not a failure": {"validations: [{expression: object.owner != '', message: nobody owns it}]", plain, "nobody owns it"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out := judged(t, prod(read(t, policyNamed("p", c.spec)), c.on))
			switch {
			case c.want == "" && len(out) > 0:
				t.Errorf("says %q, want nothing", out)
			case c.want != "" && (len(out) != 1 || !strings.Contains(out[0], c.want)):
				t.Errorf("says %q, want %q", out, c.want)
			}
		})
	}
}

func TestAPolicyCannotBeDroppedByTheChangeThatItForbids(t *testing.T) {
	released := read(t, policyNamed("p", "actions: [Deny]"))
	r := prod(&registry.Sources{}, set("variable/a", "", "1"))
	r.Environments[0].Released = released
	if out := judged(t, r); len(out) != 1 || !strings.HasPrefix(out[0], "Deny") {
		t.Errorf("a change that drops the policy: %q", out)
	}
	r.Environments[0].After = read(t, "# another line\n"+policyNamed("p", "actions: [Deny]"))
	if out := judged(t, r); len(out) != 1 {
		t.Errorf("a change that leaves the policy as it is hears it twice: %q", out)
	}
	r.Environments[0].Released, r.Environments[0].After = &registry.Sources{}, released
	if out := judged(t, r); len(out) != 1 {
		t.Errorf("a change that brings the policy: %q", out)
	}
}

func TestAFlagIsLiveElsewhereFirst(t *testing.T) {
	const on, off = `{"state":"ENABLED"}`, `{"state":"DISABLED"}`
	s := read(t, policyNamed("p", "matchResources: {labels: {stage: prod}}\nparity: {environments: ['staging*']}"))
	cases := map[string]struct {
		on      Operation
		staging string
		allowed bool
	}{
		"it is not there":              {set("flag/a", "", on), "", false},
		"it is off there":              {set("flag/a", off, on), off, false},
		"it is live there":             {set("flag/a", off, on), on, true},
		"it is off here too":           {set("flag/a", "", off), "", true},
		"it was live here before":      {set("flag/a", on, `{"state":"ENABLED","x":1}`), off, true},
		"it goes":                      {set("flag/a", on, ""), "", true},
		"a variable that is not there": {set("variable/a", "", "1"), "", false},
		"a variable that is there":     {set("variable/a", "", "1"), "2", true},
		"a variable that is here":      {set("variable/a", "2", "1"), "", true},
	}
	for name, c := range cases {
		r := prod(s, c.on)
		r.Elsewhere = []Elsewhere{
			{Name: "dev", Released: func(string) json.RawMessage { return json.RawMessage(on) }},
			{Name: "staging-eu", Released: func(string) json.RawMessage { return nil }},
			{Name: "staging-us", Released: func(string) json.RawMessage { return raw(c.staging) }},
		}
		out := judged(t, r)
		if denied := len(out) == 1 && strings.HasPrefix(out[0], "Deny"); denied == c.allowed {
			t.Errorf("%s: %q", name, out)
		}
	}
}

func raw(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

func TestWhatIsNotKnownYetIsNotJudged(t *testing.T) {
	s := read(t,
		policyNamed("author", "validations: [{expression: change.author == 'ben'}]"), policyNamed("ticket", "requireTicket: {pattern: x}"),
		policyNamed("old", "validations: [{expression: oldObject != null}]"), policyNamed("new", "matchResources: {operations: [CREATE]}\nactions: [Deny]"),
		policyNamed("value", "validations: [{expression: object.value > 1}]"), policyNamed("first", "parity: {environments: [staging]}\nactions: [Warn]"))
	names := func(r Request) (out []string) {
		verdicts, err := new(Library).Judge(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range verdicts {
			out = append(out, v.Action+" "+v.Policy)
		}
		return out
	}
	r := prod(s, set("variable/a", "", "1"))
	r.Change = nil
	if got, want := names(r), []string{"Deny first", "Deny new", "Deny old", "Deny value", "Warn first"}; !slices.Equal(got, want) {
		t.Errorf("without a change: %q, want %q", got, want)
	}
	r.Standing = true
	if got, want := names(r), []string{"Deny value", "Warn first"}; !slices.Equal(got, want) {
		t.Errorf("of resources as they stand: %q, want %q", got, want)
	}
}

func TestASharedValueIsJudgedOnce(t *testing.T) {
	s := read(t, policyNamed("p", "validations: [{expression: \"environment.labels.stage != 'prod' || object.value < 3\"}]"))
	r := Request{Change: &Change{}}
	for i := range 100 {
		stage := []string{"dev", "prod"}[i%2]
		r.Environments = append(r.Environments, Environment{Name: fmt.Sprintf("e%03d", i), Labels: map[string]string{"stage": stage}, After: s,
			Operations: slices.Values([]Operation{set("variable/a", "1", "5")})})
	}
	j := newJudge(r)
	lib := &Library{}
	inForce, err := lib.inForce(r.Environments)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Environments {
		j.environment(&r.Environments[i], inForce[sources{nil, s}])
	}
	if len(j.known) != 2 {
		t.Errorf("100 environments of two stages were judged %d times", len(j.known))
	}
	if v := j.tally.verdicts(); len(v) != 1 || v[0].Total != 50 || len(v[0].On) != maxPlaces || v[0].Action != events.VerdictDeny {
		t.Errorf("%+v", v)
	}
}
