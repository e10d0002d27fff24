package dashboard

import (
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

// A section is an entry of the navigation.
type section struct{ Name, Title, Address string }

func sections() []section {
	return []section{
		{"overview", "Overview", "/"},
		{"propagation", "Propagation", "/propagation"},
		{"changes", "Changes", "/changes"},
		{"approvals", "Approvals", "/approvals"},
		{"alarms", "Alarms", "/alarms"},
		{"flags", "Flags", "/flags"},
		{"delivery", "Delivery", "/delivery"},
		{"audit", "Audit", "/audit"},
	}
}

// A listing is a table of environments. ID tells it from others on the page.
type listing struct {
	ID, Caption string
	Groups      []group
}

func table(id, caption string, rows []row) listing {
	return listing{id, caption, []group{{Rows: rows}}}
}

func grouped(id, caption string, groups []group) listing { return listing{id, caption, groups} }

// count is a number with its noun.
func count(of any, one, many string) string {
	n := number(of)
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// narrow is a space that keeps the digits of a number together.
const narrow = '\u202f'

// thousands is a number with its digits in groups.
func thousands(of any) string {
	s := fmt.Sprint(number(of))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + string(narrow) + s[i:]
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

// long says whether a value is not shown whole.
func long(v json.RawMessage) bool { return cut(string(v), mostShown) < len(v) }

// kebab makes words a class of the style sheet.
func kebab(s string) string { return strings.ReplaceAll(s, " ", "-") }

// few names some of many.
func few(names []string) template.HTML {
	const most = 6
	var out []string
	for i, name := range names {
		if i == most {
			return template.HTML(strings.Join(out, ", ") + " and " + thousands(len(names)-most) + " more") // of escaped text
		}
		out = append(out, string(brief(name)))
	}
	return template.HTML(strings.Join(out, ", ")) // of escaped text
}

// parts names the environments of a change.
func parts(of []fleet.ChangeEnvironment) template.HTML {
	var names []string
	for _, e := range of {
		names = append(names, e.Environment)
	}
	return few(names)
}

// day is a date.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// bound is the upper end of a bin.
func bound(seconds float64) string {
	if math.IsInf(seconds, 1) {
		return "more"
	}
	return fleet.Span(seconds)
}

// A report is a table of the delivery report.
type report struct {
	Head string
	Rows []fleet.Deliveries
	Most int // changes of a row
}

func rows(head string, of []fleet.Deliveries) report {
	out := report{Head: head, Rows: of}
	for _, d := range of {
		out.Most = max(out.Most, d.Changes)
	}
	return out
}

// fares are the weeks of a delivery report, newest first.
func fares(head string, of fleet.DeliveryReport) report {
	var all []fleet.Deliveries
	for _, w := range slices.Backward(of.Weeks) {
		w.Name = day(w.From)
		all = append(all, w.Deliveries)
	}
	return rows(head, all)
}

// phaseList are the phases with their words, for legends.
func phaseList() (out [][2]string) {
	for _, phase := range shownPhases {
		out = append(out, [2]string{string(phase), phaseWords[phase]})
	}
	return out
}
