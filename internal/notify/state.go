package notify

import (
	"cmp"
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
	// passedOver is how often a target takes another message than one that it did not, until that comes last.
	passedOver = 2
	// longestRest is how long a receiver is left alone at most, whatever it asks for.
	longestRest = time.Hour
)

// A State is what is known of alarms. Its owner writes it down after each change, and before anything is sent.
type State struct {
	Seen   map[string]time.Time `json:"seen,omitempty"`   // since when something is wrong that nobody is told of yet, by subject
	Open   map[string]*Alarm    `json:"open,omitempty"`   // by subject
	Past   []Alarm              `json:"past,omitempty"`   // newest last
	Outbox []Delivery           `json:"outbox,omitempty"` // oldest first
	Dead   []Delivery           `json:"dead,omitempty"`   // given up, newest last
	Rests  map[string]Rest      `json:"rests,omitempty"`  // targets that did not take what was sent last
}

// An Alarm is one episode.
type Alarm struct {
	ID string `json:"id"` // one from the beginning of the episode to its end
	Finding
	Raised time.Time `json:"raised"`
	Well   time.Time `json:"well,omitzero"`  // since when it is not found any more
	Ended  time.Time `json:"ended,omitzero"` // the episode is over
	Told   []string  `json:"told,omitempty" doc:"targets that took the message that it began"`
	Missed []string  `json:"missed,omitempty" doc:"targets that did not take it, and are not told any more: they refused it, or did not take it for a day"`
}

// A Rest is for how long a target is left alone.
type Rest struct {
	Failures int       `json:"failures"` // one after the other
	Until    time.Time `json:"until"`
}

// A Delivery is one message to one target.
type Delivery struct {
	ID       string    `json:"id"` // of the event
	Target   string    `json:"target"`
	Resolved bool      `json:"resolved,omitempty"` // it says that the episode is over
	Alarm    Alarm     `json:"alarm"`
	Queued   time.Time `json:"queued"`
	Held     time.Time `json:"held,omitzero" doc:"it is kept back until then by a silence"`
	Attempts int       `json:"attempts,omitempty"`
	Passed   int       `json:"passed,omitempty" doc:"how often the target took another message that was tried instead"`
	Error    string    `json:"error,omitempty"`
	GivenUp  time.Time `json:"givenUp,omitzero"`
}

// Step takes what is wrong now and says whether the state changed. The ledger's id is a part of every alarm's.
func (s *State) Step(c *Config, ledgerID string, findings []Finding, said Said, now time.Time) (changed bool) {
	s.prepare()
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
		if !found[subject] {
			changed = s.calmDown(subject, s.Open[subject], now) || changed
		}
	}
	changed = s.hold(said, now) || changed
	return s.tell(c, said, now) || changed
}

func (s *State) prepare() {
	if s.Seen == nil {
		s.Seen = map[string]time.Time{}
	}
	if s.Open == nil {
		s.Open = map[string]*Alarm{}
	}
	if s.Rests == nil {
		s.Rests = map[string]Rest{}
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
	targets := slices.Clone(a.Told)
	for _, d := range s.Outbox {
		if d.Alarm.ID == a.ID && !slices.Contains(targets, d.Target) {
			targets = append(targets, d.Target)
		}
	}
	for _, target := range targets {
		s.resolve(*a, target, now)
	}
	s.Past = last(append(s.Past, *a), keepPast)
	delete(s.Open, subject)
	return true
}

// resolve puts into the outbox that an episode is over.
func (s *State) resolve(a Alarm, target string, now time.Time) {
	s.Outbox = append(s.Outbox, Delivery{ID: a.ID + "-resolved", Target: target, Resolved: true, Alarm: a, Queued: now})
}

// hold takes back what is silenced and was not taken: if it is open at the end it is told then, and if not, nobody needs to know. That
// something is over which a target was told of is kept for the end.
func (s *State) hold(said Said, now time.Time) (changed bool) {
	withdrawn := map[[2]string]bool{}
	s.Outbox = slices.DeleteFunc(s.Outbox, func(d Delivery) bool {
		key := [2]string{d.Target, d.Alarm.ID}
		if !d.Resolved && said.silences(&d.Alarm, now) {
			withdrawn[key] = true
		}
		return withdrawn[key]
	})
	for i := range s.Outbox {
		d := &s.Outbox[i]
		until := said.silencedUntil(&d.Alarm, now)
		if until.IsZero() && d.Held.After(now) { // it was ended before its time
			until = now
		}
		if !until.IsZero() && !until.Equal(d.Held) {
			d.Held, changed = until, true
		}
	}
	return changed || len(withdrawn) > 0
}

// tell puts into the outbox what targets are to be told of and were not.
func (s *State) tell(c *Config, said Said, now time.Time) (changed bool) {
	for _, subject := range slices.Sorted(maps.Keys(s.Open)) {
		a := s.Open[subject]
		if said.silences(a, now) {
			continue
		}
		for i := range c.Targets {
			if t := &c.Targets[i]; t.wants(a.Finding) && !slices.Contains(a.Told, t.Name) && !slices.Contains(a.Missed, t.Name) && s.waiting(t.Name, a.ID) < 0 {
				s.Outbox = append(s.Outbox, Delivery{ID: a.ID, Target: t.Name, Alarm: *a, Queued: now})
				changed = true
			}
		}
	}
	return changed
}

// waiting is where a message stands in the outbox; less than nothing where it does not.
func (s *State) waiting(target, id string) int {
	return slices.IndexFunc(s.Outbox, func(d Delivery) bool { return d.Target == target && d.ID == id })
}

// at is when that began, or was over, of which a delivery tells.
func (d *Delivery) at() time.Time {
	if d.Resolved {
		return d.Alarm.Ended
	}
	return d.Alarm.Raised
}

// Due is what is to be sent to a target now: the oldest of what is not silenced. A message that it does not take keeps none back but those of
// its own alarm: each fourth try is with that which was tried least, and what was passed over so twice comes after all others.
func (s *State) Due(target string, said Said, now time.Time) (Delivery, bool) {
	rest := s.Rests[target]
	if now.Before(rest.Until) {
		return Delivery{}, false
	}
	var ready []Delivery
	earlier := map[string]bool{} // alarms of which something comes first
	for _, d := range s.Outbox {
		if d.Target == target && !earlier[d.Alarm.ID] && !said.silences(&d.Alarm, now) {
			earlier[d.Alarm.ID] = true
			ready = append(ready, d)
		}
	}
	if len(ready) == 0 {
		return Delivery{}, false
	}
	probe := rest.Failures%4 == 3
	return slices.MinFunc(ready, func(a, b Delivery) int {
		if probe && a.Attempts != b.Attempts {
			return cmp.Compare(a.Attempts, b.Attempts)
		}
		return cmp.Or(cmp.Compare(a.Passed/passedOver, b.Passed/passedOver), a.at().Compare(b.at()))
	}), true
}

// Took takes what came of sending what was due: nil is that it was taken; what is refused for good is not tried again. The target is left
// alone for as long as it asks, within reason.
func (s *State) Took(sent Delivery, now time.Time, failed error, refused bool, leave time.Duration) {
	s.prepare()
	if failed == nil && !sent.Resolved {
		s.told(sent, now) // a silence may have taken it back while it was on its way
	}
	i := s.waiting(sent.Target, sent.ID)
	if i < 0 {
		return
	}
	if failed == nil || refused {
		delete(s.Rests, sent.Target)
	} else {
		failures := s.Rests[sent.Target].Failures + 1
		s.Rests[sent.Target] = Rest{failures, now.Add(max(pause(failures), min(leave, longestRest)))}
	}
	d := &s.Outbox[i]
	d.Attempts++
	if failed != nil {
		d.Error = failed.Error()
		since := d.Queued
		if d.Held.After(since) {
			since = d.Held
		}
		if !refused && now.Sub(since) < giveUp {
			return
		}
		s.bury(*d, now)
	}
	given := failed != nil && !sent.Resolved
	s.Outbox = slices.Delete(s.Outbox, i, i+1)
	if given { // nobody is told that it is over who was not told that it began
		s.miss(sent)
	}
	for j := range s.Outbox {
		if o := &s.Outbox[j]; failed == nil && o.Target == sent.Target && o.Attempts > sent.Attempts && o.at().Before(sent.at()) {
			o.Passed++
		}
	}
}

// alarm finds an episode, open or over.
func (s *State) alarm(id string) *Alarm {
	for _, a := range s.Open {
		if a.ID == id {
			return a
		}
	}
	if i := slices.IndexFunc(s.Past, func(a Alarm) bool { return a.ID == id }); i >= 0 {
		return &s.Past[i]
	}
	return nil
}

// told takes that a target knows that an episode began. One that is over by now is told so too.
func (s *State) told(sent Delivery, now time.Time) {
	a := s.alarm(sent.Alarm.ID)
	if a == nil || slices.Contains(a.Told, sent.Target) {
		return
	}
	a.Told = append(a.Told, sent.Target)
	if !a.Ended.IsZero() && s.waiting(sent.Target, a.ID+"-resolved") < 0 {
		s.resolve(*a, sent.Target, now)
	}
}

// miss takes that a target will not know of an episode.
func (s *State) miss(sent Delivery) {
	if a := s.alarm(sent.Alarm.ID); a != nil {
		a.Missed = append(a.Missed, sent.Target)
	}
	s.Outbox = slices.DeleteFunc(s.Outbox, func(d Delivery) bool { return d.Target == sent.Target && d.Alarm.ID == sent.Alarm.ID })
}

// bury keeps what is given up.
func (s *State) bury(d Delivery, now time.Time) {
	d.GivenUp = now
	s.Dead = last(append(s.Dead, d), keepDead)
}

// Drop gives up what is to be sent to targets that the configuration does not name any more, and says whether there was any.
func (s *State) Drop(c *Config, now time.Time) (changed bool) {
	s.Outbox = slices.DeleteFunc(s.Outbox, func(d Delivery) bool {
		gone := !slices.ContainsFunc(c.Targets, func(t Target) bool { return t.Name == d.Target })
		if gone {
			d.Error = "there is no such target any more"
			s.bury(d, now)
			changed = true
		}
		return gone
	})
	return changed
}

// pause is how long a target is left alone after so many failures: a second, doubling, at most five minutes.
func pause(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 20), 5*time.Minute)
}

func last[T any](list []T, most int) []T {
	return list[max(0, len(list)-most):]
}
