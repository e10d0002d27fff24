package notify

import (
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Said is what people said of alarms, as the ledger has it.
type Said struct {
	Silences     []ledger.Silence
	Acknowledged []ledger.Acknowledgement // the newest last
}

// SaidIn is what a ledger has of it at a time.
func SaidIn(s *ledger.State, now time.Time) Said {
	return Said{Silences: s.SilencesAt(now), Acknowledged: s.Acknowledgements()}
}

// silencedUntil is when the last silence ends that keeps an alarm from being sent; the zero time where none does.
func (s Said) silencedUntil(a *Alarm, now time.Time) (until time.Time) {
	for _, q := range s.Silences {
		if q.Until.After(now) && q.Until.After(until) && (q.Rule == "" || q.Rule == string(a.Rule)) && events.Glob(q.Environment, a.Environment) {
			until = q.Until
		}
	}
	return until
}

// silences says whether an alarm is kept from being sent.
func (s Said) silences(a *Alarm, now time.Time) bool { return !s.silencedUntil(a, now).IsZero() }

// acknowledged is who took care of an alarm last, by their own word; nil where nobody did. What was said of another environment's is none:
// whoever said that may be nobody who looks after this one.
func (s Said) acknowledged(a *Alarm) *Note {
	for _, k := range slices.Backward(s.Acknowledged) {
		if k.Alarm == a.ID && k.Environment == a.Environment {
			return &Note{By: k.By, Reason: k.Reason, Time: k.Time}
		}
	}
	return nil
}

// A Note is who said something when, and why.
type Note struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// A Silence keeps alarms from being sent until a time. Those that are still open then are sent then.
type Silence struct {
	ID          string    `json:"id"`
	Environment string    `json:"environment"`    // pattern
	Rule        Rule      `json:"rule,omitempty"` // empty: all
	Until       time.Time `json:"until"`
	Note
}

// An Overview is what people see of alarms.
type Overview struct {
	Open     []ShownAlarm `json:"open"`     // oldest first
	Past     []Alarm      `json:"past"`     // newest first
	Silences []Silence    `json:"silences"` // as they were made
	Waiting  []Delivery   `json:"waiting"`  // to be sent
	Dead     []Delivery   `json:"dead"`     // given up, newest first
}

// A ShownAlarm is an open alarm with what was said of it.
type ShownAlarm struct {
	Alarm
	Acknowledged *Note `json:"acknowledged,omitempty"` // who takes care of it
	Silenced     bool  `json:"silenced"`
}

// View shows states together, and what was said of what is in them. What it holds is its own.
func View(said Said, now time.Time, states ...*State) Overview {
	v := Overview{Open: []ShownAlarm{}, Past: []Alarm{}, Silences: []Silence{}, Waiting: []Delivery{}, Dead: []Delivery{}}
	for _, q := range said.Silences {
		v.Silences = append(v.Silences, Silence{ID: q.ID(), Environment: q.Environment, Rule: Rule(q.Rule), Until: q.Until, Note: Note{By: q.By, Reason: q.Reason, Time: q.Time}})
	}
	for _, s := range states {
		for _, a := range s.Open {
			v.Open = append(v.Open, ShownAlarm{*a, said.acknowledged(a), said.silences(a, now)})
		}
		v.Past, v.Waiting, v.Dead = append(v.Past, s.Past...), append(v.Waiting, s.Outbox...), append(v.Dead, s.Dead...)
	}
	slices.SortFunc(v.Open, func(a, b ShownAlarm) int {
		if c := a.Raised.Compare(b.Raised); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	slices.SortStableFunc(v.Past, func(a, b Alarm) int { return b.Ended.Compare(a.Ended) })
	slices.SortStableFunc(v.Dead, func(a, b Delivery) int { return b.GivenUp.Compare(a.GivenUp) })
	return v
}
