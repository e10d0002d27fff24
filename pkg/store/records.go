package store

import (
	"encoding/json"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Checkpoint is the newest revision that was applied and read back. Times are the agent's clock.
type Checkpoint struct {
	Revision uint64        `json:"revision"`
	Chain    events.Digest `json:"chain"`
	State    events.Digest `json:"state"`    // state digest
	Observed events.Digest `json:"observed"` // as read back; zero where nothing was
	ReadBack bool          `json:"readBack"` // false: at least one connector cannot observe
	At       time.Time     `json:"at"`
	Sequence uint64        `json:"sequence,omitempty"` // where the bus had the release; a hint
	// TraceParent is the W3C trace context in which the release was decided; empty: in none.
	TraceParent string `json:"traceparent,omitempty"`
}

// An Intent is an apply under way that is not atomic as a whole. Units are the connectors': which atomic units it touches, where
// their pre-images lie, the digest of each one's after-image; never a resolved secret.
type Intent struct {
	First    uint64          `json:"first"`
	Revision uint64          `json:"revision"`
	Chain    events.Digest   `json:"chain"`
	Keys     []string        `json:"keys"`
	Units    json.RawMessage `json:"units"`
	At       time.Time       `json:"at"`
}

// A Hold is the steward's word that nothing is applied for now.
type Hold struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// A Failure is a release that could not be applied or was refused, and keeps the agent at its checkpoint.
type Failure struct {
	Revision uint64        `json:"revision"` // the first that failed
	Last     uint64        `json:"last"`     // the newest that was tried and acked with it
	Word     events.Word   `json:"word"`     // failed, refused or torn
	Reason   events.Reason `json:"reason"`
	Message  string        `json:"message"`
	Since    time.Time     `json:"since"`
}

// A Seal is the newest seal of the ledger that was verified: what every later one is held against.
type Seal struct {
	Size  uint64        `json:"size"` // entries
	Root  events.Digest `json:"root"`
	Note  string        `json:"note"`  // as it was signed
	Agent string        `json:"agent"` // public key of the agent that verified it
	At    time.Time     `json:"at"`
}

// A Tip is the newest pulse that was heard.
type Tip struct {
	Counter uint64           `json:"counter"`
	Tip     events.LedgerTip `json:"tip"`
	At      time.Time        `json:"at"` // when it was heard
}
