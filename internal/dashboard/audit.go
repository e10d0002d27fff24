package dashboard

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// mostFound is how many decisions a page of a search lists.
const mostFound = 100

type auditPage struct {
	Person, Resource, Environment, Since, Until string // as they were asked
	Before                                      uint64 // the search goes on with decisions before this entry; 0: it begins with the newest
	Wrong                                       string // what could not be understood
	Command                                     string // that says the same
	audit.Page
}

// asked are the fields by which a search is told from others: in addresses, and as flags of the command that says the same.
func (a *auditPage) asked() []struct{ name, flag, value string } {
	return []struct{ name, flag, value string }{
		{"person", "--person", a.Person}, {"resource", "--resource", a.Resource}, {"environment", "--env", a.Environment}, {"since", "--since", a.Since}, {"until", "--until", a.Until},
	}
}

// Asked says whether anything in particular is searched.
func (a *auditPage) Asked() bool {
	return a.Person+a.Resource+a.Environment+a.Since+a.Until != ""
}

// address is that of the same search, of what is before an entry.
func (a *auditPage) address(before uint64) string {
	query := url.Values{}
	for _, field := range a.asked() {
		if field.value != "" {
			query.Set(field.name, field.value)
		}
	}
	if before > 0 {
		query.Set("before", strconv.FormatUint(before, 10))
	}
	if len(query) == 0 {
		return "/audit"
	}
	return "/audit?" + query.Encode()
}

// Next is where the search goes on.
func (a *auditPage) Next() string { return a.address(a.Older) }

// Newest is where the search begins.
func (a *auditPage) Newest() string { return a.address(0) }

func (d *dashboard) audit(r *http.Request, p *page) (err error) {
	p.Title, p.Section = "Audit", "audit"
	ask := func(name string) string { return strings.TrimSpace(r.URL.Query().Get(name)) }
	of := &auditPage{Person: ask("person"), Resource: ask("resource"), Environment: ask("environment"), Since: ask("since"), Until: ask("until")}
	p.Body = of
	d.Backend.Read(func(_ *ledger.State, _ fleet.Reports, asOf time.Time) { p.AsOf = asOf })
	f := audit.Filter{Person: of.Person, Resource: of.Resource, Environment: of.Environment}
	if f.Since, err = moment(of.Since, 0); err != nil {
		of.Wrong = of.Since + " is no time: write a day, as 2026-01-31, or a time, as 2026-01-31T09:00:00Z."
		return nil
	}
	if f.Until, err = moment(of.Until, 24*time.Hour-1); err != nil {
		of.Wrong = of.Until + " is no time: write a day, as 2026-01-31, or a time, as 2026-01-31T09:00:00Z."
		return nil
	}
	if before := ask("before"); before != "" {
		if of.Before, err = strconv.ParseUint(before, 10, 64); err != nil {
			of.Wrong = before + " is no number of an entry."
			return nil
		}
	}
	of.Command = "publisher audit log --limit 0"
	for _, field := range of.asked() {
		if field.value != "" {
			of.Command += " " + field.flag + " " + word(field.value)
		}
	}
	of.Page = d.Backend.Decisions(f, of.Before, mostFound)
	return nil
}

// moment is a time that somebody wrote; of a day, what is so long after its beginning.
func moment(text string, within time.Duration) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.DateOnly, text)
	if err == nil {
		return at.Add(within), nil
	}
	return time.Parse(time.RFC3339, text)
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9@%_+=:,./-]+$`)

// word is a word as a person may put it into a shell.
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
