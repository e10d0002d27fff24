package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/teambition/rrule-go"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A freeze is the times in which a policy makes releases wait.
type freeze struct {
	start time.Time
	lasts time.Duration
	rule  *rrule.RRule // nil where it does not repeat
}

// newFreeze reads a freeze; nil of nil. Rules that repeat more often than daily, or name minutes, are refused: reading them costs more
// than a freeze is worth.
func newFreeze(f *registry.Freeze) (*freeze, error) {
	if f == nil {
		return nil, nil
	}
	out := &freeze{}
	var err error
	if out.start, out.lasts, err = f.Times(); err != nil || f.RRule == "" {
		return out, err
	}
	const most = 256
	option, err := rrule.StrToROptionInLocation(f.RRule, out.start.Location())
	switch {
	case len(f.RRule) > most:
		return nil, fmt.Errorf("the rule has %d characters; at most %d are read", len(f.RRule), most)
	case err != nil:
		return nil, fmt.Errorf("%q is no rule of recurrence: %w; write it as in FREQ=WEEKLY;BYDAY=FR", f.RRule, err)
	case option.Freq > rrule.DAILY:
		return nil, errors.New("a freeze repeats daily, weekly, monthly or yearly")
	case len(option.Byminute)+len(option.Bysecond)+len(option.Bysetpos)+len(option.Byeaster) > 0:
		return nil, errors.New("BYMINUTE, BYSECOND, BYSETPOS and BYEASTER are not read: the freeze begins at the time of day of its start")
	case strings.Contains(strings.ToUpper(f.RRule), "DTSTART"):
		return nil, errors.New("DTSTART stands in the rule; write it as start")
	}
	option.Dtstart = out.start
	if out.rule, err = rrule.NewRRule(*option); err != nil {
		return nil, fmt.Errorf("%q is no rule of recurrence: %w", f.RRule, err)
	}
	return out, nil
}

// begun is the newest beginning at a time or before it; zero where there is none.
func (f *freeze) begun(at time.Time) time.Time {
	switch {
	case f.rule != nil:
		return f.rule.Before(at, true)
	case f.start.After(at):
		return time.Time{}
	}
	return f.start
}

// end is when the freeze is over in which a time lies; zero where it lies in none. Times that meet or overlap are one.
func (f *freeze) end(at time.Time) time.Time {
	var end time.Time
	const most = 1000 // freezes in a row
	for range most {
		begun := f.begun(at)
		if begun.IsZero() || !at.Before(begun.Add(f.lasts)) {
			return end
		}
		end = begun.Add(f.lasts)
		at = end
	}
	return end
}

// Frozen says until when a release waits, which would change one environment, and which policy says so; nil where none does. Only the
// policies that are released there count: one that is on its way holds nothing, and one that was taken away in a change of its own holds nothing
// any more. Where rollback is said only freezes count that hold rollbacks too.
func (l *Library) Frozen(e Environment, c *Change, at time.Time, rollback bool) *events.Frozen {
	j := newJudge(Request{Change: c, Environments: []Environment{e}})
	freezes := slices.DeleteFunc(l.freezes(e.Released), func(p *Policy) bool {
		return rollback && !p.spec.Freeze.Rollbacks || !p.inEnvironment(&e) || !j.fires(p, &e)
	})
	var out *events.Frozen
	const most = 1000 // freezes in a row
	for range most {
		i := slices.IndexFunc(freezes, func(p *Policy) bool { return !p.freeze.end(at).IsZero() })
		if i < 0 {
			break
		}
		p := freezes[i]
		at = p.freeze.end(at)
		place := p.Manifest.PlaceOf("/spec/freeze")
		out = &events.Frozen{Environment: e.Name, Until: events.Stamp(at), Policy: p.Name(), File: place.File, Line: place.Line}
	}
	return out
}

// freezes are the policies of sources that hold a freeze; one that a rollback left in pieces holds none.
func (l *Library) freezes(s *registry.Sources) []*Policy {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*Policy
	for _, m := range policies(s) {
		if spec := m.Policy(); spec == nil || spec.Freeze == nil {
			continue
		}
		p, known := l.compiled[m]
		if !known {
			var err error
			if p, err = Compile(m); err != nil {
				continue
			}
			if l.compiled == nil {
				l.compiled = map[*registry.Manifest]*Policy{}
			}
			l.compiled[m] = p
		}
		out = append(out, p)
	}
	return out
}

// fires says whether a policy fires on an operation at least.
func (j *judge) fires(p *Policy, e *Environment) bool {
	environment := e.record()
	for o := range e.Operations {
		if !p.matches(&o) {
			continue
		}
		if a := p.judge(&subject{operation: &o, in: e, environment: environment, change: j.change}); a.matched && len(a.fired) > 0 {
			return true
		}
	}
	return false
}
