package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// drawPolicy draws a policy of a name; some of them fail when they are evaluated.
func drawPolicy(t *rapid.T, name string) string {
	of := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	return policyNamed(name, strings.Join([]string{
		of("match", "matchResources: {}", "matchResources: {resources: ['flag/*']}", "matchResources: {environments: ['prod-*']}", "matchResources: {operations: [DELETE, UPDATE]}"),
		of("condition", "matchConditions: []", "matchConditions: [{name: a, expression: object != null}]", "matchConditions: [{name: a, expression: object.value > 1}]"),
		of("validation", "validations: [{expression: object != null && object.value > 2, message: small}]", "validations: [{expression: environment.name == 'dev'}]",
			"validations: [{expression: oldObject == null || object == null || object.value != oldObject.value}]", "validations: [{expression: change.author == 'anna'}]"),
		of("failure", "failurePolicy: Fail", "failurePolicy: Ignore"),
		of("consequence", "actions: [Deny]", "actions: [Warn]", "risk: high", "requireApproval: {count: 2}", "requireTicket: {pattern: x}", "parity: {environments: [dev]}"),
	}, "\n"))
}

func drawRequest(t *rapid.T) Request {
	r := Request{Change: &Change{Author: rapid.SampledFrom([]string{"anna", "ben"}).Draw(t, "author"), Ticket: rapid.SampledFrom([]string{"", "x"}).Draw(t, "ticket")}}
	value := rapid.SampledFrom([]string{"", "1", "2", "3", `"three"`})
	for _, name := range []string{"dev", "prod-eu", "prod-us"} {
		var list []Operation
		for _, key := range []string{"flag/a", "variable/a", "variable/b"} {
			if before, after := value.Draw(t, "before"), value.Draw(t, "after"); before != after {
				list = append(list, set(key, before, after))
			}
		}
		r.Environments = append(r.Environments, Environment{Name: name, Operations: slices.Values(list)})
	}
	return r
}

func (r Request) with(s *registry.Sources) Request {
	r.Environments = slices.Clone(r.Environments)
	for i := range r.Environments {
		r.Environments[i].After = s
	}
	return r
}

// denied are what is denied, as texts: policy, rule and how often.
func denied(verdicts []events.Verdict) map[string]bool {
	out := map[string]bool{}
	for _, v := range Denials(verdicts) {
		out[fmt.Sprint(v.Policy, v.Rule, v.Message, v.Total, v.On)] = true
	}
	return out
}

func TestAnotherPolicyNeverTakesADenialAwayAndTheOrderOfFilesMeansNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := drawRequest(rt)
		var files []registry.File
		for i := range rapid.IntRange(1, 4).Draw(rt, "policies") {
			files = append(files, registry.File{Name: fmt.Sprintf("%d.yaml", i), Text: drawPolicy(rt, fmt.Sprintf("p%d", i))})
		}
		judge := func(files []registry.File) []events.Verdict {
			s, err := registry.Read(files)
			if err != nil {
				rt.Fatal(err)
			}
			out, err := new(Library).Judge(r.with(s))
			if err != nil {
				rt.Fatal(err)
			}
			return out
		}
		all := judge(files)
		fewer := denied(judge(files[:len(files)-1]))
		for text := range fewer {
			if !denied(all)[text] {
				rt.Fatalf("with another policy it is not denied any more: %s", text)
			}
		}
		if other := judge(rapid.Permutation(files).Draw(rt, "order")); !reflect.DeepEqual(all, other) {
			rt.Fatalf("in another order:\n%+v\n%+v", all, other)
		}
		for _, v := range all {
			if v.File == "" || v.Line == 0 || v.Total < len(v.On) || len(v.On) == 0 {
				rt.Fatalf("%+v does not say where", v)
			}
		}
	})
}

// A policy is text of a stranger's: whatever it says, it is refused or bounded, and never stops the publisher.
func FuzzPolicy(f *testing.F) {
	for _, expression := range []string{"object.value > 1", "variables.a", "params.all(x, x > object.value)", "object.value.matches(params)", "'a' + string(object)", "[1,2].map(x, object)", "object == oldObject", "lockstep.Object{key: 'a'}", "dyn(object).value", "has(object.value)", "type(object)", "environment.labels[params]", "optional.of(object).value", "change", "cel.bind(a, object, a)"} {
		f.Add(expression, "object.value", `{"a":[1,2.5,"x",null]}`, "1")
	}
	f.Fuzz(func(t *testing.T, expression, variable, params, value string) {
		quoted := func(s string) string { return fmt.Sprintf("%q", strings.ToValidUTF8(s, "")) }
		text := policyNamed("p", "variables: [{name: a, expression: "+quoted(variable)+"}]\nparams: "+quoted(params)+"\nvalidations: [{expression: "+quoted(expression)+", messageExpression: "+quoted(variable)+"}]")
		s, err := registry.Read([]registry.File{{Name: "p.yaml", Text: text}})
		if err != nil {
			return
		}
		first, err := new(Library).Judge(prod(s, set("variable/a", "", value)))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "p.yaml:") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q does not say where, on one line", err)
			}
			return
		}
		again, err := new(Library).Judge(prod(s, set("variable/a", "", value)))
		if err != nil || !reflect.DeepEqual(first, again) {
			t.Fatalf("the same request has other verdicts: %+v, %+v, %v", first, again, err)
		}
	})
}

func FuzzTable(f *testing.F) {
	f.Add("apiVersion: lockstep/v1\nkind: PolicyTest\npolicy: p\ncases:\n- {name: a, environment: {name: dev}, resource: variable/a, before: 1, after: {x: 2}, at: 2026-11-21T10:00:00Z, elsewhere: {b: {value: 1}}, expect: [Deny]}\n")
	s := read(f, policyNamed("p", "validations: [{expression: object.value.x == 2}]"))
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, err := Test(s, []registry.File{{Name: "p_test.yaml", Text: text}}); err != nil && !strings.HasPrefix(err.Error(), "p_test.yaml:") {
			t.Fatalf("%q does not say where", err)
		}
	})
}

// FuzzFreeze: whatever a rule of recurrence says, it is refused, or says of every time when the freeze is over in which it lies, the
// same whatever was asked before.
func FuzzFreeze(f *testing.F) {
	for _, rule := range []string{"", "FREQ=DAILY", "FREQ=WEEKLY;BYDAY=FR", "FREQ=MONTHLY;BYDAY=-1FR;COUNT=3", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;INTERVAL=99;UNTIL=20270101T000000Z", "FREQ=YEARLY;BYWEEKNO=53;WKST=SU", "FREQ=YEARLY;BYYEARDAY=-1,366"} {
		f.Add("2026-01-01T00:00", "Europe/Berlin", rule, "63h", int64(1_795_000_000))
	}
	f.Fuzz(func(t *testing.T, start, zone, rule, duration string, unix int64) {
		spec := &registry.Freeze{Start: start, TimeZone: zone, RRule: rule, Duration: duration}
		at := time.Unix(unix%(100*365*24*3600), 0)
		one, err := newFreeze(spec)
		if err != nil {
			return
		}
		end := one.end(at)
		if !end.IsZero() && (!end.After(at) || end.After(at.Add(horizon))) {
			t.Fatalf("%+v is over at %s, asked at %s", spec, end, at)
		}
		other, err := newFreeze(spec)
		if err != nil {
			t.Fatal(err)
		}
		other.end(at.Add(5 * horizon))
		if again := other.end(at); !again.Equal(end) {
			t.Fatalf("%+v is over at %s, and at %s when more of it was read", spec, end, again)
		}
	})
}
