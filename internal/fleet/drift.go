package fleet

import (
	"math"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// Severities are how much it matters that a resource is wrong, as its manifest says; the last is that of one whose manifest does not say
// it, or that has none.
var Severities = []string{"critical", "high", "medium", "low", "unknown"}

// weights are the part of what is left of 100 that a differing field takes.
var weights = map[string]float64{"critical": .5, "high": .25, "medium": .1, "low": .05, "unknown": .1}

// A Drift is how far an environment's instances are from what was applied to them.
type Drift struct {
	// Fields that differ, of all agents, by the severity of their resource. A resource that differs as a whole counts as one field, and so
	// does one that its agent counts and does not list.
	Fields map[string]int
	Score  float64 // of the worst agent: 100·(1 − Π(1 − weight)) over its fields; 0 is no drift
}

// DriftOf is an environment's drift; nil where no agent that is heard has read its instance back. Severity says a resource's.
func DriftOf(e Environment, severity func(environment, resource string) string, asOf time.Time) *Drift {
	var out *Drift
	for _, a := range e.Agents {
		if !a.Heard(asOf) || a.Revision == 0 || !a.ReadBack {
			continue
		}
		if out == nil {
			out = &Drift{Fields: map[string]int{}}
		}
		left := 1.0
		differ := func(severity string, fields int) {
			out.Fields[severity] += fields
			left *= math.Pow(1-weights[severity], float64(fields))
		}
		for _, d := range a.Differing {
			differ(severity(e.Name, d.Resource), max(1, len(d.Fields)+d.More))
		}
		differ("unknown", max(0, a.Drift-len(a.Differing)))
		out.Score = max(out.Score, 100*(1-left))
	}
	return out
}

// Severity finds how much it matters that a resource is wrong in an environment: one of Severities. What it returns reads the state, and
// must not outlive it.
func Severity(s *ledger.State) func(environment, resource string) string {
	find := manifests(s.SourcesOfAll)
	return func(environment, resource string) string {
		if m := find(environment, resource); m != nil && m.Resource() != nil && m.Resource().Severity != "" {
			return m.Resource().Severity
		}
		return "unknown"
	}
}
