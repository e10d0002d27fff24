package audit_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// TestAJournalSaysWhoDecidedWhat and leaves out what is no decision: what is stored, and what agents acknowledge.
func TestAJournalSaysWhoDecidedWhat(t *testing.T) {
	p := apitest.New(t)
	p.Must("op", ledger.AddEnvironment{Name: "prod", Approvals: 1})
	p.Must("op", ledger.AddEnvironment{Name: "test", Approvals: 1})
	p.Agent("prod", "a1", apitest.Applies)
	p.Must("anna", ledger.Propose{Reason: "because", Edits: []ledger.Edit{{Environments: []string{"prod"}, Set: map[string]json.RawMessage{"variable/x": json.RawMessage(`1`)}}}})
	for _, c := range []struct {
		filter audit.Filter
		want   []string // the first thing that each entry says, newest first
	}{
		{audit.Filter{}, []string{"change.proposed", "agent.enrolled", "environment.added", "environment.added", "trust.updated"}},
		{audit.Filter{Change: "c1"}, []string{"change.proposed"}}, {audit.Filter{Change: "c2"}, nil},
		{audit.Filter{Person: "ANNA"}, []string{"change.proposed"}},
		{audit.Filter{Resource: "variable/*"}, []string{"change.proposed"}},
		{audit.Filter{Environment: "test"}, []string{"environment.added"}},
		{audit.Filter{Since: time.Now().Add(time.Hour)}, nil},
	} {
		var got []string
		found, more, whole := p.Decisions(c.filter, 10)
		for _, record := range found {
			got = append(got, record.What[0])
		}
		if !slices.Equal(got, c.want) || more != 0 || !whole {
			t.Errorf("%+v: %v, %d more, want %v", c.filter, got, more, c.want)
		}
	}
	if found, more, _ := p.Decisions(audit.Filter{}, 2); len(found) != 2 || more != 3 {
		t.Errorf("%d found and %d more", len(found), more)
	}
}
