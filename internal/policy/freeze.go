package policy

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/teambition/rrule-go"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// horizon is how far ahead freezes that follow on one another are looked at: what is frozen for longer is looked at again then.
const horizon = 2 * 366 * 24 * time.Hour

// A freeze is the times in which a policy makes releases wait. A rule has all of its beginnings read once, as far as they are asked for.
type freeze struct {
	lasts time.Duration

	mu    sync.Mutex
	next  func() (begins time.Time, more bool)
	read  time.Time // the newest beginning that was read
	times []span    // in order; those that meet or overlap are one
	ended bool      // there are no more
}

type span struct{ begins, ends time.Time }

// newFreeze reads a freeze; nil of nil. Rules that repeat more often than daily, or name minutes, are refused: reading them costs more
// than a freeze is worth.
func newFreeze(f *registry.Freeze) (*freeze, error) {
	if f == nil {
		return nil, nil
	}
	start, lasts, err := f.Times()
	if err != nil {
		return nil, err
	}
	if f.RRule == "" {
		return &freeze{lasts: lasts, times: []span{{start, start.Add(lasts)}}, ended: true}, nil
	}
	const most = 256
	option, err := rrule.StrToROptionInLocation(f.RRule, start.Location())
	switch {
	case len(f.RRule) > most:
		return nil, fmt.Errorf("the rule has %d characters; at most %d are read", len(f.RRule), most)
	case err != nil:
		return nil, fmt.Errorf("%q is no rule of recurrence: %w; write it as in FREQ=WEEKLY;BYDAY=FR", f.RRule, err)
	case option.Freq > rrule.DAILY:
		return nil, errors.New("a freeze repeats daily, weekly, monthly or yearly")
	case len(option.Byhour)+len(option.Byminute)+len(option.Bysecond)+len(option.Bysetpos)+len(option.Byeaster) > 0:
		return nil, errors.New("BYHOUR, BYMINUTE, BYSECOND, BYSETPOS and BYEASTER are not read: the freeze begins at the time of day of its start")
	case strings.Contains(strings.ToUpper(f.RRule), "DTSTART"):
		return nil, errors.New("DTSTART stands in the rule; write it as start")
	}
	option.Dtstart = start
	rule, err := rrule.NewRRule(*option)
	if err != nil {
		return nil, fmt.Errorf("%q is no rule of recurrence: %w", f.RRule, err)
	}
	return &freeze{lasts: lasts, next: rule.Iterator()}, nil
}

// end is when the freeze is over in which a time lies, at most the horizon ahead; zero where it lies in none.
func (f *freeze) end(at time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	far := at.Add(horizon)
	f.readTo(far)
	i := sort.Search(len(f.times), func(i int) bool { return f.times[i].ends.After(at) })
	switch {
	case i == len(f.times) || f.times[i].begins.After(at):
		return time.Time{}
	case f.times[i].ends.After(far):
		return far // however much of it was read
	}
	return f.times[i].ends
}

// readTo reads every beginning up to a time.
func (f *freeze) readTo(at time.Time) {
	for !f.ended && !f.read.After(at) {
		begins, more := f.next()
		if !more {
			f.ended = true
			return
		}
		f.read = begins
		if n := len(f.times); n > 0 && !begins.After(f.times[n-1].ends) {
			f.times[n-1].ends = begins.Add(f.lasts)
			continue
		}
		f.times = append(f.times, span{begins, begins.Add(f.lasts)})
	}
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
	for far := at.Add(horizon); at.Before(far); {
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
