package fleet_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

func TestWhoAnswersIsWhoTheManifestsNameBesideTheAuthor(t *testing.T) {
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
  default: ` + flagOf("off") + `
---
apiVersion: lockstep/v1
kind: Flag
metadata: {name: new, owner: team-desk}
spec:
  default: ` + flagOf("off") + "\n"
	p := s.do("anna", ledger.Propose{Reason: "because", Edits: []ledger.Edit{}, Directory: &ledger.Directory{Files: []registry.File{{Name: "shop/all.yaml", Text: manifest}}}})
	if author, owners := fleet.Who(s.state)("", p.Change, nil); fmt.Sprint(author, " ", owners) != "anna [team-desk team-shop]" {
		t.Errorf("before anybody approved what is new: %s %v", author, owners)
	}
	s.do("ben", ledger.Approve{Change: p.Change, Digest: s.state.Changes[p.Change].Digest})
	who := fleet.Who(s.state)
	for _, c := range []struct {
		environment, change string
		resources           []string
		want                string
	}{
		{"prod", p.Change, nil, "anna [team-desk team-shop]"},
		{"", p.Change, nil, "anna [team-desk team-shop]"},
		{"prod", p.Change, []string{"flag/old", "flag/unknown"}, "anna [team-shop]"},
		{"elsewhere", p.Change, nil, "anna []"},
		{"prod", "", nil, " []"},
	} {
		if author, owners := who(c.environment, c.change, c.resources); owners == nil || fmt.Sprint(author, " ", owners) != c.want {
			t.Errorf("%+v: %s %v", c, author, owners)
		}
	}
}
