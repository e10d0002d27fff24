package audit

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Report is what an auditor asks first, of a ledger that was verified.
type Report struct {
	Ledger      string           `json:"ledger"`
	Time        time.Time        `json:"time"`      // of the newest entry
	Approvals   string           `json:"approvals"` // names or signed
	BreakGlass  []BreakGlass     `json:"breakGlass"`
	ByRule      []Record         `json:"byRule"` // changes that nobody but their author approved, because the trust document lets them
	Access      []Access         `json:"access"`
	Delegations []DelegationView `json:"delegations"`
}

// A BreakGlass is a change that one person released alone, with those who signed it off since.
type BreakGlass struct {
	Record
	Reviewed []Record `json:"reviewed"`
}

// Access is what a person may do by the newest trust document, and what they did.
type Access struct {
	Person string         `json:"person"`
	Known  bool           `json:"known"` // in the newest trust document
	Keys   int            `json:"keys"`
	Grants []events.Grant `json:"grants"`
	Acted  int            `json:"acted"` // decisions
	Last   time.Time      `json:"last,omitzero"`
}

// A DelegationView is a delegation of the newest trust document.
type DelegationView struct {
	events.Delegation
	Open bool `json:"open"` // at the time of the newest entry
}

const (
	whatBreakGlass = "breakglass.used"
	whatReview     = "breakglass.reviewed"
	whatProposed   = "change.proposed"
	whatRevised    = "change.revised"
	whatApproved   = "change.approved"
)

// NewReport verifies a ledger and reports on it.
func NewReport(r *Reader) (Report, Verification, error) {
	w := newWalk(r)
	log, err := w.log(r, Filter{})
	out := Report{Ledger: w.Ledger, Time: w.Time, Approvals: w.Approvals, BreakGlass: []BreakGlass{}, ByRule: []Record{}, Delegations: []DelegationView{}}
	if err != nil || !w.OK {
		return out, w.Verification, err
	}
	acted := map[string]*Access{}
	trust := w.state.Trust()
	for _, p := range trust.People {
		acted[p.Name] = &Access{Person: p.Name, Known: true, Keys: len(p.Keys), Grants: p.Grants}
	}
	for _, record := range log {
		is := func(what string) bool { return slices.Contains(record.What, what) }
		switch {
		case is(whatBreakGlass):
			out.BreakGlass = append(out.BreakGlass, BreakGlass{record, reviews(log, record)})
		case is(whatApproved) && (is(whatProposed) || is(whatRevised)):
			out.ByRule = append(out.ByRule, record)
		}
		who := acted[record.By]
		if who == nil {
			who = &Access{Person: record.By, Grants: []events.Grant{}}
			acted[record.By] = who
		}
		if who.Acted++; record.Time.After(who.Last) {
			who.Last = record.Time
		}
	}
	for _, who := range acted {
		out.Access = append(out.Access, *who)
	}
	slices.SortFunc(out.Access, func(a, b Access) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a.Person), strings.ToLower(b.Person)), cmp.Compare(a.Person, b.Person))
	})
	for _, d := range trust.Delegations {
		out.Delegations = append(out.Delegations, DelegationView{d, w.Time.Before(d.Until)})
	}
	return out, w.Verification, nil
}

// reviews are those of a break-glass, newest first.
func reviews(log []Record, used Record) []Record {
	out := []Record{}
	for _, r := range log {
		if r.Entry > used.Entry && slices.Contains(r.What, whatReview) && slices.Equal(r.Changes, used.Changes) {
			out = append(out, r)
		}
	}
	return out
}
