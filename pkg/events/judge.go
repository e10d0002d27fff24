package events

import (
	"slices"
	"strings"
	"time"
)

// CheckApprovals says whether a released change carries the approvals that the document demands for its operations, judged at the time
// of the entry that released it. Errors have ReasonApprovals.
func (t *Trust) CheckApprovals(r *Release, at time.Time) error {
	switch t.Approvals {
	case ApprovalsAreNames:
		return checkNames(r.Change)
	case ApprovalsAreSigned:
		return t.checkSigned(r, at)
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

func (t *Trust) checkSigned(r *Release, at time.Time) error {
	c := r.Change
	author, err := t.author(r, at)
	if err != nil {
		return err
	}
	var approvers []string
	for _, a := range c.Approvals {
		s, err := t.statement(a.Envelope, c)
		switch {
		case err != nil:
			return Errorf(ReasonApprovals, "change %s: the approval of %q: %w", c.ID, clip(a.By), err)
		case s.By != a.By || (s.Verb != VerbApprove && s.Verb != VerbBreakGlass):
			return Errorf(ReasonApprovals, "change %s: %q of %s stands as the approval of %q", c.ID, clip(s.Verb), clip(s.By), clip(a.By))
		case s.Verb == VerbBreakGlass && s.Reason != "" && at.Before(s.Expires) && t.May(s.By, RoleBreakGlass, r.Environment, at):
			return nil
		case s.Verb == VerbApprove && at.Before(s.Expires):
			approvers = append(approvers, s.By)
		}
	}
	for _, missing := range t.Missing(r.Environment, r.Operations, author, approvers, at) {
		return Errorf(ReasonApprovals, "change %s in %s: %s", c.ID, r.Environment, missing)
	}
	return nil
}

// author is who signed the change as its author and may be that.
func (t *Trust) author(r *Release, at time.Time) (string, error) {
	c := r.Change
	s, err := t.statement(c.Proposal, c)
	if err != nil {
		return "", Errorf(ReasonApprovals, "change %s: the proposal of %q: %w", c.ID, clip(c.Author), err)
	}
	if s.By != c.Author || (s.Verb != VerbPropose && s.Verb != VerbRevise && s.Verb != VerbRebase) || !t.May(s.By, RoleAuthor, r.Environment, at) {
		return "", Errorf(ReasonApprovals, "change %s: %q of %s does not make %q its author in %s", c.ID, clip(s.Verb), clip(s.By), clip(c.Author), r.Environment)
	}
	return s.By, nil
}

// statement opens an envelope that must be a known person's over a change.
func (t *Trust) statement(e *Envelope, c *ReleasedChange) (Statement, error) {
	if e == nil {
		return Statement{}, Errorf(ReasonSignature, "it is not signed")
	}
	s, err := e.Open()
	if err != nil {
		return s, err
	}
	return s, t.CheckStatement(s, c.ID, c.Digest)
}

// CheckStatement says whether an opened statement is of a person of the document, over a change of the ledger. Errors have
// ReasonSignature.
func (t *Trust) CheckStatement(s Statement, change string, digest Digest) error {
	p, known := t.PersonOf(s.Key)
	switch {
	case !known || p.Name != s.By:
		return Errorf(ReasonSignature, "%s is no key of %q", clip(s.Key), clip(s.By))
	case s.Ledger != t.Ledger:
		return Errorf(ReasonSignature, "it is for ledger %s", clip(s.Ledger))
	case s.Change != change || s.Digest != digest:
		return Errorf(ReasonSignature, "it is over change %q (%s), not over %q (%s)", clip(s.Change), s.Digest.Short(), clip(change), digest.Short())
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
	for _, role := range m.Rule.counting() {
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
	governing := t.Governing(environment, operations)
	if len(governing) == 0 {
		return []Missing{{Rule: ApprovalRule{Approvals: 1}, Lacking: 1}}
	}
	for _, rule := range governing {
		m := Missing{Rule: rule}
		for _, name := range approvers {
			counts := slices.ContainsFunc(rule.counting(), func(role Role) bool { return t.May(name, role, environment, at) })
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

// counting are the roles whose approvals count for the rule.
func (r ApprovalRule) counting() []Role {
	if len(r.Roles) == 0 {
		return []Role{RoleApprover}
	}
	return r.Roles
}
