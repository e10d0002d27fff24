package trust

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Diff is what differs between two documents besides their versions and signatures, for people: a line each, which begins with +, - or ~.
// Before may be nil.
func Diff(before, after *events.Trust) []string {
	if before == nil {
		before = &events.Trust{}
	}
	d := &differ{}
	if before.Approvals != after.Approvals {
		d.changed("approvals", before.Approvals, after.Approvals)
	}
	d.lists("publisher", before.Publishers, after.Publishers)
	was, is := rootsOf(before), rootsOf(after)
	d.lists("root", was.Keys, is.Keys)
	if was.Threshold != is.Threshold {
		d.changed("signatures of roots that a trust document needs", fmt.Sprint(was.Threshold), fmt.Sprint(is.Threshold))
	}
	d.people(before, after)
	d.lists("delegation", texts(before.Delegations, Delegation), texts(after.Delegations, Delegation))
	d.rules(texts(before.Rules, Rule), texts(after.Rules, Rule))
	d.lists("label", labels(before.Labels), labels(after.Labels))
	return d.lines
}

type differ struct{ lines []string }

func (d *differ) say(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *differ) changed(what, before, after string) {
	if before == "" || before == "0" {
		d.say("+ %s: %s", what, after)
		return
	}
	d.say("~ %s: %s → %s", what, before, after)
}

// lists compares what has no order.
func (d *differ) lists(what string, before, after []string) {
	for _, gone := range before {
		if !slices.Contains(after, gone) {
			d.say("- %s %s", what, gone)
		}
	}
	for _, come := range after {
		if !slices.Contains(before, come) {
			d.say("+ %s %s", what, come)
		}
	}
}

func (d *differ) people(before, after *events.Trust) {
	for _, p := range before.People {
		i := find(after, p.Name)
		if i < 0 {
			d.say("- %s: %s", p.Name, holds(p))
			continue
		}
		d.lists(p.Name+": key", p.Keys, after.People[i].Keys)
		d.lists(p.Name+":", seats(p), seats(after.People[i]))
	}
	for _, p := range after.People {
		if find(before, p.Name) < 0 {
			d.say("+ %s: %s", p.Name, holds(p))
		}
	}
}

// rules have an order, in which they decide.
func (d *differ) rules(before, after []string) {
	if slices.Equal(before, after) {
		return
	}
	n := len(d.lines)
	d.lists("rule:", before, after)
	if n == len(d.lines) {
		d.say("~ rules decide in another order: %s", strings.Join(after, "; "))
	}
}

func rootsOf(t *events.Trust) events.Roots {
	if t.Roots == nil {
		return events.Roots{}
	}
	return *t.Roots
}

func texts[T any](list []T, text func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return out
}

// holds are a person's keys and roles.
func holds(p events.Person) string {
	out := "key " + strings.Join(p.Keys, ", ")
	if roles := seats(p); len(roles) > 0 {
		return out + "; " + strings.Join(roles, ", ")
	}
	return out + "; no role"
}

// seats are a person's roles, each selector by itself, as text.
func seats(p events.Person) []string {
	var out []string
	for _, g := range p.Grants {
		for _, selector := range g.Environments {
			out = append(out, string(g.Role)+" in "+selector)
		}
	}
	return out
}

// Delegation is one, for people.
func Delegation(d events.Delegation) string {
	return fmt.Sprintf("%s acts for %s as %s until %s", d.To, d.From, d.Role, d.Until.UTC().Format(time.RFC3339))
}

// Rule is one, for people.
func Rule(r events.ApprovalRule) string {
	out := "in " + strings.Join(r.Environments, ", ") + " "
	if len(r.Resources) > 0 {
		out += "for " + strings.Join(r.Resources, ", ") + " "
	}
	return out + Approvals(r.Approvals, r.Counting())
}

// Approvals say how many approvals by whom are needed.
func Approvals(n int, roles []events.Role) string {
	if n == 0 {
		return "no approval: it is approved by this rule"
	}
	by := make([]string, len(roles))
	for i, role := range roles {
		by[i] = string(role)
	}
	noun := " approval by "
	if n > 1 {
		noun = " approvals by "
	}
	return fmt.Sprint(n) + noun + strings.Join(by, " or ")
}

func labels(of map[string]map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		for _, label := range slices.Sorted(maps.Keys(of[name])) {
			out = append(out, name+" "+label+"="+of[name][label])
		}
	}
	return out
}
