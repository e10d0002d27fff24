package notify

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// ErrUnknown says that there is no open alarm, or no silence, of that id.
var ErrUnknown = errors.New("nothing open has that id; list alarms and silences with 'publisher alarms'")

// ErrInvalid says that what a person asks makes no sense.
var ErrInvalid = errors.New("this cannot be done")

// Acknowledge notes who takes care of an open alarm. An id may be shortened where that is unambiguous.
func (s *State) Acknowledge(id, by, reason string, now time.Time) (Alarm, error) {
	if strings.TrimSpace(reason) == "" {
		return Alarm{}, fmt.Errorf("%w: say why", ErrInvalid)
	}
	var found *Alarm
	for _, a := range s.Open {
		if id != "" && strings.HasPrefix(a.ID, id) {
			if found != nil {
				return Alarm{}, fmt.Errorf("%w: %q begins more than one id", ErrInvalid, id)
			}
			found = a
		}
	}
	if found == nil {
		return Alarm{}, ErrUnknown
	}
	found.Acknowledged = &Note{By: by, Reason: reason, Time: now}
	return *found, nil
}

// Quiet keeps alarms from being sent: those of environments that match a pattern, of a rule or of all.
func (s *State) Quiet(environment string, rule Rule, until time.Time, by, reason string, now time.Time) (Silence, error) {
	switch _, err := path.Match(environment, "x"); {
	case err != nil || environment == "":
		return Silence{}, fmt.Errorf("%w: %q is no pattern of environments", ErrInvalid, environment)
	case strings.TrimSpace(reason) == "":
		return Silence{}, fmt.Errorf("%w: say why", ErrInvalid)
	case !until.After(now) || until.Sub(now) > longest:
		return Silence{}, fmt.Errorf("%w: a silence ends later than now, and within 30 days", ErrInvalid)
	}
	if rule != "" {
		if err := checkRule(string(rule)); err != nil {
			return Silence{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	q := Silence{ID: "s" + alarmID(environment, string(rule)+by, now)[:6], Environment: environment, Rule: rule, Until: until.UTC(), Note: Note{By: by, Reason: reason, Time: now}}
	s.Silences = append(s.Silences, q)
	return q, nil
}

// Speak ends a silence before its time.
func (s *State) Speak(id string) error {
	i := slices.IndexFunc(s.Silences, func(q Silence) bool { return q.ID == id })
	if i < 0 {
		return ErrUnknown
	}
	s.Silences = slices.Delete(s.Silences, i, i+1)
	return nil
}

// An Overview is what people see of a State.
type Overview struct {
	Open     []ShownAlarm `json:"open"`     // oldest first
	Past     []Alarm      `json:"past"`     // newest first
	Silences []Silence    `json:"silences"` // as they were made
	Waiting  []Delivery   `json:"waiting"`  // to be sent
	Dead     []Delivery   `json:"dead"`     // given up, newest first
}

// A ShownAlarm is an open alarm, and whether it is silenced.
type ShownAlarm struct {
	Alarm
	Silenced bool `json:"silenced"`
}

// View shows the state. What it holds is its own.
func (s *State) View() Overview {
	v := Overview{Open: []ShownAlarm{}, Past: []Alarm{}, Silences: append([]Silence{}, s.Silences...), Waiting: append([]Delivery{}, s.Outbox...), Dead: []Delivery{}}
	for _, a := range s.Open {
		v.Open = append(v.Open, ShownAlarm{*a, s.Silenced(a)})
	}
	slices.SortFunc(v.Open, func(a, b ShownAlarm) int {
		if c := a.Raised.Compare(b.Raised); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	v.Past = append(v.Past, s.Past...)
	v.Dead = append(v.Dead, s.Dead...)
	slices.Reverse(v.Past)
	slices.Reverse(v.Dead)
	return v
}
