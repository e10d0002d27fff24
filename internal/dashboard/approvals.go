package dashboard

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

type approvalsPage struct {
	Waiting []waiting // the one that has waited longest first
	Frozen  []fleet.Change
	Names   bool // approvals are names: anybody but the author
}

// A waiting change is one that needs approvals.
type waiting struct {
	fleet.Change
	Missing int
	Can     []string // who can give one, by the rules; none where approvals are names
	Roles   []string // that policies demand
	Moved   bool     // it must be rebased first
}

func (d *dashboard) approvals(_ *http.Request, p *page) error {
	p.Title, p.Section = "Approvals", "approvals"
	of := &approvalsPage{}
	p.Body = of
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		document := s.Trust()
		of.Names = document == nil || document.Approvals == events.ApprovalsAreNames
		for _, c := range slices.Backward(fleet.Changes(s, reports, asOf)) {
			switch {
			case c.Status == string(ledger.StatusOpen):
				of.Waiting = append(of.Waiting, waitingFor(c, document, of.Names, asOf))
			case slices.ContainsFunc(c.Environments, func(e fleet.ChangeEnvironment) bool { return e.Frozen != nil }):
				of.Frozen = append(of.Frozen, c)
			}
		}
	})
	return nil
}

func waitingFor(c fleet.Change, document *events.Trust, names bool, asOf time.Time) waiting {
	out := waiting{Change: c, Missing: max(0, c.Demanded-len(c.Approvals))}
	for _, v := range c.Verdicts {
		for _, role := range v.Roles {
			if !slices.Contains(out.Roles, role) {
				out.Roles = append(out.Roles, role)
			}
		}
	}
	given := func(person string) bool {
		return strings.EqualFold(person, c.Author) || slices.ContainsFunc(c.Approvals, func(a events.Approval) bool { return strings.EqualFold(a.By, person) })
	}
	for _, e := range c.Environments {
		out.Moved = out.Moved || e.Moved != ""
		if names {
			continue
		}
		_, needs := trust.Who(document, e.Environment, asOf)
		for _, need := range needs {
			for _, person := range need.People {
				if !given(person) && !slices.Contains(out.Can, person) {
					out.Can = append(out.Can, person)
				}
			}
		}
	}
	slices.Sort(out.Can)
	return out
}
