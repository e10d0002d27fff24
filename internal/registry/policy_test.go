package registry_test

import (
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

func TestWhatIsWrongWithAPolicyIsSaidWithItsLine(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"says nothing":          {"matchResources: {environments: [dev]}", `f0.yaml:5:1: policy/a: the policy matches, and says nothing about it`},
		"action":                {"actions: [Forbid]", `"Forbid" is not one of Deny, Warn`},
		"two actions":           {"actions: [Deny, Warn]", `Deny and Warn stand together`},
		"failure policy":        {"actions: [Deny]\nfailurePolicy: Never", `f0.yaml:6:1: policy/a: "Never" is not one of Fail, Ignore`},
		"no kind":               {"matchResources: {resources: ['*']}\nactions: [Deny]", `"*" is no resource and no pattern of resources: write it as in flag/checkout or flag/*`},
		"another kind":          {"matchResources: {resources: ['flags/*']}\nactions: [Deny]", `which is not one of flag, variable, endpoint, connection, secret, document; did you mean flag?`},
		"no pattern":            {"matchResources: {environments: ['[']}\nactions: [Deny]", `"[" is no pattern of environment names`},
		"operation":             {"matchResources: {operations: [CONNECT]}\nactions: [Deny]", `"CONNECT" is not one of CREATE, UPDATE, DELETE`},
		"condition named twice": {"matchConditions:\n- name: a\n  expression: 'true'\n- name: a\n  expression: 'true'\nactions: [Deny]", `f0.yaml:8:1: policy/a: the name "a" is missing or stands twice`},
		"condition, no name":    {"matchConditions: [{expression: 'true'}]\nactions: [Deny]", `the name "" is missing`},
		"variable":              {"variables: [{name: is-prod, expression: 'true'}]\nactions: [Deny]", `"is-prod" is no name that an expression can use: write it as in isProd`},
		"reason":                {"validations:\n- expression: 'true'\n- expression: 'true'\n  reason: Because", `f0.yaml:7:1: policy/a: "Because" is not one of Unauthorized, Forbidden, Invalid, RequestEntityTooLarge`},
		"nobody":                {"requireApproval: {count: 0}", `0 people are demanded: want 1 to 100`},
		"ticket":                {"requireTicket: {pattern: '('}", `"(" is no regular expression`},
		"no ticket":             {"requireTicket: {pattern: ''}", `"" is no regular expression`},
		"parity with nobody":    {"parity: {environments: []}", `name environments or labels`},
		"risk":                  {"risk: huge", `"huge" is not one of low, medium, high, critical`},
		"unknown field":         {"action: [Deny]", `unknown key "action": did you mean "actions"?`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := registry.Read(files(manifest("Policy", "a", c.spec)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v\nwant %s", err, c.want)
			}
		})
	}
}

// A rule of a list is found by its line after its manifest went through the edits of a change, too.
func TestAnItemOfAListStandsOnItsLine(t *testing.T) {
	s, err := registry.Read(files(manifest("Policy", "a", "validations:\n- expression: 'true'\n\n-   # another\n  expression: 1 > 2")))
	if err != nil {
		t.Fatal(err)
	}
	var folder registry.Folder
	folded := folder.Fold(&registry.Sources{}, registry.Step{Change: "c1", Edits: registry.Difference(&registry.Sources{}, s)})
	for _, of := range []*registry.Sources{s, folded} {
		m, _ := of.Manifest("policy/a")
		for path, want := range map[string]string{
			"/spec/validations/0": "f0.yaml:6", "/spec/validations/1/expression": "f0.yaml:9", "/spec/validations/2": "f0.yaml:5", "/spec/validations": "f0.yaml:5",
		} {
			if got := m.PlaceOf(path).String(); got != want {
				t.Errorf("%s stands at %s, want %s", path, got, want)
			}
		}
	}
}

func TestWhatIsWrongWithAFreezeIsSaidWithItsLine(t *testing.T) {
	for freeze, want := range map[string]string{
		"{start: tomorrow, duration: 1h}":                              `f0.yaml:5:1: policy/a: "tomorrow" is no local time since 2000: write it as in 2026-12-18T18:00`,
		"{start: 1999-01-01T00:00, duration: 1h}":                      `is no local time since 2000`,
		"{start: 2026-01-01T00:00, duration: 3d}":                      `"3d" is no duration from 1m to 8784h: write it as in 60h`,
		"{start: 2026-01-01T00:00, duration: 9000h}":                   `"9000h" is no duration from 1m to 8784h`,
		"{start: 2026-01-01T00:00, duration: 1h, timeZone: Berlin}":    `"Berlin" is no time zone: write it as in Europe/Berlin`,
		"{start: 2026-01-01T00:00, duration: 1h, timeZone: Local}":     `"Local" is no time zone`,
		"{start: 2026-01-01T00:00, duration: 1h, rrules: FREQ=WEEKLY}": `unknown key "rrules": did you mean "rrule"?`,
	} {
		if _, err := registry.Read(files(manifest("Policy", "a", "freeze: "+freeze))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", freeze, err, want)
		}
	}
}
