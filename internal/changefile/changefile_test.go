package changefile

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const whole = `apiVersion: lockstep/v1
kind: Change
reason: Lower the log level while we chase OPS-1
ticket: OPS-1
within: 10m
source: {repository: github.com/acme/shop, commit: 1234567, build: "118"}
edits:
- environments: [prod-eu, "stage-*"]
  set:
    variable/log-level: debug
    flag/checkout-redesign: {state: ENABLED, variants: {on: true, off: false}, defaultVariant: on}
  delete: [variable/old-switch]
`

func TestAChangeFileSaysWhatIsProposed(t *testing.T) {
	want := ledger.Propose{
		Reason: "Lower the log level while we chase OPS-1", Ticket: "OPS-1", Within: 600,
		Source: &events.Provenance{Repository: "github.com/acme/shop", Commit: "1234567", Build: "118"},
		Edits: []ledger.Edit{{
			Environments: []string{"prod-eu", "stage-*"}, Delete: []string{"variable/old-switch"},
			Set: map[string]json.RawMessage{
				"variable/log-level":     json.RawMessage(`"debug"`),
				"flag/checkout-redesign": json.RawMessage(`{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}}`),
			},
		}},
	}
	got, err := Parse("c.yaml", []byte(whole), Said{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	said := Said{Reason: "r", Ticket: "t", Within: time.Hour, Source: &events.Provenance{Repository: "x"}}
	got, err = Parse("c.yaml", []byte(whole), said)
	want.Reason, want.Ticket, want.Within, want.Source = "r", "t", 3600, said.Source
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Error(err, d)
	}
}

func TestAChangeFileMayBeJSON(t *testing.T) {
	got, err := Parse("c.json", []byte("{\n\t\"apiVersion\": \"lockstep/v1\", \"kind\": \"Change\", \"reason\": \"r\",\n\t\"edits\": [{\"environments\": [\"dev\"], \"set\": {\"variable/x\": [1, 2.50, null]}}]\n}\n"), Said{})
	if err != nil || string(got.Edits[0].Set["variable/x"]) != `[1,2.50,null]` {
		t.Errorf("%+v %v", got, err)
	}
}

func TestWhatIsWrongInAFileIsSaidWithItsPlace(t *testing.T) {
	begin := "apiVersion: lockstep/v1\nkind: Change\nreason: r\n"
	edits := begin + "edits:\n- environments: [dev]\n  "
	for _, c := range []struct{ doc, want string }{
		{"apiVersion: lockstep/v1\nkind: Variable\nmetadata: {name: x}\nspec: {default: 1}\n---\nkind: ?", "c.yaml:1:1: this is a manifest, and no change file: propose the whole directory that it belongs to, with -f DIR"},
		{"", `c.yaml:1:1: a change file begins with apiVersion: lockstep/v1 and kind: Change; this one has "" and ""`},
		{"kind: Flag\n", `c.yaml:1:1: a change file begins with`},
		{begin, `c.yaml:1:1: there are no edits`},
		{begin + "edits: []\n", `c.yaml:1:1: there are no edits`},
		{begin + "edits: {}\n", `c.yaml:4:8: this is a mapping, but must be a list`},
		{begin + "resaon: x\n", `c.yaml:4:1: unknown key "resaon": did you mean "reason"?`},
		{begin + "reason: again\n", `c.yaml:4:1: the key "reason" stands twice`},
		{begin + "within: 10\n", `c.yaml:4:9: "10" is no propagation window`},
		{begin + "within: -1m\n", `c.yaml:4:9: "-1m" is no propagation window`},
		{begin + "within: 1500ms\n", `c.yaml:4:9: "1500ms" is no propagation window`},
		{begin + "ticket: [a]\n", `c.yaml:4:9: this is a list, but must be text`},
		{begin + "ticket: \"a\\u0007b\"\n", `c.yaml:4:9: this text holds the control character U+0007`},
		{begin + "ticket: " + strings.Repeat("x", 5000) + "\n", `c.yaml:4:9: this text has 5000 bytes; at most 4096 are kept`},
		{begin + "edits:\n- set: {variable/x: 1}\n", `c.yaml:1:1: edit 1 names no environments`},
		{begin + "edits:\n- environments: [dev]\n", `c.yaml:1:1: edit 1 sets and deletes nothing`},
		{begin + "edits:\n- environments: [Dev]\n  set: {variable/x: 1}\n", `c.yaml:5:18: "Dev" is not a name`},
		{begin + "edits:\n- environments: [\"a[\"]\n  set: {variable/x: 1}\n", `c.yaml:5:18: "a[" is no pattern of environment names`},
		{begin + "edits:\n- environment: [dev]\n", `c.yaml:5:3: unknown key "environment": did you mean "environments"?`},
		{edits + "set: {log-level: 1}\n", `c.yaml:6:20: "log-level" is not a resource: write <kind>/<name>`},
		{edits + "set: {variabel/x: 1}\n", `c.yaml:6:21: "variabel/x" has the unknown kind "variabel"`},
		{edits + "set: {\"variable/a\\u0000b\": 1}\n", `has no valid name`},
		{edits + "set: {variable/x: .nan}\n", `c.yaml:6:21: JSON has no infinity and no NaN`},
		{edits + "set: {variable/x: 9007199254740993}\n", `c.yaml:6:21: the integer is beyond ±(2^53−1): write it in quotes`},
		{edits + "set: {variable/x: 0.1234567890123456789}\n", `c.yaml:6:21: variable/x: the value: the number 0.1234567890123456789 has more digits than a double keeps`},
		{edits + "set: {variable/x: 1, variable/x: 2}\n", `c.yaml:6:24: the key "variable/x" stands twice`},
		{edits + "set: {variable/x: {a: 1, a: 2}}\n", `stands twice`},
		{edits + "set: {variable/x: }\n", `c.yaml:6:20: variable/x has no value`},
		{edits + "set: {secret/token: hunter2}\n", `c.yaml:6:23: secret/token: a secret's value is a reference`},
		{edits + "set: {variable/x: 1}\n  delete: [variable/x]\n", `c.yaml:6:21: variable/x is both set and deleted`},
		{edits + "delete: [x]\n", `c.yaml:6:12: "x" is not a resource`},
		{edits + "set:\n    document/big: " + strings.Repeat("x", 600<<10) + "\n", `c.yaml:7:19: document/big has 614402 bytes; at most 524288 fit a release`},
		{strings.Repeat("#", 2<<20), `c.yaml:1:1: the file has 2097152 bytes, more than 1048576: split it`},
	} {
		_, err := Parse("c.yaml", []byte(c.doc), Said{})
		if _, positioned := errors.AsType[*config.Error](err); !positioned || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.120q:\n got %v\nwant %s", c.doc, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%.120q: %v", c.doc, err)
		}
	}
}

func TestAReasonIsDemandedWhereverItIsSaid(t *testing.T) {
	doc := strings.Replace(whole, "reason:", "# reason:", 1)
	if _, err := Parse("c.yaml", []byte(doc), Said{}); ledger.KindOf(err) != ledger.KindInvalid || !strings.Contains(err.Error(), "-m") {
		t.Errorf("got %v", err)
	}
	if p, err := Parse("c.yaml", []byte(doc), Said{Reason: "r"}); err != nil || p.Reason != "r" {
		t.Errorf("got %+v %v", p, err)
	}
}

func TestTheQuickFormReadsValuesAsJSONOrText(t *testing.T) {
	for assignment, want := range map[string]string{
		"variable/x=debug":                       `"debug"`,
		"variable/x=":                            `""`,
		"variable/x=5":                           `5`,
		"variable/x=007":                         `"007"`,
		"variable/x=true":                        `true`,
		`variable/x="5"`:                         `"5"`,
		`variable/x:="5"`:                        `"5"`,
		"variable/x:=5":                          `5`,
		"variable/x=a=b":                         `"a=b"`,
		"variable/x=:=":                          `":="`,
		"variable/x=<a&b>":                       `"<a&b>"`,
		`variable/x={"b":1,"a":[2]}`:             `{"b":1,"a":[2]}`,
		`secret/t={"$secret":{"ref":"env://T"}}`: `{"$secret":{"ref":"env://T"}}`,
	} {
		k, _, _ := strings.Cut(strings.Replace(assignment, ":=", "=", 1), "=")
		p, err := Quick([]string{"dev"}, []string{assignment}, nil, Said{Reason: "r"})
		if err != nil || string(p.Edits[0].Set[k]) != want {
			t.Errorf("%s: %v %v", assignment, p, err)
		}
	}
	for assignment, want := range map[string]string{
		"variable/x":                  "has no value",
		"variable/x:=debug":           "is no JSON",
		"variable/x=null":             "has no value",
		"variable/x=9007199254740993": "write it as a string",
		`variable/x={"a":1,"a":2}`:    "twice",
		"secret/t=hunter2":            "a secret's value is a reference",
		"x=1":                         "is not a resource",
		"=1":                          "is not a resource",
	} {
		if _, err := Quick([]string{"dev"}, []string{assignment}, nil, Said{Reason: "r"}); ledger.KindOf(err) != ledger.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", assignment, err)
		}
	}
	for _, c := range []struct {
		environments, set, deleted []string
		said                       Said
		want                       string
	}{
		{nil, []string{"variable/x=1"}, nil, Said{Reason: "r"}, "--env"},
		{[]string{"dev"}, nil, nil, Said{Reason: "r"}, "--set KEY=VALUE"},
		{[]string{"Dev"}, []string{"variable/x=1"}, nil, Said{Reason: "r"}, "--env: \"Dev\" is not a name"},
		{[]string{"dev"}, nil, []string{"x"}, Said{Reason: "r"}, "--delete"},
		{[]string{"dev"}, []string{"variable/x=1", "variable/x=2"}, nil, Said{Reason: "r"}, "set twice"},
		{[]string{"dev"}, []string{"variable/x=1"}, nil, Said{}, "-m"},
		{[]string{"dev"}, []string{"variable/x=1"}, nil, Said{Reason: "r", Within: time.Millisecond}, "--within"},
	} {
		if _, err := Quick(c.environments, c.set, c.deleted, c.said); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestASourceIsReadFromOneWord(t *testing.T) {
	for s, want := range map[string]events.Provenance{
		"github.com/acme/shop@4f2c#118": {Repository: "github.com/acme/shop", Commit: "4f2c", Build: "118"},
		"git@github.com:acme/shop@4f2c": {Repository: "git@github.com:acme/shop", Commit: "4f2c"},
		"shop#1":                        {Repository: "shop", Build: "1"},
	} {
		if got, err := ParseSource(s); err != nil || *got != want {
			t.Errorf("%s: %+v %v", s, got, err)
		}
	}
	if _, err := ParseSource("@4f2c"); err == nil {
		t.Error("no repository was accepted")
	}
}

// Whatever JSON value is proposed is the value that is set.
func TestAValueMeansTheSameInAFileAndOnTheCommandLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(rapid.MapOfN(rapid.StringMatching(`[a-z]{1,5}`), rapid.IntRange(-1<<53+1, 1<<53-1), 0, 5).Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		quick, err := Quick([]string{"dev"}, []string{"document/x=" + string(text)}, nil, Said{Reason: "r"})
		if err != nil {
			t.Fatal(err)
		}
		written, err := Parse("c.yaml", []byte("apiVersion: lockstep/v1\nkind: Change\nedits: [{environments: [dev], set: {document/x: "+string(text)+"}}]\n"), Said{Reason: "r"})
		if err != nil {
			t.Fatal(err)
		}
		a, _ := events.Canonical(quick.Edits[0].Set["document/x"])
		b, _ := events.Canonical(written.Edits[0].Set["document/x"])
		if string(a) != string(b) || string(a) == "" {
			t.Fatalf("%s and %s", a, b)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(`{"apiVersion":"lockstep/v1","kind":"Change","reason":"r","edits":[{"environments":["dev"],"set":{"variable/x":1}}]}`))
	f.Add([]byte("apiVersion: lockstep/v1\nkind: Change\nreason: r\nedits:\n- environments: [\"*\"]\n  delete: [variable/x]\n  set: {<<: {variable/y: 1}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("c.yaml", data, Said{})
		if err != nil {
			_, positioned := errors.AsType[*config.Error](err)
			if strings.Contains(err.Error(), "\n") || (!positioned && ledger.KindOf(err) != ledger.KindInvalid) {
				t.Fatalf("%#v", err)
			}
			return
		}
		for _, e := range p.Edits {
			for k, v := range e.Set {
				canonical, err := events.Canonical(v)
				if err != nil || events.CheckKey(k) != nil || events.CheckValue(k, canonical) != nil {
					t.Fatalf("%s: %s: %v", k, v, err)
				}
			}
		}
	})
}

func FuzzQuick(f *testing.F) {
	f.Add("variable/x=1", "dev")
	f.Add("variable/x:={}", "prod-*")
	f.Fuzz(func(t *testing.T, assignment, environment string) {
		p, err := Quick([]string{environment}, []string{assignment}, nil, Said{Reason: "r"})
		if err != nil {
			if ledger.KindOf(err) != ledger.KindInvalid {
				t.Fatalf("%#v", err)
			}
			return
		}
		for k, v := range p.Edits[0].Set {
			if _, err := events.Canonical(v); err != nil || events.CheckKey(k) != nil {
				t.Fatalf("%s: %s: %v", k, v, err)
			}
		}
	})
}
