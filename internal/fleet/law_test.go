package fleet_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// everyView is all that is shown of a fleet, without what tells when and in which entry acks were recorded.
func everyView(s *site, state *ledger.State, r fleet.Reports) map[string]any {
	s.t.Helper()
	view := fleet.Build(state, r, fleet.LedgerView{Writable: true}, s.now)
	view.Ledger.Tip = events.LedgerTip{}
	changes := fleet.Changes(state, r, s.now)
	for i := range changes {
		changes[i].Completed, changes[i].Status = time.Time{}, ""
		for _, e := range changes[i].Environments {
			for j := range e.Agents {
				e.Agents[j].Recorded = 0
			}
		}
	}
	history, err := fleet.History(state, r, "", "")
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	report := fleet.ReportDeliveries(state, r, 2, s.now)
	return map[string]any{
		"fleet": view, "changes": changes, "history": history,
		"propagation": fleet.PropagationOf(state, r, 24*time.Hour, everything, s.now),
		"failed":      report.All.Failed, "unmended": report.All.Unmended, "recovery": report.All.Recover,
	}
}

func sameViews(s *site, want, have map[string]any) {
	s.t.Helper()
	for name, view := range want {
		if !reflect.DeepEqual(view, have[name]) {
			s.t.Fatalf("%s:\n%+v, want\n%+v", name, have[name], view)
		}
	}
}

// TestTheFleetIsWhatSortingItsAcksGives: acks that come twice, late, in another order, among forged ones, in any portions, recorded or not yet,
// show what one sees who takes each valid one once, as it came first, and records them one by one as the bus stamped them.
func TestTheFleetIsWhatSortingItsAcksGives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSite(t, "a", "b")
		s.do("op", ledger.AddEnvironment{Name: "dev", Approvals: 1})
		s.do("op", ledger.EnrolAgent{Environment: "dev", Agent: "a", Key: signer("dev a").Public()})
		s.release("variable/y", `3`)
		bare := &site{t: t, entries: slices.Clone(s.entries), stamps: slices.Clone(s.stamps)}
		bare.state, bare.reports.Beats = bare.replay(ledger.New(s.state.ID)), s.reports.Beats

		var come []events.Delivery
		valid := map[string]bool{} // by what was signed
		for range rapid.IntRange(0, 24).Draw(t, "acks") {
			agent := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "agent")
			word := rapid.SampledFrom([]events.Word{"applied", "applied", "applied", "failed", "blocked", "superseded", "refused", "retrying", "torn"}).Draw(t, "word")
			last := rapid.Uint64Range(1, s.prod().Head()).Draw(t, "last")
			first := rapid.Uint64Range(1, last).Draw(t, "first")
			from := func(a *events.Ack) { a.First = first }
			d := s.delivery(agent, word, last, from)
			switch rapid.IntRange(0, 9).Draw(t, "forge") {
			case 0:
				d.Signature = s.delivery("b", word, last).Signature // of another ack
			case 1:
				altered := slices.Clone(d.Ack)
				altered[rapid.IntRange(0, len(altered)-1).Draw(t, "byte")] ^= 1
				if !json.Valid(altered) { // what is not is dropped before it comes here
					continue
				}
				d.Ack = altered
			case 2:
				d.Environment, d.Agent = "dev", "a"
			case 3: // of a revision that was not released
				d = s.delivery(agent, events.WordApplied, last, from, func(a *events.Ack) { a.Chain[0] ^= 1 })
			case 4:
				d = s.delivery(agent, word, last, from, func(a *events.Ack) { a.Ledger = "another" })
			default:
				valid[string(d.Ack)] = true
			}
			for range rapid.IntRange(1, 3).Draw(t, "copies") {
				d.Stamp = s.now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "late")) * time.Second)
				come = append(come, d)
			}
		}
		come = rapid.Permutation(come).Draw(t, "order")
		for _, agent := range []string{"a", "b"} {
			if rapid.Bool().Draw(t, "beats") {
				s.beat(agent, rapid.Uint64Range(0, s.prod().Head()).Draw(t, "beat"), fleet.InStep)
			}
		}

		once := map[string]bool{}
		var sorted []events.Delivery
		for _, d := range come {
			if valid[string(d.Ack)] && !once[string(d.Ack)] {
				once[string(d.Ack)] = true
				sorted = append(sorted, d)
			}
		}
		slices.SortStableFunc(sorted, func(a, b events.Delivery) int { return a.Stamp.Compare(b.Stamp) })
		end := s.now.Add(time.Hour)
		bare.now = s.now
		for _, d := range sorted {
			bare.do("publisher", ledger.RecordDeliveries{Deliveries: []events.Delivery{d}})
		}

		for recorded := rapid.IntRange(0, len(come)).Draw(t, "recorded"); recorded > 0; {
			n := rapid.IntRange(1, recorded).Draw(t, "portion")
			d, err := s.state.Decide(ledger.Command{By: "publisher", Body: ledger.RecordDeliveries{Deliveries: come[:n]}}, s.now)
			if err == nil {
				_, _, err = s.state.Apply(d.Entry, s.now)
			}
			if err != nil && !errors.Is(err, ledger.ErrNothingNew) {
				t.Fatal(err)
			}
			come, recorded = come[n:], recorded-n
		}
		for _, d := range come {
			said, agent, err := s.state.Read(d)
			if err != nil || agent.Knows(said) {
				continue
			}
			id := fleet.AgentID{Environment: d.Environment, Agent: d.Agent}
			s.reports.Unrecorded[id] = append(s.reports.Unrecorded[id], said)
		}

		s.now, bare.now = end, end
		sameViews(s, everyView(bare, bare.state, bare.reports), everyView(s, s.state, s.reports))
		counted(s, sorted)
	})
}

// counted compares what agents have, and when they had it, with what one finds who looks at every ack.
func counted(s *site, acks []events.Delivery) {
	s.t.Helper()
	said := make([]ledger.Statement, len(acks))
	for i, d := range acks {
		var err error
		if said[i], _, err = s.state.Read(d); err != nil {
			s.t.Fatalf("%v", err)
		}
	}
	for _, agent := range s.prod().AgentList() {
		agent = agent.With(s.reports.Unrecorded[fleet.AgentID{Environment: "prod", Agent: agent.Name}])
		for r := uint64(1); r <= s.prod().Head(); r++ {
			var first time.Time
			for i, d := range acks {
				if d.Agent == agent.Name && said[i].Word == events.WordApplied && said[i].Last >= r && (first.IsZero() || d.Stamp.Before(first)) {
					first = d.Stamp
				}
			}
			have := agent.Applied(r)
			if (have != nil) != !first.IsZero() || have != nil && !have.Stamp.Equal(first) || (agent.Position >= r) != (have != nil) {
				s.t.Fatalf("%s has revision %d as %+v at position %d, want since %s", agent.Name, r, have, agent.Position, first)
			}
		}
	}
}

// TestLettingGoOfStatementsChangesNoFigure: a publisher, which keeps the newest statements of an agent, shows of the fleet what one does that keeps
// all of them, but for what each agent said of one release.
func TestLettingGoOfStatementsChangesNoFigure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSite(t, "a", "b")
		for i := range 6 {
			s.release("variable/y", string(rune('0'+i)))
		}
		at := map[string]uint64{}
		for range rapid.IntRange(0, 4).Draw(t, "portions") {
			var portion []events.Delivery
			for range rapid.IntRange(1, 20).Draw(t, "acks") {
				agent := rapid.SampledFrom([]string{"a", "a", "a", "b"}).Draw(t, "agent")
				word := rapid.SampledFrom([]events.Word{"applied", "failed", "failed", "superseded", "retrying", "torn"}).Draw(t, "word")
				last := rapid.Uint64Range(max(1, at[agent]), s.prod().Head()).Draw(t, "last")
				if word == events.WordApplied {
					last = min(last, at[agent]+1)
					at[agent] = last
				}
				s.pass(time.Second)
				portion = append(portion, s.delivery(agent, word, last, func(a *events.Ack) { a.First = last }))
			}
			s.do("publisher", ledger.RecordDeliveries{Deliveries: portion})
		}
		views := func(state *ledger.State) map[string]any {
			out := everyView(s, state, s.reports)
			for _, c := range out["changes"].([]fleet.Change) {
				for i, e := range c.Environments {
					c.Environments[i].Agents = nil
					if e.Lag == nil {
						c.Environments[i].Outcome = "" // what one of them said last of it
					}
				}
			}
			return out
		}
		whole := views(s.replay(ledger.NewWhole(s.state.ID)))
		sameViews(s, whole, views(s.state))
		sameViews(s, whole, views(s.replay(ledger.New(s.state.ID))))
	})
}
