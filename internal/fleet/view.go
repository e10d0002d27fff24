// Package fleet is where every environment stands: a projection of the ledger's state, the acks that are not recorded yet and
// the newest beats. CLI, HTTP API, metrics and dashboard read it.
//
// Guarantees: it is a function of its arguments, time included; lag is measured from the bus's stamp of a ledger entry to the
// bus's stamp of the slowest agent's ack, never by an agent's clock; an environment whose agents have not been heard is silent,
// and never in step; acks that come twice, late, in another order or forged change nothing of it. It keeps nothing: what the ledger's state
// keeps of agents does not grow with what they say (ledger.MaxKept). It decides nothing.
package fleet

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Condition is the state of an environment or an agent (ARCHITECTURE.md, Words).
type Condition string

// The conditions, worst first; the worst agent gives the environment's, and retired replaces all.
const (
	Torn      Condition = "torn"
	Differing Condition = "differing"
	Failing   Condition = "failing"
	Silent    Condition = "silent"
	Stale     Condition = "stale"
	Held      Condition = "held"
	Behind    Condition = "behind"
	InStep    Condition = "in step"
	Retired   Condition = "retired"
)

// A View is the fleet at a time.
type View struct {
	AsOf         time.Time         `json:"asOf"`
	Ledger       LedgerView        `json:"ledger"`
	Totals       map[Condition]int `json:"totals"`
	Environments []Environment     `json:"environments"` // worst first, then by name
	// Reviews are the break-glasses that not enough people have signed off, oldest first.
	Reviews []OpenReview `json:"reviews,omitempty"`
}

// An OpenReview is a break-glass that waits to be signed off.
type OpenReview struct {
	Change       string   `json:"change"`
	Environments []string `json:"environments"`
	ledger.GlassBroken
}

// String says it in one line.
func (r OpenReview) String() string {
	by := make([]string, len(r.Reviews))
	for i, s := range r.Reviews {
		by[i] = s.By
	}
	signed := "nobody has"
	if len(by) > 0 {
		signed = "only " + strings.Join(by, ", ") + " has"
	}
	return fmt.Sprintf("%s broke the glass for %s at %s (%s), and %s signed it off", r.By, r.Change, r.At.UTC().Format(time.RFC3339), r.Reason, signed)
}

// A LedgerView says which ledger this is and whether it can be written.
type LedgerView struct {
	ID         string           `json:"id"`
	Tip        events.LedgerTip `json:"tip"`
	Writable   bool             `json:"writable"`
	Reason     events.Reason    `json:"reason,omitempty"`  // why it is not writable
	Message    string           `json:"message,omitempty"` // the same for people
	Since      time.Time        `json:"since,omitzero"`
	Durability string           `json:"durability"` // "proven", or "accepted without proof"
	Losses     []Loss           `json:"losses,omitempty"`
}

// Of says which ledger it is and how far it goes.
func (l LedgerView) Of(s *ledger.State) LedgerView {
	l.ID, l.Tip, l.Losses = s.ID, events.LedgerTip{Number: s.Number, Hash: s.Hash}, LossesOf(s)
	return l
}

// A Loss is what somebody accepted to lose when the ledger was repaired.
type Loss struct {
	events.Loss
	Entry uint64    `json:"entry"` // that says so
	By    string    `json:"by"`
	Time  time.Time `json:"time"`
}

// LossesOf are a ledger's, oldest first.
func LossesOf(s *ledger.State) (out []Loss) {
	for _, l := range s.Losses {
		out = append(out, Loss(l))
	}
	return out
}

// String says it in one line.
func (l Loss) String() string {
	return fmt.Sprintf("at least %d entries were lost, between %d and %d as far as is known, and %d releases of them taken back: %s accepted that (%s)", l.Entries, l.First, l.Last, l.Releases, l.By, l.Reason)
}

// An Environment is where one environment stands.
type Environment struct {
	Name         string            `json:"name"`
	Labels       map[string]string `json:"labels,omitempty"`
	Steward      string            `json:"steward,omitempty"`
	Approvals    int               `json:"approvals"`
	Lost         bool              `json:"lost,omitempty"` // labels, steward and approvals were lost with the ledger
	Condition    Condition         `json:"condition"`
	Reason       events.Reason     `json:"reason,omitempty"`
	Message      string            `json:"message,omitempty"` // what is wrong, for people
	Since        time.Time         `json:"since,omitzero"`    // of the condition, where it is known
	Head         uint64            `json:"head"`
	Revision     uint64            `json:"revision"`     // the lowest agent's
	LagRevisions uint64            `json:"lagRevisions"` // head − revision
	// LagSeconds is how long the oldest release that is not applied by every agent has been waiting; 0 when there is none.
	LagSeconds float64 `json:"lagSeconds"`
	// Delivered is how long the newest fully applied release took, from its ledger entry to the slowest agent's ack.
	Delivered  *Duration      `json:"delivered,omitempty"`
	LastChange string         `json:"lastChange,omitempty"` // newest released change that was not undone
	Frozen     []FrozenChange `json:"frozen,omitempty"`     // approved changes that wait for the end of a freeze
	State      events.Digest  `json:"state"`                // state digest at the head
	Agents     []Agent        `json:"agents"`
}

// A FrozenChange is an approved change that waits in an environment.
type FrozenChange struct {
	Change string `json:"change"`
	events.Frozen
}

// A Duration is a measured lag.
type Duration struct {
	Seconds float64 `json:"seconds"`
	AtMost  bool    `json:"atMost,omitempty"` // the first ack was lost: it took this long or less
}

// An Agent is where one agent stands.
type Agent struct {
	Name        string        `json:"name"`
	Condition   Condition     `json:"condition"`
	Reason      events.Reason `json:"reason,omitempty"`
	Message     string        `json:"message,omitempty"`
	Since       time.Time     `json:"since,omitzero"`
	Until       time.Time     `json:"until,omitzero"` // held until
	Revision    uint64        `json:"revision"`
	State       events.Digest `json:"state"`                 // state digest at its checkpoint
	ReadBack    bool          `json:"readBack"`              // false: its connectors cannot observe, or its instance cannot be read now
	LastSeen    time.Time     `json:"lastSeen,omitzero"`     // the bus's stamp of its newest beat or ack
	ClockSkew   float64       `json:"clockSkewSeconds"`      // its clock minus the bus's at its newest beat
	Version     string        `json:"version,omitempty"`     // of the program
	Connectors  []string      `json:"connectors,omitempty"`  // names
	Rejected    uint64        `json:"rejected,omitempty"`    // messages it dropped as not validly signed
	FirstCounts uint64        `json:"firstCounts,omitempty"` // it does not count for revisions before this one

	Drift     int                        `json:"drift,omitempty"`     // how many resources of its instance differ from what was applied
	Differing []events.DifferingResource `json:"differing,omitempty"` // which ones, and where: the first of them
}

// A Change is a change with where it stands in every environment.
type Change struct {
	ID           string              `json:"id"`
	Digest       events.Digest       `json:"digest"`
	Status       string              `json:"status"`
	Author       string              `json:"author"`
	Reason       string              `json:"reason"`
	Ticket       string              `json:"ticket,omitempty"`
	Within       float64             `json:"withinSeconds,omitempty"` // propagation window
	Window       Window              `json:"window,omitempty"`
	Source       *events.Provenance  `json:"source,omitempty"`
	Recovered    bool                `json:"recovered,omitempty"` // its proposal was lost: source, window and comments are not known
	Proposed     time.Time           `json:"proposed"`
	Expires      time.Time           `json:"expires"`
	Revised      int                 `json:"revised,omitempty"`
	Approved     time.Time           `json:"approved,omitzero"`
	Completed    time.Time           `json:"completed,omitzero"`
	Approvals    []events.Approval   `json:"approvals"`
	Demanded     int                 `json:"demanded"`
	Demands      []ledger.Demand     `json:"demands,omitempty"`     // where approvals are signed, of an open change: in which environment how many must approve, and who is missing
	Proposal     *events.Envelope    `json:"proposal,omitempty"`    // the author's statement
	ByRule       bool                `json:"byRule,omitempty"`      // released because a rule demands nobody's approval
	BreakGlass   *ledger.GlassBroken `json:"breakGlass,omitempty"`  // released on one person's word
	UnderReview  bool                `json:"underReview,omitempty"` // and not enough people have signed that off
	Paused       *ledger.Paused      `json:"paused,omitempty"`      // held back where it waits
	Trust        *events.Trust       `json:"trust,omitempty"`       // the trust document that it proposes
	Roots        []string            `json:"roots,omitempty"`       // that signed it
	Risk         string              `json:"risk,omitempty"`        // the highest class that a policy says: low, medium, high, critical
	Verdicts     []events.Verdict    `json:"verdicts,omitempty"`    // of policies, when it was proposed
	EndedBy      string              `json:"endedBy,omitempty"`     // rejected or withdrawn by
	EndReason    string              `json:"endReason,omitempty"`
	Environments []ChangeEnvironment `json:"environments"`
}

// A Window says whether a change kept its propagation window.
type Window string

// The outcomes of a propagation window.
const (
	WindowOpen   Window = "open"
	WindowKept   Window = "kept"
	WindowMissed Window = "missed"
)

// A ChangeEnvironment is a change's part for one environment and what became of it.
type ChangeEnvironment struct {
	Environment string          `json:"environment"`
	Operations  []OperationView `json:"operations"`
	Revision    uint64          `json:"revision,omitempty"` // that released it
	Undone      uint64          `json:"undone,omitempty"`   // revision that undid it
	LeftOut     string          `json:"leftOut,omitempty"`  // why it was not released here
	Moved       string          `json:"moved,omitempty"`    // what moved under it, by whom, in which change; of an open change
	Frozen      *events.Frozen  `json:"frozen,omitempty"`   // until when it waits here, and why
	Released    time.Time       `json:"released,omitzero"`  // the bus's stamp of the ledger entry
	Outcome     string          `json:"outcome"`            // proposed, frozen, left out, waiting, applied, failed, undone, …
	Lag         *Duration       `json:"lag,omitempty"`      // to the slowest agent's ack, when all have applied it
	Agents      []AgentDelivery `json:"agents,omitempty"`
}

// An OperationView is one operation with the value that it replaces.
type OperationView struct {
	Op     string          `json:"op"`
	Key    string          `json:"key"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// An AgentDelivery is what one agent said of a release: who applied it, when, with which digest.
type AgentDelivery struct {
	Agent    string        `json:"agent"`
	Word     events.Word   `json:"word,omitempty"`    // empty: nothing yet
	Stamp    time.Time     `json:"stamp,omitzero"`    // the bus's, of the ack
	Lag      *Duration     `json:"lag,omitempty"`     // of an applied one
	Digest   events.Digest `json:"digest,omitzero"`   // state digest as read back
	ReadBack bool          `json:"readBack"`          // false: not read back
	Past     bool          `json:"past,omitempty"`    // it applied it so long ago that only this is at hand; the ledger has the rest
	With     uint64        `json:"with,omitempty"`    // the later revision that it was applied with, whose the digest is: this one's state never was on the instance
	Failed   events.Word   `json:"failed,omitempty"`  // what became of it alone before that later one passed over it
	Reason   events.Reason `json:"reason,omitempty"`  // of anything but applied, and of Failed
	Message  string        `json:"message,omitempty"` // the same for people
	Recorded uint64        `json:"recorded,omitempty"`
	Phases   events.Phases `json:"phases,omitzero"` // the agent's own clock
}

// A HistoryItem is one release in the history of an environment or a resource.
type HistoryItem struct {
	Environment string             `json:"environment"`
	Revision    uint64             `json:"revision"`
	Kind        events.ReleaseKind `json:"kind"`
	Change      string             `json:"change,omitempty"`
	By          string             `json:"by,omitempty"`
	Reason      string             `json:"reason,omitempty"`
	Time        time.Time          `json:"time"`
	Entry       uint64             `json:"entry"`
	State       events.Digest      `json:"state"`
	Chain       events.Digest      `json:"chain"`
	Applied     bool               `json:"applied"`             // by every agent
	Recovered   bool               `json:"recovered,omitempty"` // its entry was lost; the release was taken back from the bus
	Operations  []OperationView    `json:"operations,omitempty"`
}

// A ResourceView is a resource of an environment at a revision.
type ResourceView struct {
	Environment string          `json:"environment"`
	Revision    uint64          `json:"revision"`
	Key         string          `json:"key"`
	Value       json.RawMessage `json:"value,omitempty"`
	Deleted     bool            `json:"deleted,omitempty"`
	Change      string          `json:"change,omitempty"` // that set or deleted it
	By          string          `json:"by,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Set         time.Time       `json:"set,omitzero"`
}
