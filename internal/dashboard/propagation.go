package dashboard

import (
	"cmp"
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
const mostEnvironments = 25

type propagationPage struct {
	fleet.Propagation
	Filter  string
	Window  string
	Windows []window
	Bins    []bin
	States  map[string]fleet.Condition // of environments
	Open    int                        // releases that have not arrived
	More    int                        // environments that are not listed
	Waiting int                        // releases that are not listed
}

// A bin is a line of the histogram.
type bin struct {
	fleet.LagBin
	Within int // of a hundred releases, how many took no longer than its upper end
	Most   int // releases of a bin
}

// bins are those of a histogram.
func bins(of []fleet.LagBin) (out []bin) {
	most, all, within := 0, 0, 0
	for _, b := range of {
		most, all = max(most, b.Count), all+b.Count
	}
	for _, b := range of {
		within += b.Count
		out = append(out, bin{b, 100 * within / all, most})
	}
	return out
}

func (d *dashboard) propagation(r *http.Request, p *page) error {
	p.Title, p.Section = "Propagation", "propagation"
	of := &propagationPage{Filter: strings.TrimSpace(r.URL.Query().Get("filter")), Windows: windows}
	asked := cmp.Or(r.URL.Query().Get("window"), usual)
	i := slices.IndexFunc(windows, func(w window) bool { return w.Name == asked })
	if i < 0 {
		return &ledger.Error{Kind: ledger.KindInvalid, Message: "there is no window " + plain(asked), Next: "choose 1h, 24h, 7d or 30d"}
	}
	of.Window = windows[i].Name
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		of.Propagation = fleet.PropagationOf(s, reports, windows[i].Long, labelled(of.Filter), asOf)
	})
	if n := len(of.Environments); n > mostEnvironments {
		of.Environments, of.More = of.Environments[:mostEnvironments], n-mostEnvironments
	}
	if of.Open = len(of.Unapplied); of.Open > mostListed {
		of.Unapplied, of.Waiting = of.Unapplied[:mostListed], of.Open-mostListed
	}
	of.Bins, of.States = bins(of.Histogram), map[string]fleet.Condition{}
	for _, e := range p.view.Environments {
		of.States[e.Name] = e.Condition
	}
	p.Body = of
	return nil
}

// labelled is filter for what has no state.
func labelled(words string) func(*ledger.Environment) bool {
	wanted := filter(words)
	return func(e *ledger.Environment) bool { return wanted(fleet.Environment{Name: e.Name, Labels: e.Labels}) }
}
