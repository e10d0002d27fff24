package agent

import (
	"cmp"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// A Status is what an agent says of itself, to its steward and to metrics.
type Status struct {
	Environment string            `json:"environment"`
	Agent       string            `json:"agent"`
	Ledger      string            `json:"ledger"`
	Version     string            `json:"version"`
	Running     bool              `json:"running"`
	Started     time.Time         `json:"started,omitzero"`
	HTTP        string            `json:"http,omitempty"`  // where health and metrics are served
	Condition   Condition         `json:"condition"`       // the worst that is true
	Stale       *Staleness        `json:"stale,omitempty"` // whatever the condition
	Checkpoint  store.Checkpoint  `json:"checkpoint"`
	Followed    uint64            `json:"followed"`          // newest revision that was verified
	Head        uint64            `json:"head"`              // newest revision that the publisher is known to have released
	Whole       bool              `json:"whole"`             // what a crash left is resolved, and the instance is not torn
	Failure     *store.Failure    `json:"failure,omitempty"` // what keeps it at its checkpoint
	Retry       *Retry            `json:"retry,omitempty"`
	Hold        *store.Hold       `json:"hold,omitempty"`
	Unverified  bool              `json:"unverified"` // not compared since the start, or since another instance is in its place
	Connected   bool              `json:"connected"`
	LastPulse   time.Time         `json:"lastPulse,omitzero"`
	LastCheck   time.Time         `json:"lastCheck,omitzero"` // of the head
	Tip         events.LedgerTip  `json:"tip"`                // of the ledger, as the newest pulse said
	Sealed      uint64            `json:"sealed,omitempty"`   // entries under the newest seal of the ledger that was verified
	Unproven    time.Time         `json:"unproven,omitzero"`  // since when there are seals of which nobody proved that they continue that one
	Outbox      int               `json:"outbox"`             // acks that the bus has not taken
	LastAck     uint64            `json:"lastAck"`
	Rejected    map[string]uint64 `json:"rejected,omitempty"` // messages dropped as not the publisher's, by reason
	Connectors  []ConnectorStatus `json:"connectors"`

	Differing []events.DifferingResource `json:"differing,omitempty"` // from the checkpoint, when the instance was last compared with it

	differs time.Time
	unread  *unread
}

// A ConnectorStatus is what a connector can promise.
type ConnectorStatus struct {
	Name      string              `json:"name"`
	Atomicity connector.Atomicity `json:"atomicity"`
	ReadBack  bool                `json:"readBack"` // false: not read back
}

func connectorStatus(router *connector.Router) []ConnectorStatus {
	var list []ConnectorStatus
	for _, c := range router.Connectors() {
		can := c.Capabilities()
		list = append(list, ConnectorStatus{c.Name(), can.Atomicity, can.Observes})
	}
	return list
}

// show publishes what the chain knows; everything that others read of it they read from here.
func (a *Agent) show() {
	c := a.chain
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.shown
	s.Checkpoint, s.Followed, s.Whole = c.checkpoint, c.target.Revision, a.recovered && c.intent == nil
	s.Failure, s.Retry, s.Hold = clone(c.failure), clone(c.retry), clone(c.hold)
	s.Differing, s.differs, s.Unverified, s.unread = c.differing, c.differs, c.unverified, clone(c.unread)
	if !a.busy.IsZero() {
		a.busy = time.Now() // it gets on
	}
}

func clone[T any](v *T) *T {
	if v == nil {
		return nil
	}
	c := *v
	return &c
}

// Status is how the agent is now.
func (a *Agent) Status() Status {
	s, _ := a.evaluate()
	return s
}

// evaluate judges the condition, and says whether it changed enough for a beat at once: the way of every release from behind to in
// step is told by its ack.
func (a *Agent) evaluate() (s Status, changed bool) {
	h := a.hearing.now()
	sealed, unproven, forked := a.witness.seen()
	a.mu.Lock()
	defer a.mu.Unlock()
	connected := a.conn != nil && a.conn.Connected()
	s = a.shown
	s.Connected, s.LastPulse, s.Tip, s.Head = connected, firstOf(h.at, h.before), h.tip, max(s.Followed, s.Checkpoint.Revision)
	s.Sealed, s.Unproven = sealed.Size, unproven
	s.Outbox, s.LastAck = a.outbox.size()
	s.Rejected = map[string]uint64{}
	if h.rejected > 0 {
		s.Rejected["pulse"] = h.rejected
	}
	f := facts{
		now: time.Now(), started: s.Started, revision: s.Checkpoint.Revision, followed: s.Followed, failure: s.Failure, retry: s.Retry, hold: s.Hold,
		differing: s.Differing, differingSince: s.differs, unread: s.unread, unverified: s.Unverified, ledger: cmp.Or(h.problem, forked), connected: connected,
		refused: a.conn != nil && a.conn.Refused() != nil,
		pulse:   h.at, heard: h.before, pulseEvery: a.opts.Intervals.Pulse, checkEvery: a.opts.Intervals.Check, busy: a.busy,
	}
	if a.feed != nil {
		f.head, f.checked, f.feed = a.feed.Head(), a.feed.LastChecked(), a.feed.Problem()
		s.Head, s.LastCheck = max(s.Head, f.head), f.checked
		for why, n := range a.feed.Rejected() {
			s.Rejected[string(why)] = n
		}
	}
	if f.hangs() {
		s.Checkpoint.Observed = events.Digest{}
	}
	before := a.shown.Condition
	s.Stale = staleness(f)
	s.Condition = judge(f, s.Stale)
	if s.Condition.Since.IsZero() {
		s.Condition.Since = before.Since
		if before.Word != s.Condition.Word || before.Reason != s.Condition.Reason {
			s.Condition.Since = events.Stamp(a.opts.Clock())
		}
	}
	a.shown.Condition = s.Condition
	quiet := func(c Condition) bool { return c.Reason == "" } // behind and in step
	changed = (before.Word != s.Condition.Word || before.Reason != s.Condition.Reason) && !(quiet(before) && quiet(s.Condition) && before.Word != "")
	return s, changed
}
