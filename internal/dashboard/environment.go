package dashboard

import (
	"net/http"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// mostListed is how many releases or changes are listed at once.
const mostListed = 50

// An environmentPage is what is known of one environment.
type environmentPage struct {
	row
	History   []fleet.HistoryItem // newest first
	Older     uint64              // the revision before those that are listed; 0: there is none
	Resources []fleet.ResourceView
	Drifted   []drifted
	Lag       []fleet.LagPoint
}

// A drifted resource is one of an agent's instance that differs from what was applied, with what was.
type drifted struct {
	Agent string
	events.DifferingResource
	Applied  fleet.ResourceView // at the agent's checkpoint; none where nothing ever set it
	Approved []events.Approval  // of the change that set it
}

// drift joins what agents say that differs with the change that set it.
func drift(s *ledger.State, e fleet.Environment) (out []drifted) {
	for _, a := range e.Agents {
		for _, differs := range a.Differing[:min(len(a.Differing), mostListed)] {
			d := drifted{Agent: a.Name, DifferingResource: differs}
			if applied, err := fleet.ResourceAt(s, e.Name, differs.Resource, a.Revision); err == nil {
				d.Applied = applied
				if c := s.Changes[applied.Change]; c != nil {
					d.Approved = c.Approvals
				}
			}
			out = append(out, d)
		}
	}
	return out
}

func (d *dashboard) environment(r *http.Request, p *page) (err error) {
	name := r.PathValue("name")
	p.Title, p.Section = name, "overview"
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		var e fleet.Environment
		if e, err = fleet.EnvironmentOf(s, reports, name, asOf); err != nil {
			return
		}
		p.Of = name
		of := &environmentPage{row: row{Environment: e, AsOf: asOf}, Lag: fleet.LagSeries(s.Environments[name], reports, sparkPoints, asOf)}
		of.Spark = spark(of.Lag)
		if of.History, err = fleet.History(s, reports, name, ""); err != nil {
			return
		}
		if len(of.History) > mostListed {
			of.History, of.Older = of.History[:mostListed], of.History[mostListed].Revision
		}
		of.Drifted = drift(s, e)
		of.Resources, err = fleet.Resources(s, name, e.Head)
		p.Body = of
	})
	return err
}
