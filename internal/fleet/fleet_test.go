package fleet_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestAnEnvironmentIsWhatIsWorstKnownOfIt(t *testing.T) {
	other := events.Sum([]byte("other"))
	for name, c := range map[string]struct {
		tell    func(s *site)
		want    fleet.Condition
		reason  events.Reason
		message string
	}{
		"never heard": {func(*site) {}, fleet.Silent, "", "never been heard"},
		"in step":     {func(s *site) { s.ack("a", "applied", 3); s.beat("a", 3, fleet.InStep) }, fleet.InStep, "", ""},
		"ack alone":   {func(s *site) { s.ack("a", "applied", 3) }, fleet.InStep, "", ""},
		"beat alone":  {func(s *site) { s.beat("a", 3, fleet.InStep) }, fleet.InStep, "", ""},
		"silent after three beats": {func(s *site) {
			s.ack("a", "applied", 3)
			s.beat("a", 3, fleet.InStep)
			s.pass(fleet.SilentAfter + time.Millisecond)
		}, fleet.Silent, "", "unheard for 30s"},
		"just heard":                     {func(s *site) { s.beat("a", 3, fleet.InStep); s.pass(fleet.SilentAfter) }, fleet.InStep, "", ""},
		"behind":                         {func(s *site) { s.ack("a", "applied", 2); s.beat("a", 2, fleet.Behind) }, fleet.Behind, "", "revision 2 of 3"},
		"behind, though it says in step": {func(s *site) { s.beat("a", 2, fleet.InStep) }, fleet.Behind, "", "revision 2 of 3"},
		"nothing applied":                {func(s *site) { s.beat("a", 0, fleet.Behind) }, fleet.Behind, "", "revision 0 of 3"},
		"an old disk image": {func(s *site) {
			s.ack("a", "applied", 3)
			s.pass(10 * time.Second)
			s.beat("a", 2, fleet.InStep)
		}, fleet.Behind, "", "revision 2 of 3, though it acknowledged 3 before"},
		"a beat on its way beside the ack": {func(s *site) {
			s.ack("a", "applied", 3)
			s.beat("a", 2, fleet.Behind)
		}, fleet.InStep, "", ""},
		"retrying": {func(s *site) {
			s.ack("a", "applied", 2)
			s.ack("a", "retrying", 3, because(events.ReasonConnector, "timeout"))
		}, fleet.Behind, events.ReasonConnector, "timeout"},
		"retrying, says the beat": {func(s *site) {
			s.beat("a", 2, fleet.Behind, saying(events.ReasonConnector, "timeout"))
		}, fleet.Behind, events.ReasonConnector, "timeout"},
		"failing": {func(s *site) {
			s.ack("a", "applied", 2)
			s.ack("a", "failed", 3, because(events.ReasonConnector, "500"))
		}, fleet.Failing, events.ReasonConnector, "500"},
		"failing, says the beat": {func(s *site) { s.beat("a", 2, fleet.Failing, saying(events.ReasonConnector, "500")) }, fleet.Failing, events.ReasonConnector, "500"},
		"refused":                {func(s *site) { s.ack("a", "refused", 3, because(events.ReasonSignature, "no")) }, fleet.Failing, events.ReasonSignature, "no"},
		"failed and overcome": {func(s *site) {
			s.ack("a", "failed", 2, because(events.ReasonConnector, "500"))
			s.ack("a", "applied", 3)
		}, fleet.InStep, "", ""},
		"a beat overtaken by an ack": {func(s *site) {
			s.beat("a", 2, fleet.Failing, saying(events.ReasonConnector, "500"))
			s.pass(time.Second)
			s.ack("a", "applied", 3)
		}, fleet.InStep, "", ""},
		"torn": {func(s *site) {
			s.ack("a", "torn", 3, because(events.ReasonUndo, "half"))
			s.ack("a", "retrying", 3, because(events.ReasonUndo, "half"))
		}, fleet.Torn, events.ReasonUndo, "half"},
		"torn, put back since": {func(s *site) {
			s.ack("a", "applied", 3)
			s.ack("a", "torn", 3, because(events.ReasonUndo, "half"))
			s.pass(10 * time.Second)
			s.beat("a", 3, fleet.InStep)
		}, fleet.InStep, "", ""},
		"stale": {func(s *site) { s.beat("a", 3, fleet.Stale, saying(events.ReasonNoPulse, "no pulse")) }, fleet.Stale, events.ReasonNoPulse, "no pulse"},
		"held":  {func(s *site) { s.beat("a", 2, fleet.Held, saying(events.ReasonHeldBySteward, "fair")) }, fleet.Held, events.ReasonHeldBySteward, "fair"},
		"differing keys": {func(s *site) {
			s.ack("a", "applied", 3, func(a *events.Ack) { a.Differing, a.Observed = []string{"variable/x"}, other })
		}, fleet.Differing, events.ReasonReadBack, "variable/x"},
		"another read-back without names": {func(s *site) { s.ack("a", "applied", 3, func(a *events.Ack) { a.Observed = other }) }, fleet.Differing, events.ReasonReadBack, "other values"},
		"another read-back in a beat":     {func(s *site) { s.beat("a", 3, fleet.InStep, func(b *events.Beat) { b.Observed = other }) }, fleet.Differing, events.ReasonReadBack, "other values"},
		"another state": {func(s *site) {
			s.beat("a", 3, fleet.InStep, func(b *events.Beat) { b.State, b.Observed = other, other })
		}, fleet.Differing, events.ReasonStateMismatch, "revision 3"},
		"another state in an ack": {func(s *site) { s.ack("a", "applied", 3, func(a *events.Ack) { a.Expected, a.Observed = other, other }) }, fleet.Differing, events.ReasonStateMismatch, "revision 3"},
		"differed, mended since": {func(s *site) {
			s.ack("a", "applied", 3, func(a *events.Ack) { a.Differing, a.Observed = []string{"variable/x"}, other })
			s.pass(10 * time.Second)
			s.beat("a", 3, fleet.InStep)
		}, fleet.InStep, "", ""},
		"not read back": {func(s *site) {
			s.ack("a", "applied", 3, func(a *events.Ack) { a.ReadBack, a.Observed = false, events.Digest{} })
		}, fleet.InStep, "", ""},
		"on a fork": {func(s *site) { s.beat("a", 3, fleet.InStep, func(b *events.Beat) { b.Chain = other }) }, fleet.Differing, events.ReasonLedgerForked, "has not released"},
		"ahead of the ledger": {func(s *site) {
			s.beat("a", 3, fleet.InStep, func(b *events.Beat) { b.Revision = 4 })
		}, fleet.Differing, events.ReasonLedgerForked, "has not released"},
		"an unknown word": {func(s *site) { s.beat("a", 3, "quarantined") }, fleet.Failing, "", `"quarantined"`},
		"an old ack resent after a beat": {func(s *site) {
			s.ack("a", "applied", 3)
			s.pass(10 * time.Second)
			s.beat("a", 3, fleet.Torn, saying(events.ReasonUndo, "half"))
			s.pass(time.Second)
			s.ack("a", "failed", 2, because(events.ReasonConnector, "500"))
		}, fleet.Torn, events.ReasonUndo, "half"},
		"torn before differing before failing": {func(s *site) {
			s.ack("a", "failed", 3, because(events.ReasonConnector, "500"))
			s.beat("a", 2, fleet.Torn, saying(events.ReasonUndo, "half"))
			s.pass(time.Hour)
		}, fleet.Torn, events.ReasonUndo, "half"},
		"silent before held": {func(s *site) {
			s.beat("a", 3, fleet.Held, saying(events.ReasonHeldBySteward, "fair"))
			s.pass(time.Hour)
		}, fleet.Silent, "", "1h0m0s"},
		"nobody is heard, because the publisher does not reach the bus": {func(s *site) {
			s.beat("a", 3, fleet.InStep)
			s.reports.Deaf = s.now
		}, fleet.Silent, events.ReasonBusDown, "does not reach the bus"},
		"nobody is heard, for long": {func(s *site) {
			s.beat("a", 2, fleet.Stale, saying(events.ReasonNoPulse, "no pulse"))
			s.reports.Deaf = s.now
			s.pass(time.Hour)
		}, fleet.Silent, events.ReasonBusDown, "does not reach the bus"},
		"what was torn before nobody is heard": {func(s *site) {
			s.beat("a", 2, fleet.Torn, saying(events.ReasonUndo, "half"))
			s.reports.Deaf = s.now
		}, fleet.Torn, events.ReasonUndo, "half"},
		"an apply that hangs": {func(s *site) {
			s.beat("a", 2, fleet.Behind, saying("timeout", "the connector does not answer"))
		}, fleet.Behind, "timeout", "does not answer"},
		"retired": {func(s *site) { s.do("op", ledger.RetireEnvironment{Name: "prod", Reason: "r"}) }, fleet.Retired, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "a")
			c.tell(s)
			got := s.environment()
			if got.Condition != c.want || got.Reason != c.reason || !strings.Contains(got.Message, c.message) || (c.message == "" && got.Message != "") ||
				c.reason != "" && strings.HasPrefix(got.Message, string(c.reason)) {
				t.Errorf("%s (%s): %q; want %s (%s): %q", got.Condition, got.Reason, got.Message, c.want, c.reason, c.message)
			}
			if (got.Condition == fleet.Held) == got.Agents[0].Until.IsZero() {
				t.Errorf("held until %v", got.Agents[0].Until)
			}
		})
	}
}

func TestWhatABeatTellsOfTheInstanceIsShownUntilAnAckOfALaterApply(t *testing.T) {
	s := newSite(t, "a")
	s.ack("a", "applied", 3)
	s.pass(time.Hour)
	where := []events.DifferingResource{{Resource: "variable/x", Fields: []string{"/limit"}}}
	s.beat("a", 3, fleet.Differing, saying(events.ReasonReadBack, events.OtherValues(where)), func(b *events.Beat) {
		b.Observed, b.Drift, b.Differing = events.Sum(nil), 1, where
	})
	e := s.environment()
	if a := e.Agents[0]; e.Condition != fleet.Differing || a.Drift != 1 || !reflect.DeepEqual(a.Differing, where) || !a.Since.Equal(epoch) || !strings.Contains(e.Message, "variable/x (/limit)") {
		t.Errorf("%+v", e)
	}
	s.pass(time.Second)
	s.ack("a", "applied", 3) // a retry, or the next release
	if e := s.environment(); e.Condition != fleet.InStep || e.Agents[0].Drift != 0 || len(e.Agents[0].Differing) > 0 {
		t.Errorf("%+v", e)
	}
}

func because(reason events.Reason, message string) func(*events.Ack) {
	return func(a *events.Ack) { a.Reason, a.Message = reason, message }
}

func saying(reason events.Reason, message string) func(*events.Beat) {
	return func(b *events.Beat) {
		b.Reason, b.Message, b.Since, b.Until = reason, message, epoch, epoch.Add(time.Hour)
	}
}

func TestAnEnvironmentWithoutAgentsIsSilent(t *testing.T) {
	s := newSite(t)
	if got := s.environment(); got.Condition != fleet.Silent || got.Revision != 0 || got.LagRevisions != 3 || !strings.Contains(got.Message, "no agent") {
		t.Errorf("%+v", got)
	}
	s.enrol("a")
	s.do("op", ledger.RevokeAgent{Environment: "prod", Agent: "a", Reason: "r"})
	s.beat("a", 3, fleet.InStep)
	if got := s.environment(); got.Condition != fleet.Silent || len(got.Agents) != 0 {
		t.Errorf("a revoked agent counts: %+v", got)
	}
}

// TestRevokingTheOnlyAgentTakesNothingBack: what it applied and acknowledged stays, and the silence begins when it was revoked.
func TestRevokingTheOnlyAgentTakesNothingBack(t *testing.T) {
	s := newSite(t, "a")
	s.ack("a", "applied", 3)
	s.beat("a", 3, fleet.InStep)
	s.pass(time.Hour)
	at := func() string {
		t.Helper()
		c, err := fleet.ChangeOf(s.state, s.reports, "c2", s.now)
		if err != nil {
			t.Fatal(err)
		}
		items, err := fleet.History(s.state, s.reports, "prod", "")
		if err != nil {
			t.Fatal(err)
		}
		e := s.environment()
		lag := fleet.LagSeries(s.prod(), s.reports, 1, s.now)
		return fmt.Sprint(e.Revision, " of ", e.Head, " ", e.Delivered != nil, "; ", c.Status, " ", c.Environments[0].Outcome, " ", len(c.Environments[0].Agents), "; ", items[0].Applied, " ", lag[0].Open)
	}
	if got := at(); got != "3 of 3 true; delivered applied 1; true false" {
		t.Fatal(got)
	}
	s.do("op", ledger.RevokeAgent{Environment: "prod", Agent: "a", Reason: "r"})
	revoked := s.now.Add(10 * time.Millisecond)
	delete(s.reports.Beats, fleet.AgentID{Environment: "prod", Agent: "a"})
	s.pass(time.Minute)
	if got := at(); got != "3 of 3 true; delivered applied 1; true false" {
		t.Errorf("after it was revoked %s", got)
	}
	if e := s.environment(); e.Condition != fleet.Silent || !e.Since.Equal(revoked) || e.LagSeconds != 0 || !strings.Contains(e.Message, "since a was revoked") {
		t.Errorf("%+v", e)
	}
	s.release("variable/x", "3")
	released := s.prod().Releases[3].Stamp
	s.pass(time.Minute)
	if got := at(); got != "3 of 4 true; delivered applied 1; false true" {
		t.Errorf("after another release %s", got)
	}
	if e := s.environment(); e.Condition != fleet.Silent || e.LagSeconds != s.now.Sub(released).Seconds() {
		t.Errorf("%+v", e)
	}
	s.enrol("b")
	if c, err := fleet.ChangeOf(s.state, s.reports, "c2", s.now); err != nil || c.Environments[0].Outcome != "applied" {
		t.Errorf("%+v (%v)", c.Environments, err)
	}
	if e := s.environment(); e.Condition != fleet.Silent || e.Revision != 0 {
		t.Errorf("the new agent has applied nothing: %+v", e)
	}
}

func TestTheLowestAndTheWorstOfTwoAgentsCount(t *testing.T) {
	s := newSite(t, "a", "b")
	s.ack("a", "applied", 3)
	s.ack("b", "applied", 2)
	got := s.environment()
	if got.Revision != 2 || got.LagRevisions != 1 || got.Condition != fleet.Behind || !strings.HasPrefix(got.Message, "b: ") {
		t.Errorf("%+v", got)
	}
	s.ack("b", "failed", 3, because(events.ReasonConnector, "500"))
	if got := s.environment(); got.Condition != fleet.Failing || got.Message != "b: 500" {
		t.Errorf("%+v", got)
	}
}

// TestSinceWhenIsSaidByTheBusWhateverTheAgentsClockSays: an agent whose clock is an hour off fails since a minute, not since an hour.
func TestSinceWhenIsSaidByTheBusWhateverTheAgentsClockSays(t *testing.T) {
	for _, skew := range []time.Duration{0, time.Hour, -time.Hour, 30 * time.Second} {
		s := newSite(t, "a")
		since := s.now.Add(-time.Minute)
		tell := func(way time.Duration, condition fleet.Condition) fleet.Agent {
			s.beat("a", 2, condition, func(b *events.Beat) {
				b.Clock, b.Since, b.Until = s.now.Add(skew-way), since.Add(skew), since.Add(skew+time.Hour)
			})
			return s.environment().Agents[0]
		}
		for _, way := range []time.Duration{0, 400 * time.Millisecond} { // what a beat needs to arrive makes no other time of it
			if a := tell(way, fleet.Failing); !a.Since.Equal(since) {
				t.Errorf("skew %s, way %s: failing since %s, want %s", skew, way, a.Since, since)
			}
			if a := tell(way, fleet.Held); !a.Since.Equal(since) || !a.Until.Equal(since.Add(time.Hour)) {
				t.Errorf("skew %s, way %s: held from %s to %s, want %s and an hour later", skew, way, a.Since, a.Until, since)
			}
		}
	}
}

func TestLagIsMeasuredByTheBusAndNoAgentsClockCounts(t *testing.T) {
	for _, skew := range []time.Duration{0, time.Hour, -time.Hour} {
		s := newSite(t, "a")
		released := s.prod().Releases[1].Stamp
		if got := s.environment(); got.LagRevisions != 3 || got.LagSeconds != s.now.Sub(s.prod().Releases[0].Stamp).Seconds() {
			t.Errorf("%+v", got)
		}
		s.now = s.prod().Releases[2].Stamp.Add(1500 * time.Millisecond)
		d := s.delivery("a", "applied", 3, func(a *events.Ack) {
			at := s.now.Add(skew)
			a.Phases = events.Phases{Received: at, Verified: at, Applied: at, Committed: at}
		})
		statement, _, err := s.state.Read(d)
		if err != nil {
			t.Fatal(err)
		}
		id := fleet.AgentID{Environment: "prod", Agent: "a"}
		s.reports.Unrecorded[id] = []ledger.Statement{statement, statement}
		s.beat("a", 3, fleet.InStep, func(b *events.Beat) { b.Clock = s.now.Add(skew) })
		got := s.environment()
		if got.LagRevisions != 0 || got.LagSeconds != 0 || got.Delivered == nil || got.Delivered.Seconds != 1.5 || got.Delivered.AtMost {
			t.Errorf("skew %s: %+v, delivered %+v", skew, got, got.Delivered)
		}
		if got.Agents[0].ClockSkew != skew.Seconds() {
			t.Errorf("skew %s is shown as %v", skew, got.Agents[0].ClockSkew)
		}
		c, err := fleet.ChangeOf(s.state, s.reports, "c1", s.now)
		if err != nil || c.Environments[0].Lag.Seconds != s.now.Sub(released).Seconds() || c.Environments[0].Outcome != "applied" {
			t.Errorf("skew %s: %+v (%v)", skew, c.Environments[0], err)
		}
	}
}

func TestABeatForALostAckCountsAsAtMost(t *testing.T) {
	s := newSite(t, "a")
	s.beat("a", 3, fleet.InStep)
	b := s.reports.Beats[fleet.AgentID{Environment: "prod", Agent: "a"}]
	payload, header, err := events.EncodeBeat(b.Beat, signer("a"))
	if err != nil {
		t.Fatal(err)
	}
	s.do("publisher", ledger.RecordDeliveries{Deliveries: []events.Delivery{{Environment: "prod", Agent: "a", Stamp: b.Stamp, Beat: payload, Signature: header}}})
	if got := s.environment(); got.Delivered == nil || !got.Delivered.AtMost {
		t.Errorf("%+v", got.Delivered)
	}
}

func TestAWindowIsOpenKeptOrMissed(t *testing.T) {
	s := newSite(t, "a", "b")
	c := s.release("variable/y", "1")
	released := s.prod().Releases[3].Stamp
	window := func() fleet.Window {
		t.Helper()
		got, err := fleet.ChangeOf(s.state, s.reports, c, s.now)
		if err != nil {
			t.Fatal(err)
		}
		return got.Window
	}
	s.ack("a", "applied", 4)
	if got := window(); got != fleet.WindowOpen {
		t.Errorf("at first %s", got)
	}
	s.now = released.Add(61 * time.Second)
	if got := window(); got != fleet.WindowMissed {
		t.Errorf("after it passed %s", got)
	}
	s.now = released.Add(60*time.Second + time.Millisecond)
	s.ack("b", "applied", 4)
	if got := window(); got != fleet.WindowMissed {
		t.Errorf("applied late: %s", got)
	}

	s = newSite(t, "a")
	c = s.release("variable/y", "1")
	s.now = s.prod().Releases[3].Stamp.Add(60 * time.Second)
	s.ack("a", "applied", 4)
	s.pass(time.Hour)
	if got := window(); got != fleet.WindowKept {
		t.Errorf("applied in time: %s", got)
	}
	c = s.propose("variable/z", "1")
	if got := window(); got != "" {
		t.Errorf("before its release: %s", got)
	}
}

func TestAChangeSaysWhatBecameOfItEverywhere(t *testing.T) {
	s := newSite(t, "a", "b")
	s.do("op", ledger.AddEnvironment{Name: "empty", Approvals: 1})
	left := s.propose("variable/x", "4")
	c := s.release("variable/x", "3")
	s.do("op", ledger.AddEnvironment{Name: "zone", Approvals: 1})
	outcome := func(change, environment string) string {
		t.Helper()
		for _, got := range fleet.Changes(s.state, s.reports, s.now) {
			for _, e := range got.Environments {
				if got.ID == change && e.Environment == environment {
					return e.Outcome
				}
			}
		}
		return "not there"
	}
	if outcome(c, "prod") != "waiting" || outcome(c, "empty") != "no agent" || outcome(c, "zone") != "not there" || outcome(left, "prod") != "proposed" {
		t.Errorf("%s, %s, %s, %s", outcome(c, "prod"), outcome(c, "empty"), outcome(c, "zone"), outcome(left, "prod"))
	}
	s.ack("a", "applied", 4)
	s.ack("b", "failed", 4, because(events.ReasonConnector, "500"))
	if got := outcome(c, "prod"); got != "failed" {
		t.Error(got)
	}
	s.ack("b", "applied", 4)
	if got := outcome(c, "prod"); got != "applied" {
		t.Error(got)
	}
	s.do("op", ledger.Rollback{Change: c, Environments: []string{"prod"}, Reason: "r"})
	if got := outcome(c, "prod"); got != "undone" {
		t.Error(got)
	}
	got, err := fleet.ReleaseOf(s.state, s.reports, "prod", 5)
	if err != nil || got.Outcome != "waiting" || len(got.Agents) != 2 || string(got.Operations[0].After) != "2" {
		t.Errorf("the rollback: %+v (%v)", got, err)
	}
	if _, err := fleet.ChangeOf(s.state, s.reports, "c99", s.now); ledger.KindOf(err) != ledger.KindNotFound {
		t.Error(err)
	}
	for _, revision := range []uint64{0, 6} {
		if _, err := fleet.ReleaseOf(s.state, s.reports, "prod", revision); ledger.KindOf(err) != ledger.KindNotFound {
			t.Error(err)
		}
	}
	if _, err := fleet.ReleaseOf(s.state, s.reports, "stage", 1); ledger.KindOf(err) != ledger.KindNotFound {
		t.Error(err)
	}
}

// TestWhatWasReleasedBeforeThereWasAnAgentIsDeliveredToTheFirst: nobody counts for it, and it is waited for until it is there.
func TestWhatWasReleasedBeforeThereWasAnAgentIsDeliveredToTheFirst(t *testing.T) {
	s := newSite(t)
	at := func() string {
		t.Helper()
		c, err := fleet.ChangeOf(s.state, s.reports, "c2", s.now)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(c.Status, ", ", c.Environments[0].Outcome, ", ", len(c.Environments[0].Agents))
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "released, no agent, 0"},
		{func() { s.enrol("a"); s.enrol("b") }, "released, waiting, 2"},
		{func() { s.ack("a", "applied", 3) }, "released, waiting, 2"},
		{func() { s.ack("b", "applied", 3) }, "delivered, applied, 2"},
	} {
		if step.do(); at() != step.want {
			t.Errorf("%s, want %s", at(), step.want)
		}
	}
}

// TestARevisionThatWasPassedOverIsNotCalledReadBackAlone: its state never was on the instance, and what it failed for stays.
func TestARevisionThatWasPassedOverIsNotCalledReadBackAlone(t *testing.T) {
	s := newSite(t, "alone", "behind", "failed")
	for _, agent := range []string{"alone", "failed"} {
		s.ack(agent, "applied", 1)
	}
	s.ack("alone", "applied", 2)
	s.ack("alone", "applied", 3, func(a *events.Ack) { a.First = 3 })
	s.ack("behind", "applied", 3)
	s.ack("failed", "failed", 2, because(events.ReasonFirstContact, "other values"))
	s.ack("failed", "superseded", 2, func(a *events.Ack) { a.First, a.By = 2, 3 })
	s.ack("failed", "applied", 3, func(a *events.Ack) { a.First = 2 })
	releases := s.prod().Releases
	got, err := fleet.ReleaseOf(s.state, s.reports, "prod", 2)
	if err != nil || len(got.Agents) != 3 {
		t.Fatalf("%+v (%v)", got, err)
	}
	for i, want := range []fleet.AgentDelivery{
		{Agent: "alone", Digest: releases[1].State},
		{Agent: "behind", Digest: releases[2].State, With: 3},
		{Agent: "failed", Digest: releases[2].State, With: 3, Failed: events.WordFailed, Reason: events.ReasonFirstContact, Message: "other values"},
	} {
		a := got.Agents[i]
		if a.Word != events.WordApplied || (fleet.AgentDelivery{Agent: a.Agent, Digest: a.Digest, With: a.With, Failed: a.Failed, Reason: a.Reason, Message: a.Message}) != want {
			t.Errorf("%+v, want %+v", a, want)
		}
	}
}

func TestWhatAnAgentEnrolledLaterHasNotIsNotWaitedFor(t *testing.T) {
	s := newSite(t, "a")
	s.ack("a", "applied", 3)
	s.enrol("late")
	c, err := fleet.ChangeOf(s.state, s.reports, "c2", s.now)
	if err != nil || c.Environments[0].Outcome != "applied" || len(c.Environments[0].Agents) != 1 {
		t.Errorf("%+v (%v)", c.Environments[0], err)
	}
	if got := s.environment(); got.Revision != 0 || got.Condition != fleet.Silent || got.Agents[1].FirstCounts != 3 {
		t.Errorf("%+v", got)
	}
}

func TestHistoryAndResourcesAreAsOfARevisionAndATime(t *testing.T) {
	s := newSite(t, "a")
	second := s.now
	s.pass(time.Hour)
	gone := s.release("variable/x", "")
	s.do("op", ledger.Rollback{Change: gone, Reason: "back"})

	items, err := fleet.History(s.state, s.reports, "prod", "")
	if err != nil || len(items) != 5 {
		t.Fatalf("%d items (%v)", len(items), err)
	}
	for i, want := range []string{"rollback set 2", "change delete ", "change set 2", "change set 1", "trust"} {
		got := string(items[i].Kind)
		for _, op := range items[i].Operations {
			got += " " + op.Op + " " + string(op.After)
		}
		if got != want || items[i].Revision != uint64(5-i) {
			t.Errorf("revision %d: %q, want %q", items[i].Revision, got, want)
		}
	}
	if items, err := fleet.History(s.state, s.reports, "", "variable/x"); err != nil || len(items) != 4 {
		t.Errorf("of one resource: %d items (%v)", len(items), err)
	}
	if items, err := fleet.History(s.state, s.reports, "", "variable/other"); err != nil || len(items) != 0 {
		t.Errorf("of another: %d items (%v)", len(items), err)
	}
	for revision, want := range map[uint64]string{1: "", 2: "1", 3: "2", 4: "deleted", 5: "2"} {
		r, err := fleet.ResourceAt(s.state, "prod", "variable/x", revision)
		got := string(r.Value)
		if r.Deleted {
			got = "deleted"
		}
		if got != want || (want == "") != (ledger.KindOf(err) == ledger.KindNotFound) {
			t.Errorf("at %d: %q (%v), want %q", revision, got, err, want)
		}
		all, err := fleet.Resources(s.state, "prod", revision)
		present := want != "" && want != "deleted" // it is the only resource
		if err != nil || (len(all) == 1) != present || len(all) > 1 {
			t.Errorf("at %d: %d resources (%v)", revision, len(all), err)
		}
	}
	if r, err := fleet.ResourceAt(s.state, "prod", "variable/x", s.prod().RevisionAt(second)); err != nil || string(r.Value) != "2" || r.Change != "c2" || r.By != "anna" || !r.Set.Equal(second) {
		t.Errorf("at a time: %+v (%v)", r, err)
	}
	if got := s.prod().RevisionAt(epoch); got != 0 {
		t.Errorf("before the first release: %d", got)
	}
	for _, c := range []struct {
		environment, key string
		revision         uint64
		kind             ledger.Kind
	}{{"stage", "variable/x", 1, ledger.KindNotFound}, {"prod", "x", 1, ledger.KindInvalid}, {"prod", "variable/x", 6, ledger.KindNotFound}, {"prod", "variable/x", 0, ledger.KindNotFound}} {
		if _, err := fleet.ResourceAt(s.state, c.environment, c.key, c.revision); ledger.KindOf(err) != c.kind {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := fleet.History(s.state, s.reports, "", "x"); ledger.KindOf(err) != ledger.KindInvalid {
		t.Error(err)
	}
	if _, err := fleet.History(s.state, s.reports, "stage", ""); ledger.KindOf(err) != ledger.KindNotFound {
		t.Error(err)
	}
}

func TestTheSameFleetIsWrittenTheSame(t *testing.T) {
	s := newSite(t, "b", "a", "c")
	for i := range 20 {
		s.do("op", ledger.AddEnvironment{Name: fmt.Sprintf("e%02d", 20-i), Approvals: 1, Labels: map[string]string{"stage": "x", "ring": "y"}})
	}
	s.ack("a", "applied", 3)
	s.beat("c", 2, fleet.Held, saying(events.ReasonHeldBySteward, "fair"))
	write := func() string {
		b, err := json.Marshal([]any{fleet.Build(s.state, s.reports, fleet.LedgerView{}, s.now), fleet.Changes(s.state, s.reports, s.now)})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	first := write()
	for range 20 {
		if write() != first {
			t.Fatal("it is written in another way")
		}
	}
	for _, field := range []string{`"asOf":`, `"condition":"silent"`, `"lagRevisions":3`, `"totals":{"silent":21}`, `"clockSkewSeconds":`} {
		if !strings.Contains(first, field) {
			t.Errorf("%s is missing", field)
		}
	}
}

// TestGreenIsProven lets agents say anything: in step is an environment only when every agent was heard within three beats, and what
// it said last holds the head with the ledger's chain and state.
func TestGreenIsProven(t *testing.T) {
	green := 0
	rapid.Check(t, func(t *rapid.T) {
		s := newSite(t, "a", "b")
		type word struct {
			at                  time.Time
			revision            uint64
			chain, state, other bool
		}
		last := map[string]word{}
		for range rapid.IntRange(1, 12).Draw(t, "statements") {
			agent := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "agent")
			revision := rapid.SampledFrom([]uint64{3, 3, 3, 2, 1}).Draw(t, "revision")
			state := rapid.IntRange(0, 9).Draw(t, "state") > 0
			s.pass(time.Duration(rapid.IntRange(3, 12).Draw(t, "seconds")) * time.Second)
			spoil := func(d *events.Digest, good bool) {
				if !good {
					d[0] ^= 1
				}
			}
			if rapid.Bool().Draw(t, "beat") {
				chain := rapid.IntRange(0, 9).Draw(t, "chain") > 0
				condition := rapid.SampledFrom([]fleet.Condition{fleet.InStep, fleet.InStep, fleet.InStep, fleet.Behind, fleet.Stale, fleet.Torn, ""}).Draw(t, "condition")
				s.beat(agent, revision, condition, func(b *events.Beat) { spoil(&b.Chain, chain); spoil(&b.State, state) })
				last[agent] = word{s.now, revision, chain, state, condition != fleet.InStep && condition != fleet.Behind}
				continue
			}
			kind := rapid.SampledFrom([]events.Word{"applied", "applied", "failed", "torn"}).Draw(t, "word")
			at := s.now
			s.ack(agent, kind, revision, func(a *events.Ack) { spoil(&a.Expected, state) })
			w := last[agent]
			w.at = at
			if kind == events.WordApplied && revision >= s.prod().Agents[agent].Position {
				// An ack that was sent again tells of less than the beat before it.
				w = word{at, max(revision, w.revision), true, state, false}
			}
			last[agent] = w
		}
		s.pass(time.Duration(rapid.IntRange(0, 40).Draw(t, "silence")) * time.Second)
		e := s.environment()
		if e.Condition != fleet.InStep {
			return
		}
		green++
		for _, agent := range []string{"a", "b"} {
			w := last[agent]
			if s.now.Sub(w.at) > fleet.SilentAfter || w.revision != e.Head || !w.chain || !w.state || w.other {
				t.Fatalf("in step, and %s said last %+v, %s ago", agent, w, s.now.Sub(w.at))
			}
		}
	})
	if green == 0 {
		t.Error("it was never in step: nothing was tested")
	}
}
