package exec

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"pgregory.net/rapid"
)

// example is the script that we ship.
func example(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../../../examples/exec-connector/one-file-each.sh")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// failing runs the example, but when the file "fail" is there loses one key of an apply and fails.
const failing = `
if [ -e "$2/fail" ]; then
	request=$(sed '/^"flag\/checkout"/d')
	case $request in *'"verb":"apply"'*)
		rm "$2/fail"
		printf '%s\n' "$request" | "$1" "$2"
		echo "cannot set s3cret-canary" >&2
		exit 1
	esac
	printf '%s\n' "$request" | exec "$1" "$2"
fi
exec "$1" "$2"
`

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, c Config) *Connector {
	t.Helper()
	conn, err := Open("program", c, "")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestShippedExampleKeepsTheContract(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Fixture {
		dir := t.TempDir()
		return connectortest.Fixture{
			Open: func(t *testing.T) connector.Connector {
				return open(t, Config{Command: []string{"sh", "-c", failing, "sh", example(t), dir}, Timeout: 30 * time.Second, Observes: true})
			},
			Keys: [3]string{"variable/log-level", "variable/db.host", "flag/checkout"},
			Foreign: func(t *testing.T, key, text string) {
				write(t, filepath.Join(dir, key), `"`+text+`"`)
			},
			FailHalfway: func(t *testing.T, _ connector.Connector) { write(t, filepath.Join(dir, "fail"), "") },
		}
	})
}

func TestShippedExampleKeepsEveryValue(t *testing.T) {
	value := rapid.OneOf(
		rapid.Map(rapid.String(), func(s string) any { return s }), rapid.Just[any](nil), rapid.Just[any](","), rapid.Just[any]("\\c"),
		rapid.Map(rapid.SliceOfN(rapid.String(), 0, 3), func(s []string) any { return s }),
		rapid.Map(rapid.MapOfN(rapid.String(), rapid.Int32(), 0, 3), func(m map[string]int32) any { return m }))
	c := open(t, Config{Command: []string{example(t), t.TempDir()}, Observes: true})
	rapid.Check(t, func(t *rapid.T) {
		want := connector.Values{}
		for _, key := range []string{"variable/a", "flag/b"} {
			b, err := json.Marshal(value.Draw(t, key))
			if err != nil {
				t.Fatal(err)
			}
			if want[key], err = c.Normal(key, b); err != nil {
				t.Fatal(err)
			}
		}
		plan, err := c.Plan(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Apply(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		held, err := c.Observe(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if string(held[k]) != string(v) {
				t.Fatalf("%s is %s, want %s", k, held[k], v)
			}
		}
	})
}

func TestRequestsAreOneItemALineAndValidJSON(t *testing.T) {
	values := connector.Values{"flag/a": []byte(`{"x":"\n"}`), "flag/b": nil, "variable/c": []byte("1")}
	want := `{
"protocol":1,
"verb":"apply",
"idempotencyKey":"KEY",
"delete":[
"flag/b"
],
"set":{
"flag/a":{"x":"\n"},
"variable/c":1
}
}
`
	got := applyRequest(values)
	var request struct{ IdempotencyKey string }
	if err := json.Unmarshal(got, &request); err != nil || len(request.IdempotencyKey) != 64 {
		t.Fatalf("%v in %s", err, got)
	}
	if text := strings.Replace(string(got), request.IdempotencyKey, "KEY", 1); text != want {
		t.Errorf("got %s", text)
	}
	if string(applyRequest(values)) != string(got) {
		t.Error("the same change has another idempotency key")
	}
	values["variable/c"] = []byte("2")
	if strings.Contains(string(applyRequest(values)), request.IdempotencyKey) {
		t.Error("another change has the same idempotency key")
	}
	if got := observeRequest([]string{"flag/a", "flag/b"}); !json.Valid(got) || !strings.Contains(string(got), "\n\"flag/a\",\n\"flag/b\"\n") {
		t.Errorf("got %s", got)
	}
}

func TestBrokenAnswersAreRefusedForGood(t *testing.T) {
	for _, answer := range []string{
		``, `x`, `[]`, `null`, `{}`, `{"values":null}`, `{"values":[]}`, `{"values":{"flag/a":1}}{}`, `{"VALUES":{}}`,
		`{"values":{"flag/a":1,"flag/a":2}}`, `{"values":{"flag/other":1}}`, `{"values":{"flag/a":12345678901234567890}}`, `{"values":{"flag/a":"\ud800"}}`,
	} {
		c := open(t, Config{Command: []string{"printf", "%s", answer}, Observes: true})
		_, err := c.Observe(t.Context(), connector.Values{"flag/a": nil})
		if e := connector.AsError(err); e == nil || !e.Permanent || e.Reason != connector.ReasonExecFailed {
			t.Errorf("%s: %v", answer, err)
		}
	}
	c := open(t, Config{Command: []string{"printf", "%s", `{"future":1,"values":{"flag/a":null}}`}, Observes: true})
	if held, err := c.Observe(t.Context(), connector.Values{"flag/a": nil}); err != nil || string(held["flag/a"]) != "null" {
		t.Errorf("%v, %v", held, err)
	}
}

// A program that does not observe: this process may put back its own values; after a restart nothing can be proven.
func TestBlindProgramCannotProveAnythingAfterARestart(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Command: []string{example(t), dir}}
	c := open(t, cfg)
	if caps := c.Capabilities(); caps.Observes || caps.Atomicity != connector.NotAtomic {
		t.Errorf("capabilities %+v", caps)
	}
	if _, err := c.Observe(t.Context(), connector.Values{"flag/a": nil}); err == nil {
		t.Error("it observes")
	}
	apply := func(c *Connector, value string) connector.Plan {
		plan, err := c.Plan(t.Context(), connector.Values{"flag/a": []byte(value)})
		if err == nil {
			err = c.Prepare(t.Context(), &plan, t.TempDir())
		}
		if err == nil {
			err = c.Apply(t.Context(), plan)
		}
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	assertLost := func(err error) {
		t.Helper()
		if e := connector.AsError(err); e == nil || !e.Permanent || e.Reason != connector.ReasonPreImageLost || !strings.Contains(e.Error(), "nothing can be proven") {
			t.Errorf("got %v", err)
		}
	}
	first := apply(c, "1")
	assertLost(c.Undo(t.Context(), first.Units)) // what was there before it is not known
	if again := apply(c, "1"); len(again.Units) != 0 {
		t.Error("what this process applied is planned again")
	}
	second := apply(c, "2")
	if err := c.Undo(t.Context(), second.Units); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "flag/a")); err != nil || string(b) != "1\n" {
		t.Errorf("%s, %v", b, err)
	}
	assertLost(open(t, cfg).Undo(t.Context(), second.Units))
	more, err := c.Plan(t.Context(), connector.Values{"flag/a": []byte("2"), "flag/b": []byte("1")})
	if err == nil {
		err = c.Apply(t.Context(), more)
	}
	if err != nil {
		t.Fatal(err)
	}
	assertLost(c.Undo(t.Context(), more.Units)) // what flag/b was is not known
}

func TestErrorOfAProgramTellsNoValue(t *testing.T) {
	for stderr, shown := range map[string]bool{"cannot reach the server": true, "cannot set s3cret-canary there": false} {
		c := open(t, Config{Command: []string{"sh", "-c", `echo "$0" >&2; exit 2`, stderr}})
		plan, err := c.Plan(t.Context(), connector.Values{"flag/a": []byte(`{"x":["s3cret-canary"]}`)})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Apply(t.Context(), plan)
		if e := connector.AsError(err); e == nil || !e.Permanent || e.Reason != connector.ReasonExecFailed || strings.Contains(e.Error(), stderr) != shown {
			t.Errorf("%s: %v", stderr, err)
		}
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for field, c := range map[string]Config{
		"command:": {}, "timeout:": {Command: []string{"x"}, Timeout: -1}, "env:": {Command: []string{"x"}, Env: []string{""}}, "atomic:": {Command: []string{"x"}, Atomic: true},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s %v", field, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{`{"values":{"flag/a":{"x":[1,null]}}}`, `{}`, `{"values":{}}x`, `{"values":{"flag/a":1e400}}`, "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		_ = readDone(answer)
		values, err := readValues(answer, []string{"flag/a", "flag/b"})
		if err != nil {
			return
		}
		for k, v := range values {
			again, err := connector.Canonical(k, v)
			if err != nil || string(again) != string(v) {
				t.Fatalf("%s is %s, canonical %s, %v", k, v, again, err)
			}
		}
	})
}
