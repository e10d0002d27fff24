package ledger_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const loud = "Policy quiet matchResources: {environments: ['prod-*'], resources: [variable/level]}, validations: [{expression: \"object == null || object.value != 'debug'\", message: too loud}]"

func TestAPolicyHoldsHoweverSomethingIsProposed(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	const refusal = "variable/level in prod-eu, variable/level in prod-us: too loud (policy quiet, validation 1, quiet-4.yaml:4)"
	b.refused("anna", declared("Variable level default: debug", loud), ledger.KindInvalid, refusal)
	b.release(declared("Variable level default: debug, overrides: {prod-*: warn}", loud))

	b.refused("anna", quickly("prod-*", "variable/level", `"debug"`), ledger.KindInvalid, refusal)
	b.must("anna", quickly("dev", "variable/level", `"trace"`))

	// The change that drops a policy obeys it; the one after does not have to.
	b.refused("anna", declared("Variable level default: debug"), ledger.KindInvalid, "too loud")
	b.release(declared("Variable level default: debug, overrides: {prod-*: warn}"))
	b.release(declared("Variable level default: debug"))
	b.verify()
}

func quickly(environment, key, value string) ledger.Propose {
	return ledger.Propose{Reason: "quick", Edits: []ledger.Edit{{Environments: []string{environment}, Set: map[string]json.RawMessage{key: json.RawMessage(value)}}}}
}

func TestPoliciesRaiseTheApprovalsAndNeverLowerThem(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	b.must("op", ledger.UpdateEnvironment{Name: "prod-us", Approvals: 3})
	b.release3(declared("Variable level default: info",
		"Policy two matchResources: {labels: {}, environments: ['prod-*']}, requireApproval: {count: 2, roles: [release-manager]}, risk: high",
		"Policy low matchResources: {environments: [prod-us]}, requireApproval: {count: 1}, risk: low"))
	for _, c := range []struct {
		environment string
		demanded    int
	}{{"dev", 1}, {"prod-eu", 2}, {"prod-us", 3}} {
		id := b.must("anna", quickly(c.environment, "variable/level", `"warn"`)).Change
		change := b.state.Changes[id]
		if got := b.state.Demanded(change); got != c.demanded {
			t.Errorf("%s demands %d approvals, want %d: %+v", c.environment, got, c.demanded, change.Verdicts)
		}
		for i, name := range []string{"ben", "cleo", "dora"}[:c.demanded] {
			r := b.approve(name, id)
			if released := len(r.Released) > 0; released != (i == c.demanded-1) {
				t.Errorf("%s: approval %d released: %v", c.environment, i+1, released)
			}
		}
	}
	b.verify()
}

// release3 releases a change that up to three people must approve.
func (b *book) release3(p ledger.Propose) string {
	b.t.Helper()
	id := b.must("anna", p).Change
	for _, name := range []string{"ben", "cleo", "dora"} {
		if len(b.approve(name, id).Released) > 0 {
			break
		}
	}
	return id
}

func TestVerdictsAreInTheLedger(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	id := b.release3(declared("Variable level default: info",
		"Policy told matchResources: {environments: [dev]}, validations: [{expression: \"false\", message: look at it}], actions: [Warn]",
		"Policy passed validations: [{expression: \"true\"}]",
		"Policy elsewhere matchResources: {environments: [lab]}, actions: [Deny]",
		"Policy risky risk: medium"))
	var said []string
	for _, v := range b.state.Changes[id].Verdicts {
		said = append(said, v.Action+" "+v.Policy+" "+v.Message)
		if v.File == "" || v.Line == 0 || v.Total == 0 || len(v.On) == 0 {
			t.Errorf("%+v does not say where", v)
		}
	}
	if got, want := strings.Join(said, ", "), "Risk risky , Warn told look at it, Allow passed "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if strings.Contains(string(b.entries[len(b.entries)-1]), events.VerdictDeny) {
		t.Error("a denial is in the ledger")
	}
	b.verify()
}

func TestATicketIsDemandedWhereAPolicySaysSo(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	p := declared("Variable level default: info", "Policy ticket matchResources: {environments: ['prod-*']}, requireTicket: {pattern: '^OPS-[0-9]+$'}")
	b.refused("anna", p, ledger.KindInvalid, "a ticket that matches ^OPS-[0-9]+$ is demanded: say it with --ticket (policy ticket, requireTicket, ticket-4.yaml:4)")
	p.Ticket = "SHOP-1"
	b.refused("anna", p, ledger.KindInvalid, `the ticket "SHOP-1" does not match`)
	p.Ticket = "OPS-12"
	b.release(p)
	b.must("anna", quickly("dev", "variable/level", `"trace"`))
}

func TestAFlagGoesLiveInProductionAfterStaging(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	flag := func(state string) string {
		return `{"state":"` + state + `","variants":{"on":true,"off":false},"defaultVariant":"on"}`
	}
	b.release(declared("Variable level default: info", "Policy first matchResources: {environments: ['prod-*'], resources: ['flag/*']}, parity: {environments: [dev]}"))
	b.refused("anna", quickly("*", "flag/cart", flag("ENABLED")), ledger.KindInvalid, "flag/cart in prod-eu, flag/cart in prod-us: it may not be live here before it is live there: release it first to dev (policy first, parity")
	b.release(quickly("prod-*", "flag/cart", flag("DISABLED")))
	b.release(quickly("dev", "flag/cart", flag("ENABLED")))
	b.release(quickly("prod-*", "flag/cart", flag("ENABLED")))
	b.verify()
}

func TestAPolicyThatCannotBeReadIsRefusedWithItsLine(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	b.refused("anna", declared("Variable level default: info", "Policy broken validations: [{expression: objekt == 1}]"), ledger.KindInvalid, "broken-4.yaml:4:1: policy/broken: validation 1: undeclared reference to 'objekt'")
}
