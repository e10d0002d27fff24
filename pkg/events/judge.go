package events

import (
	"slices"
	"strings"
	"time"
)

// CheckApprovals says whether a released change carries the approvals that the document demands for its operations, judged at the time
// of the entry that released it. Opened are statements that were opened before; nil is none. Errors have ReasonApprovals or
// ReasonUpgradeNeeded.
func (t *Trust) CheckApprovals(r *Release, at time.Time, opened Opened) error {
	switch t.Approvals {
	case ApprovalsAreNames:
		return checkNames(r.Change)
	case ApprovalsAreSigned:
		return t.checkSigned(r, at, opened)
	}
	return Errorf(ReasonUpgradeNeeded, "the approval rule %q is not known; upgrade this program", clip(t.Approvals))
}

func checkNames(c *ReleasedChange) error {
	if len(c.Approvals) == 0 {
		return Errorf(ReasonApprovals, "change %s carries no approval", c.ID)
	}
	for i, a := range c.Approvals {
		twice := slices.ContainsFunc(c.Approvals[:i], func(before Approval) bool { return before.By == a.By })
		if a.By == "" || a.By == c.Author || twice {
			return Errorf(ReasonApprovals, "change %s: %q is its author or counted twice", c.ID, clip(a.By))
		}
	}
	return nil
}

// checkSigned believes nothing of the publisher's but what people signed: the author's statement, and those of the approvers, each over
// this change and its digest. One that expired, or whose key is nobody's any more, does not count; one that is over something else, or
// that nobody signed, has the release refused, because no publisher of ours carries it.
func (t *Trust) checkSigned(r *Release, at time.Time, opened Opened) error {
	c := r.Change
	author, err := t.author(r, at, opened)
	if err != nil {
		return err
	}
	var approvers []string
	for _, a := range c.Approvals {
		s, err := t.over(c, a.Envelope, opened)
		switch {
		case err != nil:
			return Errorf(ReasonApprovals, "change %s: the approval of %q: %w", c.ID, clip(a.By), err)
		case s.By != a.By || (s.Verb != VerbApprove && s.Verb != VerbBreakGlass):
			return Errorf(ReasonApprovals, "change %s: %q of %q stands as the approval of %q", c.ID, clip(s.Verb), clip(s.By), clip(a.By))
		case t.Counts(s, at) != nil:
		case s.Verb == VerbApprove:
			approvers = append(approvers, s.By)
		case s.Reason != "" && t.May(s.By, RoleBreakGlass, r.Environment, at):
			return nil
		}
	}
	for _, missing := range t.Missing(r.Environment, r.Operations, author, approvers, at) {
		return Errorf(ReasonApprovals, "change %s in %s: %s", c.ID, r.Environment, missing)
	}
	return nil
}

// author is who signed the change as its author and may be that.
func (t *Trust) author(r *Release, at time.Time, opened Opened) (string, error) {
	c := r.Change
	s, err := t.over(c, c.Proposal, opened)
	if err == nil {
		err = t.Owns(s)
	}
	switch {
	case err != nil:
		return "", Errorf(ReasonApprovals, "change %s: the proposal of %q: %w", c.ID, clip(c.Author), err)
	case s.By != c.Author || (s.Verb != VerbPropose && s.Verb != VerbRevise && s.Verb != VerbRebase):
		return "", Errorf(ReasonApprovals, "change %s: %q of %q does not make %q its author", c.ID, clip(s.Verb), clip(s.By), clip(c.Author))
	case !t.May(s.By, RoleAuthor, r.Environment, at):
		return "", Errorf(ReasonApprovals, "change %s: %q has not the role %s in %s", c.ID, s.By, RoleAuthor, r.Environment)
	}
	return s.By, nil
}

// over opens an envelope that must be over a change of this ledger, as it is released.
func (t *Trust) over(c *ReleasedChange, e *Envelope, opened Opened) (Statement, error) {
	if e == nil {
		return Statement{}, Errorf(ReasonSignature, "it is not signed")
	}
	s, err := opened.Get(e)
	switch {
	case err != nil:
		return s, err
	case s.Ledger != t.Ledger:
		return s, Errorf(ReasonSignature, "it is for ledger %s", clip(s.Ledger))
	case s.Change != c.ID || s.Digest != c.Digest:
		return s, Errorf(ReasonSignature, "it is over change %q (%s), not over %q (%s)", clip(s.Change), s.Digest.Short(), clip(c.ID), c.Digest.Short())
	}
	return s, nil
}

// Owns says whether a statement's key is one of the person in whose name it speaks. Errors have ReasonSignature.
func (t *Trust) Owns(s Statement) error {
	if p, known := t.PersonOf(s.Key); !known || p.Name != s.By {
		return Errorf(ReasonSignature, "%s is no key of %q in trust document %d", clip(s.Key), clip(s.By), t.Version)
	}
	return nil
}

const (
	// ApprovalLife is the longest that an approval counts after it was signed.
	ApprovalLife = 30 * 24 * time.Hour
	// StatementSkew is how far a person's clock may be from the publisher's. A publisher that dates a release back cannot date it before
	// what it carries was signed.
	StatementSkew = 10 * time.Minute
)

// Counts says why an opened approval, or break-glass, does not count in a release at a time, whatever its roles. Errors have
// ReasonSignature where its key is not the person's, and ReasonApprovals where its time is over, or has not come.
func (t *Trust) Counts(s Statement, at time.Time) error {
	if err := t.Owns(s); err != nil {
		return err
	}
	switch {
	case s.At.After(at.Add(StatementSkew)):
		return Errorf(ReasonApprovals, "it was signed at %s, after the release", s.At.UTC().Format(time.RFC3339))
	case s.Expires.IsZero() || s.Expires.Sub(s.At) > ApprovalLife:
		return Errorf(ReasonApprovals, "it says not until when it counts, or for longer than %d days", ApprovalLife/(24*time.Hour))
	case !at.Before(s.Expires):
		return Errorf(ReasonApprovals, "it expired at %s", s.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// A Missing says what a rule lacks in an environment.
type Missing struct {
	Rule    ApprovalRule
	Have    []string // who counts
	Lacking int
}

func (m Missing) String() string {
	roles := make([]string, 0, len(m.Rule.Roles))
	for _, role := range m.Rule.Counting() {
		roles = append(roles, string(role))
	}
	have := "nobody"
	if len(m.Have) > 0 {
		have = strings.Join(m.Have, ", ")
	}
	return strings.Join(roles, " or ") + " approvals: " + itoa(m.Rule.Approvals) + " are demanded, and " + have + " approved"
}

// Missing are the rules that lack approvals of a change's operations in an environment; none where it may be released there.
func (t *Trust) Missing(environment string, operations []Operation, author string, approvers []string, at time.Time) []Missing {
	var out []Missing
	for _, rule := range t.Governing(environment, operations) {
		m := Missing{Rule: rule}
		for _, name := range approvers {
			counts := slices.ContainsFunc(rule.Counting(), func(role Role) bool { return t.May(name, role, environment, at) })
			if name != author && counts && !slices.Contains(m.Have, name) {
				m.Have = append(m.Have, name)
			}
		}
		if m.Lacking = rule.Approvals - len(m.Have); m.Lacking > 0 {
			out = append(out, m)
		}
	}
	return out
}

// Counting are the roles whose approvals count for the rule.
func (r ApprovalRule) Counting() []Role {
	if len(r.Roles) == 0 {
		return []Role{RoleApprover}
	}
	return r.Roles
}
