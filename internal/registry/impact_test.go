package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const shop = `apiVersion: lockstep/v1
kind: Environment
metadata: {name: dev, labels: {stage: dev}}
spec: {template: base, overrides: {endpoint/pay: {url: "https://dev"}}}
---
apiVersion: lockstep/v1
kind: Environment
metadata: {name: prod, labels: {stage: prod}}
spec:
  template: strict
  waivers: [{resource: endpoint/pay, rule: strict/tls, owner: ben, reason: old, expires: 2027-01-01}]
---
apiVersion: lockstep/v1
kind: Template
metadata: {name: base}
spec: {required: [endpoint/pay], values: {endpoint/pay: {tls: false}}}
---
apiVersion: lockstep/v1
kind: Template
metadata: {name: strict}
spec:
  extends: base
  locked: [{name: tls, resources: "endpoint/*", path: /tls, lock: deletion}]
  immutable: [{resources: variable/region, path: ""}]
---
apiVersion: lockstep/v1
kind: Endpoint
metadata: {name: pay}
spec: {default: {url: "https://pay", retry: 1}}
---
apiVersion: lockstep/v1
kind: Flag
metadata: {name: cards}
spec: {default: {state: ENABLED, variants: {a: 1}, defaultVariant: a}, requires: [{resource: endpoint/pay}]}
---
apiVersion: lockstep/v1
kind: Document
metadata: {name: menu}
spec: {default: {item: {$ref: flag/cards}}, activation: {labels: {stage: prod}}}
---
apiVersion: lockstep/v1
kind: Policy
metadata: {name: careful}
spec: {matchResources: {resources: ["endpoint/*"], labels: {stage: prod}}, requireTicket: {pattern: '^OPS'}}
---
apiVersion: lockstep/v1
kind: Policy
metadata: {name: others}
spec: {matchResources: {resources: ["flag/*"]}, requireTicket: {pattern: '^OPS'}}
`

func sites(t *testing.T) (out []Site) {
	t.Helper()
	s, err := Read([]File{{"shop.yaml", shop}})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range s.Targets() {
		r, err := NewRenderer().Render(s, target)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Site{target, s, func(key string) json.RawMessage {
			if found, there := r.Get(key); there {
				return found.Value.JSON
			}
			return nil
		}})
	}
	return out
}

func TestTheImpactOfAResourceIsAllThatDependsOnIt(t *testing.T) {
	i := ImpactOf("endpoint/pay", sites(t))
	var got []string
	for _, d := range i.Dependents {
		got = append(got, strings.TrimSuffix(fmt.Sprintf("%s %s %s %v", d.Manifest, d.How, d.Via, d.Environments), " "))
	}
	want := []string{
		"environment/dev overrides it  [dev]",
		"environment/prod waives strict/tls  [prod]",
		"flag/cards requires it  [dev prod]",
		"policy/careful is a policy for it  [prod]",
		"template/base demands it  [dev prod]",
		"template/base gives it values  [dev prod]",
		"template/strict locks it: tls  [prod]",
		"document/menu refers to it flag/cards [prod]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if len(i.Values) != 2 || i.Values[0].Environments[0] != "dev" || string(i.Values[1].Value) != `{"retry":1,"tls":false,"url":"https://pay"}` {
		t.Errorf("%+v", i.Values)
	}
	if i := ImpactOf("document/menu", sites(t)); len(i.Dependents) != 0 || len(i.Values) != 2 || i.Values[1].Value != nil {
		t.Errorf("%+v", i)
	}
}

func TestAComparisonNamesEveryPathThatDiffersWithItsOrigin(t *testing.T) {
	s := sites(t)
	render := func(i int, key string) []Origin {
		r, err := NewRenderer().Render(s[i].Sources, s[i].Target)
		if err != nil {
			t.Fatal(err)
		}
		found, there := r.Get(key)
		if !there {
			return nil
		}
		return found.Origins()
	}
	var got []string
	for _, key := range []string{"endpoint/pay", "flag/cards", "document/menu"} {
		for _, c := range Compare(render(0, key), render(1, key)) {
			side := func(o *Origin) string {
				if o == nil {
					return "nothing"
				}
				return string(o.Value) + " from " + o.Layer
			}
			got = append(got, key+c.Path+": "+side(c.A)+", "+side(c.B))
		}
	}
	want := []string{
		`endpoint/pay/url: "https://dev" from override of environment dev, "https://pay" from default`,
		`document/menu/item/$ref: nothing, "flag/cards" from default`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	flat := Origin{Value: json.RawMessage(`{"a":{"b":1},"c":[]}`), Layer: "rollback", Change: "c1"}.Flat()
	if len(flat) != 2 || flat[0].Path != "/a/b" || string(flat[1].Value) != "[]" || flat[1].Change != "c1" {
		t.Errorf("%+v", flat)
	}
}
