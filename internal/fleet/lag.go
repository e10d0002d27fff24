package fleet

import (
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A LagPoint is how long one release of an environment took, or has been waiting.
type LagPoint struct {
	Environment string
	Revision    uint64
	Kind        events.ReleaseKind
	Change      string
	Released    time.Time // the bus's stamp of the ledger entry
	Seconds     float64   // to the slowest agent's ack; while Open, until now
	AtMost      bool      // the first ack was lost: it took that long or less
	Open        bool      // not applied by every agent that counts
	Phases      Phases    // of the slowest agent; zero while Open
}

// LagSeries is how long the newest releases of an environment took, oldest first: at most as many as wanted. Trust releases are left
// out: they wait for the first agent, for as long as people take to start it.
func LagSeries(e *ledger.Environment, r Reports, most int, asOf time.Time) []LagPoint {
	return lagSince(e, r, time.Time{}, most, asOf)
}

// lagSince is LagSeries of what was released after a time, and of what has not been applied whenever it was released.
func lagSince(e *ledger.Environment, r Reports, since time.Time, most int, asOf time.Time) []LagPoint {
	agents := r.agents(e)
	var out []LagPoint
	for i := len(e.Releases) - 1; i >= 0 && len(out) < most; i-- {
		release := e.Releases[i]
		if release.Kind == events.KindTrust {
			continue
		}
		p := lagPoint(e.Name, release, agents, asOf)
		if !p.Open && p.Released.Before(since) {
			break
		}
		out = append(out, p)
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

func lagPoint(environment string, release ledger.Release, agents []*ledger.Agent, asOf time.Time) LagPoint {
	p := LagPoint{Environment: environment, Revision: release.Revision, Kind: release.Kind, Change: release.Change, Released: release.Stamp}
	var slowest *ledger.Delivery
	counting := ledger.Counting(release, agents)
	for _, a := range counting {
		d := a.Applied(release.Revision)
		if d == nil {
			p.Open = true
			break
		}
		if slowest == nil || d.Stamp.After(slowest.Stamp) {
			slowest = d
		}
	}
	if p.Open = p.Open || len(counting) == 0; p.Open {
		p.Seconds = max(0, asOf.Sub(release.Stamp).Seconds())
		return p
	}
	p.Seconds, p.AtMost = lag(release, slowest), slowest.AtMost || release.Recovered()
	p.Phases = PhasesOf(p.Seconds, slowest.Phases, release.Stamp)
	return p
}

// Phases are where the time of a release went, in seconds; they add up to its lag. The agent's own work is measured by the agent's
// clock, as lengths, which skew does not change. What is left of the lag was on the way: to the agent, and back.
type Phases struct {
	Deliver     float64 // released to received
	Verify      float64 // received to verified
	Apply       float64 // verified to applied and read back
	Commit      float64 // applied to committed
	Acknowledge float64 // committed to the bus's stamp of the ack
	Split       bool    // the agent said its times; else all of the lag is in Deliver
}

// PhasesOf divides a lag that began at a bus's stamp by what the agent's clock says.
func PhasesOf(lag float64, p events.Phases, released time.Time) Phases {
	if p.Received.IsZero() || p.Committed.IsZero() {
		return Phases{Deliver: lag}
	}
	length := func(from, to time.Time) float64 { return max(0, to.Sub(from).Seconds()) }
	out := Phases{Verify: length(p.Received, p.Verified), Apply: length(p.Verified, p.Applied), Commit: length(p.Applied, p.Committed), Split: true}
	way := lag - out.Verify - out.Apply - out.Commit
	if way < 0 { // an agent cannot have worked for longer than it took: its clock jumped
		return Phases{Deliver: lag}
	}
	// By the agent's clock, which may be off, but never by more than the way allows.
	out.Deliver = min(way, length(released, p.Received))
	out.Acknowledge = way - out.Deliver
	return out
}
