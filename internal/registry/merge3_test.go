package registry

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// anyValue draws a canonical value of few fields, so that two of them touch each other often; nil is none.
func anyValue(t *rapid.T, name string) json.RawMessage {
	if rapid.IntRange(0, 9).Draw(t, name+" absent") == 0 {
		return nil
	}
	leaf := rapid.SampledFrom([]any{0, 1, "x", []any{1}, map[string]any{}, map[string]any{"p": 1}, map[string]any{"p": 2, "q": 1}})
	object := map[string]any{}
	for _, field := range []string{"a", "b", "c/d"} {
		if rapid.Bool().Draw(t, name+" "+field) {
			object[field] = leaf.Draw(t, name+" value of "+field)
		}
	}
	b, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := events.Canonical(b)
	if err != nil {
		t.Fatal(err)
	}
	return canonical
}

// TestMergingLosesNoneOfTwoEdits: the order of the two does not matter, an edit merged with nothing is itself, and of a merged value every
// leaf is one that somebody wants: mine where I changed it, theirs where they did.
func TestMergingLosesNoneOfTwoEdits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, mine, theirs := anyValue(t, "base"), anyValue(t, "mine"), anyValue(t, "theirs")
		merged, both := Merge(base, mine, theirs)
		other, too := Merge(base, theirs, mine)
		if string(merged) != string(other) || (len(both) > 0) != (len(too) > 0) {
			t.Fatalf("%s, %s and %s merge to %s (%v), and the other way round to %s (%v)", base, mine, theirs, merged, both, other, too)
		}
		for _, alone := range []json.RawMessage{base, mine} {
			if merged, both := Merge(base, mine, alone); string(merged) != string(mine) || len(both) > 0 {
				t.Fatalf("%s to %s over %s is %s (%v)", base, mine, alone, merged, both)
			}
		}
		if len(both) > 0 || base == nil || mine == nil || theirs == nil {
			return
		}
		leaves := func(v json.RawMessage) []Leaf { return (&Quick{Value: v}).leaves() }
		for _, edited := range [][]Leaf{changedLeaves(leaves(base), leaves(mine)), changedLeaves(leaves(base), leaves(theirs))} {
			for _, l := range edited {
				is, there := find(leaves(merged), l.Path)
				if l.Value != nil && string(is.Value) != string(l.Value) && string(l.Value) != "{}" || l.Value == nil && there && string(is.Value) != "{}" {
					t.Fatalf("%s, %s and %s merge to %s: %s is lost", base, mine, theirs, merged, l.Path)
				}
			}
		}
		for _, l := range leaves(merged) {
			wanted := slices.ContainsFunc([]json.RawMessage{base, mine, theirs}, func(v json.RawMessage) bool {
				is, there := find(leaves(v), l.Path)
				return there && string(is.Value) == string(l.Value)
			})
			if !wanted && string(l.Value) != "{}" {
				t.Fatalf("%s, %s and %s merge to %s: nobody said %s", base, mine, theirs, merged, l.Path)
			}
		}
	})
}
