package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// ReleaseKind is what a release delivers.
type ReleaseKind string

// The kinds of releases.
const (
	KindChange   ReleaseKind = "change"
	KindRollback ReleaseKind = "rollback"
	KindTrust    ReleaseKind = "trust"
)

// A Release is the data of a release.published event: one change, one rollback or one trust update for one environment.
type Release struct {
	Kind        ReleaseKind     `json:"kind"`
	Environment string          `json:"environment"`
	Revision    uint64          `json:"revision"`
	Previous    Digest          `json:"previous"` // chain digest of the revision before
	Ledger      string          `json:"ledger"`
	Entry       uint64          `json:"entry"` // the ledger entry that released it
	Derivation  int             `json:"derivation"`
	Change      *ReleasedChange `json:"change,omitempty"`     // KindChange
	Rollback    *Rollback       `json:"rollback,omitempty"`   // KindRollback
	Trust       *Trust          `json:"trust,omitempty"`      // KindTrust
	Operations  []Operation     `json:"operations,omitempty"` // KindChange
	Inverse     []Inverse       `json:"inverse,omitempty"`    // KindRollback
	State       Digest          `json:"state"`                // state digest after this release
}

// A ReleasedChange proves that the operations beside it are the ones approved for the environment: Leaf{ID, environment,
// Inverse, digest of the operations} is at Index of the Size leaves under Digest.
type ReleasedChange struct {
	ID        string     `json:"id"`
	Digest    Digest     `json:"digest"`
	Author    string     `json:"author"`
	Reason    string     `json:"reason"`
	Ticket    string     `json:"ticket,omitempty"`
	Inverse   Digest     `json:"inverse"`
	Index     uint64     `json:"index"`
	Size      uint64     `json:"size"`
	Path      []Digest   `json:"path"`
	Approvals []Approval `json:"approvals"`
	Proposal  *Envelope  `json:"proposal,omitempty"` // the author's signed statement, where approvals are signed
}

// A Rollback names the change that the inverse beside it undoes, and who ordered it.
type Rollback struct {
	ID     string `json:"id"`
	Digest Digest `json:"digest"`
	By     string `json:"by"`
	Reason string `json:"reason"`
}

// ReleaseID is the CloudEvents id of a release: the same in every rebuilt stream.
func ReleaseID(environment string, revision uint64) string {
	return environment + "." + strconv.FormatUint(revision, 10)
}

// EncodeRelease writes the payload of a release. Time is the entry's; traceparent may be empty.
func EncodeRelease(r Release, at time.Time, traceparent string) ([]byte, error) {
	_, payload, err := encodeRelease(r, at, traceparent)
	return payload, err
}

func encodeRelease(r Release, at time.Time, traceparent string) (Event, []byte, error) {
	w := writer{b: make([]byte, 0, 2048)}
	e := w.releaseEvent(&r, at, traceparent)
	data := len(w.b)
	w.release(&r)
	e.Data = w.b[data:len(w.b):len(w.b)]
	w.raw("}")
	if w.err != nil {
		return e, nil, w.err
	}
	return e, w.b, nil
}

// releaseEvent writes the event of a release up to its data.
func (w *writer) releaseEvent(r *Release, at time.Time, traceparent string) Event {
	at = Stamp(at)
	e := frame(TypeReleasePublished, ReleaseID(r.Environment, r.Revision), LedgerSource(r.Ledger), r.Environment, at)
	e.Sequence = sequence(r.Revision)
	e.PartitionKey = r.Environment
	switch {
	case r.Change != nil:
		e.CorrelationID = r.Change.ID
	case r.Rollback != nil:
		e.CorrelationID = r.Rollback.ID
	}
	e.CausationID = EntryID(r.Entry)
	e.TraceParent = traceparent
	e.RecordedTime = &at
	w.attributes(&e)
	return e
}

// DecodeRelease reads the payload of a release strictly: an unknown field or type is ReasonUpgradeNeeded, anything else that
// EncodeRelease would not have written is ReasonMalformed.
func DecodeRelease(payload []byte) (Release, Event, error) {
	if r, e, ok := readRelease(payload); ok {
		return r, e, nil
	}
	return decodeRelease(payload)
}

// decodeRelease is DecodeRelease for everything, and says what is wrong.
func decodeRelease(payload []byte) (Release, Event, error) {
	var e Event
	if err := decodeKnown(payload, &e); err != nil {
		return Release{}, e, err
	}
	if e.Type != TypeReleasePublished {
		return Release{}, e, Errorf(ReasonUpgradeNeeded, "the type %s is not known in a release; upgrade this program", clip(string(e.Type)))
	}
	var r Release
	if err := decodeChecked(e.Data, &r); err != nil {
		return Release{}, e, err
	}
	if err := r.check(); err != nil {
		return Release{}, e, err
	}
	again, err := EncodeRelease(r, e.Time, e.TraceParent)
	if err != nil {
		return Release{}, e, Errorf(ReasonMalformed, "%w", err)
	}
	if err := sameBytes(payload, again); err != nil {
		return Release{}, e, err
	}
	return r, e, nil
}

// readRelease is DecodeRelease for what nearly every payload is: the release of a change, as EncodeRelease writes it. Of anything
// else it only says that it is not that.
func readRelease(payload []byte) (r Release, e Event, ok bool) {
	text := reader{b: payload}
	at, traceparent := text.envelope()
	before, data := payload[:len(payload)-len(text.b)], text.b
	r = text.release()
	if text.skip("}"); text.bad || len(text.b) > 0 || r.check() != nil {
		return Release{}, Event{}, false
	}
	w := writer{b: make([]byte, 0, 512)}
	e = w.releaseEvent(&r, at, traceparent)
	e.Data = data[: len(data)-1 : len(data)-1]
	return r, e, w.err == nil && bytes.Equal(before, w.b)
}

// releaseParts says which parts a kind has: change and operations, rollback and inverse, trust.
var releaseParts = map[ReleaseKind][3]bool{KindChange: {true, false, false}, KindRollback: {false, true, false}, KindTrust: {false, false, true}}

func (r *Release) check() error {
	want, known := releaseParts[r.Kind]
	if !known {
		return Errorf(ReasonUpgradeNeeded, "the kind %q of a release is not known; upgrade this program", clip(string(r.Kind)))
	}
	if [3]bool{r.Change != nil, r.Rollback != nil, r.Trust != nil} != want ||
		[3]bool{len(r.Operations) > 0, len(r.Inverse) > 0, r.Trust != nil} != want {
		return Errorf(ReasonMalformed, "a %s release has other parts than its kind demands", r.Kind)
	}
	if err := CheckName(r.Environment); err != nil {
		return Errorf(ReasonMalformed, "release: %w", err)
	}
	if r.Revision == 0 {
		return Errorf(ReasonMalformed, "a release of %s without a revision", r.Environment)
	}
	for _, op := range r.Operations {
		if err := CheckOperation(op.Op, op.Key, op.Value); err != nil {
			return Errorf(ReasonMalformed, "release: %w", err)
		}
	}
	for _, op := range r.Inverse {
		if err := CheckOperation(op.Op, op.Key, op.Value); err != nil {
			return Errorf(ReasonMalformed, "release: %w", err)
		}
	}
	return nil
}

// CheckOperation says whether an operation, or an inverse, is one: a known verb on a resource, with a value exactly when it sets.
func CheckOperation(op, key string, value json.RawMessage) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if (op != OpSet && op != OpDelete) || (op == OpSet) != (value != nil) {
		return fmt.Errorf("%s: the operation %q with %d bytes of value", key, clip(op), len(value))
	}
	return nil
}

// PeekRelease reads where a payload claims to belong, without checking it: for dropping what is already known.
func PeekRelease(payload []byte) (environment string, revision uint64, previous Digest, err error) {
	head, data, found := bytes.Cut(payload, []byte(`,"data":`))
	if found && bytes.Contains(head, []byte(`,"type":"`+TypeReleasePublished+`",`)) {
		var quick Release
		text := reader{b: data}
		if text.place(&quick); !text.bad {
			return quick.Environment, quick.Revision, quick.Previous, nil
		}
	}
	var e struct {
		Type Type `json:"type"`
		Data struct {
			Environment string `json:"environment"`
			Revision    uint64 `json:"revision"`
			Previous    Digest `json:"previous"`
		} `json:"data"`
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		return "", 0, Digest{}, Errorf(ReasonMalformed, "release: %w", err)
	}
	if e.Type != TypeReleasePublished {
		return "", 0, Digest{}, Errorf(ReasonMalformed, "release: the type is %q", clip(string(e.Type)))
	}
	return e.Data.Environment, e.Data.Revision, e.Data.Previous, nil
}
