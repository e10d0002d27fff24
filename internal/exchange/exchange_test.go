package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/joho/godotenv"
	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/flagd"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func canonical(t testing.TB, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		b, err = events.Canonical(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func same(a, b Values) bool {
	return maps.EqualFunc(a, b, func(x, y json.RawMessage) bool { return bytes.Equal(x, y) })
}

var texts = rapid.OneOf(rapid.StringMatching(`[a-zA-Z0-9 ./:_-]{0,12}`), rapid.StringMatching(`([a'"\\$%{}#=\n\r\t é] ?){0,8}`), rapid.String(),
	rapid.SampledFrom([]string{"", "true", "3", "null", "secret+env://X", "secret+x", "${HOME}", "$$", "%{if}", "# no comment", "a # b", " leading", "trailing ", "a\nb\n", `\`, `a\`, `\n`, "`x`", "yes", "---", "\ufeff"}))

// values draws the variables, and the other resources, of an environment.
func values(t *rapid.T) Values {
	out := Values{}
	for range rapid.IntRange(1, 5).Draw(t, "variables") {
		name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,6}`).Draw(t, "name")
		var v any
		switch rapid.IntRange(0, 5).Draw(t, "type") {
		case 0:
			v = rapid.Bool().Draw(t, "boolean")
		case 1:
			v = rapid.IntRange(-1000, 1<<40).Draw(t, "number")
		case 2:
			v = map[string]any{"$secret": map[string]any{"ref": "file:///run/" + rapid.StringMatching(`[a-z?=%&#]{1,8}`).Draw(t, "ref"), "version": rapid.StringMatching(`[a-z0-9 ?&]{1,4}`).Draw(t, "version")}}
		case 3:
			v = map[string]any{texts.Draw(t, "member"): []any{texts.Draw(t, "item"), 1.5, nil, map[string]any{}}}
		default:
			v = texts.Draw(t, "text")
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if b, err = events.Canonical(b); err == nil && events.CheckValue("variable/"+name, b) == nil {
			out["variable/"+name] = b
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "flags") {
		out["flag/"+rapid.StringMatching(`[a-z][A-Za-z0-9-]{0,6}`).Draw(t, "flag")] = json.RawMessage(`{"defaultVariant":"on","state":"ENABLED","variants":{"on":true}}`)
	}
	if rapid.Bool().Draw(t, "set") {
		out[flagd.SetKey] = json.RawMessage(`{"$evaluators":{"x":{"==":[1,1]}},"metadata":{"flagSetId":"shop"}}`)
	}
	if rapid.Bool().Draw(t, "document") {
		out["document/theme"] = json.RawMessage(`{"colors":["#036","<b>"]}`)
	}
	return out
}

// TestWhatIsExportedIsImportedTheSame: of what a format takes, nothing changes on the way there and back.
func TestWhatIsExportedIsImportedTheSame(t *testing.T) {
	for _, format := range Imports {
		t.Run(format, func(t *testing.T) {
			carried := 0
			rapid.Check(t, func(t *rapid.T) {
				all := values(t)
				file, leftOut, err := Export(format, "prod-eu", all)
				if err != nil {
					if text := err.Error(); !strings.Contains(text, "export") && !strings.Contains(text, "1048576") {
						t.Fatalf("%v does not say what to do", err)
					}
					return
				}
				want := maps.Clone(all)
				for _, key := range leftOut {
					delete(want, key)
				}
				if len(want) == 0 {
					return
				}
				got, _, err := Import(format, "file", file)
				if err != nil {
					t.Fatalf("%v in\n%s", err, file)
				}
				if !same(got, want) {
					t.Fatalf("%s\ncame back as %s\ninstead of   %s", file, got, want)
				}
				if format == Dotenv {
					theirs, err := godotenv.UnmarshalBytes(file)
					if err != nil || len(theirs) != len(want) {
						t.Fatalf("godotenv reads %v (%v) in\n%s", theirs, err, file)
					}
				}
				carried++
			})
			if carried == 0 {
				t.Error("nothing was carried")
			}
		})
	}
}

// TestTerraformReadsWhatWasWritten reads texts back as HCL's grammar of quoted templates has it.
func TestTerraformReadsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := texts.Draw(t, "text")
		quoted := quoteHCL(text)
		if got, ok := unquoteHCL(quoted); !ok || got != strings.ToValidUTF8(text, "\ufffd") {
			t.Fatalf("%q is written %s and read %q", text, quoted, got)
		}
	})
}

// unquoteHCL reads a quoted text; ok is false where a template begins or a line ends in it.
func unquoteHCL(quoted string) (text string, ok bool) {
	in := []rune(strings.TrimSuffix(strings.TrimPrefix(quoted, `"`), `"`))
	var b strings.Builder
	for i := 0; i < len(in); i++ {
		rest := string(in[i:])
		switch {
		case in[i] == '\n' || in[i] == '"', strings.HasPrefix(rest, "$${") && i > 0 && in[i-1] == '$', strings.HasPrefix(rest, "%%{") && i > 0 && in[i-1] == '%':
			return "", false
		case strings.HasPrefix(rest, "$${"), strings.HasPrefix(rest, "%%{"):
			b.WriteString(rest[:1] + "{")
			i += 2
		case strings.HasPrefix(rest, "${"), strings.HasPrefix(rest, "%{"):
			return "", false
		case in[i] == '\\':
			i++
			switch in[i] {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case 'u':
				var r rune
				if _, err := fmt.Sscanf(string(in[i+1:i+5]), "%04x", &r); err != nil {
					return "", false
				}
				b.WriteRune(r)
				i += 4
			default:
				b.WriteRune(in[i])
			}
		default:
			b.WriteRune(in[i])
		}
	}
	return b.String(), true
}

func TestTfvarsHoldEveryType(t *testing.T) {
	file, leftOut, err := Export(Tfvars, "prod-eu", Values{
		"variable/a.b": canonical(t, "line\n${x} $${y} 100%{z}"), "variable/7zip": canonical(t, 3), "variable/list": canonical(t, []any{true, nil, "x"}),
		"variable/map": canonical(t, map[string]any{"k y": map[string]any{"n": 1.5}, "e": map[string]any{}}), "flag/x": canonical(t, map[string]any{}), "variable/token": json.RawMessage(`{"$secret":{"ref":"env://T"}}`),
	})
	want := `_7zip = 3
a_b = "line\n$${x} $\u0024{y} 100%%{z}"
list = [true, null, "x"]
map = {
  "e" = {}
  "k y" = {
    "n" = 1.5
  }
}
`
	if err != nil || string(file) != want || fmt.Sprint(leftOut) != "[flag/x variable/token]" {
		t.Errorf("%s\n%v %v", file, leftOut, err)
	}
	if _, _, err := Export(Tfvars, "prod-eu", Values{"variable/a.b": []byte("1"), "variable/a_b": []byte("2")}); err == nil || !strings.Contains(err.Error(), "variable/a.b and variable/a_b would both be a_b in Terraform") {
		t.Error(err)
	}
}

func TestDotenvFilesMeanWhatProcessesSee(t *testing.T) {
	file := `# Ports
export AD_PORT=9555
AD_ADDR=ad:${AD_PORT}     # refers to a variable before it
QUOTED='single $AD_PORT "x"'
DOUBLE="tab\tand \"${AD_PORT}\" \$5
second line" # multi-line
EMPTY=
DEFAULT=${NOWHERE:-fallback}${EMPTY:-empty}${EMPTY-kept}
PRICE=5$ and \$AD_PORT
COLOR=#fff
HASH=a#b  # c # d
SPACED = x y
COMMENT= # nothing
`
	got, notes, err := Import(Dotenv, "demo.env", []byte(file))
	want := Values{}
	for name, text := range map[string]string{
		"AD_PORT": "9555", "AD_ADDR": "ad:9555", "QUOTED": `single $AD_PORT "x"`, "DOUBLE": "tab\tand \"9555\" $5\nsecond line", "EMPTY": "", "DEFAULT": "fallbackempty",
		"PRICE": "5$ and $AD_PORT", "COLOR": "#fff", "HASH": "a#b", "SPACED": "x y", "COMMENT": "",
	} {
		want["variable/"+name] = canonical(t, text)
	}
	if err != nil || !same(got, want) {
		t.Errorf("%s %v", got, err)
	}
	if strings.Join(notes, "") != "references to other variables are resolved, as a process would see it: 3, in AD_ADDR, DOUBLE, DEFAULT" {
		t.Errorf("%q", notes)
	}
}

func TestWhatReadersUnderstandDifferentlyIsRefusedWithItsLine(t *testing.T) {
	for _, c := range []struct{ format, file, want string }{
		{Dotenv, "A=1\nB=${C}\n", "x:2:3: C is not set before this line"},
		{Dotenv, "A=1\nA=2\n", "x:2:1: A stands here and in line 1"},
		{Dotenv, "A=1\n\nwords\n", "x:3:1: a line of a dotenv file is NAME=value"},
		{Dotenv, "A='1\nB=2\n", "x:1:3: a quote begins here and has no end"},
		{Dotenv, "A=\"1\" b\n", "x:1:6: after the quote only a comment may follow"},
		{Dotenv, "A=`1`\n", "x:1:3: a value in backquotes"},
		{Dotenv, "A=$(date)\n", "x:1:3: $(…) runs a command"},
		{Dotenv, "A=${B:?no}\n", "x:1:3: this reference is not understood"},
		{Dotenv, "_A=1\n", `x:1:1: "variable/_A" has no valid name`},
		{Dotenv, "# lockstep: variable/a as JSON\nA=nope\n", "x:2:1: "},
		{Dotenv, "# nothing\n", "x holds nothing to import as dotenv"},
		{ConfigMap, "apiVersion: v1\nkind: ConfigMap\nbinaryData:\n  a: AAAA\n", "x:4:3: binary data cannot be configuration"},
		{ConfigMap, "apiVersion: v1\nkind: Secret\n", `x:1:1: this is no ConfigMap, its kind is "Secret": take the ConfigMaps alone`},
		{ConfigMap, "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: 3\n", "x:4:3: a ConfigMap holds texts: put this value in quotes"},
		{ConfigMap, "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: yes\n", "x:4:3: a ConfigMap holds texts"},
		{ConfigMap, "apiVersion: v1\nkind: ConfigMap\ndata: {a: x}\n---\napiVersion: v1\nkind: ConfigMap\ndata: {a: z}\n", "x:7:8: variable/a stands twice"},
		{Flagd, `{"flags":{"a":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"off"}}}`, `flag/a: /defaultVariant: there is no variant "off"`},
		{Flagd, `{"flags":{"a":1,"a":2}}`, "this is not the JSON that is meant"},
		{Flagd, `{"flags":[{"state":"ENABLED"}]}`, "/flags/0/key: every flag of a list has a key of its own"},
		{Flagd, `{"flag":{}}`, "a flagd file has flags"},
		{Flagd, `{"flags":{"a b":{}}}`, `"flag/a b" has no valid name`},
		{Flagd, `{"flags":{},"$evaluators":{"x":{"and":[{"$ref":"y"}]}}}`, "beside the flags: /$evaluators/x"},
		{JSON, `[1]`, "this is no JSON object"},
		{JSON, `{"a":null}`, "variable/a: null is no value"},
		{JSON, `{"a":12345678901234567890}`, "this is not the JSON that is meant"},
		{JSON, `{"flags/a":1}`, "unknown kind"},
		{JSON, `{"secret/a":"x"}`, "secret/a: a secret's value is a reference"},
		{"toml", "", "there is no format \"toml\"; there are flagd, dotenv, json, configmap"},
	} {
		_, _, err := Import(c.format, "x", []byte(c.file))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) && !strings.Contains(err.Error(), "unknown kind") {
			t.Errorf("%s %q:\n got %v\nwant %s", c.format, c.file, err, c.want)
		}
	}
}

// TestARealFlagFileImportsWithoutLoss has a file of the shape that teams keep.
func TestARealFlagFileImportsWithoutLoss(t *testing.T) {
	file := `{
  "$schema": "https://flagd.dev/schema/v0/flags.json",
  "flags": {
    "adFailure": {"defaultVariant": "off", "description": "Fail ad service", "state": "ENABLED", "variants": {"off": false, "on": true}},
    "cartFailure": {"defaultVariant": "off", "description": "Fail n% of the time", "state": "ENABLED", "variants": {"100%": 1, "25%": 0.25, "off": 0}},
    "productCatalogFailure": {"defaultVariant": "off", "state": "ENABLED", "targeting": {"if": [{"==": [{"var": "product_id"}, "OLJCESPC7Z"]}, "off", "off"]}, "variants": {"off": false, "on": true}}
  }
}`
	got, notes, err := Import(Flagd, "demo.flagd.json", []byte(file))
	if err != nil || len(got) != 3 || len(notes) > 0 {
		t.Fatalf("%s %v %v", got, notes, err)
	}
	again, leftOut, err := Export(Flagd, "dev", got)
	want, wantErr := events.Canonical([]byte(file))
	is, isErr := events.Canonical(again)
	if err != nil || wantErr != nil || isErr != nil || len(leftOut) > 0 || !bytes.Equal(want, is) {
		t.Errorf("%s %v %v %v", again, err, wantErr, isErr)
	}
}

func TestListsOfFlagsAreImported(t *testing.T) {
	got, notes, err := Import(Flagd, "x", []byte(`{"flags":[{"key":"a","state":"ENABLED","variants":{"on":true}}],"metadata":{"version":"1"}}`))
	want := Values{"flag/a": []byte(`{"state":"ENABLED","variants":{"on":true}}`), flagd.SetKey: []byte(`{"metadata":{"version":"1"}}`)}
	if err != nil || !same(got, want) || len(notes) != 2 {
		t.Errorf("%s %q %v", got, notes, err)
	}
}

func TestReferencesTakeThePlaceOfSecrets(t *testing.T) {
	for _, c := range []struct{ key, value, path, want string }{
		{"variable/POSTGRES_PASSWORD", `"x"`, "", `{"$secret":{"ref":"env://POSTGRES_PASSWORD"}}`},
		{"connection/crm", `{"auth":[{"a/b":"x","c":1}]}`, "/auth/0/a~1b", `{"auth":[{"a/b":{"$secret":{"ref":"env://CRM_AUTH_0_A_B"}},"c":1}]}`},
	} {
		got, reference, err := Refer(c.key, json.RawMessage(c.value), c.path)
		if err != nil || string(got) != c.want || !strings.Contains(c.want, reference) {
			t.Errorf("%s %s %v", got, reference, err)
		}
	}
	if _, _, err := Refer("variable/a", []byte(`[1]`), "/1"); err == nil {
		t.Error("a place that is not there is replaced")
	}
}

func FuzzImport(f *testing.F) {
	for _, seed := range []string{"A=1\nexport B=\"${A}\\n\" # c\n# lockstep: variable/c.d as JSON\nC='[1]'", "A=${", "A=\"\\", "\ufeffA=\r\nB=$A", "=", "A='\n",
		`{"flags":{"a":{"state":"ENABLED","variants":{"on":true}}}}`, `{"flags":[{"key":"a"}]}`, "kind: ConfigMap\ndata:\n  a: b\n", `{"a":{"$secret":{"ref":"env://X"}}}`, "A=secret+env://X?version=%"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, format := range Imports {
			values, _, err := Import(format, "x", b)
			if err != nil {
				continue
			}
			for _, key := range slices.Sorted(maps.Keys(values)) {
				if err := events.CheckKey(key); err != nil {
					t.Error(err)
				}
				if again, err := events.Canonical(values[key]); err != nil || !bytes.Equal(again, values[key]) {
					t.Errorf("%s: %s is not canonical (%v)", key, values[key], err)
				}
			}
			if file, _, err := Export(format, "x", values); err == nil {
				if back, _, err := Import(format, "x", file); err != nil || !same(back, values) {
					t.Errorf("%s: %s came back as %s (%v) from\n%s", format, values, back, err, file)
				}
			}
		}
	})
}
