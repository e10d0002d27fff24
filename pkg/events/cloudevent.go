package events

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Type is a CloudEvents type: dev.lockstep.<noun>.<past verb>.v1.
type Type string

// Types of the events in ledger entries.
const (
	TypeContentStored      Type = "dev.lockstep.content.stored.v1"
	TypeChangeProposed     Type = "dev.lockstep.change.proposed.v1"
	TypeChangeRevised      Type = "dev.lockstep.change.revised.v1"
	TypeChangeApproved     Type = "dev.lockstep.change.approved.v1"
	TypeChangeRejected     Type = "dev.lockstep.change.rejected.v1"
	TypeChangeWithdrawn    Type = "dev.lockstep.change.withdrawn.v1"
	TypeApprovalGiven      Type = "dev.lockstep.approval.given.v1"
	TypeEnvironmentAdded   Type = "dev.lockstep.environment.added.v1"
	TypeEnvironmentUpdated Type = "dev.lockstep.environment.updated.v1"
	TypeEnvironmentRetired Type = "dev.lockstep.environment.retired.v1"
	TypeAgentEnrolled      Type = "dev.lockstep.agent.enrolled.v1"
	TypeAgentRevoked       Type = "dev.lockstep.agent.revoked.v1"
	TypeRolloutStarted     Type = "dev.lockstep.rollout.started.v1"
	TypeWaveReleased       Type = "dev.lockstep.rollout.wave-released.v1"
	TypeRolloutCompleted   Type = "dev.lockstep.rollout.completed.v1"
	TypeRolloutPaused      Type = "dev.lockstep.rollout.paused.v1"
	TypeRolloutResumed     Type = "dev.lockstep.rollout.resumed.v1"
	TypeRollbackOrdered    Type = "dev.lockstep.rollback.ordered.v1"
	TypeBreakGlassUsed     Type = "dev.lockstep.breakglass.used.v1"
	TypeBreakGlassReviewed Type = "dev.lockstep.breakglass.reviewed.v1"
	TypeAlarmAcknowledged  Type = "dev.lockstep.alarm.acknowledged.v1"
	TypeAlarmsSilenced     Type = "dev.lockstep.alarm.silenced.v1"
	TypeSilenceEnded       Type = "dev.lockstep.alarm.unsilenced.v1"
	TypeDeliveryRecorded   Type = "dev.lockstep.delivery.recorded.v1"
	TypeTrustUpdated       Type = "dev.lockstep.trust.updated.v1"
	TypeHistoryRecovered   Type = "dev.lockstep.history.recovered.v1"
)

// Types of the events on the bus.
const (
	TypeReleasePublished    Type = "dev.lockstep.release.published.v1"
	TypeReleaseAcknowledged Type = "dev.lockstep.release.acknowledged.v1"
	TypePublisherPulse      Type = "dev.lockstep.publisher.pulse.v1"
	TypeAgentBeat           Type = "dev.lockstep.agent.beat.v1"
)

// An Event is a CloudEvent 1.0 in structured JSON; the field order is the payloads' field order.
type Event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            Type            `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	DataSchema      string          `json:"dataschema,omitempty"`
	Sequence        string          `json:"sequence,omitempty"`      // the revision, zero-padded to 20 digits
	PartitionKey    string          `json:"partitionkey,omitempty"`  // the environment
	CorrelationID   string          `json:"correlationid,omitempty"` // the change
	CausationID     string          `json:"causationid,omitempty"`   // the ledger event, or the release, that led to this one
	TraceParent     string          `json:"traceparent,omitempty"`   // W3C trace context of the entry
	RecordedTime    *time.Time      `json:"recordedtime,omitempty"`  // the entry's time
	Data            json.RawMessage `json:"data"`
}

// newEvent fills what every event has alike and encodes the data.
func newEvent(t Type, id, source, subject string, at time.Time, data any) (Event, error) {
	e := frame(t, id, source, subject, at)
	var err error
	e.Data, err = Encode(data)
	return e, err
}

// frame fills what every event has alike.
func frame(t Type, id, source, subject string, at time.Time) Event {
	return Event{
		SpecVersion: "1.0", ID: id, Source: source, Type: t, Subject: subject, Time: Stamp(at),
		DataContentType: "application/json", DataSchema: SchemaURI(t),
	}
}

// encode is Encode for an event with encoded data.
func (e *Event) encode() ([]byte, error) {
	w := writer{b: make([]byte, 0, len(e.Data)+1024)}
	w.event(e)
	return w.b, w.err
}

// SchemaURI names the JSON Schema of a type's data.
func SchemaURI(t Type) string { return "https://lockstep.dev/schemas/" + string(t) + ".json" }

// LedgerSource is the CloudEvents source of what a ledger holds and of the releases derived from it.
func LedgerSource(ledger string) string { return "/ledgers/" + ledger }

// AgentSource is the CloudEvents source of what an agent says.
func AgentSource(environment, agent string) string {
	return "/environments/" + environment + "/agents/" + agent
}

// Stamp is t as payloads write it: UTC, microseconds.
func Stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func sequence(revision uint64) string {
	digits := strconv.FormatUint(revision, 10)
	return "00000000000000000000"[len(digits):] + digits
}

// readTolerant reads the data of a CloudEvent of the wanted type with the CloudEvents SDK; unknown attributes and fields are
// ignored. Errors have ReasonMalformed.
func readTolerant(payload []byte, want Type, data any) error {
	if err := CheckJSON(payload); err != nil {
		return Errorf(ReasonMalformed, "%w", err)
	}
	var e event.Event
	if err := json.Unmarshal(payload, &e); err != nil {
		return Errorf(ReasonMalformed, "%w", err)
	}
	if err := e.Validate(); err != nil {
		return Errorf(ReasonMalformed, "%w", err)
	}
	if e.Type() != string(want) {
		return Errorf(ReasonMalformed, "the type is %s, want %s", clip(e.Type()), want)
	}
	if err := json.Unmarshal(e.Data(), data); err != nil {
		return Errorf(ReasonMalformed, "data of %s: %w", want, err)
	}
	return nil
}
