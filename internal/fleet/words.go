package fleet

import (
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Span is a length of time with as many digits as people read: the same on every screen.
func Span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Millisecond && d > 0:
		return "<1ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	case d < time.Minute:
		return strings.TrimSuffix(strconv.FormatFloat(d.Seconds(), 'f', 1, 64), ".0") + "s"
	case d < time.Hour:
		return shorten(d.Round(time.Second))
	case d < 48*time.Hour:
		return shorten(d.Round(time.Minute))
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// shorten leaves out the seconds and minutes that are none: 1m0s is 1m, and 1h0m0s is 1h.
func shorten(d time.Duration) string {
	s := d.String()
	for _, none := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, none) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// String says a measured lag as people read it; a nil one was not measured.
func (d *Duration) String() string {
	switch {
	case d == nil:
		return "-"
	case d.AtMost:
		return "≤" + Span(d.Seconds)
	}
	return Span(d.Seconds)
}

// Alive is how many of the environment's agents were heard within three beats.
func (e Environment) Alive(asOf time.Time) (alive int) {
	for _, a := range e.Agents {
		if a.Heard(asOf) {
			alive++
		}
	}
	return alive
}

// Heard says whether the agent was heard within three beats.
func (a Agent) Heard(asOf time.Time) bool {
	return !a.LastSeen.IsZero() && asOf.Sub(a.LastSeen) <= SilentAfter
}

// Skew is how far the agent's clock is off, as people read it; "" where that may be the way of its beat.
func (a Agent) Skew() string {
	switch {
	case a.ClockSkew >= 1:
		return "+" + Span(a.ClockSkew)
	case a.ClockSkew <= -1:
		return "−" + Span(-a.ClockSkew)
	}
	return ""
}

// Clocks says whose clocks are off, and how far; "" where none is.
func (e Environment) Clocks() string {
	var off []string
	for _, a := range e.Agents {
		if skew := a.Skew(); skew != "" {
			off = append(off, "of "+a.Name+" by "+skew)
		}
	}
	if off == nil {
		return ""
	}
	return "clock off: " + strings.Join(off, ", ")
}

// Differs says that the agent found other values in its instance than it applied: its digest is what it applied, and not what is there.
func (a Agent) Differs() bool { return a.Drift > 0 || a.Reason == events.ReasonReadBack }

// A Match says whether the state that agents hold is the ledger's.
type Match string

// The outcomes of comparing digests, worst first.
const (
	MatchDiffers Match = "differs"       // an agent holds, or its instance shows, another state than the ledger's at its revision
	MatchUnknown Match = "unknown"       // no agent, or one that has applied nothing, is not heard, or is torn
	MatchUnread  Match = "not read back" // applied, by a connector that cannot observe
	MatchYes     Match = "matches"       // read back as the ledger says
)

// Digests compares the state digests of an environment's agents with the ledger's at their revisions.
func (e Environment) Digests() Match {
	out := MatchYes
	if len(e.Agents) == 0 {
		return MatchUnknown
	}
	for _, a := range e.Agents {
		switch {
		case a.Condition == Differing:
			return MatchDiffers
		case a.Condition == Silent || a.Condition == Torn || a.Revision == 0:
			out = MatchUnknown
		case !a.ReadBack && out == MatchYes:
			out = MatchUnread
		}
	}
	return out
}
