package registry_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

var today = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// verdict judges an environment whose resources have had values.
func verdict(t *testing.T, was map[string]string, before *registry.Sources, texts ...string) (violations []string, waived []registry.Waived) {
	t.Helper()
	s := read(t, texts...)
	r := registry.NewRenderer()
	rendering, err := r.Render(s, registry.Target{Name: "prod", Agents: map[string]string{"a": "1.4.0"}})
	if err != nil {
		t.Fatal(err)
	}
	c := registry.Case{Sources: s, Rendering: rendering}
	if before != nil {
		c.Before, c.Edits = before, registry.Difference(before, s)
	}
	c.Was = func(key string) json.RawMessage {
		if was[key] == "" {
			return nil
		}
		return json.RawMessage(was[key])
	}
	for key := range was {
		c.Changed = append(c.Changed, key)
	}
	slices.Sort(c.Changed)
	v, err := r.Judge(c, today)
	if err != nil {
		t.Fatal(err)
	}
	for _, violation := range v.Violations {
		violations = append(violations, violation.String())
	}
	return violations, v.Waived
}

// rules is a template production with rules, and prod, which is made of it.
func rules(spec string, more ...string) []string {
	return append([]string{manifest("Environment", "prod", "template: production"), manifest("Template", "production", spec)}, more...)
}

func TestWhatTemplatesDemandIsDemandedOfTheResult(t *testing.T) {
	const pool = "locked: [{name: pool, resources: 'connection/*', path: /pool, "
	const tls = "values: {endpoint/pay: {tls: true}}\nlocked: [{name: tls, resources: 'endpoint/*', path: /tls, lock: value}]"
	for name, c := range map[string]struct {
		was   map[string]string
		texts []string
		want  []string
	}{
		"maximum":                   {nil, rules(pool+"lock: maximum, value: 10}]", manifest("Connection", "a", "default: {pool: 10}\noverrides: {prod: {pool: 11}}"), manifest("Connection", "b", "default: {pool: 10}")), []string{"prod: connection/a /pool is 11, and its maximum is 10 (rule production/pool, f1.yaml:5)"}},
		"minimum":                   {nil, rules(pool+"lock: minimum, value: 1.5}]", manifest("Connection", "a", "default: {pool: 1}"), manifest("Connection", "b", "default: {x: 1}"), manifest("Variable", "c", "default: {pool: 1}")), []string{"prod: connection/a /pool is 1, and its minimum is 1.5"}},
		"no number":                 {nil, rules(pool+"lock: maximum, value: 10}]", manifest("Connection", "a", "default: {pool: '11'}")), []string{`prod: connection/a /pool is "11", and its maximum is 10`}},
		"in a list":                 {nil, rules("locked: [{name: first, resources: 'variable/*', path: /0, lock: maximum, value: 1}]", manifest("Variable", "a", "default: [2]")), []string{"prod: variable/a /0 is 2, and its maximum is 1"}},
		"value of the template":     {nil, rules(tls, manifest("Endpoint", "pay", "overrides: {prod: {tls: false}}")), []string{"prod: endpoint/pay /tls is false, and is locked at true (rule production/tls, f1.yaml:6)"}},
		"value by default":          {nil, rules(tls, manifest("Endpoint", "pay", "default: {tls: false}")), []string{"prod: endpoint/pay /tls is false, and is locked at true"}},
		"value taken away":          {nil, rules(tls, manifest("Endpoint", "pay", "overrides: {prod: {tls: null}}")), []string{"prod: endpoint/pay /tls is not there, and is locked at true"}},
		"resource taken away":       {nil, rules(tls, manifest("Endpoint", "pay", "overrides: {prod: null}")), []string{"prod: endpoint/pay /tls is taken away with the resource, and is locked"}},
		"value of the default":      {nil, rules("locked: [{name: region, resources: variable/region, lock: value}]", manifest("Variable", "region", "default: eu\noverrides: {prod: us}")), []string{`prod: variable/region is "us", and is locked at "eu"`}},
		"value that nobody says":    {nil, rules("locked: [{name: region, resources: variable/region, lock: value}]", manifest("Variable", "region", "overrides: {prod: us}")), []string{`prod: variable/region is "us", and is locked where no template and no default says it`}},
		"value of the lock":         {nil, rules("locked: [{name: tls, resources: 'endpoint/*', path: /tls, lock: value, value: true}]", manifest("Endpoint", "pay", "default: {url: x}")), []string{"prod: endpoint/pay /tls is not there, and is locked at true"}},
		"deletion":                  {nil, rules("locked: [{name: url, resources: 'endpoint/*', path: /url, lock: deletion}]", manifest("Endpoint", "pay", "default: {url: x, y: 1}\noverrides: {prod: {url: null}}")), []string{"prod: endpoint/pay /url is taken away, and is locked against that"}},
		"deletion of what is there": {map[string]string{"endpoint/pay": `{"url":"x"}`, "endpoint/old": `{"url":"x"}`}, rules("locked: [{name: url, resources: 'endpoint/*', path: /url, lock: deletion}]", manifest("Endpoint", "pay", "default: {y: 1}")), []string{"prod: endpoint/old /url is taken away, and is locked against that", "prod: endpoint/pay /url is taken away, and is locked against that"}},
		"immutable":                 {map[string]string{"variable/region": `"eu"`, "variable/zone": `"a"`}, rules("immutable: [{resources: 'variable/*'}]", manifest("Variable", "region", "default: us")), []string{`prod: variable/region was "eu" and is "us", and never changes (rule production/immutable, f1.yaml:5)`, `prod: variable/zone was "a" and is taken away, and never changes`}},
		"required":                  {nil, rules("required: [variable/region, endpoint/pay]", manifest("Variable", "region", "default: eu"), manifest("Endpoint", "pay", "default: {}\nactivation: {environments: [dev]}")), []string{"prod: endpoint/pay is required, and is not there (rule production/required, f1.yaml:5)"}},
		"constraint":                {nil, rules("constraints: [{name: https, resources: 'endpoint/*', schema: {type: object, required: [owner], properties: {url: {pattern: ^https}}}}]", manifest("Endpoint", "pay", "default: {url: 'http://x'}")), []string{"prod: endpoint/pay does not fit the schema: missing property 'owner' (rule production/https", "prod: endpoint/pay /url does not fit the schema: 'http://x' does not match pattern '^https' (rule production/https"}},
		"facts":                     {nil, []string{manifest("Environment", "prod", "template: production\nfacts: {platform: '9.1'}"), manifest("Template", "production", "facts: {platform: '>=9.2', crm: '>=2'}"), manifest("Variable", "a", "default: 1")}, []string{"prod has no fact crm, and >=2 is demanded", "prod has the fact platform: 9.1, and >=9.2 is demanded (rule production/facts, f1.yaml:5)"}},
		"of a template below":       {nil, []string{manifest("Environment", "prod", "template: production"), manifest("Template", "production", "extends: base\nvalues: {variable/a: 3}"), manifest("Template", "base", "values: {variable/a: 2}\nlocked: [{name: a, resources: variable/a, lock: value}]"), manifest("Variable", "a", "type: integer")}, []string{"prod: variable/a is 3, and is locked at 2 (rule base/a, f2.yaml:6)"}},
		"nobody may override":       {nil, rules("{}", manifest("Variable", "a", "default: 1\noverridable: false\noverrides: {'p*': 2}"), manifest("Variable", "b", "default: 1\noverridable: false\noverrides: {dev: 2}"), manifest("Variable", "c", "default: 1\noverridable: false\noverrides: {prod: null}")), []string{"prod: variable/a is overridden, and nobody may override it (rule variable/a/overridable, f2.yaml:6)", "prod: variable/c is overridden"}},
		"some paths":                {nil, rules("values: {flag/a: {state: ENABLED}}", manifest("Flag", "a", "default: {variants: {x: true, z: false}, defaultVariant: x}\noverridable: {paths: [/state]}\noverrides: {prod: {state: DISABLED, defaultVariant: z}}")), []string{`prod: flag/a /defaultVariant is overridden, and only ["/state"] may be (rule flag/a/overridable, f2.yaml:6)`}},
		"resource required":         {nil, rules("{}", manifest("Variable", "a", "default: 1\nrequires: [{resource: endpoint/pay}, {resource: variable/b}]"), manifest("Variable", "b", "default: 1")), []string{"prod: variable/a /spec/requires/0 requires endpoint/pay, which is not there (rule variable/a/requires, f2.yaml:6)"}},
		"fact required":             {nil, []string{manifest("Environment", "prod", "facts: {plugin.crm: 1.9.0}"), manifest("Variable", "a", "default: 1\nrequires:\n- {fact: plugin.crm, is: '>=2 <3'}\n- {fact: plugin.crm, is: '<2'}\n- {fact: plugin.pay, is: '>0'}")}, []string{"prod: variable/a /spec/requires/0 has the fact plugin.crm: 1.9.0, and >=2 <3 is demanded", "prod: variable/a /spec/requires/2 has no fact plugin.pay"}},
		"agent required":            {nil, rules("{}", manifest("Variable", "a", "default: 1\nrequires: [{agent: '>=1.2'}, {agent: '>=1.5'}]")), []string{"prod: variable/a /spec/requires/1 requires agents of version >=1.5, and a has 1.4.0"}},
		"type of a flag":            {map[string]string{"flag/a": `{"variants":{"on":true}}`}, rules("{}", manifest("Flag", "a", "default: {state: ENABLED, variants: {x: 'yes!'}, defaultVariant: x}")), []string{"prod: flag/a /variants are of type string where boolean is released"}},
		"all is well":               {map[string]string{"variable/a": "1"}, rules(pool+"lock: maximum, value: 10}]\nrequired: [variable/a]", manifest("Variable", "a", "default: 2\nrequires: [{agent: '>=1.2'}]"), manifest("Connection", "a", "default: {pool: 10}")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := verdict(t, c.was, nil, c.texts...)
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestATypeThatIsReadStays(t *testing.T) {
	before := read(t, manifest("Variable", "a", "type: string\ndefault: '1'"), manifest("Variable", "b", "type: number\ndefault: 1"), manifest("Variable", "c", "default: 1"), manifest("Variable", "d", "type: string"))
	got, _ := verdict(t, map[string]string{"variable/a": `"1"`, "variable/b": "1", "variable/c": "1"}, before,
		manifest("Variable", "a", "type: integer\ndefault: 1"), manifest("Variable", "b", "type: integer\ndefault: 1"), manifest("Variable", "c", "type: integer\ndefault: 1"), manifest("Variable", "d", "type: integer\ndefault: 1"))
	want := "prod: variable/a /spec/type becomes integer where string is released: whoever reads it breaks; give the new resource another name, and retire this one (rule variable/a/type, f0.yaml:5)"
	if len(got) != 1 || got[0] != want {
		t.Errorf("%q", got)
	}
}

func TestAWaiverAllowsADeviationUntilItEnds(t *testing.T) {
	deviating := func(waivers string) []string {
		return []string{manifest("Environment", "prod", "template: production\nwaivers:"+waivers), manifest("Template", "production", "locked: [{name: pool, resources: 'connection/*', path: /pool, lock: maximum, value: 10}]\nrequired: [variable/a]"),
			manifest("Connection", "a", "default: {pool: 11}"), manifest("Connection", "b", "default: {pool: 12}")}
	}
	got, waived := verdict(t, nil, nil, deviating(`
- {resource: connection/a, rule: production/pool, owner: ben, reason: OPS-1, expires: 2026-11-21}
- {resource: variable/a, rule: production/required, owner: ben, reason: OPS-2, expires: 2027-01-01}
- {resource: connection/b, rule: production/pool, owner: ben, reason: OPS-3, expires: 2026-11-20}
- {resource: connection/b, rule: production/pol, owner: ben, reason: OPS-4, expires: 2027-01-01}`)...)
	want := []string{
		"prod: connection/b has a waiver that ended on 2026-11-20 (ben: OPS-3): comply, or have it extended (rule production/pool, f0.yaml:9)",
		"prod: connection/b has a waiver of a rule that none of its templates has; did you mean production/pool? (rule production/pol, f0.yaml:10)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(waived) != 2 || waived[0].String() != "prod connection/a may break rule production/pool until 2026-11-21 (ben: OPS-1)" {
		t.Errorf("%v", waived)
	}
	for name, c := range map[string]struct{ waiver, want string }{
		"owner":   {"{resource: connection/a, rule: production/pool, reason: x, expires: 2027-01-01}", "f0.yaml:7:1: environment/prod: the waiver has no owner"},
		"reason":  {"{resource: connection/a, rule: production/pool, owner: x, reason: ' ', expires: 2027-01-01}", "the waiver has no reason"},
		"expires": {"{resource: connection/a, rule: production/pool, owner: x, reason: x}", "the waiver has no expires"},
		"date":    {"{resource: connection/a, rule: production/pool, owner: x, reason: x, expires: soon}", `"soon" is no date`},
		"rule":    {"{resource: connection/a, owner: x, reason: x, expires: 2027-01-01}", "the waiver has no rule"},
		"nothing": {"{rule: production/pool, owner: x, reason: x, expires: 2027-01-01}", `"" is not a resource`},
	} {
		if _, err := registry.Read(files(deviating("\n- " + c.waiver)...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestARuleThatMeansNothingIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ kind, spec, want string }{
		"lock without a sort":    {"Template", "locked: [{name: a, resources: 'variable/*'}]", "f0.yaml:5:1: template/x: say what is locked"},
		"another sort":           {"Template", "locked:\n- {name: a, resources: 'variable/*', lock: values}", `f0.yaml:6:1: template/x: "values" is not one of value, deletion, maximum, minimum`},
		"bound without a number": {"Template", "locked: [{name: a, resources: 'variable/*', lock: maximum, value: '5'}]", "a maximum has a number as its value"},
		"no bound":               {"Template", "locked: [{name: a, resources: 'variable/*', lock: minimum}]", "a minimum has a number as its value"},
		"deletion of a value":    {"Template", "locked: [{name: a, resources: 'variable/*', lock: deletion, value: 1}]", "a lock of deletion has no value"},
		"no name":                {"Template", "locked: [{resources: 'variable/*', lock: value}]", "the name of a rule"},
		"a name twice":           {"Template", "locked: [{name: a, resources: 'variable/*', lock: value}]\nconstraints: [{name: a, resources: 'variable/*', schema: {}}]", `the rule "a" stands twice`},
		"a name that is taken":   {"Template", "constraints: [{name: required, resources: 'variable/*', schema: {}}]", `the rule "required" stands twice, or has a name that is taken`},
		"no resources":           {"Template", "immutable: [{path: /a}]", "is no resource and no pattern of resources"},
		"another kind":           {"Template", "overridable: [{resources: 'variables/*', by: [a]}]", "did you mean variable?"},
		"path":                   {"Template", "immutable: [{resources: 'variable/*', path: a.b}]", `"a.b" is no path into a value: write it as in /limits/max`},
		"no schema":              {"Template", "constraints: [{name: a, resources: 'variable/*', schema: {type: text}}]", "this is no JSON Schema 2020-12"},
		"schema elsewhere":       {"Template", "constraints: [{name: a, resources: 'variable/*', schema: {$ref: 'https://example.com/a.json'}}]", "a schema here stands alone"},
		"schema in a file":       {"Template", "constraints: [{name: a, resources: 'variable/*', schema: {$ref: 'file:///etc/passwd'}}]", "a schema here stands alone"},
		"range":                  {"Template", "facts: {a: '>= 2'}", `">= 2" is no range of versions: write it as in '>=1.2 <2'`},
		"required":               {"Template", "required: [region]", "f0.yaml:5:1: template/x: "},
		"version":                {"Template", "version: one", `"one" is no semantic version: write it as in 1.4.0`},
		"version of a resource":  {"Variable", "version: v1.0", `"v1.0" is no semantic version`},
		"range of an agent":      {"Variable", "requires: [{agent: new}]", `f0.yaml:5:1: variable/x: "new" is no range of versions`},
		"range of a fact":        {"Variable", "requires: [{fact: a}]", `"" is no range of versions`},
		"resource required":      {"Variable", "requires: [{resource: a}]", "f0.yaml:5:1: variable/x: "},
		"overridable path":       {"Variable", "overridable: {paths: [state]}", `"state" is no path into a value`},
	} {
		if _, err := registry.Read(files(manifest(c.kind, "x", c.spec))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestAValueFitsTheSchemaOfItsResource(t *testing.T) {
	const spec = "schema: {type: object, required: [max], properties: {max: {type: integer, maximum: 10}, mail: {format: email}}, additionalProperties: false}\n"
	for name, c := range map[string]struct{ spec, want string }{
		"fits":       {"default: {max: 10, mail: a@b.c}", ""},
		"default":    {"default: {max: 11}", "f1.yaml:6:1: variable/a: /max does not fit the schema: maximum: got 11, want 10"},
		"override":   {"default: {max: 1}\noverrides:\n  prod: {max: 5.5, more: 1}", "f1.yaml:8:1: variable/a: does not fit the schema: additional properties 'more' not allowed; /max does not fit the schema: got number, want integer"},
		"format":     {"default: {max: 1, mail: nobody}", "/mail does not fit the schema: 'nobody' is not valid email"},
		"taken away": {"default: {max: 1}\noverrides: {prod: {max: null}}", "missing property 'max'"},
	} {
		_, err := registry.Check(read(t, manifest("Environment", "prod", "facts: {}"), manifest("Variable", "a", spec+c.spec)), today)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
	_, err := registry.Check(read(t, manifest("Environment", "prod", "facts: {}"), manifest("Variable", "a", "schema: {type: text}\ndefault: 1")), today)
	if err == nil || !strings.HasPrefix(err.Error(), "f1.yaml:5:1: variable/a: this is no JSON Schema 2020-12") {
		t.Errorf("%v", err)
	}
}

func TestAnEnvironmentStaysAtTheVersionThatItPins(t *testing.T) {
	of := func(template string) string {
		s := read(t, manifest("Environment", "prod", "template: "+template), manifest("Variable", "a", "type: integer"),
			manifest("Template", "production", "version: 1.9.0\nvalues: {variable/a: 19}"), manifest("Template", "production", "version: 1.10.0\nextends: {name: base, version: 1.0.0}\nvalues: {variable/a: 110}"),
			manifest("Template", "base", "version: 1.0.0\nvalues: {variable/b: 1}"), manifest("Template", "base", "version: 2.0.0\nvalues: {variable/b: 2}"), manifest("Variable", "b", "type: integer"),
			manifest("Template", "old", "values: {variable/a: 0}"), manifest("Template", "old", "version: 0.1.0\nvalues: {variable/a: 1}"))
		r, err := registry.NewRenderer().Render(s, registry.Target{Name: "prod"})
		if err != nil {
			return err.Error()
		}
		var out []string
		for _, resource := range r.Resources {
			out = append(out, resource.Key+"="+string(resource.Value.JSON))
		}
		return strings.Join(out, " ")
	}
	for template, want := range map[string]string{
		"production":                          "variable/a=110 variable/b=1",
		"{name: production, version: 1.9.0}":  "variable/a=19",
		"{name: production, version: 1.10.0}": "variable/a=110 variable/b=1",
		"{name: production, version: 1.8.0}":  "f0.yaml:5:1: environment/prod: version 1.8.0 of template production is pinned, and there is only 1.10.0, 1.9.0: keep the manifest of a version as long as something pins it",
		"old":                                 "variable/a=1",
	} {
		if got := of(template); got != want {
			t.Errorf("%s: %s, want %s", template, got, want)
		}
	}
	_, err := registry.Read(files(manifest("Template", "a", "version: 1.0.0"), manifest("Template", "a", "version: 1.0.0")))
	if err == nil || !strings.Contains(err.Error(), "template/a@1.0.0 stands here and at f0.yaml:1") {
		t.Errorf("%v", err)
	}
}
