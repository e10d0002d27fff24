package dashboard

import (
	"net/http"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// weeks is how many the delivery report spans.
const weeks = 12

type deliveryPage struct {
	fleet.DeliveryReport
	Overdue []fleet.Overdue
	Weeks   int
}

func (d *dashboard) delivery(_ *http.Request, p *page) (err error) {
	p.Title, p.Section = "Delivery", "delivery"
	of := &deliveryPage{Weeks: weeks}
	p.Body = of
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		of.DeliveryReport = fleet.ReportDeliveries(s, reports, weeks, asOf)
		of.Overdue, err = fleet.OverdueOf(s, asOf)
	})
	return err
}
