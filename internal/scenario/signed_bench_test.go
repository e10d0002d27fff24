package scenario

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// BenchmarkPropagation measures one agent's propagation, from the stamp of the decision to that of the ack as the bus gives them, where
// approvals are names and where they are signed, on buses that let in only who has credentials: one round of each in turn, of which the
// median counts, at least 30 of them. The publishers and agents are processes.
func BenchmarkPropagation(b *testing.B) {
	const releases = 10
	names, signed := newGuardedWorld(b, 1), newSignedWorld(b, 1, func(*events.Trust) {})
	round := func(w *world, i int) time.Duration {
		var all []time.Duration
		for j := range releases {
			w.release(set("*", "x", fmt.Sprint(i, j)))
			w.read()
			e := w.state.Environments["env-0"]
			w.agents[0].says("applied", func(s *agent.Status) bool { return s.Checkpoint.Revision == e.Head() && s.Outbox == 0 })
		}
		w.recorded()
		e := w.state.Environments["env-0"]
		for _, r := range e.Releases[len(e.Releases)-releases:] {
			all = append(all, e.Agents["one"].Applied(r.Revision).Stamp.Sub(r.Stamp))
		}
		return median(all)
	}
	round(names, -1)
	round(signed, -1)
	var of [2][]time.Duration
	for i := 0; i < 30 || b.Loop(); i++ {
		for j, w := range []*world{names, signed} {
			of[j] = append(of[j], round(w, i))
		}
	}
	for i, what := range []string{"names", "signed"} {
		b.ReportMetric(float64(median(of[i]).Microseconds())/1000, what+"-ms")
	}
	b.ReportMetric(float64(median(of[1]))/float64(median(of[0])), "signed/names")
}

func median(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)/2]
}
