package fleet_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestDriftCountsFieldsByTheSeverityThatManifestsSay(t *testing.T) {
	s := newSite(t, "a1", "a2")
	manifest := `apiVersion: lockstep/v1
kind: Environment
metadata: {name: prod}
---
apiVersion: lockstep/v1
kind: Variable
metadata: {name: grave}
spec: {severity: critical, default: {a: 1, b: 2}}
---
apiVersion: lockstep/v1
kind: Variable
metadata: {name: said}
spec: {default: 1}
`
	p := s.do("anna", ledger.Propose{Reason: "because", Edits: []ledger.Edit{}, Directory: &ledger.Directory{Files: []registry.File{{Name: "all.yaml", Text: manifest}}}})
	s.do("ben", ledger.Approve{Change: p.Change, Digest: s.state.Changes[p.Change].Digest})
	head := s.prod().Head()
	drift := func() *fleet.Drift { return fleet.DriftOf(s.environment(), fleet.Severity(s.state), s.now) }

	if d := drift(); d != nil {
		t.Errorf("nobody was heard, and it is %+v", d)
	}
	s.beat("a1", head, fleet.InStep)
	s.beat("a2", head, fleet.InStep)
	if diff := cmp.Diff(&fleet.Drift{Fields: map[string]int{"unknown": 0}}, drift()); diff != "" {
		t.Error(diff)
	}
	s.beat("a1", head, fleet.Differing, func(b *events.Beat) {
		b.Reason, b.Drift = events.ReasonReadBack, 4 // of which one is not listed
		b.Differing = []events.DifferingResource{{Resource: "variable/grave", Fields: []string{"/a"}, More: 1}, {Resource: "variable/said"}, {Resource: "variable/x"}}
	})
	s.beat("a2", head, fleet.Differing, func(b *events.Beat) {
		b.Drift, b.Differing = 1, []events.DifferingResource{{Resource: "variable/grave"}}
	})
	want := &fleet.Drift{Fields: map[string]int{"critical": 3, "unknown": 3}, Score: 100 * (1 - .5*.5*.9*.9*.9)}
	if diff := cmp.Diff(want, drift(), cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })); diff != "" {
		t.Error(diff)
	}
	if e := s.environment(); !e.Agents[0].Differs() || !strings.Contains(e.Next(), "agent plan") {
		t.Errorf("what was edited by hand is not said: %q", e.Next())
	}
	unread := func(b *events.Beat) { b.Observed, b.Reason = events.Digest{}, "instance-unreadable" }
	s.beat("a1", head, fleet.Differing, unread)
	if d := drift(); d == nil || d.Fields["critical"] != 1 {
		t.Errorf("one instance cannot be read, the other one differs in a field, and it is %+v", d)
	}
	s.beat("a2", head, fleet.Failing, unread)
	if d := drift(); d != nil {
		t.Errorf("no instance can be read, and it is %+v", d)
	}
	if e := s.environment(); e.Agents[0].Differs() || strings.Contains(e.Next(), "agent plan") || !strings.Contains(e.Next(), "agent retry") {
		t.Errorf("what to do about an instance that cannot be read: %q", e.Next())
	}
	doubled := s.reports.Beats[fleet.AgentID{Environment: "prod", Agent: "a1"}]
	doubled.Doubled = s.now
	s.reports.Beats[fleet.AgentID{Environment: "prod", Agent: "a1"}] = doubled
	if e := s.environment(); e.Reason != events.ReasonDoubled || e.Next() != "" {
		t.Errorf("%s: its message says what to do, and it is said besides: %q", e.Reason, e.Next())
	}
	s.pass(time.Minute)
	if d := drift(); d != nil {
		t.Errorf("nobody has been heard for a minute, and it is %+v", d)
	}
}
