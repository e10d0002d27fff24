package fleet_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// TestWhatIsKeptFromLookToLookIsWhatEachWouldFindOut: whatever agents say, whatever of it is recorded or dropped, and who is revoked
// meanwhile.
func TestWhatIsKeptFromLookToLookIsWhatEachWouldFindOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b"}
		s, before := newSite(t, names...), &fleet.Before{}
		waiting := map[string][]events.Delivery{}
		for step := range rapid.IntRange(1, 12).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "agent")
			id, a := fleet.AgentID{Environment: "prod", Agent: name}, s.prod().Agents[name]
			s.pass(time.Second)
			switch rapid.SampledFrom([]string{"say", "say", "record", "drop", "release", "revoke"}).Draw(t, "step") {
			case "say":
				if a.Revoked {
					continue
				}
				word := rapid.SampledFrom([]events.Word{events.WordApplied, events.WordFailed, events.WordTorn}).Draw(t, "word")
				waiting[name] = append(waiting[name], s.delivery(name, word, rapid.Uint64Range(1, s.prod().Head()).Draw(t, "revision")))
			case "record":
				if len(waiting[name]) > 0 && !a.Revoked {
					s.do("publisher", ledger.RecordDeliveries{Deliveries: waiting[name][:1]})
					waiting[name] = waiting[name][1:]
				}
			case "drop":
				if n := len(waiting[name]); n > 0 {
					waiting[name] = waiting[name][:n-1]
				}
			case "release":
				s.release("variable/x", strconv.Itoa(1000+step))
			case "revoke":
				if !a.Revoked {
					s.do("Sam", ledger.RevokeAgent{Environment: "prod", Agent: name, Reason: "because"})
					waiting[name] = nil
				}
			}
			s.reports.Unrecorded[id] = nil
			for _, d := range waiting[name] {
				statement, _, err := s.state.Read(d)
				if err != nil {
					t.Fatalf("%v", err)
				}
				s.reports.Unrecorded[id] = append(s.reports.Unrecorded[id], statement)
			}
			kept := s.reports
			kept.Before = before
			want := fleet.Build(s.state, s.reports, fleet.LedgerView{}, s.now)
			if diff := cmp.Diff(want, fleet.Build(s.state, kept.Once(), fleet.LedgerView{}, s.now)); diff != "" {
				t.Fatalf("%s", diff)
			}
		}
	})
}
