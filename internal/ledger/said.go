package ledger

import (
	"hash/fnv"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// MaxKept is how many statements of an agent are kept, the newest by the bus's stamps. Of those before them is kept what they come to.
	MaxKept = 32
	// maxKnown is how many of its statements, at least, are told from new ones by what they say. One with a number below theirs is new where
	// it is about revisions that the agent had not spoken of, and otherwise taken for recorded.
	maxKnown = 512
	// maxFailing is how many failures are kept, of those whose statements are not, until the agent has come past them.
	maxFailing = 32
)

// A Standing is what an agent's statements come to, one after the other as the bus stamped them.
type Standing struct {
	Position uint64    // newest revision known to be applied and read back
	Latest   *Delivery // that Position was applied; nil when nothing was
	Open     *Delivery // what stands against it: it says otherwise than applied and is not overtaken; nil when nothing does
	Heard    time.Time // the newest stamp of a delivery
}

// hear takes the next statement.
func (s *Standing) hear(said *Delivery) {
	if said.Stamp.After(s.Heard) {
		s.Heard = said.Stamp
	}
	switch said.Word {
	case events.WordApplied:
		if said.Last >= s.Position {
			s.Position, s.Latest = said.Last, said
		}
		s.overcome(said.Last)
	case events.WordSuperseded:
		s.overcome(said.Last)
	case events.WordBlocked, events.WordRetrying:
		// The same reason again hides nothing worse that was said with it: a torn instance is still torn while that is retried.
		if s.Open == nil || s.Open.Reason != said.Reason {
			s.open(said)
		}
	default:
		s.open(said)
	}
}

// open notes what stands against the agent, unless it is old news: then the revision has been applied since. A torn instance
// always counts.
func (s *Standing) open(said *Delivery) {
	if said.Last > s.Position || said.Word == events.WordTorn {
		s.Open = said
	}
}

func (s *Standing) overcome(revision uint64) {
	if s.Open != nil && s.Open.Last <= revision {
		s.Open = nil
	}
}

// said is what an agent said. Its size does not grow with the number of statements.
type said struct {
	kept      []*Statement // the newest, oldest first as the bus stamped them
	before    Standing     // what the ones before come to
	failing   []failure    // among those, where the agent has not been said to be past it; oldest first
	known     []known      // the newest that were recorded, in that order
	forgotten uint64       // the highest number of those before
	newest    uint64       // the highest revision that any was about
	recorded  int          // how many there were
}

// known is what a statement is known by: a hash of its identity.
type known struct{ hash, number uint64 }

// A failure is that an agent could not apply some revisions.
type failure struct {
	first, last uint64
	at          time.Time
}

// past is what is kept of a release when agents' statements about it are not: of all of them together.
type past struct {
	arrival   *Arrival      // the last one
	failed    bool          // one of them could not apply it
	recovered time.Duration // how long the slowest of these took to come past it
}

// An Arrival is that an agent applied a release.
type Arrival struct {
	Agent string
	Delivery
	counted bool // the agent was enrolled before the release
}

// Arrival is the last one of those that agents hold no statement of any more; nil where there is none.
func (r Release) Arrival() *Arrival { return r.past.arrival }

// By is the delivery, where it is that agent's; nil otherwise.
func (a *Arrival) By(agent string) *Delivery {
	if a == nil || a.Agent != agent {
		return nil
	}
	return &a.Delivery
}

// Failed says whether an agent could not apply the release, of those that hold no statement of that any more, and how long the slowest
// took to come past it.
func (r Release) Failed() (failed bool, recovered time.Duration) {
	return r.past.failed, r.past.recovered
}

// Knows says whether the agent's statement is recorded, or tells nothing that is not. A beat tells only a position.
func (a *Agent) Knows(s Statement) bool {
	switch {
	case s.Number == 0:
		return s.Last <= a.Position
	case slices.Contains(a.known, s.known()):
		return true
	}
	return s.Number <= a.forgotten && s.Last <= a.newest
}

func (s Statement) known() known {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.identity())) // it never fails
	return known{h.Sum64(), s.Number}
}

// take adds a statement to what is known of the agent. What becomes of statements that are not kept any more is noted with the environment's
// releases; without an environment all are kept.
func (a *Agent) take(s Statement, e *Environment) {
	if s.Number > 0 {
		a.know(s.known())
	}
	a.newest = max(a.newest, s.Last)
	a.recorded++
	at := len(a.kept)
	for at > 0 && a.kept[at-1].Stamp.After(s.Stamp) {
		at--
	}
	late := at < len(a.kept)
	a.kept = slices.Insert(a.kept, at, &s)
	if !late {
		a.hear(&s.Delivery)
	} else {
		a.Standing = a.before
		for _, k := range a.kept {
			a.hear(&k.Delivery)
		}
	}
	if e != nil && len(a.kept) > MaxKept {
		a.forget(e)
	}
}

func (a *Agent) know(k known) {
	if len(a.known) == 2*maxKnown { // not one by one
		for _, old := range a.known[:maxKnown] {
			a.forgotten = max(a.forgotten, old.number)
		}
		a.known = append(a.known[:0], a.known[maxKnown:]...)
	}
	a.known = append(a.known, k)
}

// forget lets go of the oldest statement, and notes what it comes to.
func (a *Agent) forget(e *Environment) {
	s := a.kept[0]
	a.kept = slices.Delete(a.kept, 0, 1)
	switch {
	case s.Word == events.WordApplied:
		for r := a.before.Position + 1; r <= s.Last; r++ {
			e.Releases[r-1].arrive(a, s.Delivery)
		}
		a.recover(e, s)
	case s.Failure():
		for r := s.First; r <= min(s.Last, e.Head()); r++ {
			e.Releases[r-1].past.failed = true
		}
		a.failing = append(a.failing, failure{s.First, s.Last, s.Stamp})
		a.failing = a.failing[max(0, len(a.failing)-maxFailing):]
	}
	a.before.hear(&s.Delivery)
}

// recover notes that the agent has come past failures.
func (a *Agent) recover(e *Environment, applied *Statement) {
	for i := range a.failing {
		f := &a.failing[i]
		for ; f.first <= min(f.last, applied.Last); f.first++ {
			if f.first <= e.Head() {
				past := &e.Releases[f.first-1].past
				past.recovered = max(past.recovered, applied.Stamp.Sub(f.at))
			}
		}
	}
	a.failing = slices.DeleteFunc(a.failing, func(f failure) bool { return f.first > f.last })
}

// arrive notes an arrival of which the agent keeps no statement. One of an agent that was enrolled later counts where there is no other.
func (r *Release) arrive(a *Agent, d Delivery) {
	counted, known := a.Enrolled <= r.Entry, r.past.arrival
	if known == nil || counted && !known.counted || counted == known.counted && d.Stamp.After(known.Stamp) {
		r.past.arrival = &Arrival{a.Name, d, counted}
	}
}

// Failure says that the agent could not apply what it speaks of.
func (d Delivery) Failure() bool {
	return d.Word == events.WordFailed || d.Word == events.WordTorn || d.Word == events.WordRefused
}

// Said are the statements of the agent that are kept, oldest first as the bus stamped them.
func (a *Agent) Said() []*Statement { return a.kept }

// Recorded is how many statements of the agent there were, kept or not.
func (a *Agent) Recorded() int { return a.recorded }

// Applied is the delivery in which an agent first said that it holds revision r, by the bus's stamps; nil where it has not, or where its
// statement is not kept any more.
func (a *Agent) Applied(r uint64) *Delivery {
	if r <= a.before.Position || r > a.Position {
		return nil
	}
	for _, s := range a.kept {
		if s.Word == events.WordApplied && s.Last >= r {
			return &s.Delivery
		}
	}
	return nil
}

// Recovery says whether the agent could not apply a revision, as far as it is kept, whether it has come past that each time, and how long the
// longest took.
func (a *Agent) Recovery(r uint64) (failed, past bool, took time.Duration) {
	past = true
	since := func(at time.Time) {
		i := slices.IndexFunc(a.kept, func(s *Statement) bool { return s.Word == events.WordApplied && s.Last >= r && !s.Stamp.Before(at) })
		if failed, past = true, past && i >= 0; i >= 0 {
			took = max(took, a.kept[i].Stamp.Sub(at))
		}
	}
	for _, f := range a.failing {
		if f.first <= r && r <= f.last {
			since(f.at)
		}
	}
	for _, s := range a.kept {
		if s.Failure() && s.First <= r && r <= s.Last {
			since(s.Stamp)
		}
	}
	return failed, past, took
}

// With is the agent as it would be with statements that are not recorded yet.
func (a *Agent) With(statements []Statement) *Agent {
	if len(statements) == 0 {
		return a
	}
	out := *a
	out.kept, out.known = slices.Clone(a.kept), slices.Clone(a.known)
	for _, s := range statements {
		if !out.Knows(s) {
			out.take(s, nil)
		}
	}
	return &out
}
