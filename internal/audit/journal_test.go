package audit_test

import (
	"encoding/json"
	"fmt"
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
		page := p.Decisions(c.filter, 0, 10)
		for _, record := range page.Found {
			got = append(got, record.What[0])
		}
		if !slices.Equal(got, c.want) || page.Older != 0 || page.Searched != 5 {
			t.Errorf("%+v: %v of %d searched, more before %d, want %v", c.filter, got, page.Searched, page.Older, c.want)
		}
	}
}

// TestASearchFindsEveryDecisionOnceFromPageToPage whatever is asked for, and however little is looked at for one page.
func TestASearchFindsEveryDecisionOnceFromPageToPage(t *testing.T) {
	p := apitest.New(t)
	for i := range 40 {
		p.Must([]string{"op", "ada"}[i%2], ledger.AddEnvironment{Name: fmt.Sprintf("%s-%d", []string{"dev", "prod", "test"}[i%3], i), Approvals: 1})
	}
	for _, f := range []audit.Filter{{}, {Person: "ada"}, {Environment: "prod-*"}, {Person: "op", Environment: "test-*"}, {Person: "nobody"}} {
		whole := p.Decisions(f, 0, 1000)
		if whole.Older != 0 || whole.Searched != 41 || (len(whole.Found) == 0) != (f.Person == "nobody") {
			t.Errorf("%+v: %d found, %d searched, more before %d", f, len(whole.Found), whole.Searched, whole.Older)
		}
		for most := range 6 {
			var found []audit.Record
			searched := 0
			for before := uint64(0); ; {
				page := p.Decisions(f, before, most+1)
				found, searched = append(found, page.Found...), searched+page.Searched
				if before = page.Older; before == 0 {
					break
				}
			}
			if !slices.EqualFunc(found, whole.Found, func(a, b audit.Record) bool { return a.Entry == b.Entry }) || searched != 41 {
				t.Errorf("%+v, %d a page: %d found in %d", f, most+1, len(found), searched)
			}
		}
	}
}
