package events_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

type canonicalVector struct {
	What    string `json:"what"`
	In      string `json:"in"`
	Out     string `json:"out"`
	Refused string `json:"refused"` // pattern of the error
}

func TestOneValueHasOneForm(t *testing.T) {
	for _, v := range readVectors[[]canonicalVector](t, "canonical.json") {
		t.Run(v.What, func(t *testing.T) {
			out, err := events.Canonical([]byte(v.In))
			switch {
			case v.Refused == "" && (err != nil || string(out) != v.Out):
				t.Errorf("have %s (%v), want %s", out, err, v.Out)
			case v.Refused != "" && (err == nil || !regexp.MustCompile(v.Refused).MatchString(err.Error())):
				t.Errorf("have %s (%v), want it refused: %s", out, err, v.Refused)
			}
			if inArray := events.CheckJSON([]byte("[" + v.In + "]")); v.In != "" && (inArray == nil) != (v.Refused == "") && v.In != "],[" {
				t.Errorf("in an array: %v", inArray)
			}
		})
	}
}

func TestInvalidTextIsRefused(t *testing.T) {
	for _, in := range []string{"\"\xff\"", "\"\xed\xa0\x80\"", "\xef\xbb\xbf1"} {
		if out, err := events.Canonical([]byte(in)); err == nil {
			t.Errorf("%q gives %s", in, out)
		}
	}
}

func TestValuesNestToAFixedDepth(t *testing.T) {
	nested := func(levels int) []byte {
		return []byte(strings.Repeat(`{"a":[`, levels/2) + "1" + strings.Repeat("]}", levels/2))
	}
	if _, err := events.Canonical(nested(64)); err != nil {
		t.Error(err)
	}
	if _, err := events.Canonical(nested(66)); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("66 levels: %v", err)
	}
	if err := events.CheckJSON([]byte(strings.Repeat("[", 1<<20))); err == nil {
		t.Error("a million open arrays")
	}
}

// TestTheDeepestValueFitsIntoAnEntry: a value that was accepted at proposal must not make the entry that stores it unreadable.
func TestTheDeepestValueFitsIntoAnEntry(t *testing.T) {
	deep := json.RawMessage(strings.Repeat("[", 64) + strings.Repeat("]", 64))
	if err := events.CheckJSON(deep); err != nil {
		t.Fatal(err)
	}
	operations := encode(t, []events.Operation{{Op: events.OpSet, Key: "document/deep", Value: deep}})
	fact := events.Fact{Type: events.TypeContentStored, Data: &events.ContentStored{Digest: events.Sum([]byte(operations)), JSON: json.RawMessage(operations)}}
	if _, _, err := events.NewEntry(1, events.Digest{}, "l", events.Command{}, epoch, "", []events.Fact{fact}); err != nil {
		t.Error(err)
	}
}

// TestNumbersMeanTheSameToEveryReader compares with exact arithmetic.
func TestNumbersMeanTheSameToEveryReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		literal := rapid.StringMatching(`-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?`).Draw(t, "number")
		err := events.CheckJSON([]byte(literal))
		if want := keepsMeaning(literal); (err == nil) != want {
			t.Fatalf("%s: %v, exact arithmetic says %v", literal, err, want)
		}
	})
}

func keepsMeaning(literal string) bool {
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return false
	}
	exact, _ := new(big.Rat).SetString(literal)
	shortest, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
	return exact.Cmp(shortest) == 0 && (!exact.IsInt() || math.Abs(f) <= 1<<53-1)
}

// anyValue draws JSON values as Go values, without numbers that have no safe form.
func anyValue() *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any { return drawValue(t, 3) })
}

func drawValue(t *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 6).Draw(t, "kind")
	if depth == 0 {
		kind %= 5
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.Int64Range(-(1<<53-1), 1<<53-1).Draw(t, "integer")
	case 3:
		f := rapid.Float64Range(-1e9, 1e9).Draw(t, "float")
		return f
	case 4:
		return rapid.String().Draw(t, "string")
	case 5:
		list := make([]any, rapid.IntRange(0, 4).Draw(t, "length"))
		for i := range list {
			list[i] = drawValue(t, depth-1)
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "length") {
		object[rapid.String().Draw(t, "key")] = drawValue(t, depth-1)
	}
	return object
}

// write writes a value with its keys in a drawn order and with white space.
func write(t *rapid.T, v any) string {
	switch v := v.(type) {
	case []any:
		items := make([]string, len(v))
		for i := range v {
			items[i] = write(t, v[i])
		}
		return "[ " + strings.Join(items, ",\n") + "]"
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		items := make([]string, len(keys))
		for i, key := range rapid.Permutation(keys).Draw(t, "order") {
			items[i] = write(t, key) + " :\t" + write(t, v[key])
		}
		return "{" + strings.Join(items, " , ") + "}"
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCanonicalIsIdempotentAndBlindToOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyValue().Draw(t, "value")
		one, err := events.Canonical([]byte(write(t, v)))
		if err != nil {
			t.Fatal(err)
		}
		other, err := events.Canonical([]byte(write(t, v)))
		if err != nil || string(one) != string(other) {
			t.Fatalf("two orders give\n%s\n%s (%v)", one, other, err)
		}
		again, err := events.Canonical(one)
		if err != nil || string(again) != string(one) {
			t.Fatalf("%s gives %s (%v)", one, again, err)
		}
	})
}

func TestNamesAndKeys(t *testing.T) {
	type table struct{ Valid, Refused []string }
	vectors := readVectors[struct{ Names, Keys table }](t, "names.json")
	for _, c := range []struct {
		check func(string) error
		table
	}{{events.CheckName, vectors.Names}, {events.CheckKey, vectors.Keys}} {
		for _, name := range c.Valid {
			if err := c.check(name); err != nil {
				t.Error(err)
			}
		}
		for _, name := range c.Refused {
			if c.check(name) == nil {
				t.Errorf("%q is not refused", name)
			}
		}
	}
	if long := "flag/" + strings.Repeat("a", 128); events.CheckKey(long) != nil || events.CheckKey(long+"a") == nil {
		t.Error("a resource name has at most 128 characters")
	}
	for c := range rune(0x100) {
		name, key := fmt.Sprintf("a%ca", c), fmt.Sprintf("flag/a%ca", c)
		plain := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
		if (events.CheckName(name) == nil) != plain {
			t.Errorf("name %q", name)
		}
		if (events.CheckKey(key) == nil) != (plain || c >= 'A' && c <= 'Z' || c == '.' || c == '_') {
			t.Errorf("key %q", key)
		}
	}
}

func TestSubjectsNameTheirEnvironmentAndAgent(t *testing.T) {
	if name, ok := events.ReleaseEnvironment(events.ReleaseSubject("prod-eu")); !ok || name != "prod-eu" {
		t.Error(name, ok)
	}
	for _, subject := range []string{events.AckSubject("prod-eu", "a1"), events.BeatSubject("prod-eu", "a1")} {
		if environment, agent, ok := events.AgentOf(subject); !ok || environment != "prod-eu" || agent != "a1" {
			t.Error(environment, agent, ok)
		}
	}
	for _, subject := range []string{"", "lockstep.release.", "lockstep.release.a.b", "lockstep.release.*", "lockstep.live.a", "x.lockstep.release.a"} {
		if name, ok := events.ReleaseEnvironment(subject); ok {
			t.Errorf("%q names %q", subject, name)
		}
	}
	for _, subject := range []string{"", "lockstep.ack.a", "lockstep.ack.a.b.c", "lockstep.ack.a.", "lockstep.beat..b", "lockstep.release.a.b", "lockstep.ack.*.>"} {
		if environment, agent, ok := events.AgentOf(subject); ok {
			t.Errorf("%q names %q %q", subject, environment, agent)
		}
	}
}
