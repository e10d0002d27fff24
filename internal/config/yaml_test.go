package config_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/config"
)

func sameAsYAML(t rapid.TB, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := config.YAML(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var want any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	var back any
	if err := yaml.Unmarshal(out, &back); err != nil {
		t.Fatalf("%s\nbecame\n%q: %v", text, out, err)
	}
	again, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	var have any
	if err := json.Unmarshal(again, &have); err != nil || !reflect.DeepEqual(have, want) {
		t.Fatalf("%s\nbecame\n%q\nwhich says\n%s", text, out, again)
	}
}

func TestTextsThatYAMLReadsOtherwiseAreReadBackAsTheyAre(t *testing.T) {
	for _, s := range []string{
		"", "\x00", "a\x00b", "\x01", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\ufeff", "\ufffe", "\U0001f600", "tab\tx", "a\nb", "a\n", "\n", "\n  x",
		"x\ry\r\n", " lead", "trail ", "- a", "-", "'", "\"\\", "true", "Yes", "n", "null", "~", "1", "1e3", "0x1f", "0o17", "1:20", "2001-01-01", ".inf", ".NaN",
		"NaN", "inf", "=", "a: b", "a:", "#c", "a #b", "<<", "!x", "&a", "*a", "%x", "@", "`", "|", ">", "?", "{}", "[a", ",", "---", "...", "<a&>",
	} {
		sameAsYAML(t, s)
		sameAsYAML(t, []any{s, []any{s}})
		sameAsYAML(t, map[string]any{s: s, "k": map[string]any{s: []any{map[string]any{s: s, "x": s}}}})
	}
}

func TestEveryJSONValueIsReadBackFromYAML(t *testing.T) {
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		list := []*rapid.Generator[any]{
			rapid.String().AsAny(), rapid.Bool().AsAny(), rapid.IntRange(-1<<52, 1<<52).AsAny(), rapid.Float64Range(-1e9, 1e9).AsAny(), rapid.Just[any](nil),
		}
		if depth > 0 {
			list = append(list, rapid.SliceOfN(value(depth-1), 0, 3).AsAny(), rapid.MapOfN(rapid.String(), value(depth-1), 0, 3).AsAny())
		}
		return rapid.OneOf(list...)
	}
	rapid.Check(t, func(t *rapid.T) { sameAsYAML(t, value(3).Draw(t, "value")) })
}

func TestYAMLKeepsTheOrderOfMembers(t *testing.T) {
	out, err := config.YAML([]byte(`{"b":1,"a":[],"c":{},"d":[{"z":null,"w":[1,[true]]}]}`))
	want := "b: 1\na: []\nc: {}\nd:\n  - z: null\n    w:\n      - 1\n      -\n        - true\n"
	if err != nil || string(out) != want {
		t.Errorf("%s, %v", out, err)
	}
	for _, broken := range []string{"", "{", `{"a":`, "1 2", "[1"} {
		if _, err := config.YAML([]byte(broken)); err == nil {
			t.Errorf("%q was written", broken)
		}
	}
}
