package fold_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// The vectors were made by another program from the definition, and are never updated.
type stateVector struct {
	What   string                     `json:"what"`
	Values map[string]json.RawMessage `json:"values"` // canonical JSON
	Digest string                     `json:"digest"`
}

func TestGoldenStateDigests(t *testing.T) {
	b, err := os.ReadFile("testdata/v1/state.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []stateVector
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		var s fold.State
		for key, value := range v.Values {
			canonical, err := events.Canonical(value)
			if err != nil {
				t.Fatal(err)
			}
			s.Set(key, fold.Resource{Value: canonical, Setter: events.Sum(nil)})
		}
		if got := s.Digest().String(); got != v.Digest {
			t.Errorf("%s: %s, want %s", v.What, got, v.Digest)
		}
		if got := byDefinition(s.Values()).String(); got != v.Digest {
			t.Errorf("%s: by definition %s, want %s", v.What, got, v.Digest)
		}
	}
}

// byDefinition is the state digest as ARCHITECTURE.md defines it, without buckets that are kept.
func byDefinition(values map[string]json.RawMessage) events.Digest {
	buckets := map[byte]map[events.Digest]events.Digest{}
	for key, value := range values {
		hash := events.Sum([]byte(key))
		if buckets[hash[0]] == nil {
			buckets[hash[0]] = map[events.Digest]events.Digest{}
		}
		buckets[hash[0]][hash] = events.Sum(value)
	}
	var all []byte
	for first := range 256 {
		var content []byte
		items := buckets[byte(first)]
		for len(items) > 0 { // in order: the smallest first
			var least events.Digest
			for hash := range items {
				if least.IsZero() || hash.String() < least.String() {
					least = hash
				}
			}
			value := items[least]
			content = append(append(content, least[:]...), value[:]...)
			delete(items, least)
		}
		bucket := events.Sum(content)
		all = append(all, bucket[:]...)
	}
	return events.Sum(all)
}

func anyKey() *rapid.Generator[string] {
	return rapid.Map(rapid.IntRange(0, 9), func(i int) string { return fmt.Sprintf("variable/k%d", i) })
}

func anyResource() *rapid.Generator[fold.Resource] {
	return rapid.Custom(func(t *rapid.T) fold.Resource {
		var r fold.Resource
		if i := rapid.IntRange(0, 4).Draw(t, "value"); i > 0 {
			r.Value = json.RawMessage(fmt.Sprint(i))
		}
		if i := rapid.IntRange(0, 3).Draw(t, "setter"); i > 0 || r.Value != nil {
			r.Setter = events.Sum([]byte{byte(i)})
		}
		return r
	})
}

func TestStateDigestIsBlindToHistoryAndTombstones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s fold.State
		model := map[string]fold.Resource{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			key, r := anyKey().Draw(t, "key"), anyResource().Draw(t, "resource")
			s.Set(key, r)
			model[key] = r
			if r.Value == nil && r.Setter.IsZero() {
				delete(model, key)
			}
			if rapid.Bool().Draw(t, "look") {
				s.Digest()
			}
		}
		values := map[string]json.RawMessage{}
		var fresh fold.State
		for key, r := range model {
			if got, ok := s.Get(key); !ok || string(got.Value) != string(r.Value) || got.Setter != r.Setter {
				t.Fatalf("%s is %+v, want %+v", key, got, r)
			}
			if r.Value != nil {
				values[key] = r.Value
				fresh.Set(key, fold.Resource{Value: r.Value})
			}
		}
		if got, want := s.Digest(), byDefinition(values); got != want || fresh.Digest() != want {
			t.Fatalf("digest %s, without history %s, by definition %s", got, fresh.Digest(), want)
		}
		last, count := "", 0
		for key := range s.All() {
			if key <= last {
				t.Fatalf("%s after %s", key, last)
			}
			last = key
			count++
		}
		if count != len(model) || len(s.Values()) != len(values) {
			t.Fatalf("%d resources and %d values, want %d and %d", count, len(s.Values()), len(model), len(values))
		}
	})
}

func TestWithIsTheDigestOfWhatWouldBeAndChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s fold.State
		for range rapid.IntRange(0, 10).Draw(t, "resources") {
			s.Set(anyKey().Draw(t, "key"), anyResource().Draw(t, "resource"))
		}
		before := s.Digest()
		wanted, replaced := s.Values(), map[string]json.RawMessage{}
		for range rapid.IntRange(0, 5).Draw(t, "replaced") {
			key, value := anyKey().Draw(t, "key"), anyResource().Draw(t, "there").Value
			replaced[key] = value
			wanted[key] = value
			if value == nil {
				delete(wanted, key)
			}
		}
		resources := map[string]fold.Resource{}
		for key, r := range s.All() {
			resources[key] = r
		}
		if got, want := s.With(replaced), byDefinition(wanted); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		count := 0
		for key, r := range s.All() {
			count++
			if string(r.Value) != string(resources[key].Value) || r.Setter != resources[key].Setter {
				t.Fatalf("%s is %+v, was %+v", key, r, resources[key])
			}
		}
		if s.Digest() != before || count != len(resources) {
			t.Fatal("looking changed the state")
		}
	})
}

// TestStatesThatDifferHaveOtherDigests: neither keys nor values can be exchanged.
func TestStatesThatDifferHaveOtherDigests(t *testing.T) {
	seen := map[events.Digest]string{}
	for _, values := range []map[string]string{
		{}, {"variable/a": `1`}, {"variable/b": `1`}, {"variable/a": `2`}, {"variable/a": `null`}, {"variable/a": `"1"`},
		{"variable/a": `1`, "variable/b": `2`}, {"variable/a": `2`, "variable/b": `1`}, {"flag/a": `1`},
	} {
		var s fold.State
		for key, value := range values {
			s.Set(key, fold.Resource{Value: json.RawMessage(value)})
		}
		if other, found := seen[s.Digest()]; found {
			t.Errorf("%v and %s have one digest", values, other)
		}
		seen[s.Digest()] = fmt.Sprint(values)
	}
}
