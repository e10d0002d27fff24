package events

import "encoding/json"

// HistoryRecovered is the only event of its entry. It stands in the place of an entry that no copy of the ledger holds any more, with
// signed releases that were found elsewhere; or it ends such a recovery and says what was lost.
type HistoryRecovered struct {
	// Stands is the hash of the entry that was here, as the one after it names it: the chain goes on from this hash. Zero: nobody knows
	// it, and the chain goes on from the hash of this entry.
	Stands   Digest             `json:"stands"`
	Releases []RecoveredRelease `json:"releases,omitempty"` // in the order in which they are accepted; none is of a later entry
	Loss     *Loss              `json:"loss,omitempty"`     // only in the entry that ends a recovery
}

// A RecoveredRelease is a release as it was found: its payload says what it is, and of which entry.
type RecoveredRelease struct {
	Payload   json.RawMessage `json:"payload"`
	Signature string          `json:"signature"` // the header beside it: the publisher's key signed it
}

// A Loss is what a person accepted to lose when a ledger was repaired.
type Loss struct {
	First     uint64 `json:"first"`     // number of the first entry that was lost
	Last      uint64 `json:"last"`      // and of the last
	Entries   uint64 `json:"entries"`   // how many between them were lost; the others were kept
	Releases  uint64 `json:"releases"`  // that were found and taken back
	Recovered Digest `json:"recovered"` // SHA-256 over the hashes of the entries that stand for lost ones and hold their releases
	Reason    string `json:"reason"`
	// Tips are the newest entries that agents had heard of and that the ledger does not hold: those that were lost.
	Tips []LedgerTip `json:"tips,omitempty"`
	// Agents are those that beat and are not enrolled in what is left: their enrolments were lost.
	Agents []LostAgent `json:"agents,omitempty"`
	// Beyond are positions of agents on releases that nobody holds any more.
	Beyond []LostPosition `json:"beyond,omitempty"`
}

// A LostAgent is one whose enrolment was lost.
type LostAgent struct {
	Environment string `json:"environment"`
	Agent       string `json:"agent"`
	Key         string `json:"key"` // that signed its beat: its own word
}

// A LostPosition is where an agent is, on a release that was lost.
type LostPosition struct {
	Environment string `json:"environment"`
	Agent       string `json:"agent"`
	Revision    uint64 `json:"revision"`
	Chain       Digest `json:"chain"`
}
