package fleet_test

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func everything(*ledger.Environment) bool { return true }

// TestOneEnvironmentIsAsAmongAll: what is said of one environment alone is what is said of it among all.
func TestOneEnvironmentIsAsAmongAll(t *testing.T) {
	s := newSite(t, "a1", "a2")
	s.ack("a1", events.WordApplied, 3)
	s.beat("a2", 2, fleet.Behind)
	alone, err := fleet.EnvironmentOf(s.state, s.reports, "prod", s.now)
	if err != nil {
		t.Fatal(err)
	}
	if among := s.environment(); !reflect.DeepEqual(alone, among) {
		t.Errorf("alone %+v, among all %+v", alone, among)
	}
	if _, err := fleet.EnvironmentOf(s.state, s.reports, "nowhere", s.now); ledger.KindOf(err) != ledger.KindNotFound {
		t.Errorf("an unknown one: %v", err)
	}
}

// TestLagOfAReleaseIsThatOfTheSlowestAgent and, while one has not applied it, how long it has been waiting. Trust releases are left out.
func TestLagOfAReleaseIsThatOfTheSlowestAgent(t *testing.T) {
	s := newSite(t, "a1", "a2")
	s.ack("a1", events.WordApplied, 3)
	s.pass(10 * time.Second)
	open := fleet.LagSeries(s.prod(), s.reports, 10, s.now)
	if len(open) != 2 || open[0].Revision != 2 || !open[1].Open || open[1].Seconds != s.now.Sub(s.prod().Releases[2].Stamp).Seconds() {
		t.Errorf("one agent has not applied them: %+v", open)
	}
	s.ack("a2", events.WordApplied, 3)
	applied := fleet.LagSeries(s.prod(), s.reports, 1, s.now.Add(time.Hour))
	want := s.prod().Agents["a2"].Latest.Stamp.Sub(s.prod().Releases[2].Stamp).Seconds()
	if len(applied) != 1 || applied[0].Open || applied[0].Seconds != want {
		t.Errorf("%+v, want revision 3 after %v s", applied, want)
	}
}

// TestPropagationIsWhatCountingByHandGives: quantiles, histogram, phases and lists follow from the lags, and each release is counted once.
func TestPropagationIsWhatCountingByHandGives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSite(t, "a1")
		s.ack("a1", events.WordApplied, 3)
		s.pass(24 * time.Hour)
		from := s.now
		var lags []float64
		for range rapid.IntRange(1, 8).Draw(t, "releases") {
			s.release("variable/x", string(rune('0'+len(lags))))
			s.pass(time.Duration(rapid.IntRange(20, 100_000).Draw(t, "milliseconds")) * time.Millisecond)
			s.ack("a1", events.WordApplied, s.prod().Head())
			lags = append(lags, s.prod().Agents["a1"].Latest.Stamp.Sub(s.prod().Releases[s.prod().Head()-1].Stamp).Seconds())
		}
		if rapid.Bool().Draw(t, "one is on its way") {
			s.release("variable/x", `"on its way"`)
		}
		got := fleet.PropagationOf(s.state, s.reports, s.now.Sub(from), everything, s.now)
		slices.Sort(lags)
		atMost := func(q float64) (n int) {
			for _, lag := range lags {
				if lag <= q {
					n++
				}
			}
			return n
		}
		for share, q := range map[float64]float64{0.5: got.All.P50, 0.95: got.All.P95, 0.99: got.All.P99} {
			if !slices.Contains(lags, q) || float64(atMost(q)) < share*float64(len(lags)) {
				t.Errorf("%v of %v is said to be %v", share, lags, q)
			}
		}
		counted, before := 0, 0.0
		for _, bin := range got.Histogram {
			if n := atMost(bin.UpTo) - atMost(before); n != bin.Count {
				t.Errorf("the bin up to %v has %d, want %d", bin.UpTo, bin.Count, n)
			}
			counted, before = counted+bin.Count, bin.UpTo
		}
		buckets := 0
		for _, b := range got.Buckets {
			buckets += b.Count
		}
		if counted != len(lags) || buckets != len(lags) || got.All.Count != len(lags) || got.All.Max != lags[len(lags)-1] {
			t.Errorf("%d in the histogram, %d over time, %d in all of %d", counted, buckets, got.All.Count, len(lags))
		}
		for _, phase := range got.Phases {
			n, most := 0, 0.0
			for i, over := range phase.Over {
				n, most = n+over.Count, max(most, over.Max)
				if over.Count != got.Buckets[i].Count {
					t.Errorf("%s: %d from %v, want %d", phase.Phase, over.Count, got.Buckets[i].From, got.Buckets[i].Count)
				}
			}
			if n != phase.Count || n != len(lags) || most != phase.Max {
				t.Errorf("%s: %d over time, %d in all of %d; the longest %v, over time %v", phase.Phase, n, phase.Count, len(lags), phase.Max, most)
			}
		}
		if open := int(s.prod().Head()) - 3 - len(lags); len(got.Unapplied) != open {
			t.Errorf("%d are said to be on their way, want %d", len(got.Unapplied), open)
		}
		if !slices.IsSortedFunc(got.Slowest, func(a, b fleet.LagPoint) int { return int(math.Copysign(1, b.Seconds-a.Seconds)) }) {
			t.Errorf("not slowest first: %+v", got.Slowest)
		}
	})
}

func TestDeliveryCountsFailuresRollbacksAndRecovery(t *testing.T) {
	s := newSite(t, "a1")
	s.do("op", ledger.UpdateEnvironment{Name: "prod", Labels: map[string]string{"stage": "prod", "product": "shop"}, Steward: "Sam", Approvals: 1})
	s.ack("a1", events.WordApplied, 3)
	broken := s.release("variable/x", `3`)
	s.ack("a1", events.WordFailed, 4, func(a *events.Ack) { a.First, a.Observed = 4, events.Digest{} })
	failed := s.now
	report := func() fleet.DeliveryReport { return fleet.ReportDeliveries(s.state, s.reports, 4, s.now) }
	if r := report(); r.All.Changes != 3 || r.All.Failed != 1 || r.All.Unmended != 1 || r.All.Recover.Count != 0 || r.All.RolledBack != 0 {
		t.Errorf("after the failure: %+v", r.All)
	}
	s.pass(5 * time.Minute)
	s.do("ben", ledger.Rollback{Change: broken, Reason: "it fails"})
	s.ack("a1", events.WordApplied, 5, func(a *events.Ack) { a.First = 4 })
	r := report()
	if d := r.All; d.Failed != 1 || d.Unmended != 0 || d.RolledBack != 1 || d.Recover.Count != 1 || d.Recover.Max < 300 || d.Recover.Max > s.now.Sub(failed).Seconds() {
		t.Errorf("after the recovery: %+v", d)
	}
	if len(r.Stages) != 1 || r.Stages[0].Name != "prod" || r.Stages[0].Changes != 3 || len(r.Products) != 1 || r.Products[0].Failed != 1 {
		t.Errorf("by stage %+v, by product %+v", r.Stages, r.Products)
	}
	weeks := 0
	for _, w := range r.Weeks {
		weeks += w.Changes
		if w.From.Weekday() != time.Monday {
			t.Errorf("a week begins on %v", w.From)
		}
	}
	if len(r.Weeks) != 4 || weeks != 3 || r.All.Share(r.All.Failed) != 33 {
		t.Errorf("%d weeks with %d changes", len(r.Weeks), weeks)
	}
	s.pass(60 * 24 * time.Hour)
	if r := report(); r.All.Changes != 0 {
		t.Errorf("two months later: %+v", r.All)
	}
}

func flagOf(variant string) string {
	return `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"` + variant + `"}`
}

func TestAFlagsHealthFollowsFromWhereItIsNotAsItShouldBe(t *testing.T) {
	s := newSite(t, "a1")
	label := map[string]string{"stage": "prod"}
	s.do("op", ledger.UpdateEnvironment{Name: "prod", Labels: label, Steward: "Sam", Approvals: 1})
	s.do("op", ledger.AddEnvironment{Name: "other", Labels: label, Steward: "Sam", Approvals: 1})
	s.release("flag/new", flagOf("off"))
	row := func() fleet.FlagRow {
		t.Helper()
		m, err := fleet.Flags(s.state, s.reports, everything, s.now)
		if err != nil || len(m.Flags) != 1 || !slices.Equal(m.Environments, []string{"other", "prod"}) {
			t.Fatalf("%+v, %v", m, err)
		}
		return m.Flags[0]
	}
	if r := row(); r.Health != 60 || !slices.Equal(r.Waiting, []string{"other", "prod"}) || r.Split != nil {
		t.Errorf("nobody has applied it: %+v", r)
	}
	s.ack("a1", events.WordApplied, s.prod().Head())
	s.do("sam", ledger.RetireEnvironment{Name: "other", Reason: "no longer used"})
	m, err := fleet.Flags(s.state, s.reports, everything, s.now)
	if err != nil || len(m.Environments) != 1 || m.Flags[0].Health != 100 || string(m.Flags[0].Cells[0].Value) != "false" || !m.Flags[0].Cells[0].Applied {
		t.Errorf("all have applied it: %+v, %v", m, err)
	}
}

// TestAFlagIsNotHealthyWhereNobodyKnowsThatItIsStillThere: what an agent applied once says nothing where it is not heard any more.
func TestAFlagIsNotHealthyWhereNobodyKnowsThatItIsStillThere(t *testing.T) {
	differs := func(resource string, more int) func(*events.Beat) {
		return func(b *events.Beat) {
			b.Reason, b.Message, b.Drift, b.Differing = events.ReasonReadBack, "it differs", 1+more, []events.DifferingResource{{Resource: resource}}
		}
	}
	for name, c := range map[string]struct {
		befalls func(s *site)
		unknown bool
	}{
		"in step":           {func(*site) {}, false},
		"held":              {func(s *site) { s.beat("a1", s.prod().Head(), fleet.Held) }, false},
		"silent":            {func(s *site) { s.pass(fleet.SilentAfter + time.Second) }, true},
		"stale":             {func(s *site) { s.beat("a1", s.prod().Head(), fleet.Stale) }, true},
		"torn":              {func(s *site) { s.beat("a1", s.prod().Head(), fleet.Torn) }, true},
		"differing there":   {func(s *site) { s.beat("a1", s.prod().Head(), fleet.Differing, differs("flag/new", 0)) }, true},
		"differing beside":  {func(s *site) { s.beat("a1", s.prod().Head(), fleet.Differing, differs("variable/x", 0)) }, false},
		"differing in more": {func(s *site) { s.beat("a1", s.prod().Head(), fleet.Differing, differs("variable/x", 20)) }, true},
		"without an agent":  {func(s *site) { s.do("op", ledger.RevokeAgent{Environment: "prod", Agent: "a1", Reason: "gone"}) }, true},
	} {
		s := newSite(t, "a1")
		s.release("flag/new", flagOf("off"))
		s.ack("a1", events.WordApplied, s.prod().Head())
		s.pass(fleet.BeatInterval)
		s.beat("a1", s.prod().Head(), fleet.InStep)
		c.befalls(s)
		m, err := fleet.Flags(s.state, s.reports, everything, s.now)
		if err != nil {
			t.Fatal(err)
		}
		r := m.Flags[0]
		if r.Cells[0].Unknown != c.unknown || (len(r.Unknown) > 0) != c.unknown || (r.Health == 100) == c.unknown {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestAFlagThatDiffersWithinAStageIsSplit(t *testing.T) {
	s := newSite(t, "a1")
	s.do("op", ledger.AddEnvironment{Name: "other", Steward: "Sam", Approvals: 1})
	s.do("op", ledger.AddEnvironment{Name: "third", Steward: "Sam", Approvals: 1})
	s.release("flag/new", flagOf("off"))
	p := s.do("anna", ledger.Propose{Reason: "because", Edits: []ledger.Edit{{Environments: []string{"other"}, Set: map[string]json.RawMessage{"flag/new": json.RawMessage(flagOf("on"))}}}})
	s.do("ben", ledger.Approve{Change: p.Change, Digest: s.state.Changes[p.Change].Digest})
	m, err := fleet.Flags(s.state, s.reports, everything, s.now)
	if err != nil {
		t.Fatal(err)
	}
	r := m.Flags[0]
	if r.Health != 40 || len(r.Split) != 1 || !r.Cells[0].Unusual || r.Cells[1].Unusual || r.Cells[2].Unusual || r.Cells[0].Variant != "on" {
		t.Errorf("%+v", r)
	}
}

// TestSinceWhenAFlagDiffersIsReadFromItsHistory: what is undone counts no more, and who came later differs from then on.
func TestSinceWhenAFlagDiffersIsReadFromItsHistory(t *testing.T) {
	s := newSite(t, "a1")
	s.do("op", ledger.AddEnvironment{Name: "other", Approvals: 1})
	row := func() fleet.FlagRow {
		t.Helper()
		m, err := fleet.Flags(s.state, s.reports, everything, s.now)
		if err != nil {
			t.Fatal(err)
		}
		r := m.Flags[0]
		alike := true
		for _, c := range r.Cells {
			alike = alike && c.Same(r.Cells[0])
		}
		if alike != r.Differs.IsZero() {
			t.Fatalf("the cells are alike: %v, and it differs since %s", alike, r.Differs)
		}
		return r
	}
	at := func(environment string) time.Time {
		e := s.state.Environments[environment]
		return e.Releases[e.Head()-1].Time
	}
	only := func(value string) string {
		p := s.do("anna", ledger.Propose{Reason: "because", Edits: []ledger.Edit{{Environments: []string{"other"}, Set: map[string]json.RawMessage{"flag/new": json.RawMessage(value)}}}})
		s.do("ben", ledger.Approve{Change: p.Change, Digest: s.state.Changes[p.Change].Digest})
		return p.Change
	}
	s.release("flag/new", flagOf("off"))
	if r := row(); !r.Differs.IsZero() || !r.Agreed.IsZero() {
		t.Errorf("it never differed: %+v", r)
	}
	first := only(flagOf("on"))
	began := at("other")
	second := only(`{"state":"DISABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`)
	s.do("ben", ledger.Rollback{Change: second, Reason: "not yet"})
	if r := row(); !r.Differs.Equal(began) || !r.Agreed.IsZero() {
		t.Errorf("it differs since %s: %+v", began, r)
	}
	s.do("ben", ledger.Rollback{Change: first, Reason: "not yet"})
	if r := row(); !r.Differs.IsZero() || !r.Agreed.Equal(at("other")) {
		t.Errorf("it is alike since %s: %+v", at("other"), r)
	}
	s.do("op", ledger.AddEnvironment{Name: "third", Approvals: 1})
	if r := row(); !r.Differs.Equal(s.state.Environments["third"].Added) {
		t.Errorf("somebody came who has none: %+v", r)
	}
}

func TestWhatIsOverdueIsFoundInTheSources(t *testing.T) {
	s := newSite(t, "a1")
	manifest := `apiVersion: lockstep/v1
kind: Environment
metadata: {name: prod}
spec: {}
---
apiVersion: lockstep/v1
kind: Flag
metadata: {name: old, owner: team-shop}
spec:
  expires: 2026-11-20
  reviewBy: 2026-11-21
  default: ` + flagOf("off") + "\n"
	p := s.do("anna", ledger.Propose{Reason: "because", Edits: []ledger.Edit{}, Directory: &ledger.Directory{Files: []registry.File{{Name: "shop/all.yaml", Text: manifest}}}})
	s.do("ben", ledger.Approve{Change: p.Change, Digest: s.state.Changes[p.Change].Digest})
	said := func(at time.Time) (out []string) {
		overdue, err := fleet.OverdueOf(s.state, at)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range overdue {
			out = append(out, strings.Join([]string{o.What, o.Key, o.Owner, o.Place.File, strings.Join(o.Environments, ",")}, " "))
		}
		return out
	}
	expired, review := "expired flag/old team-shop shop/all.yaml prod", "review flag/old team-shop shop/all.yaml prod"
	for day, want := range map[string][]string{"2026-11-20": nil, "2026-11-21": {expired}, "2026-11-22": {expired, review}} {
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		if got := said(at.Add(12 * time.Hour)); !slices.Equal(got, want) {
			t.Errorf("on %s: %q, want %q", day, got, want)
		}
	}
}
