package dashboard

import (
	"fmt"
	"io"
	"net/http"

	"github.com/lockstep-dev/lockstep/internal/notify"
)

// told is what the publisher tells of what is wrong.
type told struct {
	notify.Overview
	none error // why nobody is told of anything; nil where somebody is
}

// mark writes what pages show of it.
func (t *told) mark(w io.Writer) {
	for _, a := range t.Open {
		fmt.Fprint(w, "\n", a.ID, a.Reason, a.Message, a.Silenced, a.Well.UnixNano())
		if a.Acknowledged != nil {
			fmt.Fprint(w, a.Acknowledged.Time.UnixNano())
		}
	}
	for _, q := range t.Silences {
		fmt.Fprint(w, "\n", q.ID)
	}
	for _, deliveries := range [][]notify.Delivery{t.Waiting, t.Dead} {
		fmt.Fprint(w, "\n")
		for _, d := range deliveries {
			fmt.Fprint(w, d.ID, d.Target, d.Attempts, d.Held.UnixNano())
		}
	}
}

// Untended is how many open alarms nobody takes care of, and nobody silenced.
func (t *told) Untended() (n int) {
	for _, a := range t.Open {
		if a.Acknowledged == nil && !a.Silenced {
			n++
		}
	}
	return n
}

// An alarmsPage is what is wrong, whom that was told, and what nobody took.
type alarmsPage struct {
	*told
	Nobody error // why nobody is told of anything
	More   int   // open alarms that are not listed
}

// Listed are the open alarms for which there is room, oldest first.
func (a *alarmsPage) Listed() []notify.ShownAlarm { return a.Open[:len(a.Open)-a.More] }

func (d *dashboard) alarms(_ *http.Request, p *page) error {
	p.Title, p.Section = "Alarms", "alarms"
	p.Body = &alarmsPage{told: p.told, Nobody: p.told.none, More: max(0, len(p.told.Open)-mostRows)}
	return nil
}
