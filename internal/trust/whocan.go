package trust

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Seat is one person's in an environment.
type Seat struct {
	Person    string              `json:"person"`
	Roles     []events.Role       `json:"roles"`               // by grants
	Delegated []events.Delegation `json:"delegated,omitempty"` // what others lent them
}

// A Need is what a change of some resources needs in an environment.
type Need struct {
	Rule      int           `json:"rule"`                // number of the rule, from 1
	Resources []string      `json:"resources,omitempty"` // globs; none are all that no rule before is about
	Approvals int           `json:"approvals"`           // distinct people, not the author
	Roles     []events.Role `json:"roles"`               // one of which each must have
	People    []string      `json:"people"`              // who can give one
}

// Who says who may do what in an environment at a time, and what a change there needs.
func Who(t *events.Trust, environment string, at time.Time) (seats []Seat, needs []Need) {
	seats, needs = []Seat{}, []Need{}
	for _, p := range t.People {
		s := Seat{Person: p.Name, Roles: []events.Role{}}
		for _, role := range events.Roles {
			if granted(t, p, role, environment) {
				s.Roles = append(s.Roles, role)
			}
		}
		for _, d := range t.Delegations {
			if i := find(t, d.From); d.To == p.Name && at.Before(d.Until) && i >= 0 && granted(t, t.People[i], d.Role, environment) {
				s.Delegated = append(s.Delegated, d)
			}
		}
		if len(s.Roles)+len(s.Delegated) > 0 {
			seats = append(seats, s)
		}
	}
	for i, rule := range t.Rules {
		if !slices.ContainsFunc(rule.Environments, func(s string) bool { return t.Selects(s, environment) }) {
			continue
		}
		n := Need{Rule: i + 1, Resources: rule.Resources, Approvals: rule.Approvals, Roles: rule.Counting(), People: []string{}}
		for _, p := range t.People {
			if slices.ContainsFunc(n.Roles, func(role events.Role) bool { return t.May(p.Name, role, environment, at) }) {
				n.People = append(n.People, p.Name)
			}
		}
		needs = append(needs, n)
		if len(rule.Resources) == 0 {
			break // those after it never decide here
		}
	}
	return seats, needs
}

func granted(t *events.Trust, p events.Person, role events.Role, environment string) bool {
	return slices.ContainsFunc(p.Grants, func(g events.Grant) bool {
		return g.Role == role && slices.ContainsFunc(g.Environments, func(s string) bool { return t.Selects(s, environment) })
	})
}

// Stuck says, for people, in which of some environments a change could never be approved at a time, because too few people could. With
// each environment comes how many approvals it demands itself.
func Stuck(t *events.Trust, environments map[string]int, at time.Time) []string {
	where := map[string][]string{}
	var order []string
	for _, environment := range slices.Sorted(maps.Keys(environments)) {
		seats, needs := Who(t, environment, at)
		for i := range needs {
			needs[i].Approvals = max(needs[i].Approvals, environments[environment])
		}
		authors := slices.DeleteFunc(seats, func(s Seat) bool { return !t.May(s.Person, events.RoleAuthor, environment, at) })
		i := slices.IndexFunc(needs, func(n Need) bool {
			return n.Approvals > 0 && !slices.ContainsFunc(authors, func(a Seat) bool { return others(n.People, a.Person) >= n.Approvals })
		})
		if i < 0 {
			continue
		}
		why := demands(needs[i]) + " approved by somebody besides its author, and " + able(needs[i].People)
		if where[why] == nil {
			order = append(order, why)
		}
		where[why] = append(where[why], environment)
	}
	var out []string
	for _, why := range order {
		out = append(out, "in "+some(where[why])+" "+why)
	}
	return out
}

// some is a list of names that stays short.
func some(names []string) string {
	const most = 6
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// others are how many of some people are not a person.
func others(people []string, person string) int {
	if slices.Contains(people, person) {
		return len(people) - 1
	}
	return len(people)
}

func demands(n Need) string {
	if n.Approvals == 1 {
		return "a change must be"
	}
	return fmt.Sprintf("a change must be %d times", n.Approvals)
}

func able(people []string) string {
	switch len(people) {
	case 0:
		return "nobody can"
	case 1:
		return "only " + people[0] + " can"
	}
	return fmt.Sprintf("only %d people can", len(people))
}
