package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// The conditions of an agent (ARCHITECTURE.md, Words), worst first.
const (
	Torn      = "torn"
	Differing = "differing"
	Failing   = "failing"
	Stale     = "stale"
	Held      = "held"
	Behind    = "behind"
	InStep    = "in step"
)

// A Condition is what an agent says of itself.
type Condition struct {
	Word    string        `json:"condition"`
	Reason  events.Reason `json:"reason,omitempty"`
	Message string        `json:"message,omitempty"`
	Since   time.Time     `json:"since,omitzero"`
	Until   time.Time     `json:"until,omitzero"` // held until
}

// Staleness says that something newer may have been released without the agent knowing. It is true beside every condition: a failing
// agent that hears nothing any more is stale too.
type Staleness struct {
	Reason  events.Reason `json:"reason"`
	Message string        `json:"message"`
	Since   time.Time     `json:"since"`
}

// Retry is a transient failure that is being retried.
type Retry struct {
	Since    time.Time     `json:"since"`
	Next     time.Time     `json:"next"`
	Attempts int           `json:"attempts"`
	Reason   events.Reason `json:"reason"`
	Message  string        `json:"message"`
}

// facts are all that a condition is judged by.
type facts struct {
	now, started   time.Time
	revision       uint64 // checkpoint
	followed       uint64 // newest verified
	head           uint64 // newest that the feed knows of
	failure        *store.Failure
	retry          *Retry
	hold           *store.Hold
	differing      []events.DifferingResource
	differingSince time.Time
	unread         *unread
	unverified     bool
	ledger         error // what the publisher says contradicts what was seen before
	feed           error // the feed's problem
	connected      bool
	refused        bool      // the bus does not let the agent in
	pulse          time.Time // newest valid pulse since start
	heard          time.Time // newest valid pulse before the start
	checked        time.Time // newest look at the head
	pulseEvery     time.Duration
	checkEvery     time.Duration
	busy           time.Time // since when the chain waits for its instance; zero: it does not
}

const (
	pulsesMissed = 3 // intervals without a pulse until stale
	checksMissed = 2 // intervals without a look at the head until stale

	answerWithin = 30 * time.Second // what an instance may take for an answer, in which the agent beats three times
)

// hangs says that the instance does not answer the chain.
func (f facts) hangs() bool { return !f.busy.IsZero() && f.now.Sub(f.busy) > answerWithin }

// judge finds the worst that is true; stale is what staleness says of the same facts. Since is zero where only the change of the
// condition says it.
func judge(f facts, stale *Staleness) Condition {
	behind := max(f.followed, f.head) > f.revision
	hangs := f.hangs()
	switch {
	case f.failure != nil && f.failure.Word == events.WordTorn:
		return ofFailure(Torn, f.failure)
	case len(f.differing) > 0:
		return Condition{Word: Differing, Reason: events.ReasonReadBack, Since: f.differingSince,
			Message: events.OtherValues(f.differing)}
	case f.ledger != nil:
		return Condition{Word: Failing, Reason: reasonOf(f.ledger), Message: messageOf(f.ledger)}
	case errors.Is(f.feed, bus.ErrForked):
		return Condition{Word: Failing, Reason: events.ReasonLedgerForked, Message: f.feed.Error()}
	case f.failure != nil:
		return ofFailure(Failing, f.failure)
	case f.unread != nil: // no value is known to differ: what fails for certain is said before it
		return Condition{Word: Differing, Reason: reasonOf(f.unread.Err), Since: f.unread.Since,
			Message: "the instance cannot be compared with the checkpoint: " + messageOf(f.unread.Err)}
	case hangs && !behind:
		return Condition{Word: Differing, Reason: connector.ReasonTimeout, Since: events.Stamp(f.busy),
			Message: "the instance cannot be compared with the checkpoint: its connector does not answer"}
	case stale != nil:
		return Condition{Word: Stale, Reason: stale.Reason, Message: stale.Message, Since: stale.Since}
	}
	switch {
	case f.hold != nil:
		return Condition{Word: Held, Reason: events.ReasonHeldBySteward, Message: f.hold.Reason, Since: f.hold.Since, Until: f.hold.Until}
	case f.retry != nil:
		return Condition{Word: Behind, Reason: f.retry.Reason, Message: f.retry.Message, Since: f.retry.Since}
	case hangs:
		return Condition{Word: Behind, Reason: connector.ReasonTimeout, Since: events.Stamp(f.busy),
			Message: fmt.Sprintf("at revision %d of %d, and the connector does not answer", f.revision, max(f.followed, f.head))}
	case behind && errors.Is(f.feed, bus.ErrHistoryMissing):
		return Condition{Word: Behind, Reason: events.ReasonHistoryMissing, Message: f.feed.Error()}
	case behind:
		return Condition{Word: Behind, Message: fmt.Sprintf("at revision %d of %d", f.revision, max(f.followed, f.head))}
	}
	return Condition{Word: InStep}
}

func ofFailure(word string, f *store.Failure) Condition {
	return Condition{Word: word, Reason: f.Reason, Message: f.Message, Since: f.Since}
}

// refused says what a person can do who reads it beside the agent.
const refused = "the bus does not let this agent in: it was revoked, its environment was retired, or its enrolment is of another bus; 'publisher env show' lists who is enrolled, and 'publisher env enrol' makes a new enrolment"

// staleness applies guarantee 7: in step only with a new valid pulse within three intervals and a look at the head within two;
// whatever else is true. Nor is an agent in step that the bus does not let in any more: what is released no longer comes. Nil: not stale.
func staleness(f facts) *Staleness {
	noPulse := f.pulse.IsZero() || f.now.Sub(f.pulse) > pulsesMissed*f.pulseEvery
	unchecked := f.checked.IsZero() || f.now.Sub(f.checked) > checksMissed*f.checkEvery
	if !noPulse && !unchecked && !f.refused {
		return nil
	}
	s := &Staleness{Since: f.started}
	if noPulse || f.refused {
		s.Since = firstOf(f.pulse, f.heard, f.started)
	}
	if checked := firstOf(f.checked, f.started); unchecked && checked.Before(s.Since) {
		s.Since = checked
	}
	switch {
	case f.refused:
		s.Reason, s.Message = events.ReasonBusRefused, refused
	case !f.connected:
		s.Reason, s.Message = events.ReasonBusDown, "the bus cannot be reached"
	case errors.Is(f.feed, bus.ErrHistoryMissing):
		s.Reason, s.Message = events.ReasonHistoryMissing, f.feed.Error()
	case noPulse && f.now.Sub(f.started) <= pulsesMissed*f.pulseEvery && f.pulse.IsZero():
		s.Reason, s.Message = events.ReasonStartup, "started, and no pulse of the publisher was heard yet"
	case noPulse:
		s.Reason, s.Message = events.ReasonNoPulse, "no pulse of the publisher is heard"
	default:
		s.Reason, s.Message = events.ReasonHeadUnchecked, "the head of the releases could not be looked at"
	}
	if f.unverified {
		s.Message += "; the instance is " + string(events.ReasonUnverified)
	}
	return s
}

func firstOf(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}
