package trust

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// An Edit changes a document that is its own to change. Its errors are *ledger.Error.
type Edit func(t *events.Trust) error

// FirstRoles are what the first administrator gets everywhere: enough to begin alone, but for approving their own changes, which nobody
// can. Break-glass is not among them: it is given deliberately.
var FirstRoles = []events.Role{events.RoleAdministrator, events.RoleAuthor, events.RoleApprover, events.RoleReleaseManager, events.RoleOperator}

// First is the first document under which approvals are signed. Before is the one under which they were names; of a new ledger it has the
// version 0, the ledger's id and its publisher.
func First(before *events.Trust, roots events.Roots, administrator, key string) (*events.Trust, error) {
	if before.Approvals == events.ApprovalsAreSigned {
		return nil, refuse(ledger.KindConflict, "edit it with 'publisher trust add' and its siblings", "the ledger has signed trust already")
	}
	t := &events.Trust{
		Version: before.Version + 1, Ledger: before.Ledger, Publishers: slices.Clone(before.Publishers), Approvals: events.ApprovalsAreSigned,
		Roots:  &events.Roots{Keys: slices.Clone(roots.Keys), Threshold: roots.Threshold},
		People: []events.Person{{Name: administrator, Keys: []string{key}}},
		Rules:  []events.ApprovalRule{{Environments: []string{"*"}, Approvals: 1}},
	}
	for _, role := range FirstRoles {
		t.People[0].Grants = append(t.People[0].Grants, events.Grant{Role: role, Environments: []string{"*"}})
	}
	return t, check(t)
}

// Next is the document that follows another after some edits.
func Next(now *events.Trust, edits ...Edit) (*events.Trust, error) {
	if now.Approvals != events.ApprovalsAreSigned {
		return nil, refuse(ledger.KindConflict, "begin with 'publisher trust init'", "approvals are names in this ledger, so that its trust document knows no people")
	}
	next, err := clone(now)
	if err != nil {
		return nil, err
	}
	for _, edit := range edits {
		if err := edit(next); err != nil {
			return nil, err
		}
	}
	if len(Diff(now, next)) == 0 {
		return nil, refuse(ledger.KindConflict, "look at it with 'publisher trust show'", "that is what the trust document says already")
	}
	next.Version++
	return next, check(next)
}

// clone is a document of one's own, without signatures.
func clone(t *events.Trust) (*events.Trust, error) {
	body, err := t.Body()
	if err != nil {
		return nil, err
	}
	out := &events.Trust{}
	return out, events.DecodeStrict(body, out)
}

// check is the document's own, as a refusal that says what it says.
func check(t *events.Trust) error {
	if err := t.Check(); err != nil {
		return &ledger.Error{Kind: ledger.KindInvalid, Message: events.MessageOf(err), Cause: err}
	}
	if administrators(t) == 0 {
		return refuse(ledger.KindInvalid, "give the role to somebody first, with 'publisher trust add NAME --role administrator --env \"*\"'",
			"nobody would be %s of every environment, and so nobody could propose the next trust document", events.RoleAdministrator)
	}
	return nil
}

func administrators(t *events.Trust) (n int) {
	for _, p := range t.People {
		if slices.ContainsFunc(p.Grants, func(g events.Grant) bool {
			return g.Role == events.RoleAdministrator && slices.Contains(g.Environments, "*")
		}) {
			n++
		}
	}
	return n
}

// Labelled takes into the document the labels of environments that its selectors ask for, as they are now.
func Labelled(environments map[string]map[string]string) Edit {
	return func(t *events.Trust) error {
		asked := map[string]bool{}
		for selector := range selectors(t) {
			if label, _, isLabel := strings.Cut(selector, "="); isLabel {
				asked[label] = true
			}
		}
		t.Labels = nil
		for _, name := range slices.Sorted(maps.Keys(environments)) {
			for label, value := range environments[name] {
				if !asked[label] {
					continue
				}
				if t.Labels == nil {
					t.Labels = map[string]map[string]string{}
				}
				if t.Labels[name] == nil {
					t.Labels[name] = map[string]string{}
				}
				t.Labels[name][label] = value
			}
		}
		return nil
	}
}

// selectors are all that the document selects environments by.
func selectors(t *events.Trust) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, p := range t.People {
			for _, g := range p.Grants {
				for _, s := range g.Environments {
					if !yield(s) {
						return
					}
				}
			}
		}
		for _, r := range t.Rules {
			for _, s := range r.Environments {
				if !yield(s) {
					return
				}
			}
		}
	}
}

func refuse(kind ledger.Kind, next, format string, args ...any) error {
	return &ledger.Error{Kind: kind, Message: fmt.Sprintf(format, args...), Next: next}
}
