package dashboard

import (
	"net/http"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

type approvalsPage struct {
	Waiting []waiting      // the one that has waited longest first
	Reviews []fleet.Change // released on one person's word, and not signed off
	Frozen  []fleet.Change
	Names   bool // approvals are names: anybody but the author
}

// A waiting change is one that needs approvals.
type waiting struct {
	fleet.Change
	Needs []need   // what is lacking still, where approvals are signed
	Roles []string // that policies demand
	Moved bool     // it must be rebased first
}

// A need is what is lacking alike in some environments, whoever demands it.
type need struct {
	Environments []string
	Lacking      int
	Could        []string
}

func needs(demands []ledger.Demand) (out []need) {
	for _, d := range demands {
		if d.Lacking == 0 {
			continue
		}
		i := slices.IndexFunc(out, func(n need) bool { return n.Lacking == d.Lacking && slices.Equal(n.Could, d.Could) })
		if i < 0 {
			i = len(out)
			out = append(out, need{Lacking: d.Lacking, Could: d.Could})
		}
		if !slices.Contains(out[i].Environments, d.Environment) {
			out[i].Environments = append(out[i].Environments, d.Environment)
		}
	}
	return out
}

// named says that approvals are names: anybody but the author approves, and says who they are.
func named(s *ledger.State) bool {
	document := s.Trust()
	return document == nil || document.Approvals == events.ApprovalsAreNames
}

func (d *dashboard) approvals(_ *http.Request, p *page) error {
	p.Title, p.Section = "Approvals", "approvals"
	of := &approvalsPage{}
	p.Body = of
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		of.Names = named(s)
		waits, _ := fleet.ChangesWhere(s, reports, func(c *ledger.Change) bool {
			return c.Status(asOf) == ledger.StatusOpen || c.BreakGlass.UnderReview() || slices.ContainsFunc(c.Parts, func(part ledger.Part) bool { return part.Frozen != nil })
		}, len(s.Changes), asOf)
		for _, c := range slices.Backward(waits) {
			switch {
			case c.Status == string(ledger.StatusOpen):
				s.Could(c.Demands, s.Changes[c.ID], asOf)
				of.Waiting = append(of.Waiting, waitingFor(c))
			case c.UnderReview:
				of.Reviews = append(of.Reviews, c)
			default:
				of.Frozen = append(of.Frozen, c)
			}
		}
	})
	return nil
}

func waitingFor(c fleet.Change) waiting {
	out := waiting{Change: c, Needs: needs(c.Demands)}
	for _, v := range c.Verdicts {
		for _, role := range v.Roles {
			if !slices.Contains(out.Roles, role) {
				out.Roles = append(out.Roles, role)
			}
		}
	}
	out.Moved = slices.ContainsFunc(c.Environments, func(e fleet.ChangeEnvironment) bool { return e.Moved != "" })
	return out
}
