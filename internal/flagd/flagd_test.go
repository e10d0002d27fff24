package flagd

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// refusal is what Check says of a definition; "" where it passes.
func refusal(t *testing.T, definition string) string {
	t.Helper()
	value, err := events.Canonical([]byte(definition))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = Check(value); err == nil {
		return ""
	}
	return err.Error()
}

func TestDefinitionsThatFlagdEvaluatesPass(t *testing.T) {
	for _, definition := range []string{
		`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}`,
		`{"state":"DISABLED","variants":{"a":1,"b":2.5},"description":"more is allowed"}`,
		`{"state":"ENABLED","variants":{"a":{"x":1},"b":{}},"defaultVariant":"a","metadata":{"team":"shop","n":1,"b":true}}`,
		`{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","targeting":{}}`,
		`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"staff"},"on",{"ends_with":[{"var":"email"},"@x"]},"off",null]}}`,
		`{"state":"ENABLED","variants":{"true":true,"false":false},"defaultVariant":"false","targeting":{"in":[{"var":"tenant"},["a","b"]]}}`,
		`{"state":"ENABLED","variants":{"true":true,"false":false},"targeting":{"==":[1,1]}}`,
		`{"state":"ENABLED","variants":{"on":true,"off":false},"targeting":{"fractional":[["on",10],["off",90]]}}`,
		`{"state":"ENABLED","variants":{"on":true,"off":false},"targeting":{"if":[{"sem_ver":[{"var":"v"},">=","1.0.0"]},{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"tenant"}]},["on"],["off"]]},"off"]}}`,
		`{"state":"ENABLED","variants":{"on":true,"off":false},"targeting":{"if":[{"if":[{"var":"x"},"anything","else"]},"on"]}}`,
	} {
		if got := refusal(t, definition); got != "" {
			t.Errorf("%s: %s", definition, got)
		}
	}
}

func TestWhatFlagdCannotEvaluateIsRefusedWithItsPath(t *testing.T) {
	flag := func(rest string) string {
		return `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",` + rest + `}`
	}
	for definition, want := range map[string]string{
		`true`:                                                                   `a flag is defined as flagd does it`,
		`{"state":"ENABLED"}`:                                                    `/variants: a flag has variants`,
		`{"state":"ENABLED","variants":{}}`:                                      `/variants: a flag has variants`,
		`{"variants":{"on":true}}`:                                               `flagd's schema does not allow this: missing property 'state'`,
		`{"state":"NOPE","variants":{"on":true}}`:                                `/state: flagd's schema does not allow this: value must be one of 'ENABLED', 'DISABLED'`,
		`{"state":"ENABLED","variants":{"a":1,"b":""}}`:                          `/variants/b: all variants of a flag have one type: "a" is a number, and "b" is a string`,
		`{"state":"ENABLED","variants":{"a":[1]}}`:                               `/variants/a: the value of a variant is a boolean, a string, a number or an object, and this is a list`,
		`{"state":"ENABLED","variants":{"a/b":null}}`:                            `/variants/a~1b: the value of a variant`,
		`{"state":"ENABLED","variants":{"on":true},"defaultVariant":"off"}`:      `/defaultVariant: there is no variant "off"; there are on`,
		`{"state":"ENABLED","variants":{"on":true},"defaultVariant":1}`:          `/defaultVariant: flagd's schema does not allow this`,
		`{"state":"ENABLED","variants":{"on":true},"metadata":{"x":[1]}}`:        `/metadata/x: flagd's schema does not allow this`,
		flag(`"targeting":{"iff":[1,"on"]}`):                                     `/targeting: flagd knows no operation "iff"; did you mean "if"?`,
		flag(`"targeting":{"if":[{"==":[1]},"on"]}`):                             `/targeting/if/0/==: flagd's schema does not allow this: minItems: got 1, want 2`,
		flag(`"targeting":{"if":[true,"on"],"in":[1,2]}`):                        `/targeting: a rule has one operation, and this one has if, in`,
		flag(`"targeting":{"if":[true,"onn","off"]}`):                            `/targeting/if/1: targeting gives the variant "onn", which is not there; there are off, on`,
		flag(`"targeting":{"if":[true,"on",false,"off","maybe"]}`):               `/targeting/if/4: targeting gives the variant "maybe"`,
		flag(`"targeting":{"if":[true,{"if":[true,"x"]}]}`):                      `/targeting/if/1/if/1: targeting gives the variant "x"`,
		flag(`"targeting":{"if":[true,true]}`):                                   `/targeting/if/1: targeting gives the variant "true"`,
		flag(`"targeting":{"if":[true,["on"]]}`):                                 `/targeting/if/1: a list names no variant`,
		flag(`"targeting":{"==":[1,1]}`):                                         `/targeting: targeting gives the variant "true"`,
		flag(`"targeting":{"fractional":[["on",10],["of",90]]}`):                 `/targeting/fractional/1/0: targeting gives the variant "of"`,
		flag(`"targeting":{"fractional":[["on",0],["off",0]]}`):                  `/targeting/fractional: all weights together are 0`,
		flag(`"targeting":{"fractional":[["on",-1],["off",2]]}`):                 `/targeting/fractional/0/1: a weight is a whole number that is not negative`,
		flag(`"targeting":{"fractional":[["on",0.5],["off",0.5]]}`):              `/targeting/fractional/0/1: a weight is a whole number`,
		flag(`"targeting":{"fractional":[["on",2147483647],["off",1]]}`):         `/targeting/fractional: all weights together are 2147483648; at most 2147483647`,
		flag(`"targeting":{"if":[{"fractional":[["x",0],["y",0]]},"on","off"]}`): `/targeting/if/0/fractional: all weights together are 0`,
	} {
		if got := refusal(t, definition); !strings.HasPrefix(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", definition, got, want)
		}
	}
}

func TestReferencesToEvaluatorsAreFoundWhereverTheyStand(t *testing.T) {
	references, err := Check([]byte(`{"state":"ENABLED","targeting":{"if":[{"and":[{"$ref":"staff"},{"!":{"$ref":"guest"}}]},"on"]},"variants":{"on":true}}`))
	want := []Reference{{"/targeting/if/0/and/0/$ref", "staff"}, {"/targeting/if/0/and/1/!/$ref", "guest"}}
	if err != nil || fmt.Sprint(references) != fmt.Sprint(want) {
		t.Errorf("%v, %v", references, err)
	}
}

func TestTheFlagSetHoldsEvaluatorsThatFlagdResolves(t *testing.T) {
	good := []byte(`{"$evaluators":{"staff":{"ends_with":[{"var":"email"},"@x"]}},"metadata":{"flagSetId":"shop","version":"1"}}`)
	if err := CheckSet(good); err != nil {
		t.Error(err)
	}
	if known := Evaluators(good); len(known) != 1 || !known["staff"] || len(Evaluators(nil))+len(Evaluators([]byte("1"))) > 0 {
		t.Error(known)
	}
	for set, want := range map[string]string{
		`1`:           `what a flagd file says beside its flags is an object`,
		`{"flags":1}`: `/flags: each flag is a resource of its own`,
		`{"$evaluators":{"a":{"and":[{"$ref":"b"},true]}}}`:                    `/$evaluators/a/and/0/$ref: an evaluator that refers to another`,
		`{"$evaluators":{"a":{"ends_wth":["x","y"]}}}`:                         `/$evaluators/a: flagd knows no operation "ends_wth"; did you mean "ends_with"?`,
		`{"$evaluators":{"a":{"ends_with":["x"]}}}`:                            `/$evaluators/a/ends_with: flagd's schema does not allow this`,
		`{"$evaluators":{"a":{"if":[true,{"fractional":[["x",0],["y",0]]}]}}}`: `/$evaluators/a/if/1/fractional: all weights`,
		`{"metadata":{"flagSetId":[1]}}`:                                       `/metadata/flagSetId: flagd's schema does not allow this`,
	} {
		if err := CheckSet([]byte(set)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", set, err, want)
		}
	}
}

// TestTakingAwayAVariantThatIsNamedIsRefused: whatever a flag looks like, each variant that its default or its targeting names must stay.
func TestTakingAwayAVariantThatIsNamedIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,6}`), 2, 6, func(s string) string { return s }).Draw(t, "variants")
		named := map[string]bool{}
		pick := func() string {
			name := rapid.SampledFrom(all).Draw(t, "variant")
			named[name] = true
			return name
		}
		var rule func(depth int) any
		rule = func(depth int) any {
			switch kind := rapid.IntRange(0, 3).Draw(t, "rule"); {
			case kind == 1 && depth > 0:
				return map[string]any{"if": []any{map[string]any{"==": []any{map[string]any{"var": "x"}, "nothing"}}, rule(depth - 1), rule(depth - 1)}}
			case kind == 2 && depth > 0:
				return map[string]any{"fractional": []any{[]any{pick(), rapid.IntRange(1, 100).Draw(t, "weight")}, []any{pick(), 1}}}
			}
			return pick()
		}
		variants := map[string]any{}
		for i, name := range all {
			variants[name] = i
		}
		flag := map[string]any{"state": "ENABLED", "variants": variants, "defaultVariant": pick(), "targeting": map[string]any{"if": []any{true, rule(3), rule(3)}}}
		encode := func() json.RawMessage {
			b, err := json.Marshal(flag)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if _, err := Check(encode()); err != nil {
			t.Fatalf("%s: %v", encode(), err)
		}
		gone := rapid.SampledFrom(all).Draw(t, "gone")
		delete(variants, gone)
		if _, err := Check(encode()); (err != nil) != named[gone] {
			t.Fatalf("without %s: %s: %v", gone, encode(), err)
		}
	})
}

// TestMergedOperationsMeanWhatThePublishedSchemaMeans compares with the schema as it is published, on rules that have one operation.
func TestMergedOperationsMeanWhatThePublishedSchemaMeans(t *testing.T) {
	published, err := compile(func(map[string]any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	ours, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	operations := slices.Sorted(maps.Keys(known))
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		var rule func(depth int) any
		rule = func(depth int) any {
			switch kind := rapid.IntRange(0, 7).Draw(t, "kind"); {
			case kind < 3 && depth > 0:
				return map[string]any{rapid.SampledFrom(operations).Draw(t, "operation"): rule(depth - 1)}
			case kind < 6 && depth > 0:
				list := []any{}
				for range rapid.IntRange(1, 3).Draw(t, "items") {
					list = append(list, rule(depth-1))
				}
				return list
			}
			return rapid.SampledFrom([]any{nil, true, "text", "1.2.3", ">=", json.Number("3"), map[string]any{}}).Draw(t, "literal")
		}
		flag := map[string]any{"state": "ENABLED", "variants": map[string]any{"on": true}, "targeting": map[string]any{rapid.SampledFrom(operations).Draw(t, "operation"): rule(3)}}
		want, got := published["booleanFlag"].Validate(flag), ours["booleanFlag"].Validate(flag)
		if (want == nil) != (got == nil) {
			t.Fatalf("%v:\npublished: %v\n   merged: %v", flag, want, got)
		}
		if want == nil {
			accepted++
		}
	})
	if accepted == 0 {
		t.Error("no rule passed")
	}
}

func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		`{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","targeting":{"if":[{"$ref":"x"},"on"]}}`, `{"state":"ENABLED","variants":{"a":1},"targeting":{"fractional":[["a",1e99],["a"]]}}`,
		`{"variants":{"":1}}`, `[]`, `null`, `{"state":"ENABLED","variants":{"a":"x"},"targeting":{"if":"a"}}`, `{"state":"ENABLED","variants":{"a":"x"},"targeting":{"fractional":[[],[[]]]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Check(b); err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Message == "" {
				t.Errorf("%T %v", err, err)
			}
			return
		}
		var flag struct {
			State    string         `json:"state"`
			Variants map[string]any `json:"variants"`
		}
		if err := json.Unmarshal(b, &flag); err != nil || len(flag.Variants) == 0 || flag.State != "ENABLED" && flag.State != "DISABLED" {
			t.Errorf("%s passes: %v", b, err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	flag := json.RawMessage(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"in":[{"var":"tenant"},["a","b"]]},"on",{"fractional":[["on",10],["off",90]]}]}}`)
	for b.Loop() {
		if _, err := Check(flag); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckPlain(b *testing.B) {
	flag := json.RawMessage(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}`)
	for b.Loop() {
		if _, err := Check(flag); err != nil {
			b.Fatal(err)
		}
	}
}
