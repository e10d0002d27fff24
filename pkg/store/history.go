package store

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// A Record is one applied release in the history, which begins with revision 1 and is all that is kept of what was accepted.
type Record struct {
	Revision uint64             `json:"revision"`
	Kind     events.ReleaseKind `json:"kind"`
	Change   string             `json:"change,omitempty"` // applied or undone
	Digest   events.Digest      `json:"digest"`           // of that change
	Inverse  events.Digest      `json:"inverse"`          // of the operations that undo it; only where it is applied
	Entry    uint64             `json:"entry"`
	Chain    events.Digest      `json:"chain"`
	State    events.Digest      `json:"state"`
	At       time.Time          `json:"at"` // of its checkpoint, in microseconds
}

func recordOf(s *fold.Step, at time.Time) Record {
	r := Record{Revision: s.Release.Revision, Kind: s.Release.Kind, Entry: s.Release.Entry, Chain: s.Chain, State: s.Release.State, At: at}
	switch {
	case s.Release.Change != nil:
		r.Change, r.Digest, r.Inverse = s.Release.Change.ID, s.Release.Change.Digest, s.Release.Change.Inverse
	case s.Release.Rollback != nil:
		r.Change, r.Digest = s.Release.Rollback.ID, s.Release.Rollback.Digest
	}
	return r
}

// encode is a record without its revision, which is its key: the digests, then numbers and texts with their lengths. An agent keeps
// one for every release for ever, and writes thousands at once when it catches up.
func (r *Record) encode() []byte {
	b := make([]byte, 0, 256)
	for _, d := range []events.Digest{r.Digest, r.Inverse, r.Chain, r.State} {
		b = append(b, d[:]...)
	}
	b = binary.AppendUvarint(b, r.Entry)
	b = binary.AppendVarint(b, r.At.UnixMicro())
	b = append(binary.AppendUvarint(b, uint64(len(r.Kind))), r.Kind...)
	return append(b, r.Change...)
}

func decodeRecord(revision uint64, b []byte) (Record, error) {
	r := Record{Revision: revision}
	for _, d := range []*events.Digest{&r.Digest, &r.Inverse, &r.Chain, &r.State} {
		b = b[copy(d[:], b):]
	}
	entry, n := binary.Uvarint(b)
	at, m := binary.Varint(b[max(n, 0):])
	b = b[max(n, 0)+max(m, 0):]
	kind, k := binary.Uvarint(b)
	if n <= 0 || m <= 0 || k <= 0 || kind > uint64(len(b)-k) {
		return r, errors.New("a record that is none")
	}
	b = b[k:]
	r.Entry, r.At, r.Kind, r.Change = entry, time.UnixMicro(at).UTC(), events.ReleaseKind(b[:kind]), string(b[kind:])
	return r, nil
}

// Record is one applied release; nil when the history does not hold the revision.
func (tx *Tx) Record(revision uint64) (*Record, error) {
	key := number(revision)
	b := tx.tx.Bucket(bucketHistory).Get(key)
	if b == nil {
		return nil, nil
	}
	r, err := tx.record(key, b)
	return &r, err
}

// History yields the applied releases from revision first on; it ends with the first error.
func (tx *Tx) History(first uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		c := tx.tx.Bucket(bucketHistory).Cursor()
		for key, b := c.Seek(number(first)); key != nil; key, b = c.Next() {
			if r, err := tx.record(key, b); !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func (tx *Tx) record(key, sealed []byte) (r Record, err error) {
	b, err := unseal(key, sealed)
	if err == nil && len(key) != 8 {
		err = errors.New("a key that is no revision")
	}
	if err == nil {
		r, err = decodeRecord(binary.BigEndian.Uint64(key), b)
	}
	if err != nil {
		return r, tx.corrupt("history: %w", err)
	}
	return r, nil
}
