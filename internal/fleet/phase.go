package fleet

import (
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// A Phase is a part of the way of a release to one agent.
type Phase string

// The phases. Those from deliver to ack follow each other and together are the total.
const (
	PhasePublish Phase = "publish" // from the decision to the release on the bus, by the publisher's clock; a part of deliver
	PhaseDeliver Phase = "deliver" // from the ledger entry to the agent
	PhaseVerify  Phase = "verify"  // until it is verified, by the agent's clock, as the next two
	PhaseApply   Phase = "apply"   // until it is applied and read back
	PhaseCommit  Phase = "commit"  // until the checkpoint is written
	PhaseAck     Phase = "ack"     // until the ack is on the bus
	PhaseTotal   Phase = "total"   // from the bus's stamp of the ledger entry to the bus's stamp of the ack
)

// Phases are all of them, in their order.
var Phases = []Phase{PhasePublish, PhaseDeliver, PhaseVerify, PhaseApply, PhaseCommit, PhaseAck, PhaseTotal}

// PhasesOf says how long the phases of a release took at an agent that applied it: all but publish, which only the publisher that sent
// it knows. The total is by the bus's clock alone. The agent's clock divides it: how much of the time outside the agent was before it
// received the release is known as exactly as its skew (its clock minus the bus's), which never changes the total. Without phases in
// the statement, or where the bus's stamp of the entry is not known, less is said.
func PhasesOf(r ledger.Release, d ledger.Delivery, skew time.Duration) map[Phase]time.Duration {
	out := map[Phase]time.Duration{}
	eachPhase(&r, &d, skew, func(p Phase, long time.Duration) { out[p] = long })
	return out
}

// eachPhase is PhasesOf for many releases.
func eachPhase(r *ledger.Release, d *ledger.Delivery, skew time.Duration, note func(Phase, time.Duration)) {
	if r.Stamp.IsZero() || r.Recovered() {
		return
	}
	total := max(0, d.Stamp.Sub(r.Stamp))
	note(PhaseTotal, total)
	at := &d.Phases
	if at.Received.IsZero() || at.Verified.IsZero() || at.Applied.IsZero() || at.Committed.IsZero() {
		return
	}
	left := total
	take := func(p Phase, long time.Duration) {
		long = min(max(0, long), left)
		note(p, long)
		left -= long
	}
	take(PhaseVerify, at.Verified.Sub(at.Received))
	take(PhaseApply, at.Applied.Sub(at.Verified))
	take(PhaseCommit, at.Committed.Sub(at.Applied))
	take(PhaseDeliver, at.Received.Add(-skew).Sub(r.Stamp))
	note(PhaseAck, left)
}
