package dashboard

import (
	"net/http"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// mostFound is how many decisions a search lists.
const mostFound = 200

type auditPage struct {
	Person, Resource, Environment, Since, Until string // as they were asked
	Wrong                                       string // what could not be understood
	Found                                       []audit.Record
	More                                        int
	Whole                                       bool // every decision is searched
}

// Kept is how many decisions are searched at least, where there are older ones.
func (auditPage) Kept() int { return audit.MaxJournal }

func (d *dashboard) audit(r *http.Request, p *page) error {
	p.Title, p.Section = "Audit", "audit"
	ask := func(name string) string { return strings.TrimSpace(r.URL.Query().Get(name)) }
	of := &auditPage{Person: ask("person"), Resource: ask("resource"), Environment: ask("environment"), Since: ask("since"), Until: ask("until")}
	p.Body = of
	f := audit.Filter{Person: of.Person, Resource: of.Resource, Environment: of.Environment}
	d.Backend.Read(func(_ *ledger.State, _ fleet.Reports, asOf time.Time) { p.AsOf = asOf })
	for _, bound := range []struct {
		said string
		into *time.Time
		last time.Duration // that a day reaches
	}{{of.Since, &f.Since, 0}, {of.Until, &f.Until, 24*time.Hour - 1}} {
		if bound.said == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, bound.said)
		if err != nil {
			at, err = time.Parse(time.DateOnly, bound.said)
			at = at.Add(bound.last)
		}
		if err != nil {
			of.Wrong = bound.said
			return nil
		}
		*bound.into = at
	}
	of.Found, of.More, of.Whole = d.Backend.Decisions(f, mostFound)
	return nil
}
