package ledger

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Resting is a change that is in force somewhere and rests on one person: who takes them out of the trust document may want to undo it.
type Resting struct {
	Change       string   `json:"change"`
	As           []string `json:"as"`           // author, approver, break-glass
	Environments []string `json:"environments"` // where it is in force
	// Enough says that it would have been released without the person: the other approvals were as many as are demanded now.
	Enough bool `json:"enough"`
}

// RestsOn are the changes in force that a person proposed, approved or broke the glass for, oldest first.
func (s *State) RestsOn(person string) (out []Resting) {
	for _, id := range s.order {
		c := s.Changes[id]
		r := Resting{Change: id}
		if samePerson(c.Author, person) {
			r.As = append(r.As, "author")
		}
		if c.BreakGlass != nil && samePerson(c.BreakGlass.By, person) {
			r.As = append(r.As, "break-glass")
		} else if slices.ContainsFunc(c.Approvals, func(a events.Approval) bool { return samePerson(a.By, person) }) {
			r.As = append(r.As, "approver")
		}
		for _, part := range c.Parts {
			if part.InSources && !s.Environments[part.Environment].Retired {
				r.Environments = append(r.Environments, part.Environment)
			}
		}
		if len(r.As) == 0 || len(r.Environments) == 0 {
			continue
		}
		r.Enough = slices.Equal(r.As, []string{"approver"}) && s.enoughWithout(c, person)
		out = append(out, r)
	}
	return out
}

func (s *State) enoughWithout(c *Change, person string) bool {
	if !s.signed() {
		return len(c.Approvals) > s.Demanded(c)
	}
	others := slices.DeleteFunc(s.approvers(c, c.Approved), func(name string) bool { return samePerson(name, person) })
	return unmet(s.demands(c, others, c.Approved)) == nil
}

// restsOn tells, of people who are in no document any more, what rests on them.
func (d *decision) restsOn(next *events.Trust) (notes []string) {
	for _, p := range d.Trust().People {
		if slices.ContainsFunc(next.People, func(q events.Person) bool { return q.Name == p.Name }) {
			continue
		}
		var on []string
		for _, r := range d.RestsOn(p.Name) {
			if !r.Enough {
				on = append(on, fmt.Sprintf("%s (%s)", r.Change, strings.Join(r.As, ", ")))
			}
		}
		if len(on) > 0 {
			notes = append(notes, fmt.Sprintf("what rests on %s stays in force: %s; undo it with 'publisher rollback'", p.Name, some(on)))
		}
	}
	return notes
}
