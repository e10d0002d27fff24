package ledger_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

const limits = "Template production version: 1.0.0, values: {connection/crm: {tls: true}}, locked: [{name: tls, resources: 'connection/*', path: /tls, lock: value}, {name: pool, resources: 'connection/*', path: /pool, lock: maximum, value: 10}]"

func TestALockHoldsAtEveryEntrance(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	directory := func(crm string, more ...string) ledger.Propose {
		return dir(append([]string{"Environment dev ", "Environment prod-eu template: production", "Environment prod-us template: production", limits, "Connection crm " + crm}, more...)...)
	}
	b.release(directory("default: {pool: 5}"))

	// An override of the directory, for one environment or by pattern.
	b.refused("anna", directory("default: {pool: 5}, overrides: {'prod-*': {pool: 11}}"), ledger.KindInvalid,
		"rules would be broken: crm-4.yaml:4: prod-eu, prod-us: connection/crm /pool is 11, and its maximum is 10 (rule production/pool, production-3.yaml:4)", "write a waiver")
	b.refused("anna", directory("default: {pool: 5, tls: false}"), ledger.KindInvalid, "connection/crm /tls is false, and is locked at true (rule production/tls, production-3.yaml:4)")
	b.release(directory("default: {pool: 5}, overrides: {dev: {pool: 50, tls: false}}"))

	// A quick edit; where no template is, nothing is locked.
	b.refused("anna", set("*", "connection/crm", `{"pool":5}`), ledger.KindInvalid, "prod-eu, prod-us: connection/crm /tls is not there, and is locked at true (rule production/tls, production-3.yaml:4)")
	b.refused("anna", set("prod-eu", "connection/crm", `{"pool":11,"tls":false}`), ledger.KindInvalid, "/pool is 11", "/tls is false")
	b.refused("anna", del("prod-eu", "connection/crm"), ledger.KindInvalid, "connection/crm /tls is taken away with the resource, and is locked")
	b.refused("anna", set("prod-eu", "connection/other", `{"pool":11,"tls":true}`), ledger.KindInvalid, "connection/other /pool is 11")
	b.release(set("prod-eu", "connection/crm", `{"pool":9,"tls":true}`))
	b.release(set("dev", "connection/crm", `{"pool":99,"tls":false}`))

	// A waiver allows it, for as long as it holds, and is said.
	waived := func(expires string) ledger.Propose {
		p := directory("default: {pool: 5}, overrides: {prod-us: {pool: 11}, prod-eu: {pool: 9}, dev: {pool: 99, tls: false}}")
		p.Directory.Files[2].Text = strings.Replace(p.Directory.Files[2].Text, "template: production",
			"template: production, waivers: [{resource: connection/crm, rule: production/pool, owner: ben, reason: OPS-1, expires: "+expires+"}]", 1)
		return p
	}
	b.refused("anna", waived("2020-01-01"), ledger.KindInvalid, "prod-us: connection/crm has a waiver that ended on 2020-01-01 (ben: OPS-1): comply, or have it extended")
	d, err := b.decide(ledger.Command{ID: "waived", By: "anna", Body: waived("2099-01-01")})
	if err != nil || !slices.Contains(d.Notes, "prod-us connection/crm may break rule production/pool until 2099-01-01 (ben: OPS-1)") {
		t.Errorf("%q (%v)", d.Notes, err)
	}
	b.release(waived("2099-01-01"))
	b.have(map[string]string{"prod-us": `connection/crm={"pool":11,"tls":true}`})
	b.verify()
}

func TestAQuickEditAnswersForWhatItBreaksItself(t *testing.T) {
	b := environments(t, "prod-eu")
	directory := func(expires string) ledger.Propose {
		return dir("Environment prod-eu template: production, waivers: [{resource: connection/crm, rule: production/pool, owner: ben, reason: OPS-1, expires: "+expires+"}]",
			limits, "Connection crm default: {pool: 11}", "Variable level type: string, default: info, schema: {enum: [info, debug]}")
	}
	b.release(directory(b.now.AddDate(0, 0, 1).Format("2006-01-02")))
	b.now = b.now.AddDate(0, 0, 3)
	// The waiver has ended: the directory has to comply, and an emergency elsewhere goes on.
	b.refused("anna", directory(b.now.AddDate(0, 0, -2).Format("2006-01-02")), ledger.KindInvalid, "has a waiver that ended")
	b.release(set("prod-eu", "variable/level", `"debug"`))
	b.refused("anna", set("prod-eu", "variable/level", `"trace"`), ledger.KindInvalid, "prod-eu: variable/level does not fit the schema: value must be one of 'info', 'debug' (rule variable/level/schema, level-3.yaml:4)")
	b.refused("anna", set("prod-eu", "variable/level", `5`), ledger.KindInvalid, "its value is of type number, and spec.type is string (rule variable/level/type")
	b.verify()
}

// TestCompatibleOrRefused: what would break those who read is refused, with its path.
func TestCompatibleOrRefused(t *testing.T) {
	flag := func(targeting string) string {
		return "Flag cart default: {state: ENABLED, variants: {old: 'a', new: 'b'}, defaultVariant: old" + targeting + "}"
	}
	b := environments(t, "dev", "prod-eu", "prod-us")
	start := []string{"Variable pool type: integer, schema: {maximum: 10}, default: 5, overrides: {prod-us: 9}", flag(", targeting: {if: [true, new]}"), "Endpoint pay default: {url: x}", "Variable wants default: 1, requires: [{resource: endpoint/pay}, {fact: platform, is: '>=9'}]"}
	facts := func(p ledger.Propose) ledger.Propose {
		for i := range 3 {
			p.Directory.Files[i].Text = strings.Replace(p.Directory.Files[i].Text, "spec: {}", "spec: {facts: {platform: '9.2'}}", 1)
		}
		p.Directory.Prune = true
		return p
	}
	b.release(facts(declared(start...)))
	for name, c := range map[string]struct {
		manifest int
		becomes  string
		want     string
	}{
		"a type change":             {0, "Variable pool type: string, default: '5', overrides: {prod-us: '9'}", "variable/pool /spec/type becomes string where integer is released"},
		"a type change of a flag":   {1, "Flag cart default: {state: ENABLED, variants: {old: 1, new: 2}, defaultVariant: old}", "flag/cart /variants are of type number where string is released"},
		"a removed variant":         {1, "Flag cart default: {state: ENABLED, variants: {old: 'a'}, defaultVariant: old, targeting: {if: [true, new]}}", `flag/cart: /targeting/if/1: targeting gives the variant "new", which is not there`},
		"removed where it is named": {1, "Flag cart default: {state: ENABLED, variants: {old: 'a'}, defaultVariant: old}, overrides: {prod-eu: {targeting: {if: [true, new]}}}", `prod-eu cannot be rendered: cart-4.yaml:4:1: flag/cart: /targeting/if/1`},
		"a narrowed schema":         {0, "Variable pool type: integer, schema: {maximum: 8}, default: 5, overrides: {prod-us: 9}", "prod-us cannot be rendered: pool-3.yaml:4:1: variable/pool: does not fit the schema: maximum: got 9, want 8"},
		"a resource that is needed": {2, "Endpoint pay default: {url: x}, activation: {environments: [dev, prod-us]}", "prod-eu: variable/wants /spec/requires/0 requires endpoint/pay, which is not there (rule variable/wants/requires, wants-6.yaml:4)"},
		"a fact that is older":      {3, "Variable wants default: 1, requires: [{fact: platform, is: '>=9.3'}]", "dev, prod-eu, prod-us: variable/wants /spec/requires/0 has the fact platform: 9.2, and >=9.3 is demanded"},
	} {
		list := slices.Clone(start)
		list[c.manifest] = c.becomes
		_, err := b.do("anna", facts(declared(list...)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
	// A quick edit of another type, and one that takes away what others need.
	b.refused("anna", set("dev", "flag/cart", `{"state":"ENABLED","variants":{"old":true},"defaultVariant":"old"}`), ledger.KindInvalid, "flag/cart /variants are of type boolean where string is released")
	b.refused("anna", del("*", "endpoint/pay"), ledger.KindInvalid, "requires endpoint/pay, which is not there")
	b.verify()
}

// TestWhatCameBetweenIsNotBroken: two changes are compiled over the same sources, and the first one brings a rule that the second breaks.
func TestWhatCameBetweenIsNotBroken(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	directory := func(template, crm string) ledger.Propose {
		return dir("Environment dev ", "Environment prod-eu template: production", "Environment prod-us template: production", template, "Connection crm "+crm)
	}
	const open = "Template production version: 1.0.0, values: {connection/crm: {tls: true}}"
	b.release(directory(open, "default: {pool: 5}"))
	breaks := b.must("anna", directory(open, "default: {pool: 20}")).Change
	quick := b.must("anna", set("prod-eu", "connection/crm", `{"pool":21,"tls":true}`)).Change
	free := b.must("anna", set("dev", "connection/crm", `{"pool":21}`)).Change
	b.release(directory(limits, "default: {pool: 5}"))
	r := b.approve("ben", breaks)
	if len(r.Released) != 1 || len(r.LeftOut) != 2 || !strings.Contains(r.LeftOut[0].Detail, "rules that came since would be broken: crm-4.yaml:4: prod-eu: connection/crm /pool is 20, and its maximum is 10") {
		t.Errorf("%+v", r)
	}
	b.refused("ben", b.approval(quick), ledger.KindConflict, "cannot be released anywhere", "/pool is 21, and its maximum is 10")
	b.refused("ben", b.approval(free), ledger.KindConflict, "was changed by change "+breaks)
	b.have(map[string]string{"dev": `connection/crm={"pool":20}`, "prod-eu": `connection/crm={"pool":5,"tls":true}`})
	b.inSources()

	// What the first one brings makes the second's edits come to something else.
	b.release(directory(limits, "default: {pool: 5}, overrides: {prod-eu: {pool: 5}}"))
	hidden := b.must("anna", directory(limits, "default: {pool: 6}, overrides: {prod-eu: {pool: 5}}")).Change // nothing changes in prod-eu
	b.release(with(directory(limits, "default: {pool: 5}"), func(d *ledger.Directory) { d.Environments = []string{"prod-eu"} }))
	r = b.approve("ben", hidden)
	if len(r.LeftOut) != 1 || r.LeftOut[0].Environment != "prod-eu" || !strings.Contains(r.LeftOut[0].Detail, "connection/crm in prod-eu comes to something else with the sources that it has now") {
		t.Errorf("%+v", r)
	}
	b.inSources()
	b.verify()
}

// TestNothingGetsAroundALock: whatever directories and quick edits are proposed, approved, rolled back and approved late, what is
// released to an environment of the template keeps its locks.
func TestNothingGetsAroundALock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := environments(t, "dev", "prod-eu", "prod-us")
		var open []string
		pool := func() string { return fmt.Sprint(rapid.IntRange(8, 12).Draw(t, "pool")) }
		patch := func(name string) string {
			return rapid.SampledFrom([]string{"{}", "{tls: false}", "{tls: null}", "{pool: " + pool() + "}", "{pool: " + pool() + ", tls: true}"}).Draw(t, name)
		}
		for range rapid.IntRange(2, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				template := "Template production values: {connection/crm: " + patch("template") + "}, extends: base"
				base := strings.Replace(strings.Replace(limits, "production", "base", 1), "version: 1.0.0, ", "", 1)
				crm := "Connection crm default: " + patch("default") + ", overrides: {'*': " + patch("any") + ", prod-eu: " + patch("exact") + "}"
				environment := "template: production, overrides: {connection/crm: " + patch("environment") + "}"
				p := with(dir("Environment dev ", "Environment prod-eu "+environment, "Environment prod-us template: production", template, base, crm), func(d *ledger.Directory) { d.Prune = true })
				if r, err := b.do("anna", p); err == nil {
					open = append(open, r.Change)
				}
			case 2:
				value := rapid.SampledFrom([]string{`{"tls":false}`, `{"tls":true,"pool":11}`, `{"tls":true,"pool":9}`, `5`}).Draw(t, "quick")
				if r, err := b.do("anna", set(rapid.SampledFrom([]string{"*", "prod-eu"}).Draw(t, "where"), "connection/crm", value)); err == nil {
					open = append(open, r.Change)
				}
			case 3:
				if len(open) > 0 {
					i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
					_, _ = b.do("ben", b.approval(open[i])) // refused where it does not hold any more
					open = slices.Delete(open, i, i+1)
				}
			case 4:
				if list := b.state.ChangeList(); len(list) > 0 {
					_, _ = b.do("omar", ledger.Rollback{Change: list[rapid.IntRange(0, len(list)-1).Draw(t, "undo")].ID, Reason: "r"})
				}
			}
			for _, name := range []string{"prod-eu", "prod-us"} {
				b.keepsLocks(name)
			}
		}
	})
}

// keepsLocks reads what is released, and knows nothing of layers.
func (b *book) keepsLocks(environment string) {
	b.t.Helper()
	s, err := b.state.SourcesOf(environment)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	if chain, _ := s.Chain(environment); len(chain) == 0 {
		return // no directory was released there yet, or it was rolled back
	}
	now, _ := b.state.Environments[environment].Fold.State.Get("connection/crm")
	if now.Value == nil {
		b.t.Fatalf("%s has lost its connection", environment)
	}
	var crm struct {
		TLS  *bool
		Pool *float64
	}
	if err := json.Unmarshal(now.Value, &crm); err != nil || crm.TLS == nil || !*crm.TLS || crm.Pool != nil && *crm.Pool > 10 {
		b.t.Fatalf("%s has %s", environment, now.Value)
	}
}

func TestWhatNeedsANewerAgentIsNotProposedForAnOlderOne(t *testing.T) {
	b := environments(t, "dev", "prod")
	c := ledger.Command{ID: "x", By: "anna", Body: dir("Environment dev ", "Environment prod ", "Variable new default: 1, requires: [{agent: '>=1.2'}]"),
		Agents: map[string]map[string]string{"dev": {"a": "1.3.0"}, "prod": {"a": "1.2.0", "b": "1.1.9"}}}
	if _, err := b.decide(c); err == nil || !strings.Contains(err.Error(), "prod: variable/new /spec/requires/0 requires agents of version >=1.2, and b has 1.1.9 (rule variable/new/requires, new-2.yaml:4)") || strings.Contains(err.Error(), "dev") {
		t.Errorf("%v", err)
	}
	c.Agents["prod"]["b"] = "1.2.0"
	if _, err := b.decide(c); err != nil {
		t.Error(err)
	}
}
