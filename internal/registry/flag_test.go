package registry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

const flagged = `apiVersion: lockstep/v1
kind: Environment
metadata: {name: dev}
---
apiVersion: lockstep/v1
kind: Flag
metadata: {name: cart}
spec:
  default:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "off"
    targeting:
      if: [{$ref: staff}, "on", "off"]
`

const set = `---
apiVersion: lockstep/v1
kind: Document
metadata: {name: flagd}
spec:
  default:
    $evaluators:
      staff: {ends_with: [{var: email}, "@example.com"]}
`

func check(t *testing.T, text string) error {
	t.Helper()
	s, err := Read([]File{{"a.yaml", text}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Check(s, time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC))
	return err
}

func TestFlagsAreCheckedWhereTheyAreRendered(t *testing.T) {
	if err := check(t, flagged+set); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ text, want string }{
		{flagged, `a.yaml:14:1: flag/cart: /targeting/if/0/$ref: there is no shared evaluator "staff" in dev: define it under $evaluators in document/flagd`},
		{strings.Replace(flagged, `defaultVariant: "off"`, `defaultVariant: "of"`, 1) + set, `a.yaml:12:1: flag/cart: /defaultVariant: there is no variant "of"; there are off, on`},
		{strings.Replace(flagged, `"off": false`, `"off": 0`, 1) + set, `a.yaml:11:1: flag/cart: /variants/on: all variants of a flag have one type`},
		{flagged + strings.Replace(set, "ends_with", "ends_wth", 1), `a.yaml:22:1: document/flagd: /$evaluators/staff: flagd knows no operation "ends_wth"; did you mean "ends_with"?`},
	} {
		if err := check(t, c.text); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf(" got %v\nwant %s", err, c.want)
		}
	}
}

func TestQuickEditsOfAChangeAreCheckedAsFlags(t *testing.T) {
	s, err := Read([]File{{"a.yaml", flagged + set}})
	if err != nil {
		t.Fatal(err)
	}
	quick := func(key, value string) error {
		r, err := NewRenderer().Manifests(s, Target{Name: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		r.Put([]Quick{{Key: key, Value: json.RawMessage(value), Change: "c2"}})
		return r.CheckFlags("c2")
	}
	if err := quick("flag/cart", `{"state":"ENABLED","variants":{"on":true}}`); err != nil {
		t.Error(err)
	}
	if err := quick("flag/cart", `{"state":"ENABLED"}`); err == nil || !strings.HasPrefix(err.Error(), "flag/cart: /variants: a flag has variants") {
		t.Error(err)
	}
	if err := quick("document/flagd", `{"$evaluators":{}}`); err == nil || !strings.Contains(err.Error(), `there is no shared evaluator "staff" in dev`) {
		t.Error(err)
	}
}
