package ledger_test

import (
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func promotion(from, to string, resources ...string) ledger.Propose {
	return ledger.Propose{Reason: "as in " + from, Promotion: &ledger.Promotion{From: from, To: strings.Fields(to), Resources: resources}}
}

// notes are what people are told when a proposal is decided.
func (b *book) notes(p ledger.Propose) string {
	b.t.Helper()
	d, err := b.decide(ledger.Command{ID: "notes", By: "anna", Body: p})
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	return strings.Join(d.Notes, "\n")
}

func only(p ledger.Propose, environments ...string) ledger.Propose {
	return with(p, func(d *ledger.Directory) { d.Environments = environments })
}

const four = "Environment staging |Environment prod-eu overrides: {variable/region: eu}|Environment prod-us "

func fourth(manifests ...string) ledger.Propose {
	return dir(append(strings.Split(four, "|"), manifests...)...)
}

func TestAPromotionBringsManifestsAndLeavesWhatIsParticular(t *testing.T) {
	b := environments(t, "staging", "prod-eu", "prod-us")
	b.release(fourth("Variable region default: none", "Endpoint pay default: {url: sandbox, timeout: 1}, overrides: {prod-*: {url: live}}", "Variable level default: info"))
	b.release(only(fourth("Variable region default: nowhere", "Endpoint pay default: {url: sandbox, timeout: 2}, overrides: {prod-*: {url: live}}", "Variable level default: info", "Flag cards default: {state: ENABLED, variants: {a: 1}, defaultVariant: a}"), "staging"))
	p := promotion("staging", "prod-*")
	notes := b.notes(p)
	for _, want := range []string{
		`endpoint/pay at /url stays "live" (override prod-*, pay-4.yaml:4) in prod-eu, prod-us; in staging it is "sandbox" (default, pay-4.yaml:4)`,
		`variable/region stays "eu" (override of environment prod-eu, prod-eu-1.yaml:4) in prod-eu; in staging it is "nowhere" (default, region-3.yaml:4)`,
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("%s\nlacks %s", notes, want)
		}
	}
	if n := strings.Count(notes, "\n"); n != 1 {
		t.Errorf("%d lines more: %s", n, notes)
	}
	id := b.release(p)
	b.have(map[string]string{
		"prod-eu": `endpoint/pay={"timeout":2,"url":"live"} flag/cards={"defaultVariant":"a","state":"ENABLED","variants":{"a":1}} variable/level="info" variable/region="eu"`,
		"prod-us": `endpoint/pay={"timeout":2,"url":"live"} flag/cards={"defaultVariant":"a","state":"ENABLED","variants":{"a":1}} variable/level="info" variable/region="nowhere"`,
	})
	b.inSources()
	b.refused("anna", p, ledger.KindConflict, `nothing would change: what differs stays behind: endpoint/pay at /url stays "live"`)
	// The directory that was promoted changes nothing any more: it was taken whole.
	b.refused("anna", fourth("Variable region default: nowhere", "Endpoint pay default: {url: sandbox, timeout: 2}, overrides: {prod-*: {url: live}}", "Variable level default: info", "Flag cards default: {state: ENABLED, variants: {a: 1}, defaultVariant: a}"), ledger.KindConflict, "nothing would change")
	b.must("omar", ledger.Rollback{Change: id, Reason: "not yet"})
	b.inSources()
	b.have(map[string]string{"prod-us": `endpoint/pay={"timeout":1,"url":"live"} variable/level="info" variable/region="none"`})
	b.verify()
}

func TestAPromotionBringsQuickEditsButForWhatIsParticular(t *testing.T) {
	b := environments(t, "staging", "prod-eu", "prod-us", "lab")
	b.release(fourth("Variable region default: none", "Endpoint pay default: {url: sandbox, timeout: 1, old: 1}, overrides: {prod-*: {url: live}}", "Variable level default: info"))
	b.release(set("staging", "endpoint/pay", `{"url":"sandbox2","timeout":9,"new":{"a":1}}`))
	b.release(set("staging", "variable/own", `1`))
	b.release(del("staging", "variable/level"))
	b.release(set("staging", "variable/region", `"x"`))
	b.release(set("prod-us", "variable/level", `"debug"`))

	b.refused("anna", promotion("staging", "prod-*"), ledger.KindInvalid, "2 resources would be deleted: variable/level in prod-eu; variable/level in prod-us", "--prune")
	p := promotion("staging", "prod-*")
	p.Promotion.Prune = true
	if notes := b.notes(p); !strings.Contains(notes, `endpoint/pay at /url stays "live" (override document) in prod-eu, prod-us; in staging it is "sandbox2" (override document)`) {
		t.Errorf("%s", notes)
	}
	b.release(p)
	b.have(map[string]string{
		"prod-eu": `endpoint/pay={"new":{"a":1},"timeout":9,"url":"live"} variable/own=1 variable/region="eu"`,
		"prod-us": `endpoint/pay={"new":{"a":1},"timeout":9,"url":"live"} variable/own=1 variable/region="x"`,
	})
	b.inSources()

	// Only what is named; and to an environment that no directory ever declared.
	b.release(promotion("staging", "lab", "endpoint/*"))
	b.have(map[string]string{"lab": `endpoint/pay={"new":{"a":1},"timeout":9,"url":"sandbox2"}`})
	b.refused("anna", promotion("staging", "prod-*", "endpoint/pya"), ledger.KindNotFound, "staging has no resource endpoint/pya")
	b.refused("anna", promotion("staging", "staging"), ledger.KindInvalid, "no environment but staging to promote to")
	b.refused("anna", promotion("stage", "prod-*"), ledger.KindNotFound, "there is no environment stage")
	b.refused("anna", promotion("staging", "test"), ledger.KindNotFound, `there is no environment "test"`)
	both := promotion("staging", "lab")
	both.Directory = fourth().Directory
	b.refused("anna", both, ledger.KindInvalid, "proposed together")
	b.verify()
}
