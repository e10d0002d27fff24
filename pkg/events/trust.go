package events

import (
	"slices"
	"strings"
	"time"
)

// How a trust document reads approvals.
const (
	// ApprovalsAreNames: an approval is a person's name in the ledger, vouched for by the publisher's key.
	ApprovalsAreNames = "names"
	// ApprovalsAreSigned: an approval is a statement signed by a key of the person, and the rules say how many and whose.
	ApprovalsAreSigned = "signed"
)

// TrustType is the DSSE payload type under which roots sign a trust document.
const TrustType = "application/vnd.lockstep.trust.v1+json"

// Trust is a trust document: who may sign for whom. Version 1 is a ledger's first; the newest one reaches an environment as revision
// 1, and each later one as a revision of every environment. What follows Approvals is there only where approvals are signed.
type Trust struct {
	Version     int                          `json:"version"`
	Ledger      string                       `json:"ledger"`
	Publishers  []string                     `json:"publishers"` // public nkeys
	Approvals   string                       `json:"approvals"`  // ApprovalsAreNames or ApprovalsAreSigned
	Roots       *Roots                       `json:"roots,omitempty"`
	People      []Person                     `json:"people,omitempty"`
	Rules       []ApprovalRule               `json:"rules,omitempty"` // the first that matches a resource decides; the last matches everything
	Delegations []Delegation                 `json:"delegations,omitempty"`
	Labels      map[string]map[string]string `json:"labels,omitempty"` // of environments, as far as selectors ask for them
	Signatures  []RootSignature              `json:"signatures,omitempty"`
}

// Roots are the keys that sign trust documents, and how many of them it takes.
type Roots struct {
	Keys      []string `json:"keys"`
	Threshold int      `json:"threshold"`
}

// A RootSignature is one root's signature over Body.
type RootSignature struct {
	Key string `json:"key"`
	Sig string `json:"sig"` // base64, standard alphabet
}

// A Role is what a person may do. The set is closed.
type Role string

// The roles.
const (
	RoleAuthor         Role = "author"          // propose, revise, rebase, withdraw
	RoleApprover       Role = "approver"        // approve, reject
	RoleReleaseManager Role = "release-manager" // roll back, pause, resume
	RoleOperator       Role = "operator"        // environments and agents
	RoleSteward        Role = "steward"         // agents of an environment
	RoleAuditor        Role = "auditor"         // read everything, from other hosts too
	RoleAdministrator  Role = "administrator"   // propose trust documents; roots sign them
	RoleBreakGlass     Role = "break-glass"     // release alone, loudly
)

// Roles are all of them.
var Roles = []Role{RoleAuthor, RoleApprover, RoleReleaseManager, RoleOperator, RoleSteward, RoleAuditor, RoleAdministrator, RoleBreakGlass}

// A Person is somebody with keys and roles. No key belongs to two people, and no two names differ by case only.
type Person struct {
	Name   string   `json:"name"`
	Keys   []string `json:"keys"` // public nkeys
	Grants []Grant  `json:"grants"`
}

// A Grant gives a role in some environments.
type Grant struct {
	Role         Role     `json:"role"`
	Environments []string `json:"environments"` // selectors: a name, a glob ("prod-*"), or a label ("stage=prod")
}

// A Delegation lets To act as From in a role until a time.
type Delegation struct {
	From  string    `json:"from"`
	To    string    `json:"to"`
	Role  Role      `json:"role"`
	Until time.Time `json:"until"`
}

// An ApprovalRule says how many people must approve what. With no approvals a change is approved by this rule, once its author signed.
type ApprovalRule struct {
	Environments []string `json:"environments"`        // selectors
	Resources    []string `json:"resources,omitempty"` // globs over <kind>/<name>; none are all
	Approvals    int      `json:"approvals"`           // distinct people, not the author
	Roles        []Role   `json:"roles,omitempty"`     // one of which each must have there; none is RoleApprover
}

// AllowsPublisher says whether key may sign releases and pulses.
func (t *Trust) AllowsPublisher(key string) bool { return slices.Contains(t.Publishers, key) }

// Digest identifies the document; an enrolment pins it.
func (t *Trust) Digest() (Digest, error) {
	b, err := Encode(t)
	return Sum(b), err
}

// Body is what roots sign: the document without their signatures.
func (t *Trust) Body() ([]byte, error) {
	unsigned := *t
	unsigned.Signatures = nil
	return Encode(unsigned)
}

// TrustChangeDigest is the digest of a change that proposes a trust document: SHA-256 over the domain, the change's id and Body. It names
// the change, so that a document proposed again is another change.
func TrustChangeDigest(change string, t *Trust) (Digest, error) {
	body, err := t.Body()
	return Sum(slices.Concat([]byte("lockstep trust change v1\n"), []byte(change), []byte("\n"), body)), err
}

// SignRoot is a root's signature over the document.
func (t *Trust) SignRoot(root *Signer) (RootSignature, error) {
	body, err := t.Body()
	if err != nil {
		return RootSignature{}, err
	}
	return RootSignature{Key: root.public, Sig: root.dsse(TrustType, body)}, nil
}

// PersonOf is who has a key.
func (t *Trust) PersonOf(key string) (*Person, bool) {
	for i, p := range t.People {
		if slices.Contains(p.Keys, key) {
			return &t.People[i], true
		}
	}
	return nil, false
}

// Selects says whether a selector means an environment.
func (t *Trust) Selects(selector, environment string) bool {
	if label, value, isLabel := strings.Cut(selector, "="); isLabel {
		has, labelled := t.Labels[environment][label]
		return labelled && has == value
	}
	return Glob(selector, environment)
}

func (t *Trust) selectsAny(selectors []string, environment string) bool {
	return slices.ContainsFunc(selectors, func(s string) bool { return t.Selects(s, environment) })
}

// Glob says whether a pattern, in which a star stands for any text, matches a name. It takes no longer than both their lengths
// multiplied: documents come from outside.
func Glob(pattern, name string) bool {
	star, from := -1, 0 // the last star, and where what it stands for ends so far
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from, p = p, n, p+1
		case p < len(pattern) && pattern[p] == name[n]:
			p, n = p+1, n+1
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// May says whether a person has a role in an environment at a time, by a grant or by a delegation from somebody who has.
func (t *Trust) May(person string, role Role, environment string, at time.Time) bool {
	if t.granted(person, role, environment) {
		return true
	}
	return slices.ContainsFunc(t.Delegations, func(d Delegation) bool {
		return d.To == person && d.Role == role && at.Before(d.Until) && t.granted(d.From, role, environment)
	})
}

// MaySomewhere is May in any environment at all: for what is about no environment.
func (t *Trust) MaySomewhere(person string, role Role, at time.Time) bool {
	holds := func(name string) bool {
		i := slices.IndexFunc(t.People, func(p Person) bool { return p.Name == name })
		return i >= 0 && slices.ContainsFunc(t.People[i].Grants, func(g Grant) bool { return g.Role == role })
	}
	return holds(person) || slices.ContainsFunc(t.Delegations, func(d Delegation) bool {
		return d.To == person && d.Role == role && at.Before(d.Until) && holds(d.From)
	})
}

func (t *Trust) granted(person string, role Role, environment string) bool {
	i := slices.IndexFunc(t.People, func(p Person) bool { return p.Name == person })
	return i >= 0 && slices.ContainsFunc(t.People[i].Grants, func(g Grant) bool {
		return g.Role == role && t.selectsAny(g.Environments, environment)
	})
}

// Governing are the rules that decide over a change in an environment: of each of its resources the first that matches, each once. Where
// only its sources change it is the first that is for every resource there. A document that Check accepts has one for everything; where
// there is none all the same, one approval is demanded.
func (t *Trust) Governing(environment string, operations []Operation) []ApprovalRule {
	var out []ApprovalRule
	taken := map[int]bool{}
	take := func(matches func(ApprovalRule) bool) {
		i := slices.IndexFunc(t.Rules, func(r ApprovalRule) bool { return matches(r) && t.selectsAny(r.Environments, environment) })
		if taken[i] {
			return
		}
		taken[i] = true
		if i < 0 {
			out = append(out, ApprovalRule{Environments: []string{environment}, Approvals: 1})
			return
		}
		out = append(out, t.Rules[i])
	}
	for _, op := range operations {
		take(func(r ApprovalRule) bool {
			return len(r.Resources) == 0 || slices.ContainsFunc(r.Resources, func(glob string) bool { return Glob(glob, op.Key) })
		})
	}
	if len(operations) == 0 {
		take(func(r ApprovalRule) bool { return len(r.Resources) == 0 })
	}
	return out
}
