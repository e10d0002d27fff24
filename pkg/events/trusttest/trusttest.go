// Package trusttest makes signed people, trust documents and statements for tests: keys follow from names, so that the same calls give
// the same bytes, and a document of Document is one that every check accepts.
//
// It is for tests of whoever judges what people sign. It keeps no keys anywhere and is no ceremony for making real ones.
package trusttest

import (
	"slices"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Tester is what testing.TB and rapid.T have in common.
type Tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Key is a signer whose key follows from a name.
func Key(t Tester, name string) *events.Signer {
	t.Helper()
	s, err := events.NewSigner(Seed(t, name))
	must(t, err)
	return s
}

// Seed is the nkey seed of Key.
func Seed(t Tester, name string) []byte {
	t.Helper()
	raw := events.Sum([]byte("lockstep trust test key " + name))
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, raw[:])
	must(t, err)
	seed, err := pair.Seed()
	must(t, err)
	return seed
}

// Person is somebody with the key that follows from their name, and roles in all environments.
func Person(t Tester, name string, roles ...events.Role) events.Person {
	t.Helper()
	p := events.Person{Name: name, Keys: []string{Key(t, name).Public()}, Grants: []events.Grant{}}
	for _, role := range roles {
		p.Grants = append(p.Grants, events.Grant{Role: role, Environments: []string{"*"}})
	}
	return p
}

// Document is a first document in which approvals are signed, with two roots (Key "root 1" and "root 2") of which one signs, one rule,
// which demands one approval of everything, and in all environments: the authors ann and abe, the approvers bob, carol and dan, the
// release manager rita, the operator otto, the administrator ada, and gus, who may break the glass. It is signed by both roots.
func Document(t Tester, ledger string, publishers ...string) events.Trust {
	t.Helper()
	return Signed(t, events.Trust{
		Version: 1, Ledger: ledger, Publishers: publishers, Approvals: events.ApprovalsAreSigned,
		Roots: &events.Roots{Keys: []string{Key(t, "root 1").Public(), Key(t, "root 2").Public()}, Threshold: 1},
		People: []events.Person{
			Person(t, "ann", events.RoleAuthor), Person(t, "abe", events.RoleAuthor),
			Person(t, "bob", events.RoleApprover), Person(t, "carol", events.RoleApprover), Person(t, "dan", events.RoleApprover),
			Person(t, "rita", events.RoleReleaseManager), Person(t, "otto", events.RoleOperator), Person(t, "ada", events.RoleAdministrator),
			Person(t, "gus", events.RoleBreakGlass),
		},
		Rules: []events.ApprovalRule{{Environments: []string{"*"}, Approvals: 1}},
	}, "root 1", "root 2")
}

// Next is the document that follows another after an edit, signed by both roots of Document.
func Next(t Tester, before events.Trust, edit func(*events.Trust)) events.Trust {
	t.Helper()
	return Signed(t, Unsigned(before, edit), "root 1", "root 2")
}

// Unsigned is Next without signatures, as it is proposed.
func Unsigned(before events.Trust, edit func(*events.Trust)) events.Trust {
	next := before
	roots := *before.Roots
	roots.Keys = slices.Clone(roots.Keys)
	next.Version, next.Roots, next.Signatures = before.Version+1, &roots, nil
	next.Publishers, next.Rules, next.Delegations = slices.Clone(before.Publishers), slices.Clone(before.Rules), slices.Clone(before.Delegations)
	next.People = slices.Clone(before.People)
	for i := range next.People {
		next.People[i].Keys, next.People[i].Grants = slices.Clone(next.People[i].Keys), slices.Clone(next.People[i].Grants)
	}
	edit(&next)
	return next
}

// Signed is a document signed by the keys of some names, instead of whoever signed it.
func Signed(t Tester, document events.Trust, roots ...string) events.Trust {
	t.Helper()
	document.Signatures = nil
	for _, name := range roots {
		document.Signatures = append(document.Signatures, Root(t, document, name))
	}
	return document
}

// Root is the signature of a name's key under a document.
func Root(t Tester, document events.Trust, name string) events.RootSignature {
	t.Helper()
	s, err := document.SignRoot(Key(t, name))
	must(t, err)
	return s
}

// Remove takes a person out of a document, with what they delegated and what was delegated to them: an edit for Next.
func Remove(name string) func(*events.Trust) {
	return func(t *events.Trust) {
		t.Delegations = slices.DeleteFunc(t.Delegations, func(d events.Delegation) bool { return d.From == name || d.To == name })
		t.People = slices.DeleteFunc(t.People, func(p events.Person) bool { return p.Name == name })
	}
}

// Over is a statement of somebody over a change, valid from a time for a week, as agents judge it: signed with the key that follows from
// the name. Command and content are those of no command; who judges commands signs them with ledger.Command.Signed.
func Over(t Tester, ledger, by, verb, change string, digest events.Digest, at time.Time) *events.Envelope {
	t.Helper()
	s := events.Statement{
		Ledger: ledger, By: by, At: at, Expires: at.Add(7 * 24 * time.Hour), Verb: verb, Command: verb + " " + change + " by " + by,
		Content: events.Sum([]byte(verb)), Change: change, Digest: digest,
	}
	if verb == events.VerbBreakGlass {
		s.Reason = "the shop is down"
	}
	return Sign(t, s)
}

// Sign signs a statement with the key that follows from the name in it.
func Sign(t Tester, s events.Statement) *events.Envelope {
	t.Helper()
	e, err := events.SignStatement(s, Key(t, s.By))
	must(t, err)
	return e
}

func must(t Tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("trusttest: %v", err)
	}
}
