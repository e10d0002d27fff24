package demo

import (
	"encoding/json"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// agentName is the name of the one agent of each environment.
const agentName = "a1"

var environments = []ledger.AddEnvironment{
	{Name: "dev", Labels: map[string]string{"product": "shop", "stage": "dev"}, Steward: "dora", Approvals: 1},
	{Name: "staging", Labels: map[string]string{"product": "shop", "stage": "staging"}, Steward: "dora", Approvals: 1},
	{Name: "prod-eu", Labels: map[string]string{"product": "shop", "stage": "prod", "region": "eu"}, Steward: "emil", Approvals: 1},
	{Name: "prod-us", Labels: map[string]string{"product": "shop", "stage": "prod", "region": "us"}, Steward: "uma", Approvals: 1},
}

// changes are proposed by anna and approved by ben, one after the other.
var changes = []ledger.Propose{
	{
		Reason: "Bring the shop's configuration under Lockstep", Ticket: "SHOP-1",
		Source: &events.Provenance{Repository: "github.com/acme/shop-config", Commit: "4f2c9d1", Build: "118"},
		Edits: []ledger.Edit{
			{Environments: []string{"*"}, Set: values(
				"flag/checkout-redesign", flag("off"),
				"flag/express-shipping", flag("on"),
				"variable/log-level", `"info"`,
				"variable/checkout-timeout-ms", `2500`,
			)},
			{Environments: []string{"dev", "staging"}, Set: values("endpoint/payments", `"https://payments.sandbox.example"`)},
			{Environments: []string{"prod-*"}, Set: values("endpoint/payments", `"https://payments.example"`)},
		},
	},
	{
		Reason: "Try the redesigned checkout before customers do", Ticket: "SHOP-7",
		Edits: []ledger.Edit{{Environments: []string{"dev", "staging"}, Set: values("flag/checkout-redesign", flag("on"), "variable/log-level", `"debug"`)}},
	},
	{
		Reason: "Payments moves to its new address", Ticket: "OPS-42", Within: 600,
		Edits: []ledger.Edit{
			{Environments: []string{"prod-eu"}, Set: values("endpoint/payments", `"https://eu.payments.example"`, "variable/checkout-timeout-ms", `4000`)},
			{Environments: []string{"prod-us"}, Set: values("endpoint/payments", `"https://us.payments.example"`, "variable/checkout-timeout-ms", `4000`)},
		},
	},
}

// flag is a boolean flag in flagd's format.
func flag(variant string) string {
	return `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"` + variant + `"}`
}

// values pairs keys with JSON values.
func values(pairs ...string) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = json.RawMessage(pairs[i+1])
	}
	return out
}
