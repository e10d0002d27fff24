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
}

// LagSeries is how long the newest releases of an environment took, oldest first: at most as many as wanted. Trust releases are left
// out: they wait for the first agent, for as long as people take to start it.
func LagSeries(e *ledger.Environment, r Reports, most int, asOf time.Time) []LagPoint {
	return lagSince(e, r, time.Time{}, most, nil, asOf)
}

// lagSince is LagSeries of what was released after a time, and of what has not been applied whenever it was released. Where it is wanted,
// phase is told how long each phase of the slowest agent took.
func lagSince(e *ledger.Environment, r Reports, since time.Time, most int, phase func(LagPoint, Phase, time.Duration), asOf time.Time) []LagPoint {
	agents := r.agents(e)
	var out []LagPoint
	for i := len(e.Releases) - 1; i >= 0 && len(out) < most; i-- {
		release := &e.Releases[i]
		if release.Kind == events.KindTrust {
			continue
		}
		p, slowest, skew := r.lagPoint(e.Name, release, agents, asOf)
		if !p.Open && p.Released.Before(since) {
			break
		}
		if phase != nil && !p.Open {
			eachPhase(release, slowest, skew, func(of Phase, long time.Duration) { phase(p, of, long) })
		}
		out = append(out, p)
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// lagPoint is that of one release, with the delivery of the slowest agent and the skew of its clock.
func (r Reports) lagPoint(environment string, release *ledger.Release, agents []*ledger.Agent, asOf time.Time) (p LagPoint, slowest *ledger.Delivery, skew time.Duration) {
	p = LagPoint{Environment: environment, Revision: release.Revision, Kind: release.Kind, Change: release.Change, Released: release.Stamp}
	slowest, agent := lastArrival(*release, agents)
	if p.Open = slowest == nil; p.Open {
		p.Seconds = max(0, asOf.Sub(release.Stamp).Seconds())
		return p, nil, 0
	}
	p.Seconds, p.AtMost = lag(*release, slowest), slowest.AtMost || release.Recovered()
	return p, slowest, r.skew(environment, agent)
}

// skew is an agent's clock minus the bus's at its newest beat; 0 where it has not been heard.
func (r Reports) skew(environment, agent string) time.Duration {
	beat, heard := r.Beats[AgentID{environment, agent}]
	if !heard {
		return 0
	}
	return beat.Clock.Sub(beat.Stamp)
}

// PhasesAt says how long the phases of a release took at an agent; nil where it has not applied it.
func PhasesAt(s *ledger.State, r Reports, environment string, revision uint64, agent string) map[Phase]time.Duration {
	e := s.Environments[environment]
	if e == nil || revision == 0 || revision > e.Head() {
		return nil
	}
	for _, a := range r.agents(e) {
		if d := a.Applied(revision); a.Name == agent && d != nil {
			return PhasesOf(e.Releases[revision-1], *d, r.skew(environment, agent))
		}
	}
	return nil
}
