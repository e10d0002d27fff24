package events

import (
	"fmt"
	"time"
)

// What a verdict says follows from a rule of a policy.
const (
	VerdictDeny            = "Deny"            // the change is refused; never in the ledger
	VerdictRequireApproval = "RequireApproval" // so many people must approve
	VerdictRequireTicket   = "RequireTicket"   // a ticket is demanded, and is there
	VerdictRisk            = "Risk"            // the change is at least of this class of risk
	VerdictFreeze          = "Freeze"          // a release would wait, if the change were approved then
	VerdictWarn            = "Warn"            // people were told
	VerdictAllow           = "Allow"           // the policy matched, and no rule of it fired
)

// A Verdict is what a rule of a policy says of a proposed change.
type Verdict struct {
	Policy    string         `json:"policy"`
	Rule      string         `json:"rule,omitempty"`
	Action    string         `json:"action"`
	Message   string         `json:"message,omitempty"`
	File      string         `json:"file"` // where the rule stands
	Line      int            `json:"line"`
	Total     int            `json:"total"` // resources that it is about, counted in each environment; that many, or the first of them, are in On
	On        []VerdictPlace `json:"on"`
	Approvals int            `json:"approvals,omitempty"` // of RequireApproval, not counting the author
	Roles     []string       `json:"roles,omitempty"`     // of those who approve
	Risk      string         `json:"risk,omitempty"`      // low, medium, high or critical
}

// A VerdictPlace is a resource that a verdict is about.
type VerdictPlace struct {
	Environment string `json:"environment"`
	Key         string `json:"key"`
}

// Frozen says until when an approved change waits in an environment, and which policy says so.
type Frozen struct {
	Environment string    `json:"environment"`
	Until       time.Time `json:"until"`
	Policy      string    `json:"policy"`
	File        string    `json:"file"` // where the freeze stands
	Line        int       `json:"line"`
}

// String says it in one sentence.
func (f Frozen) String() string {
	return fmt.Sprintf("it waits in %s until %s (policy %s, %s:%d)", f.Environment, f.Until.UTC().Format(time.RFC3339), f.Policy, f.File, f.Line)
}
