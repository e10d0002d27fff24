package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// calm is how long something must be well before its episode is over: what comes and goes is one episode.
	calm = time.Minute
	// giveUp is how long a delivery is tried.
	giveUp = 24 * time.Hour
	// keepPast and keepDead bound what is kept of the past.
	keepPast = 100
	keepDead = 200
	// longest is how far ahead a silence may end.
	longest = 30 * 24 * time.Hour
)

// A State is what is known of alarms. Its owner writes it down after each change, and before anything is sent.
type State struct {
	Seen     map[string]time.Time `json:"seen,omitempty"` // since when something is wrong that nobody is told of yet, by subject
	Open     map[string]*Alarm    `json:"open,omitempty"` // by subject
	Past     []Alarm              `json:"past,omitempty"` // newest last
	Silences []Silence            `json:"silences,omitempty"`
	Outbox   []Delivery           `json:"outbox,omitempty"` // oldest first
	Dead     []Delivery           `json:"dead,omitempty"`   // given up, newest last
}

// An Alarm is one episode.
type Alarm struct {
	ID string `json:"id"` // one from the beginning of the episode to its end
	Finding
	Raised       time.Time `json:"raised"`
	Well         time.Time `json:"well,omitzero"`  // since when it is not found any more
	Ended        time.Time `json:"ended,omitzero"` // the episode is over
	Acknowledged *Note     `json:"acknowledged,omitempty"`
	Told         []string  `json:"told,omitempty"` // targets for which it was put into the outbox
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

// A Delivery is one message to one target.
type Delivery struct {
	ID       string    `json:"id"` // of the event
	Target   string    `json:"target"`
	Resolved bool      `json:"resolved,omitempty"` // it says that the episode is over
	Alarm    Alarm     `json:"alarm"`
	Queued   time.Time `json:"queued"`
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"` // not before
	Error    string    `json:"error,omitempty"`
}

// Step takes what is wrong now and says whether the state changed. Fleet says that the findings are of the whole fleet; otherwise they are
// of the ledger alone, and no other episode begins or ends. The ledger's id is a part of every alarm's.
func (s *State) Step(c *Config, ledgerID string, findings []Finding, fleet bool, now time.Time) (changed bool) {
	s.prepare()
	before := len(s.Silences)
	s.Silences = slices.DeleteFunc(s.Silences, func(q Silence) bool { return !now.Before(q.Until) })
	changed = before != len(s.Silences)

	found := map[string]bool{}
	for _, f := range findings {
		found[f.subject()] = true
		changed = s.notice(c, ledgerID, f, now) || changed
	}
	for subject := range s.Seen {
		if !found[subject] {
			delete(s.Seen, subject)
			changed = true
		}
	}
	for _, subject := range slices.Sorted(maps.Keys(s.Open)) {
		if a := s.Open[subject]; !found[subject] && (fleet || a.Rule == Ledger) {
			changed = s.calmDown(subject, a, now) || changed
		}
	}
	return s.tell(c, now) || changed
}

func (s *State) prepare() {
	if s.Seen == nil {
		s.Seen = map[string]time.Time{}
	}
	if s.Open == nil {
		s.Open = map[string]*Alarm{}
	}
}

// notice takes one finding: it is known, or not long enough so, or begins an episode.
func (s *State) notice(c *Config, ledgerID string, f Finding, now time.Time) (changed bool) {
	subject := f.subject()
	after, told := c.patience(f.Rule)
	if a := s.Open[subject]; a != nil {
		changed = !a.Well.IsZero()
		a.Finding, a.Well = f, time.Time{}
		return changed
	}
	if !told {
		return false
	}
	seen, known := s.Seen[subject]
	if !known {
		seen, changed = now, true
		s.Seen[subject] = now
	}
	if f.Rule == Late || f.Rule == Approval || f.Rule == Glass {
		seen = f.Since
	}
	if now.Sub(seen) < after {
		return changed
	}
	delete(s.Seen, subject)
	s.Open[subject] = &Alarm{ID: alarmID(ledgerID, subject, now), Finding: f, Raised: now}
	return true
}

func alarmID(ledgerID, subject string, raised time.Time) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "lockstep alarm v1\n%s\n%s\n%d", ledgerID, subject, raised.UnixNano()))
	return hex.EncodeToString(sum[:6])
}

// calmDown takes that an alarm's reason is not found.
func (s *State) calmDown(subject string, a *Alarm, now time.Time) bool {
	if a.Well.IsZero() {
		a.Well = now
		return true
	}
	if now.Sub(a.Well) < calm {
		return false
	}
	a.Ended = now
	for _, target := range a.Told {
		s.Outbox = append(s.Outbox, Delivery{ID: a.ID + "-resolved", Target: target, Resolved: true, Alarm: *a, Queued: now})
	}
	s.Past = last(append(s.Past, *a), keepPast)
	delete(s.Open, subject)
	return true
}

// tell puts into the outbox what targets are to be told of and were not.
func (s *State) tell(c *Config, now time.Time) (changed bool) {
	for _, subject := range slices.Sorted(maps.Keys(s.Open)) {
		a := s.Open[subject]
		if s.Silenced(a) {
			continue
		}
		for i := range c.Targets {
			if t := &c.Targets[i]; t.wants(a.Finding) && !slices.Contains(a.Told, t.Name) {
				a.Told = append(a.Told, t.Name)
				s.Outbox = append(s.Outbox, Delivery{ID: a.ID, Target: t.Name, Alarm: *a, Queued: now})
				changed = true
			}
		}
	}
	return changed
}

// Silenced says whether an alarm is kept from being sent.
func (s *State) Silenced(a *Alarm) bool {
	return slices.ContainsFunc(s.Silences, func(q Silence) bool {
		return (q.Rule == "" || q.Rule == a.Rule) && matches([]string{q.Environment}, a.Environment)
	})
}

// Due is what is to be sent to a target now; what came before it is taken or given up.
func (s *State) Due(target string, now time.Time) (Delivery, bool) {
	i := s.first(target)
	if i < 0 || now.Before(s.Outbox[i].Next) {
		return Delivery{}, false
	}
	return s.Outbox[i], true
}

func (s *State) first(target string) int {
	return slices.IndexFunc(s.Outbox, func(d Delivery) bool { return d.Target == target })
}

// Took takes what came of sending what was due to a target: nil is that it was taken; what is refused for good is not tried again.
func (s *State) Took(target string, now time.Time, failed error, refused bool) {
	i := s.first(target)
	if i < 0 {
		return
	}
	d := &s.Outbox[i]
	d.Attempts++
	if failed != nil {
		d.Error = failed.Error()
		if !refused && now.Sub(d.Queued) < giveUp {
			d.Next = now.Add(pause(d.Attempts))
			return
		}
		s.Dead = last(append(s.Dead, *d), keepDead)
	}
	s.Outbox = slices.Delete(s.Outbox, i, i+1)
}

// Drop gives up what is to be sent to targets that the configuration does not name any more.
func (s *State) Drop(c *Config) {
	s.Outbox = slices.DeleteFunc(s.Outbox, func(d Delivery) bool {
		gone := !slices.ContainsFunc(c.Targets, func(t Target) bool { return t.Name == d.Target })
		if gone {
			d.Error = "there is no such target any more"
			s.Dead = last(append(s.Dead, d), keepDead)
		}
		return gone
	})
}

// pause is how long is waited after so many tries: a second, doubling, at most five minutes.
func pause(attempts int) time.Duration {
	return min(time.Second<<min(attempts-1, 20), 5*time.Minute)
}

func last[T any](list []T, most int) []T {
	return list[max(0, len(list)-most):]
}
