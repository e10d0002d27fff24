package dashboard

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// statuses are those by which changes are listed.
var statuses = []ledger.Status{ledger.StatusOpen, ledger.StatusReleased, ledger.StatusDelivered, ledger.StatusRolledBack, ledger.StatusExpired, ledger.StatusRejected, ledger.StatusWithdrawn}

type changesPage struct {
	Status   string // only those; "": all
	Statuses []ledger.Status
	Changes  []fleet.Change
	More     int // that are not listed
}

func (d *dashboard) changes(r *http.Request, p *page) error {
	p.Title, p.Section = "Changes", "changes"
	of := &changesPage{Status: r.URL.Query().Get("status"), Statuses: statuses}
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		of.Changes = fleet.Changes(s, reports, asOf)
	})
	of.Changes = slices.DeleteFunc(of.Changes, func(c fleet.Change) bool { return of.Status != "" && c.Status != of.Status })
	if len(of.Changes) > mostListed {
		of.More, of.Changes = len(of.Changes)-mostListed, of.Changes[:mostListed]
	}
	p.Body = of
	return nil
}

type changePage struct {
	fleet.Change
	AsOf time.Time
}

// Missing is how many approvals are still to be given.
func (c changePage) Missing() int { return max(0, c.Demanded-len(c.Approvals)) }

func (d *dashboard) change(r *http.Request, p *page) (err error) {
	id := r.PathValue("id")
	p.Title, p.Section = "Change "+id, "changes"
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		of := changePage{AsOf: asOf}
		of.Change, err = fleet.ChangeOf(s, reports, id, asOf)
		p.AsOf, p.Body = asOf, of
	})
	return err
}

// summary is the first line of a reason.
func summary(s string) string {
	line, _, more := strings.Cut(strings.TrimSpace(s), "\n")
	if more {
		line += " …"
	}
	return line
}
