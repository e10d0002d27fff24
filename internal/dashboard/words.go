package dashboard

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

// A section is an entry of the navigation.
type section struct{ Name, Title, Address string }

func sections() []section {
	return []section{
		{"overview", "Overview", "/"},
		{"changes", "Changes", "/changes"},
	}
}

// A listing is a table of environments. ID tells it from others on the page.
type listing struct {
	ID, Caption string
	Rows        []row
}

func table(id, caption string, rows []row) listing { return listing{id, caption, rows} }

// count is a number with its noun.
func count(of any, one, many string) string {
	n := number(of)
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// thousands is a number with its digits in groups.
func thousands(of any) string {
	s := fmt.Sprint(number(of))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func number(of any) uint64 {
	if v := reflect.ValueOf(of); v.CanUint() {
		return v.Uint()
	} else {
		return uint64(max(0, v.Int()))
	}
}

// skew is how far a clock is off, where that is more than the bus's delay.
func skew(seconds float64) string {
	if math.Abs(seconds) < 1 {
		return "ok"
	}
	sign := "+"
	if seconds < 0 {
		sign = "−"
	}
	return sign + fleet.Span(math.Abs(seconds))
}

// long says whether a value is not shown whole.
func long(v json.RawMessage) bool { return len([]rune(string(v))) > mostShown }

// kebab makes words a class of the style sheet.
func kebab(s string) string { return strings.ReplaceAll(s, " ", "-") }

// phaseList are the phases with their words, for legends.
func phaseList() (out [][2]string) {
	for _, phase := range shownPhases {
		out = append(out, [2]string{string(phase), phaseWords[phase]})
	}
	return out
}
