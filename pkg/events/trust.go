package events

import "slices"

// ApprovalsAreNames is the rule of the first trust document: an approval is a person's name in the ledger, vouched for by the
// publisher's key.
const ApprovalsAreNames = "names"

// Trust is a trust document: who may sign for whom. Version 1 is a ledger's first; it reaches every environment as revision 1.
type Trust struct {
	Version    int      `json:"version"`
	Ledger     string   `json:"ledger"`
	Publishers []string `json:"publishers"` // public nkeys
	Approvals  string   `json:"approvals"`  // ApprovalsAreNames
}

// AllowsPublisher says whether key may sign releases and pulses.
func (t *Trust) AllowsPublisher(key string) bool { return slices.Contains(t.Publishers, key) }

// Digest identifies the document; an enrolment pins it.
func (t *Trust) Digest() (Digest, error) {
	b, err := Encode(t)
	return Sum(b), err
}

// CheckApprovals says whether a released change carries the approvals that the document demands. Errors have ReasonApprovals.
func (t *Trust) CheckApprovals(c *ReleasedChange) error {
	if t.Approvals != ApprovalsAreNames {
		return Errorf(ReasonUpgradeNeeded, "the approval rule %q is not known; upgrade this program", clip(t.Approvals))
	}
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
