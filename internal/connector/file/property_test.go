package file

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/joho/godotenv"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"pgregory.net/rapid"
)

var (
	nasty = rapid.OneOf(
		rapid.StringMatching(`[ -~]{0,12}`),
		rapid.StringOfN(rapid.SampledFrom([]rune("a'\"\\$#\n\r\t {}[]():=&*!|>-?%@`,~0.é€😀\u0000\u0007\u007f\u0085\u00a0\u2028\ufeff")), 0, 8, -1),
		rapid.SampledFrom([]string{"yes", "null", "~", "1e3", "0x10", "010", ".inf", "true", "2020-01-01", "<<", "---", "...", "- a", "a: b", "a #b", "${HOME}", "$(id)", "\\", "it's\n\"", " ", "\r\n"}),
		rapid.String(),
	)
	scalarValue = rapid.OneOf(
		rapid.Map(nasty, func(s string) any { return s }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Just[any](nil),
		rapid.Map(rapid.IntRange(-1<<53+1, 1<<53-1), func(i int) any { return i }),
		rapid.Map(rapid.Float64Range(-1e9, 1e9), func(f float64) any { return f }),
		rapid.Map(rapid.Float64Range(-1e-9, 1e-9), func(f float64) any { return f }),
	)
	nestedValue = rapid.OneOf(scalarValue,
		rapid.Map(rapid.SliceOfN(scalarValue, 0, 3), func(v []any) any { return v }),
		rapid.Map(rapid.MapOfN(nasty, scalarValue, 0, 3), func(v map[string]any) any { return v }))
	anyValue = rapid.OneOf(nestedValue,
		rapid.Map(rapid.SliceOfN(nestedValue, 0, 3), func(v []any) any { return v }),
		rapid.Map(rapid.MapOfN(nasty, nestedValue, 0, 3), func(v map[string]any) any { return v }))
	resourceName = rapid.OneOf(
		rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,6}`),
		rapid.SampledFrom([]string{"yes", "no", "null", "1", "1.5", "1e3", "010", "0x1", "true", "FOREIGN_", "foreigner", "export"}))
)

// foreign are files with what is not ours around the place of what is, and the lines that must survive each edit.
var foreign = map[string]struct{ path, at, text string }{
	"json":        {"a.json", "", "{\n\t\"foreign-1\": [1,   2.50],\n\t\"foreign-2\" : {\"a\":1e2} ,\n\n\t\"foreign-3\": null\n}\n"},
	"json inline": {"a.json", "/in/ner", `{"foreign-1":[1,   2.50], "in": {"x":1, "ner":{"foreign-2": 3,"foreign-4":4}},"foreign-3":null}`},
	"json empty":  {"a.json", "/in/ner", "{\n    \"in\": {\n        \"ner\": {}\n    },\n    \"foreign-1\": true\n}"},
	"yaml":        {"a.yaml", "", "# head\n\"foreign-1\":   [1,   2.50] # kept\n\n# between\nforeign-2: |\n  # text\n  more\n\nforeign-3:\n- a\n# inner\n- b\n# foot\n"},
	"yaml below":  {"a.yaml", "/in/ner", "---\nforeign-1: &a {x: 1}\nin:\n    # one\n    ner:\n        # two\n        foreign-2: *a # three\n        # four\n    foreign-3: !!str 5\n    # five\nforeign-4: >\n    folded\n\n    # text\n"},
	"yaml crlf":   {"a.yaml", "/in", "foreign-1: 1 # kept\r\nin:\r\n  foreign-2: 2\r\n# end\r\n"},
	"toml":        {"a.toml", "/in", "foreign-1 = 1979-05-27\n[in]\nforeign-2 = 12345678901234567\n[x.y]\nforeign-3 = [nan, 1.0]\n"},
	"dotenv":      {"a.env", "", "# head\nexport FOREIGN_1=$HOME/x # kept\n\nFOREIGN_2: 'multi\n# text\nline'\nFOREIGN_3=\"a\\\"b\" FOREIGN_4=x\n# foot\n"},
	"dotenv crlf": {"a.env", "", "# head\r\nFOREIGN_1=\r\nFOREIGN_2='x' # kept\r\n"},
}

// Whatever is applied is read back in its normal form; what is not ours keeps its bytes (TOML: its values).
func TestAppliedIsReadBackAndNothingElseChanges(t *testing.T) {
	base := t.TempDir()
	for name, f := range foreign {
		t.Run(name, func(t *testing.T) { // not in parallel: rapid's generators write their names when they are first used
			isDotenv, isTOML := strings.HasPrefix(name, "dotenv"), name == "toml"
			rapid.Check(t, func(t *rapid.T) {
				dir, err := os.MkdirTemp(base, "")
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, f.path)
				text := f.text
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				key := keyName
				if isDotenv {
					key = upperSnake
				}
				c, err := Open("files", Config{Root: dir, Files: []File{{Path: f.path, At: f.at, Key: key, Resources: []connector.Glob{"variable/*"}}}}, "", "test")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				held := connector.Values{}
				for range rapid.IntRange(1, 3).Draw(t, "applies") {
					want := drawValues(t, c, isDotenv)
					apply(t, c, want)
					for k, v := range want {
						held[k] = v
					}
					assertHolds(t, c, held)
				}
				if !isTOML && !isDotenv {
					gone := connector.Values{}
					for k := range held {
						gone[k] = nil
					}
					apply(t, c, gone)
					assertSurvivors(t, path, text)
				}
				for _, v := range linesWithForeign(text) {
					if after, err := os.ReadFile(path); !isTOML && (err != nil || !strings.Contains(string(after), v)) {
						t.Fatalf("%q is gone from:\n%s", v, after)
					}
				}
			})
		})
	}
}

func drawValues(t *rapid.T, c *Connector, isDotenv bool) connector.Values {
	want := connector.Values{}
	taken := map[string]bool{}
	for range rapid.IntRange(1, 5).Draw(t, "keys") {
		key := "variable/" + resourceName.Draw(t, "name")
		place := c.targets[0].keyOf(key)
		if taken[place] || isDotenv && (checkDotenvKey(place) != nil || strings.HasPrefix(place, "FOREIGN_")) {
			continue
		}
		taken[place] = true
		want[key] = nil
		if rapid.IntRange(0, 4).Draw(t, "delete") == 0 {
			continue
		}
		value, err := json.Marshal(anyValue.Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		normal, err := c.Normal(key, value)
		if err != nil { // what the format cannot hold: only where that is known
			if e := connector.AsError(err); !e.Permanent || e.Reason != connector.ReasonValueUnsupported || c.targets[0].format.mustHold(value) {
				t.Fatalf("%s: %v", value, err)
			}
			delete(want, key)
			continue
		}
		if again, err := c.Normal(key, normal); err != nil || string(again) != string(normal) {
			t.Fatalf("the normal form of %s is %s, and of that %s, %v", value, normal, again, err)
		}
		want[key] = value
	}
	return want
}

// mustHold says that a format has no excuse to refuse the value.
func (f *format) mustHold(value []byte) bool {
	switch f {
	case formats["toml"]:
		return !strings.Contains(string(value), "null")
	case dotenv:
		return !strings.ContainsAny(string(value), `'\`) && string(value) != "null"
	}
	return true
}

func apply(t *rapid.T, c *Connector, want connector.Values) {
	plan, err := c.Plan(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if again, err := c.Plan(t.Context(), want); err != nil || len(again.Units) > 0 {
		t.Fatalf("after the apply the plan is %v, %v", again.Changes, err)
	}
}

func assertHolds(t *rapid.T, c *Connector, want connector.Values) {
	for i := range c.targets {
		c.targets[i].parsed.doc = nil // read the file, not what was parsed before
	}
	got, err := c.Observe(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	for key, v := range want {
		normal := json.RawMessage(nil)
		if v != nil {
			if normal, err = c.Normal(key, v); err != nil {
				t.Fatal(err)
			}
		}
		if string(got[key]) != string(normal) {
			text, _ := os.ReadFile(filepath.Join(c.disk.root.Name(), c.targets[0].Path))
			t.Fatalf("%s is %s, want %s; applied %s in:\n%s", key, got[key], normal, v, text)
		}
	}
	if c.targets[0].format == dotenv { // and the reader of the file sees the same
		env, err := godotenv.Read(filepath.Join(c.disk.root.Name(), c.targets[0].Path))
		if err != nil {
			t.Fatal(err)
		}
		for key := range want {
			value, there := env[c.targets[0].keyOf(key)]
			if quoted := string(canonical(value)); there != (want[key] != nil) || there && quoted != string(got[key]) {
				t.Fatalf("godotenv reads %s as %s, want %s", key, quoted, got[key])
			}
		}
	}
}

// assertSurvivors: after our keys went, the file is as it was but for places that a new text must fill.
func assertSurvivors(t *rapid.T, path, text string) {
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	strip := strings.NewReplacer(" ", "", "\n", "", "\r", "", "\t", "")
	if strip.Replace(string(after)) != strip.Replace(text) {
		t.Fatalf("after everything of ours went:\n%s\nbefore:\n%s", after, text)
	}
}

func linesWithForeign(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

func TestTenThousandKeysAreParsedAndRenderedOnce(t *testing.T) {
	for _, path := range []string{"a.json", "a.yaml", "a.toml", "a.env"} {
		dir := t.TempDir()
		c := opened(t, Config{Root: dir, Files: []File{{Path: path, Key: upperSnake, Own: ownFile, Resources: []connector.Glob{"variable/*"}}}}, "")
		parses := 0
		format := *c.targets[0].format
		parse := format.parse
		format.parse = func(src []byte) (document, error) {
			parses++
			return parse(src)
		}
		c.targets[0].format = &format
		want := connector.Values{}
		for i := range 10_000 {
			want[fmt.Sprintf("variable/key-%05d", i)] = []byte(fmt.Sprintf(`"value %d"`, i))
		}
		plan, err := c.Plan(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Apply(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		if held, err := c.Observe(t.Context(), want); err != nil || len(held) != len(want) {
			t.Errorf("%s holds %d keys, %v", path, len(held), err)
		}
		if parses != 2 {
			t.Errorf("%s was parsed %d times, want before and after", path, parses)
		}
	}
}
