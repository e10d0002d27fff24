package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type shop struct {
	Name    string        `yaml:"name"`
	Timeout time.Duration `yaml:"timeout"`
	Count   int           `yaml:"count"`
	Ratio   float64       `yaml:"ratio"`
	Step    bool          `yaml:"step"`
	Files   []shopFile    `yaml:"files"`
	Set     map[string]Value
	Common  `yaml:",inline"`
	Nested  *shopFile `yaml:"nested"`
}

type shopFile struct {
	Path string `yaml:"path"`
}

// Common is embedded, as configurations share fields.
type Common struct {
	Owner string `yaml:"owner"`
}

func TestDecodeReadsEveryKindOfField(t *testing.T) {
	var got shop
	err := Decode("agent.yaml", []byte(`
name: a
timeout: 1m30s
count: -3
ratio: 1e-3
step: true
owner: sam
files: [{path: x}, {path: "y"}]
nested: &n {path: z}
set:
  variable/log-level: debug
  flag/x: {state: ENABLED, variants: {on: true, n: 1.50, h: 0x1f, nil: ~}}
  variable/gone: null
  variable/big: "9007199254740993"
  document/alias: *n
`), &got)
	if err != nil {
		t.Fatal(err)
	}
	want := shop{
		Name: "a", Timeout: 90 * time.Second, Count: -3, Ratio: 1e-3, Step: true, Common: Common{"sam"},
		Files: []shopFile{{"x"}, {"y"}}, Nested: &shopFile{"z"},
		Set: map[string]Value{
			"variable/log-level": {json.RawMessage(`"debug"`), 11, 23},
			"flag/x":             {json.RawMessage(`{"state":"ENABLED","variants":{"h":31,"n":1.50,"nil":null,"on":true}}`), 12, 11},
			"variable/gone":      {json.RawMessage(`null`), 13, 18},
			"variable/big":       {json.RawMessage(`"9007199254740993"`), 14, 17},
			"document/alias":     {json.RawMessage(`{"path":"z"}`), 9, 12},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDecodeNamesPlaceAndRemedy(t *testing.T) {
	for _, c := range []struct{ doc, want string }{
		{"name: a\nstpe: true\n", `f.yaml:2:1: unknown key "stpe": did you mean "step"?`},
		{"files:\n- path: a\n  pth: b\n", `f.yaml:3:3: unknown key "pth": did you mean "path"?`},
		{"files:\n- colour: a\n", `f.yaml:2:3: unknown key "colour": known here are path`},
		{"name: a\nname: b\n", `f.yaml:2:1: the key "name" stands twice`},
		{"name: 5\n", `f.yaml:1:7: this is a number, but must be text (put it in quotes)`},
		{"name: [a]\n", `f.yaml:1:7: this is a list, but must be text (put it in quotes)`},
		{"count: 1.5\n", `f.yaml:1:8: this is a number, but must be a whole number`},
		{"step: yes\n", `f.yaml:1:7: this is text, but must be true or false`},
		{"timeout: 5\n", `f.yaml:1:10: must be a duration such as 500ms, 5s or 1h`},
		{"files: {path: a}\n", `f.yaml:1:8: this is a mapping, but must be a list`},
		{"- a\n", `f.yaml:1:1: this is a list, but must be a mapping`},
		{"name: a\n---\nname: b\n", `f.yaml:3:1: a second document begins: one file holds one`},
		{"set: {a: .nan}\n", `f.yaml:1:10: JSON has no infinity and no NaN: write a number or a text in quotes`},
		{"set: {a: {1: b}}\n", `f.yaml:1:11: a key must be text: put it in quotes`},
		{"set: {a: 9007199254740992}\n", `f.yaml:1:10: the integer is beyond ±(2^53−1): write it in quotes`},
		{"set: {a: 123456789012345678901234567890}\n", `f.yaml:1:10: the integer is beyond ±(2^53−1): write it in quotes`},
		{"set: {a: 1e999}\n", `f.yaml:1:10: the number is out of range: write it in quotes`},
		{"set: {a: 0777}\n", `f.yaml:1:10: readers of YAML do not agree whether this is octal: write 0o… or decimal, or put it in quotes`},
		{"set: {a: 1_000}\n", `f.yaml:1:10: readers of YAML do not agree on this number: write it in decimal, or in quotes`},
		{"set: {a: !secret x}\n", `f.yaml:1:10: the tag !secret has no place in JSON`},
		{"set: {a: *nobody}\n", `f.yaml:1:10: the alias names no anchor before it`},
		{"set: &a {a: *a}\n", `f.yaml:1:13: the alias stands within its own anchor`},
		{"name: \"a\n", `f.yaml:1:7: not valid YAML: could not find end character of double-quoted text`},
		{strings.Repeat("[", 100), `f.yaml:1:65: nested too deeply: at most 64 levels`},
	} {
		err := Decode("f.yaml", []byte(c.doc), &shop{})
		if err == nil || err.Error() != c.want {
			t.Errorf("%q:\n got %v\nwant %s", c.doc, err, c.want)
		}
	}
}

func TestDecodeShowsTheSourceLineBesideTheMessage(t *testing.T) {
	err := Decode("f.yaml", []byte("name: a # a comment\r\n  \r\nstpe: true\r\n"), &shop{})
	if e := err.(*Error); e.Source != "stpe: true" {
		t.Errorf("source %q", e.Source)
	}
}

func TestEmptyDocumentChangesNothing(t *testing.T) {
	for _, doc := range []string{"", "# only a comment\n", "---\n", "null\n"} {
		got := shop{Name: "default"}
		if err := Decode("f.yaml", []byte(doc), &got); err != nil || got.Name != "default" {
			t.Errorf("%q: %v, %+v", doc, err, got)
		}
	}
}

func TestByteOrderMarkBeforeADocumentIsNoPartOfIt(t *testing.T) {
	var got shop
	if err := Decode("a.yaml", []byte("\ufeffname: a\n"), &got); err != nil || got.Name != "a" {
		t.Fatalf("got %q, %v", got.Name, err)
	}
	if list, err := Documents("a.yaml", []byte("\ufeff---\nname: a\n")); err != nil || len(list) != 1 || list[0].Decode(&got) != nil {
		t.Fatalf("got %d documents, %v", len(list), err)
	}
}

func TestAliasBombIsRefusedQuickly(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	var into any
	err := Decode("f.yaml", []byte(b.String()), &into)
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("got %v", err)
	}
}

func TestHostileNestingIsRefusedQuickly(t *testing.T) {
	var deep strings.Builder
	for i := range 1000 {
		deep.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	for _, doc := range []string{
		strings.Repeat("[", 1<<19), strings.Repeat("{a: ", 1<<17), strings.Repeat("- ", 1<<18), strings.Repeat("? ", 1<<18), deep.String(),
	} {
		var into any
		if err := Decode("f.yaml", []byte(doc), &into); err == nil || !strings.Contains(err.Error(), "nested too deeply") {
			t.Errorf("%.20q: %v", doc, err)
		}
	}
}

func TestOversizedDocumentIsRefused(t *testing.T) {
	if err := Decode("f.yaml", bytes.Repeat([]byte("#"), MaxSize+1), &shop{}); err == nil {
		t.Error("accepted")
	}
}

func TestMergeKeysFillInWhatIsNotSaid(t *testing.T) {
	var got map[string]Value
	if err := Decode("f.yaml", []byte("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\n"), &got); err != nil {
		t.Fatal(err)
	}
	if s := string(got["use"].JSON); s != `{"x":1,"y":3}` {
		t.Error(s)
	}
}

// JSON is YAML: whatever JSON text we read as YAML means what it means as JSON.
func TestJSONReadAsYAMLMeansTheSame(t *testing.T) {
	scalar := rapid.OneOf(
		rapid.Just[any](nil), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.IntRange(-1<<53+1, 1<<53-1), func(i int) any { return float64(i) }),
		rapid.Map(rapid.Float64Range(-1e15, 1e15), func(f float64) any { return f }),
		rapid.Map(rapid.StringMatching(`[ -~\n\tä€😀]{0,12}`), func(s string) any { return s }),
	)
	value := rapid.OneOf(scalar,
		rapid.Map(rapid.SliceOfN(scalar, 0, 4), func(s []any) any { return s }),
		rapid.Map(rapid.MapOfN(rapid.StringMatching(`[a-z #:-]{1,8}`), scalar, 0, 4), func(m map[string]any) any { return m }))
	rapid.Check(t, func(t *rapid.T) {
		want := value.Draw(t, "value")
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var read []Value
		if err := Decode("f.yaml", []byte("- "+string(text)+"\n"), &read); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var got any
		if err := json.Unmarshal(read[0].JSON, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s: %s", text, d)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"name: a\nset: {x: 1}\n", "a: &x [1]\nb: *x\n", "? a\n: b\n", "- |\n  x\n", "<<: {a: b}", "\"a\": !!str 5", "a: 'x\n", "\t", "{a: [}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var typed shop
		var loose map[string]Value
		if err := Decode("f.yaml", data, &typed); err != nil {
			e, ok := err.(*Error)
			if !ok || e.Line < 1 || e.Column < 1 || strings.Contains(e.Error(), "\n") {
				t.Fatalf("%#v", err)
			}
		}
		if Decode("f.yaml", data, &loose) == nil {
			for _, v := range loose {
				if !json.Valid(v.JSON) {
					t.Fatalf("%q is not JSON", v.JSON)
				}
			}
		}
	})
}
