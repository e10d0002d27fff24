package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Demand is how many people must approve a change in an environment, and who does so far. There are demands only where approvals are
// signed.
type Demand struct {
	Environment string        `json:"environment"`
	Of          string        `json:"of"`              // who demands it: a rule of the trust document, the environment, a policy
	Approvals   int           `json:"approvals"`       // distinct people, not the author
	Roles       []events.Role `json:"roles"`           // one of which each must have there
	Have        []string      `json:"have"`            // whose approval counts
	Lacking     int           `json:"lacking"`         // so many more people must approve
	Could       []string      `json:"could,omitempty"` // people who have such a role and have not approved; the first of them
}

// String says what is demanded, and who approved.
func (d Demand) String() string {
	roles := make([]string, len(d.Roles))
	for i, r := range d.Roles {
		roles[i] = string(r)
	}
	have := "nobody approved"
	if len(d.Have) > 0 {
		have = strings.Join(d.Have, ", ") + " approved"
	}
	approvals := "1 approval"
	if d.Approvals != 1 {
		approvals = fmt.Sprint(d.Approvals, " approvals")
	}
	return fmt.Sprintf("%s demands %s by %s in %s, and %s", d.Of, approvals, strings.Join(roles, " or "), d.Environment, have)
}

// maxCould bounds how many people a demand names that could still approve.
const maxCould = 10

// Demands are what is demanded of a change in each of its environments, met or not: by the trust document, which agents enforce, by the
// environment, and by policies. A change is released when nothing is lacking. Approvals that expired, or are of nobody any more, do not
// count.
func (s *State) Demands(c *Change, at time.Time) []Demand {
	if !s.signed() || c.Trust != nil {
		return nil
	}
	return s.demands(c, s.approvers(c, at), at)
}

// demands are those of a change that some people approved.
func (s *State) demands(c *Change, approvers []string, at time.Time) (out []Demand) {
	for _, part := range c.Parts {
		if e := s.Environments[part.Environment]; e != nil && !e.Retired {
			out = append(out, s.demandsIn(e, c, part, approvers, at)...)
		}
	}
	return out
}

func (s *State) demandsIn(e *Environment, c *Change, part Part, approvers []string, at time.Time) (out []Demand) {
	d := demanding{s.Trust(), e.Name, c.Author, approvers, at}
	var counting []events.Role
	for _, rule := range d.trust.Governing(e.Name, part.Operations) {
		out = append(out, d.demand(fmt.Sprintf("trust document %d", d.trust.Version), rule.Approvals, rule.Counting()))
		counting = append(counting, rule.Counting()...)
	}
	if e.Approvals > 0 {
		slices.Sort(counting)
		out = append(out, d.demand("environment "+e.Name, e.Approvals, slices.Compact(counting)))
	}
	for _, v := range c.Verdicts {
		if v.Approvals > 0 && concerns(v, e.Name) {
			out = append(out, d.demand("policy "+v.Policy, v.Approvals, roles(v)))
		}
	}
	return out
}

// unmet is the first demand that is not met, or nil.
func unmet(demands []Demand) *Demand {
	if i := slices.IndexFunc(demands, func(d Demand) bool { return d.Lacking > 0 }); i >= 0 {
		return &demands[i]
	}
	return nil
}

// Could says, of demands that are not met, some of the people whose approval would count.
func (s *State) Could(demands []Demand, c *Change, at time.Time) {
	for i := range demands {
		d := &demands[i]
		if d.Lacking == 0 {
			continue
		}
		for _, name := range holders(s.Trust(), d.Roles, d.Environment, at) {
			if len(d.Could) < maxCould && name != c.Author && !slices.Contains(d.Have, name) {
				d.Could = append(d.Could, name)
			}
		}
	}
}

// demanding counts approvals in an environment.
type demanding struct {
	trust       *events.Trust
	environment string
	author      string
	approvers   []string
	at          time.Time
}

func (d demanding) demand(of string, approvals int, roles []events.Role) Demand {
	out := Demand{Environment: d.environment, Of: of, Approvals: approvals, Roles: roles, Have: []string{}, Lacking: approvals}
	for _, name := range d.approvers {
		may := slices.ContainsFunc(roles, func(r events.Role) bool { return d.trust.May(name, r, d.environment, d.at) })
		if may && name != d.author && !slices.Contains(out.Have, name) {
			out.Have = append(out.Have, name)
		}
	}
	out.Lacking = max(0, approvals-len(out.Have))
	return out
}

// approvers are the people whose approval of a change counts at a time, whatever their roles.
func (s *State) approvers(c *Change, at time.Time) (out []string) {
	for _, a := range c.Approvals {
		if a.Envelope == nil {
			continue
		}
		said, err := c.opened.Get(a.Envelope)
		if err == nil && said.Verb == events.VerbApprove && s.Trust().Counts(said, at) == nil {
			out = append(out, said.By)
		}
	}
	return out
}

// unapproved says why agents would not take a part of a change from a release now, or the ledger would not make one: approvals that are
// lacking, or that count no more; nil where nothing stands against it.
func (d *decision) unapproved(e *Environment, c *Change, part Part) error {
	if !d.signed() || d.unsigned || part.SourcesOnly() {
		return nil
	}
	release, err := d.deriveV1(e.Name, Release{Kind: events.KindChange, Change: c.ID, approvals: len(c.Approvals)})
	if err == nil {
		err = e.Fold.Trust.CheckApprovals(&release, d.now, c.opened)
	}
	if lacking := unmet(d.demandsIn(e, c, part, d.approvers(c, d.now), d.now)); err == nil && lacking != nil && !d.atOnce && c.BreakGlass == nil {
		err = events.Errorf(events.ReasonApprovals, "%s", lacking)
	}
	return err
}

// concerns says whether a verdict is about an environment. One that names only the first of many places is about all of them.
func concerns(v events.Verdict, environment string) bool {
	return v.Total > len(v.On) || len(v.On) == 0 || slices.ContainsFunc(v.On, func(p events.VerdictPlace) bool { return p.Environment == environment })
}

// roles are those of a verdict; where it names none, approvers count.
func roles(v events.Verdict) []events.Role {
	if len(v.Roles) == 0 {
		return []events.Role{events.RoleApprover}
	}
	out := make([]events.Role, len(v.Roles))
	for i, r := range v.Roles {
		out[i] = events.Role(r)
	}
	return out
}
