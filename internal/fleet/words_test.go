package fleet_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

func TestAChangedValueIsShownMemberByMember(t *testing.T) {
	for _, c := range []struct{ before, after, want string }{
		{`{"a":1,"b":{"c":"x","d":[1,2]}}`, `{"a":1,"b":{"c":"y","d":[1,2,3]}}`, `/b/c "x" "y"; /b/d [1,2] [1,2,3]; `},
		{`{"a/b":1}`, `{"a/b":1,"m~n":2}`, `/m~0n  2; `},
		{`1`, `{"a":1}`, ` 1 {"a":1}; `},
		{``, `"new"`, `  "new"; `},
		{`"old"`, ``, ` "old" ; `},
		{`{"a":1}`, `{"a":1}`, ``},
	} {
		got := ""
		for _, d := range (fleet.OperationView{Before: json.RawMessage(c.before), After: json.RawMessage(c.after)}).Differences() {
			got += fmt.Sprintf("%s %s %s; ", d.Path, d.Before, d.After)
		}
		if got != c.want {
			t.Errorf("%s to %s: %q, want %q", c.before, c.after, got, c.want)
		}
	}
}

// TestAChangeIsNeverShownAsNone: what changes a value changes it somewhere.
func TestAChangeIsNeverShownAsNone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.Custom(func(t *rapid.T) json.RawMessage {
			b, err := json.Marshal(map[string]any{
				rapid.SampledFrom([]string{"a", "b/c", "~"}).Draw(t, "name"): rapid.IntRange(0, 2).Draw(t, "value"),
				"z": map[string]any{"y": rapid.IntRange(0, 1).Draw(t, "inner")},
			})
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
		before, after := value.Draw(t, "before"), value.Draw(t, "after")
		some := len(fleet.OperationView{Before: before, After: after}.Differences()) > 0
		if some != (string(before) != string(after)) {
			t.Errorf("%s to %s: differences %v", before, after, some)
		}
	})
}

func TestOfManyDifferencesAllOfTheValueIsShown(t *testing.T) {
	many := map[string]int{}
	for i := range 100 {
		many[fmt.Sprint(i)] = i
	}
	after, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	got := fleet.OperationView{Before: json.RawMessage(`{}`), After: after}.Differences()
	if len(got) != 1 || got[0].Path != "" || string(got[0].After) != string(after) {
		t.Errorf("%d differences", len(got))
	}
}

func TestAClockThatIsOffIsNamedWithHowFar(t *testing.T) {
	for skew, want := range map[float64]string{0: "", 0.9: "", -0.9: "", 30.04: "clock off: of a by +30s", -3600: "clock off: of a by −1h", 3599.7: "clock off: of a by +1h"} {
		e := fleet.Environment{Agents: []fleet.Agent{{Name: "a", ClockSkew: skew}, {Name: "b"}}}
		if got := e.Clocks(); got != want {
			t.Errorf("%v: %q, want %q", skew, got, want)
		}
	}
	both := fleet.Environment{Agents: []fleet.Agent{{Name: "a", ClockSkew: 2}, {Name: "b", ClockSkew: -2}}}
	if got := both.Clocks(); got != "clock off: of a by +2s, of b by −2s" {
		t.Errorf("of both: %q", got)
	}
}

func TestSpansReadAsPeopleSayThem(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0ms", 0.0001: "<1ms", 0.034: "34ms", 1: "1s", 1.25: "1.2s", 59.96: "60s", 60: "1m", 3600: "1h", 3725: "1h2m", 200000: "2d"} {
		if got := fleet.Span(seconds); got != want {
			t.Errorf("%v: %q, want %q", seconds, got, want)
		}
	}
}
