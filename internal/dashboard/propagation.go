package dashboard

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// A window is a length of time that people choose.
type window struct {
	Name string
	Long time.Duration
}

var windows = []window{{"1h", time.Hour}, {"24h", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour}}

// usual is the window of who does not choose.
const usual = "7d"

// mostEnvironments is how many lines a list of environments has.
const mostEnvironments = 50

type propagationPage struct {
	fleet.Propagation
	Filter  string
	Window  string
	Windows []window
	More    int // environments that are not listed
	Waiting int // releases that are not listed
}

func (d *dashboard) propagation(r *http.Request, p *page) error {
	p.Title, p.Section = "Propagation", "propagation"
	of := &propagationPage{Filter: strings.TrimSpace(r.URL.Query().Get("filter")), Windows: windows}
	i := slices.IndexFunc(windows, func(w window) bool { return w.Name == r.URL.Query().Get("window") })
	if i < 0 {
		i = slices.IndexFunc(windows, func(w window) bool { return w.Name == usual })
	}
	of.Window = windows[i].Name
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		of.Propagation = fleet.PropagationOf(s, reports, windows[i].Long, labelled(of.Filter), asOf)
	})
	if n := len(of.Environments); n > mostEnvironments {
		of.Environments, of.More = of.Environments[:mostEnvironments], n-mostEnvironments
	}
	if n := len(of.Unapplied); n > mostListed {
		of.Unapplied, of.Waiting = of.Unapplied[:mostListed], n-mostListed
	}
	p.Body = of
	return nil
}

// labelled is filter for what has no state.
func labelled(words string) func(*ledger.Environment) bool {
	wanted := filter(words)
	return func(e *ledger.Environment) bool { return wanted(fleet.Environment{Name: e.Name, Labels: e.Labels}) }
}
