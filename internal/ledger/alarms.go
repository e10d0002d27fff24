package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// longestSilence is how far ahead a silence may end.
	longestSilence = 30 * 24 * time.Hour
	// maxSilences is how many may last at once.
	maxSilences = 200
	// keptAcknowledgements is how many are kept, the newest: alarms end.
	keptAcknowledgements = 1000
)

// An AcknowledgeAlarm says who takes care of an alarm. What alarms there are is not in the ledger: whoever looks at one finds what was said
// of its id and environment.
type AcknowledgeAlarm struct {
	Alarm       string `json:"alarm" minLength:"1" maxLength:"64" doc:"its id"`
	Environment string `json:"environment,omitempty" maxLength:"63" doc:"that it is about; empty where it is about none"`
	Reason      string `json:"reason" doc:"why, or what is done"`
}

func (AcknowledgeAlarm) name() string { return "acknowledge-alarm" }

func (a AcknowledgeAlarm) decide(d *decision) error {
	if err := checkLine("the alarm", a.Alarm, 64); err != nil {
		return err
	}
	if err := demand("the reason", a.Reason); err != nil {
		return err
	}
	if a.Alarm == "" {
		return refuse(KindInvalid, "list alarms with 'publisher alarms'", "it is not said which alarm")
	}
	if _, found := d.Environments[a.Environment]; !found && a.Environment != "" {
		return refuse(KindNotFound, "list them with 'publisher env list'", "there is no environment %q", clip(a.Environment, 64))
	}
	d.record(events.TypeAlarmAcknowledged, a.Alarm, &events.AlarmAcknowledged{Alarm: a.Alarm, Environment: a.Environment, By: d.by, Reason: a.Reason})
	return nil
}

// An Acknowledgement is who takes care of an alarm.
type Acknowledgement struct {
	Alarm, Environment string
	By, Reason         string
	Time               time.Time
}

// SilenceAlarms keeps alarms from being sent until a time.
type SilenceAlarms struct {
	Environment string    `json:"environment" minLength:"1" maxLength:"63" doc:"a name, or a pattern as prod-*; * is everything, and what is about no environment too"`
	Rule        string    `json:"rule,omitempty" maxLength:"64" doc:"only alarms of this rule; default all"`
	Until       time.Time `json:"until" doc:"at most 30 days ahead"`
	Reason      string    `json:"reason" doc:"why"`
}

func (SilenceAlarms) name() string { return "silence-alarms" }

func (q SilenceAlarms) decide(d *decision) error {
	if err := demand("the reason", q.Reason); err != nil {
		return err
	}
	if err := errors.Join(checkLine("the environment", q.Environment, 64), checkLine("the rule", q.Rule, 64)); err != nil {
		return err
	}
	switch {
	case q.Environment == "":
		return refuse(KindInvalid, "name one, or a pattern as prod-*", "it is not said of which environments")
	case !q.Until.After(d.now) || q.Until.Sub(d.now) > longestSilence:
		return refuse(KindInvalid, "", "a silence ends later than now, and within 30 days")
	case len(d.SilencesAt(d.now)) >= maxSilences:
		return refuse(KindConflict, "end some with 'publisher alarms unsilence'", "there are %d silences already", maxSilences)
	}
	d.record(events.TypeAlarmsSilenced, q.Environment, &events.AlarmsSilenced{Environment: q.Environment, Rule: q.Rule, Until: events.Stamp(q.Until), By: d.by, Reason: q.Reason})
	return nil
}

// A Silence keeps alarms from being sent until a time. It is named by the entry that made it.
type Silence struct {
	Entry       uint64
	Environment string // pattern
	Rule        string // empty: all
	Until       time.Time
	By, Reason  string
	Time        time.Time
}

// ID is what people call it.
func (q Silence) ID() string { return "s" + strconv.FormatUint(q.Entry, 10) }

// An EndSilence ends a silence before its time.
type EndSilence struct {
	Silence uint64 `json:"silence" doc:"the entry that made it"`
}

func (EndSilence) name() string { return "end-silence" }

func (e EndSilence) decide(d *decision) error {
	if !slices.ContainsFunc(d.SilencesAt(d.now), func(q Silence) bool { return q.Entry == e.Silence }) {
		return refuse(KindNotFound, "list silences with 'publisher alarms'", "there is no silence s%d, or it is over", e.Silence)
	}
	d.record(events.TypeSilenceEnded, "s"+strconv.FormatUint(e.Silence, 10), &events.SilenceEnded{Silence: e.Silence, By: d.by})
	return nil
}

// SilencesAt are those that last at a time, as they were made.
func (s *State) SilencesAt(at time.Time) (out []Silence) {
	for _, q := range s.silences {
		if at.Before(q.Until) {
			out = append(out, q)
		}
	}
	return out
}

// Acknowledgements are what was said of alarms, the newest last.
func (s *State) Acknowledgements() []Acknowledgement { return slices.Clone(s.acknowledged) }

// ofAlarms applies what was said of alarms.
func (p *projection) ofAlarms(t events.Type, fact any) error {
	switch f := fact.(type) {
	case *events.AlarmAcknowledged:
		p.acknowledged = append(p.acknowledged, Acknowledgement{Alarm: f.Alarm, Environment: f.Environment, By: f.By, Reason: f.Reason, Time: p.entry.Time})
		p.acknowledged = p.acknowledged[max(0, len(p.acknowledged)-keptAcknowledgements):]
	case *events.AlarmsSilenced:
		p.silences = append(p.SilencesAt(p.entry.Time), Silence{Entry: p.entry.Number, Environment: f.Environment, Rule: f.Rule, Until: f.Until, By: f.By, Reason: f.Reason, Time: p.entry.Time})
	case *events.SilenceEnded:
		i := slices.IndexFunc(p.silences, func(q Silence) bool { return q.Entry == f.Silence })
		if i < 0 {
			return fmt.Errorf("%w: there is no silence s%d to end", ErrBroken, f.Silence)
		}
		p.silences = slices.Delete(slices.Clone(p.silences), i, i+1)
	default:
		return fmt.Errorf("%w: %s is not applied", ErrBroken, t)
	}
	return nil
}

// silence demands somebody who looks after every environment that a pattern matches now, or one of them at least where it matches none.
func (a asking) silence(pattern string) error {
	matched := false
	for _, name := range slices.Sorted(maps.Keys(a.Environments)) {
		if e := a.Environments[name]; !e.Retired && events.Glob(pattern, name) {
			matched = true
			if err := a.agents(name); err != nil {
				return err
			}
		}
	}
	if matched && strings.Trim(pattern, "*") != "" {
		return nil
	}
	return a.somewhere(events.RoleOperator)
}

// acknowledge demands somebody who looks after the environment that an alarm is about; where it is about none, somebody who operates,
// approves or releases anywhere.
func (a asking) acknowledge(environment string) error {
	if environment != "" {
		return a.agents(environment)
	}
	for _, role := range []events.Role{events.RoleApprover, events.RoleReleaseManager, events.RoleAdministrator} {
		if a.Trust().MaySomewhere(a.by, role, a.at) {
			return nil
		}
	}
	return a.somewhere(events.RoleOperator)
}

// silenced is the silence that an entry made; the zero Silence where there is none.
func (s *State) silenced(entry uint64) Silence {
	for _, q := range s.silences {
		if q.Entry == entry {
			return q
		}
	}
	return Silence{}
}
