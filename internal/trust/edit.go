package trust

import (
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Add adds a person with a key and roles, or gives who is there already another key, or more roles. Key may be empty for these.
func Add(name, key string, roles []events.Role, environments []string) Edit {
	return func(t *events.Trust) error {
		i := find(t, name)
		if i < 0 {
			if key == "" {
				return refuse(ledger.KindNotFound, "add them with --key U…, which they read off 'publisher key show'", "there is no person %s in the trust document", name)
			}
			t.People = append(t.People, events.Person{Name: name, Grants: []events.Grant{}})
			i = len(t.People) - 1
		}
		p := &t.People[i]
		if key != "" && !slices.Contains(p.Keys, key) {
			p.Keys = append(p.Keys, key)
		}
		for _, role := range roles {
			grant(p, role, environments)
		}
		return nil
	}
}

// grant gives a role in some environments, beside where it is held already.
func grant(p *events.Person, role events.Role, environments []string) {
	i := slices.IndexFunc(p.Grants, func(g events.Grant) bool { return g.Role == role })
	if i < 0 {
		p.Grants = append(p.Grants, events.Grant{Role: role})
		i = len(p.Grants) - 1
	}
	g := &p.Grants[i]
	for _, selector := range environments {
		if !slices.Contains(g.Environments, selector) {
			g.Environments = append(g.Environments, selector)
		}
	}
}

// Remove takes a person out, with what was delegated to them and by them.
func Remove(name string) Edit {
	return func(t *events.Trust) error {
		i, err := person(t, name)
		if err != nil {
			return err
		}
		t.People = slices.Delete(t.People, i, i+1)
		t.Delegations = slices.DeleteFunc(t.Delegations, func(d events.Delegation) bool { return d.From == name || d.To == name })
		return nil
	}
}

// Revoke takes roles from a person: in some environments, as their grants write them, or everywhere where none are named.
func Revoke(name string, roles []events.Role, environments []string) Edit {
	return func(t *events.Trust) error {
		i, err := person(t, name)
		if err != nil {
			return err
		}
		p := &t.People[i]
		for _, role := range roles {
			at := slices.IndexFunc(p.Grants, func(g events.Grant) bool { return g.Role == role })
			if at < 0 {
				return refuse(ledger.KindNotFound, "look with 'publisher trust show'", "%s is no %s", name, role)
			}
			g := &p.Grants[at]
			for _, selector := range environments {
				if !slices.Contains(g.Environments, selector) {
					return refuse(ledger.KindNotFound, "it is given in "+strings.Join(g.Environments, ", "), "%s is not %s in %s by a grant of its own", name, role, selector)
				}
				g.Environments = slices.DeleteFunc(g.Environments, func(s string) bool { return s == selector })
			}
			if len(environments) == 0 || len(g.Environments) == 0 {
				p.Grants = slices.Delete(p.Grants, at, at+1)
			}
		}
		return nil
	}
}

// Rotate puts a new key in the place of a person's. Old may be empty where they have only one.
func Rotate(name, old, key string) Edit {
	return func(t *events.Trust) error {
		i, err := person(t, name)
		if err != nil {
			return err
		}
		return replace("keys of "+name, t.People[i].Keys, old, key)
	}
}

// RotatePublisher puts a new publisher key in the place of another.
func RotatePublisher(old, key string) Edit {
	return func(t *events.Trust) error { return replace("publisher keys", t.Publishers, old, key) }
}

// RotateRoot puts a new root key in the place of another.
func RotateRoot(old, key string) Edit {
	return func(t *events.Trust) error { return replace("root keys", t.Roots.Keys, old, key) }
}

func replace(what string, keys []string, old, key string) error {
	if old == "" && len(keys) == 1 {
		old = keys[0]
	}
	i := slices.Index(keys, old)
	switch {
	case old == "":
		return refuse(ledger.KindInvalid, "say which with --old", "there are %d %s", len(keys), what)
	case i < 0:
		return refuse(ledger.KindNotFound, "they are "+strings.Join(keys, ", "), "%s is not among the %s", old, what)
	}
	keys[i] = key
	return nil
}

// Delegate lets somebody act as another in a role until a time.
func Delegate(from, to string, role events.Role, until time.Time) Edit {
	return func(t *events.Trust) error {
		for _, name := range []string{from, to} {
			if _, err := person(t, name); err != nil {
				return err
			}
		}
		if !slices.ContainsFunc(t.People[find(t, from)].Grants, func(g events.Grant) bool { return g.Role == role }) {
			return refuse(ledger.KindInvalid, "what is delegated is what one has", "%s is no %s", from, role)
		}
		d := events.Delegation{From: from, To: to, Role: role, Until: events.Stamp(until)}
		t.Delegations = slices.DeleteFunc(t.Delegations, func(o events.Delegation) bool { return o.From == from && o.To == to && o.Role == role })
		t.Delegations = append(t.Delegations, d)
		return nil
	}
}

// Expired takes out the delegations that are over.
func Expired(now time.Time) Edit {
	return func(t *events.Trust) error {
		t.Delegations = slices.DeleteFunc(t.Delegations, func(d events.Delegation) bool { return !now.Before(d.Until) })
		return nil
	}
}

// Demand puts a rule before those that are there, where it decides first, or in the place of one that is about the same.
func Demand(rule events.ApprovalRule) Edit {
	return func(t *events.Trust) error {
		same := slices.IndexFunc(t.Rules, func(r events.ApprovalRule) bool {
			return slices.Equal(r.Environments, rule.Environments) && slices.Equal(r.Resources, rule.Resources)
		})
		if same >= 0 {
			t.Rules[same] = rule
			return nil
		}
		t.Rules = slices.Insert(t.Rules, 0, rule)
		return nil
	}
}

// Undemand takes out the rule with a number, counted from 1.
func Undemand(number int) Edit {
	return func(t *events.Trust) error {
		if number < 1 || number > len(t.Rules) {
			return refuse(ledger.KindNotFound, "see them with 'publisher trust show'", "there is no rule %d", number)
		}
		t.Rules = slices.Delete(t.Rules, number-1, number)
		return nil
	}
}

func find(t *events.Trust, name string) int {
	return slices.IndexFunc(t.People, func(p events.Person) bool { return p.Name == name })
}

func person(t *events.Trust, name string) (int, error) {
	if i := find(t, name); i >= 0 {
		return i, nil
	}
	next := "see them with 'publisher trust show'"
	if i := slices.IndexFunc(t.People, func(p events.Person) bool { return strings.EqualFold(p.Name, name) }); i >= 0 {
		next = "did you mean " + t.People[i].Name + "?"
	}
	return -1, refuse(ledger.KindNotFound, next, "there is no person %s in the trust document", name)
}
