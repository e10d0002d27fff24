package dashboard

import (
	"bytes"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// statuses are those by which changes are listed.
var statuses = []ledger.Status{ledger.StatusOpen, ledger.StatusReleased, ledger.StatusDelivered, ledger.StatusRolledBack, ledger.StatusExpired, ledger.StatusRejected, ledger.StatusWithdrawn}

type changesPage struct {
	Status   string // only those; "": all
	Statuses []ledger.Status
	Changes  []fleet.Change
	Before   string // only those that were proposed before this one; "": the newest
	More     int    // older ones that are not listed
}

// Older is where those are listed.
func (c *changesPage) Older() string {
	query := url.Values{"before": {c.Changes[len(c.Changes)-1].ID}}
	if c.Status != "" {
		query.Set("status", c.Status)
	}
	return "/changes?" + query.Encode()
}

func (d *dashboard) changes(r *http.Request, p *page) error {
	p.Title, p.Section = "Changes", "changes"
	of := &changesPage{Status: r.URL.Query().Get("status"), Statuses: statuses, Before: r.URL.Query().Get("before")}
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		passed := s.Changes[of.Before] == nil // newest first, it comes before those that are wanted
		of.Changes, of.More = fleet.ChangesWhere(s, reports, func(c *ledger.Change) bool {
			wanted := passed && (of.Status == "" || string(c.Status(asOf)) == of.Status)
			passed = passed || c.ID == of.Before
			return wanted
		}, mostListed, asOf)
	})
	p.Body = of
	return nil
}

// A changePage is what a change does, and where it stands.
type changePage struct {
	fleet.Change
	AsOf      time.Time
	Decisions []audit.Record // about it, oldest first
	Earlier   bool           // there may be decisions that are not listed
	Names     bool           // approvals are names
	Groups    []operationsGroup
	Ways      []way
	More      int     // ways that are not listed
	Scale     float64 // seconds that the drawings of the ways span
	Open      bool    // a way is drawn that is not at its end
}

// Drawn says whether there are drawings of ways.
func (c changePage) Drawn() bool { return c.Open || c.Scale > 0 }

// An operationsGroup are environments in which a change does the same.
type operationsGroup struct {
	Environments []string
	Operations   []fleet.OperationView
}

// A way is that of a change to one agent.
type way struct {
	fleet.ChangeEnvironment
	First     bool // of its environment
	Span      int  // ways of the environment
	Said      fleet.AgentDelivery
	Entry     uint64 // that released it
	Reversing uint64 // that undid it
	Waiting   float64
	phases    map[fleet.Phase]time.Duration
}

// Missing is how many approvals are still to be given.
func (c changePage) Missing() int { return max(0, c.Demanded-len(c.Approvals)) }

// Folded says whether the environments of a group are too many to name.
func (g operationsGroup) Folded() bool { return len(g.Environments) > 12 }

func (d *dashboard) change(r *http.Request, p *page) (err error) {
	id := r.PathValue("id")
	p.Title, p.Section = "Change "+id, "changes"
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		of := &changePage{AsOf: asOf}
		p.AsOf, p.Body = asOf, of
		if of.Change, err = fleet.ChangeOf(s, reports, id, asOf); err != nil {
			return
		}
		for _, e := range of.Environments {
			of.group(e)
			of.Ways = append(of.Ways, ways(s, reports, e, asOf)...)
		}
		of.Names = named(s)
		of.shorten()
		for _, w := range of.Ways {
			of.Open = of.Open || w.underWay()
			if w.Said.Lag != nil {
				of.Scale = max(of.Scale, w.Said.Lag.Seconds)
			}
		}
	})
	if of, found := p.Body.(*changePage); found && err == nil {
		found := d.Backend.Decisions(audit.Filter{Change: id}, 0, mostListed)
		slices.Reverse(found.Found)
		of.Decisions, of.Earlier = found.Found, found.Older > 0
	}
	return err
}

// shorten leaves out ways where they are too many to read: those that have arrived first.
func (c *changePage) shorten() {
	if len(c.Ways) <= mostRows {
		return
	}
	slices.SortStableFunc(c.Ways, func(a, b way) int {
		arrived := func(w way) int { return map[bool]int{true: 1}[w.Outcome == "applied" || w.Outcome == "in its sources"] }
		return arrived(a) - arrived(b)
	})
	most := mostRows
	for most < len(c.Ways) && !c.Ways[most].First { // an environment is listed whole
		most++
	}
	c.Ways, c.More = c.Ways[:most], len(c.Ways)-most
}

// group puts an environment beside those in which the change does the same.
func (c *changePage) group(e fleet.ChangeEnvironment) {
	same := func(a, b fleet.OperationView) bool {
		return a.Op == b.Op && a.Key == b.Key && bytes.Equal(a.Before, b.Before) && bytes.Equal(a.After, b.After)
	}
	i := slices.IndexFunc(c.Groups, func(g operationsGroup) bool { return slices.EqualFunc(g.Operations, e.Operations, same) })
	if i < 0 {
		i = len(c.Groups)
		c.Groups = append(c.Groups, operationsGroup{Operations: e.Operations})
	}
	c.Groups[i].Environments = append(c.Groups[i].Environments, e.Environment)
}

// ways are those of a change to the agents of an environment; one without an agent where there is none.
func ways(s *ledger.State, r fleet.Reports, e fleet.ChangeEnvironment, asOf time.Time) []way {
	w := way{ChangeEnvironment: e, First: true, Span: max(1, len(e.Agents))}
	if e.Revision == 0 {
		return []way{w}
	}
	releases := s.Environments[e.Environment].Releases
	w.Entry = releases[e.Revision-1].Entry
	if e.Undone > 0 {
		w.Reversing = releases[e.Undone-1].Entry
	}
	w.Waiting = max(0, asOf.Sub(e.Released).Seconds())
	if len(e.Agents) == 0 {
		return []way{w}
	}
	var out []way
	for i, said := range e.Agents {
		w.First, w.Said = i == 0, said
		w.phases = fleet.PhasesAt(s, r, e.Environment, e.Revision, said.Agent)
		out = append(out, w)
	}
	return out
}

// Drawing is the way with its phases, beside those of the others.
func (w way) Drawing(scale float64) template.HTML {
	if w.underWay() {
		return unfinished()
	}
	return waterfall(w.phases, w.Said.Lag, scale)
}

// underWay says that the agent was sent a release, and has said neither that it applied it nor that it cannot.
func (w way) underWay() bool {
	failed := slices.Contains([]events.Word{events.WordFailed, events.WordTorn, events.WordRefused}, w.Said.Word)
	return w.Said.Agent != "" && w.Revision > 0 && w.Said.Lag == nil && !w.Said.Past && w.Undone == 0 && !failed
}

// summary is the first line of a reason.
func summary(s string) string {
	line, _, more := strings.Cut(strings.TrimSpace(s), "\n")
	if more {
		line += " …"
	}
	return line
}
