package events

// What a verdict says follows from a rule of a policy.
const (
	VerdictDeny            = "Deny"            // the change is refused; never in the ledger
	VerdictRequireApproval = "RequireApproval" // so many people must approve
	VerdictRequireTicket   = "RequireTicket"   // a ticket is demanded, and is there
	VerdictRisk            = "Risk"            // the change is at least of this class of risk
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
