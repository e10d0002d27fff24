package events

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// An Entry is one decision in the ledger: all its events or none. The hash chain runs over the entries' bytes.
type Entry struct {
	Number      uint64    `json:"number"`   // gapless from 1; also its sequence in the stream
	Previous    Digest    `json:"previous"` // hash of the entry before; zero in entry 1
	Ledger      string    `json:"ledger"`   // UUID
	Command     Command   `json:"command"`
	Time        time.Time `json:"time"` // recordedtime: max(entry before, now)
	TraceParent string    `json:"traceparent,omitempty"`
	Events      []Event   `json:"events"`
}

// A Command names what an entry answers: the same id with the same digest is the same command sent again.
type Command struct {
	ID     string `json:"id"`     // made by the client
	By     string `json:"by"`     // who acts
	Digest Digest `json:"digest"` // of the command's content
	// Statement is what the person signed, where approvals are signed; the publisher's own commands have none.
	Statement *Envelope `json:"statement,omitempty"`
}

// EntryID is how events name an entry.
func EntryID(number uint64) string { return "entry." + strconv.FormatUint(number, 10) }

// A Fact is one event of an entry before it is written: its type, what it is about, and its data.
type Fact struct {
	Type    Type
	Subject string
	Data    any
}

// NewEntry writes the facts as the entry's events and returns the entry with its bytes. It reads back what it wrote, so that
// nothing is appended that could not be read; what could not be is ReasonMalformed.
func NewEntry(number uint64, previous Digest, ledger string, command Command, at time.Time, traceparent string, facts []Fact) (Entry, []byte, error) {
	entry, b, err := writeEntry(number, previous, ledger, command, at, traceparent, facts)
	if err != nil {
		return Entry{}, nil, err
	}
	if _, err := DecodeEntry(b); err != nil {
		return Entry{}, nil, fmt.Errorf("new entry: %w", err)
	}
	for _, e := range entry.Events {
		if _, err := DecodeFact(e); err != nil {
			return Entry{}, nil, fmt.Errorf("new entry: %w", err)
		}
	}
	return entry, b, nil
}

func writeEntry(number uint64, previous Digest, ledger string, command Command, at time.Time, traceparent string, facts []Fact) (Entry, []byte, error) {
	at = Stamp(at)
	entry := Entry{Number: number, Previous: previous, Ledger: ledger, Command: command, Time: at, TraceParent: traceparent}
	for i, f := range facts {
		e, err := newEvent(f.Type, EntryID(number)+"."+strconv.Itoa(i), LedgerSource(ledger), f.Subject, at, f.Data)
		if err != nil {
			return Entry{}, nil, err
		}
		entry.Events = append(entry.Events, e)
	}
	b, err := Encode(entry)
	return entry, b, err
}

// DecodeEntry reads an entry strictly, with the data of its events still encoded; DecodeFact reads those. An unknown field is
// ReasonUpgradeNeeded, anything else that NewEntry would not have written is ReasonMalformed.
func DecodeEntry(payload []byte) (Entry, error) {
	var e Entry
	if err := decodeKnown(payload, &e); err != nil {
		return Entry{}, err
	}
	if e.Number == 0 || len(e.Events) == 0 || e.Ledger == "" {
		return Entry{}, Errorf(ReasonMalformed, "an entry without number, ledger or events")
	}
	facts := make([]Fact, len(e.Events))
	for i, event := range e.Events {
		facts[i] = Fact{event.Type, event.Subject, event.Data}
	}
	_, again, err := writeEntry(e.Number, e.Previous, e.Ledger, e.Command, e.Time, e.TraceParent, facts)
	if err != nil {
		return Entry{}, Errorf(ReasonMalformed, "%w", err)
	}
	if err := sameBytes(payload, again); err != nil {
		return Entry{}, err
	}
	return e, nil
}

// DecodeFact reads the data of a ledger event into the struct that belongs to its type. A type that is not known here is
// ReasonUpgradeNeeded.
func DecodeFact(e Event) (any, error) {
	newData, known := factTypes[e.Type]
	if !known {
		return nil, Errorf(ReasonUpgradeNeeded, "the type %s is not known in the ledger; upgrade this program", clip(string(e.Type)))
	}
	data := newData()
	if err := DecodeStrict(e.Data, data); err != nil {
		return nil, fmt.Errorf("%s: %w", e.Type, err)
	}
	return data, nil
}

var factTypes = map[Type]func() any{
	TypeContentStored:      func() any { return new(ContentStored) },
	TypeChangeProposed:     func() any { return new(ChangeProposed) },
	TypeChangeRevised:      func() any { return new(ChangeProposed) },
	TypeChangeApproved:     func() any { return new(ChangeApproved) },
	TypeChangeRejected:     func() any { return new(ChangeEnded) },
	TypeChangeWithdrawn:    func() any { return new(ChangeEnded) },
	TypeApprovalGiven:      func() any { return new(ApprovalGiven) },
	TypeEnvironmentAdded:   func() any { return new(EnvironmentAdded) },
	TypeEnvironmentUpdated: func() any { return new(EnvironmentUpdated) },
	TypeEnvironmentRetired: func() any { return new(EnvironmentRetired) },
	TypeAgentEnrolled:      func() any { return new(AgentEnrolled) },
	TypeAgentRevoked:       func() any { return new(AgentRevoked) },
	TypeRolloutStarted:     func() any { return new(RolloutStarted) },
	TypeWaveReleased:       func() any { return new(WaveReleased) },
	TypeRolloutCompleted:   func() any { return new(RolloutCompleted) },
	TypeRolloutPaused:      func() any { return new(RolloutPaused) },
	TypeRolloutResumed:     func() any { return new(RolloutPaused) },
	TypeRollbackOrdered:    func() any { return new(RollbackOrdered) },
	TypeBreakGlassUsed:     func() any { return new(BreakGlassUsed) },
	TypeBreakGlassReviewed: func() any { return new(BreakGlassReviewed) },
	TypeAlarmAcknowledged:  func() any { return new(AlarmAcknowledged) },
	TypeAlarmsSilenced:     func() any { return new(AlarmsSilenced) },
	TypeSilenceEnded:       func() any { return new(SilenceEnded) },
	TypeDeliveryRecorded:   func() any { return new(DeliveryRecorded) },
	TypeTrustUpdated:       func() any { return new(TrustUpdated) },
	TypeHistoryRecovered:   func() any { return new(HistoryRecovered) },
}

// ContentStored holds content by its digest: operations and inverses as JSON, sources as text. Exactly one is there.
type ContentStored struct {
	Digest Digest          `json:"digest"`
	JSON   json.RawMessage `json:"json,omitempty"`
	Text   string          `json:"text,omitempty"`
}

// ChangeProposed freezes a change; revised is the same with another content under the same id.
type ChangeProposed struct {
	Change       string                `json:"change"`
	Digest       Digest                `json:"digest"`
	Author       string                `json:"author"`
	Reason       string                `json:"reason"`
	Ticket       string                `json:"ticket,omitempty"`
	Within       int64                 `json:"within,omitempty"` // propagation window, seconds; 0 is none
	Source       *Provenance           `json:"source,omitempty"`
	Expires      time.Time             `json:"expires"` // an open proposal is no longer approved after this
	Sources      Digest                `json:"sources"` // content: the edits as the author wrote them
	Environments []ProposedEnvironment `json:"environments"`
	Verdicts     []Verdict             `json:"verdicts,omitempty"` // of the policies in force
	Trust        *Trust                `json:"trust,omitempty"`    // the next trust document, not signed yet; such a change has no environments
}

// ProposedEnvironment is a change's part for one environment, in the order of the leaves.
type ProposedEnvironment struct {
	Environment string `json:"environment"`
	Operations  Digest `json:"operations"` // content
	Inverse     Digest `json:"inverse"`    // content
}

// ApprovalGiven is one person's yes.
type ApprovalGiven struct {
	Change  string `json:"change"`
	Digest  Digest `json:"digest"`
	By      string `json:"by"`
	Comment string `json:"comment,omitempty"`
	// Roots are signatures over the trust document that the change proposes.
	Roots []RootSignature `json:"roots,omitempty"`
}

// ChangeApproved says that all approvals are there.
type ChangeApproved struct {
	Change string `json:"change"`
	Digest Digest `json:"digest"`
	ByRule bool   `json:"byRule,omitempty"` // the trust document demands nobody's approval of it; it stands in the entry that proposes it
}

// ChangeEnded rejects or withdraws an open proposal.
type ChangeEnded struct {
	Change string `json:"change"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
}

// EnvironmentAdded names a new environment and releases the trust document to it as revision 1.
type EnvironmentAdded struct {
	Environment string            `json:"environment"`
	Labels      map[string]string `json:"labels,omitempty"`
	Steward     string            `json:"steward,omitempty"`
	Approvals   int               `json:"approvals"` // people who must approve, not counting the author
	Wave        Wave              `json:"wave"`
}

// EnvironmentUpdated replaces labels, steward and approvals.
type EnvironmentUpdated struct {
	Environment string            `json:"environment"`
	Labels      map[string]string `json:"labels,omitempty"`
	Steward     string            `json:"steward,omitempty"`
	Approvals   int               `json:"approvals"`
}

// EnvironmentRetired ends an environment; its name is never used again.
type EnvironmentRetired struct {
	Environment string `json:"environment"`
	By          string `json:"by"`
	Reason      string `json:"reason,omitempty"`
}

// AgentEnrolled admits an agent's key to an environment, and records the head that its enrolment pins.
type AgentEnrolled struct {
	Environment string `json:"environment"`
	Agent       string `json:"agent"`
	Key         string `json:"key"` // public nkey
	Revision    uint64 `json:"revision"`
	Chain       Digest `json:"chain"`
}

// AgentRevoked takes an agent's key away.
type AgentRevoked struct {
	Environment string `json:"environment"`
	Agent       string `json:"agent"`
	By          string `json:"by"`
	Reason      string `json:"reason,omitempty"`
}

// RolloutStarted begins the delivery of an approved change.
type RolloutStarted struct {
	Change string `json:"change"`
}

// RolloutCompleted says that every environment's agents acknowledged the change.
type RolloutCompleted struct {
	Change string `json:"change"`
}

// RolloutPaused holds back what of an approved change has not been released yet; resumed is the same without a reason.
type RolloutPaused struct {
	Change string `json:"change"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
}

// BreakGlassUsed releases a change on one person's word. It is open to review until two others have signed it off.
type BreakGlassUsed struct {
	Change string `json:"change"`
	Digest Digest `json:"digest"`
	By     string `json:"by"`
	Reason string `json:"reason"`
}

// BreakGlassReviewed is one person's signing off.
type BreakGlassReviewed struct {
	Change  string `json:"change"`
	By      string `json:"by"`
	Comment string `json:"comment,omitempty"`
}

// AlarmAcknowledged says who takes care of an alarm.
type AlarmAcknowledged struct {
	Alarm       string `json:"alarm"`
	Environment string `json:"environment,omitempty"` // that it is about
	By          string `json:"by"`
	Reason      string `json:"reason"`
}

// AlarmsSilenced keeps alarms from being sent until a time. The entry's number names it.
type AlarmsSilenced struct {
	Environment string    `json:"environment"`    // pattern
	Rule        string    `json:"rule,omitempty"` // empty: all
	Until       time.Time `json:"until"`
	By          string    `json:"by"`
	Reason      string    `json:"reason"`
}

// SilenceEnded ends a silence before its time.
type SilenceEnded struct {
	Silence uint64 `json:"silence"` // the entry that made it
	By      string `json:"by"`
}

// A Wave records what an entry releases, and how it is derived: the derivation's version and each release's chain digest, in the
// order in which they are signed.
type Wave struct {
	Derivation int          `json:"derivation"`
	Releases   []ReleaseRef `json:"releases"`
}

// A ReleaseRef names one release of a wave.
type ReleaseRef struct {
	Environment string `json:"environment"`
	Revision    uint64 `json:"revision"`
	Chain       Digest `json:"chain"`
}

// WaveReleased releases an approved change to some of its environments.
type WaveReleased struct {
	Change  string    `json:"change"`
	Number  int       `json:"number"` // of the wave, from 1
	Wave    Wave      `json:"wave"`
	LeftOut []LeftOut `json:"leftOut,omitempty"`
	Frozen  []Frozen  `json:"frozen,omitempty"` // environments that it has not reached yet, because a policy lets it wait
	// SourcesOnly are environments whose sources take the change's edits, and which get no release: nothing changes there.
	SourcesOnly []string `json:"sourcesOnly,omitempty"`
}

// LeftOut is an environment that a wave could not reach, and why.
type LeftOut struct {
	Environment string `json:"environment"`
	Reason      Reason `json:"reason"`
	Detail      string `json:"detail"`
}

// RollbackOrdered undoes changes: one inverse release per undone change and environment, in the order of the wave.
type RollbackOrdered struct {
	By     string   `json:"by"`
	Reason string   `json:"reason"`
	Undone []Undone `json:"undone"`
	Wave   Wave     `json:"wave"`
	// SourcesOnly are changes whose edits leave an environment's sources where they had no release.
	SourcesOnly []Undone `json:"sourcesOnly,omitempty"`
}

// Undone is one change undone in one environment; it stands at the index of its release in the wave.
type Undone struct {
	Environment string `json:"environment"`
	Change      string `json:"change"`
}

// TrustUpdated records a trust document and releases it to every environment.
type TrustUpdated struct {
	Document Trust `json:"document"`
	Wave     Wave  `json:"wave"`
}

// DeliveryRecorded gathers signed acks, and beats that stand for lost acks, with their stamps on the bus.
type DeliveryRecorded struct {
	Deliveries []Delivery `json:"deliveries"`
}

// A Delivery is one signed statement of an agent as it came from the bus. Exactly one of Ack and Beat is there; they are the
// signed bytes.
type Delivery struct {
	Environment string          `json:"environment"`
	Agent       string          `json:"agent"`
	Stamp       time.Time       `json:"stamp"` // the bus's
	Ack         json.RawMessage `json:"ack,omitempty"`
	Beat        json.RawMessage `json:"beat,omitempty"`
	Signature   string          `json:"signature"`
}
