package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

var (
	bucketMeta      = []byte("meta")
	bucketResources = []byte("resources") // by key
	bucketHistory   = []byte("history")   // by revision, big endian
	bucketOutbox    = []byte("outbox")    // by ack number, big endian
	buckets         = [][]byte{bucketMeta, bucketResources, bucketHistory, bucketOutbox}

	keySchema     = []byte("schema")
	keyIdentity   = []byte("identity")
	keyCheckpoint = []byte("checkpoint")
	keyReleased   = []byte("released") // absent in a file that an older program wrote
	keyTrust      = []byte("trust")
	keyNewest     = []byte("newest-trust")
	keyIntent     = []byte("intent")
	keyHold       = []byte("hold")
	keyFailure    = []byte("failure")
	keyTip        = []byte("tip")
	keySeal       = []byte("seal")
	keyAcks       = []byte("acks")
)

// A Tx is one transaction; it must not be used after the function that it was given to has returned.
type Tx struct{ tx *bbolt.Tx }

// initialise makes the buckets of a new file.
func (tx *Tx) initialise(id Identity) error {
	for _, name := range buckets {
		if _, err := tx.tx.CreateBucket(name); err != nil {
			return err
		}
	}
	if err := tx.tx.Bucket(bucketMeta).Put(keySchema, []byte(strconv.Itoa(schema))); err != nil {
		return err
	}
	return put(tx, keyIdentity, &id)
}

func (tx *Tx) identity() (Identity, error) {
	meta := tx.tx.Bucket(bucketMeta)
	if meta == nil {
		return Identity{}, tx.corrupt("it holds no agent's state")
	}
	version, err := strconv.Atoi(string(meta.Get(keySchema)))
	if err != nil {
		return Identity{}, tx.corrupt("schema version: %w", err)
	}
	if version < schema {
		return Identity{}, tx.corrupt("schema %d, this program knows %d", version, schema)
	}
	if version > schema {
		return Identity{}, fmt.Errorf("%s: %w: schema %d, this program knows %d; use the newer program", tx.tx.DB().Path(), ErrNewer, version, schema)
	}
	id, err := get[Identity](tx, keyIdentity)
	if id == nil && err == nil {
		err = tx.corrupt("it names no agent")
	}
	if err != nil {
		return Identity{}, err
	}
	return *id, nil
}

// Checkpoint is the newest one; nil before the first.
func (tx *Tx) Checkpoint() (*Checkpoint, error) { return get[Checkpoint](tx, keyCheckpoint) }

// Intent is the apply that was under way; nil when there is none.
func (tx *Tx) Intent() (*Intent, error) { return get[Intent](tx, keyIntent) }

// SetIntent records an apply before it begins; nil clears it.
func (tx *Tx) SetIntent(i *Intent) error { return put(tx, keyIntent, i) }

// Hold is the steward's; nil when there is none.
func (tx *Tx) Hold() (*Hold, error) { return get[Hold](tx, keyHold) }

// SetHold records a hold; nil resumes.
func (tx *Tx) SetHold(h *Hold) error { return put(tx, keyHold, h) }

// Failure is what keeps the agent at its checkpoint; nil when nothing does.
func (tx *Tx) Failure() (*Failure, error) { return get[Failure](tx, keyFailure) }

// SetFailure records a failure; nil clears it.
func (tx *Tx) SetFailure(f *Failure) error { return put(tx, keyFailure, f) }

// Tip is the newest pulse that was heard; nil before the first.
func (tx *Tx) Tip() (*Tip, error) { return get[Tip](tx, keyTip) }

// SetTip records the newest pulse.
func (tx *Tx) SetTip(t *Tip) error { return put(tx, keyTip, t) }

// Seal is the newest seal that was verified; nil before the first.
func (tx *Tx) Seal() (*Seal, error) { return get[Seal](tx, keySeal) }

// SetSeal records a verified seal.
func (tx *Tx) SetSeal(s *Seal) error { return put(tx, keySeal, s) }

// NewestTrust is the newest trust document that was verified, which can be ahead of the checkpoint; nil before the first.
func (tx *Tx) NewestTrust() (*events.Trust, error) { return get[events.Trust](tx, keyNewest) }

// SetNewestTrust records a verified trust document.
func (tx *Tx) SetNewestTrust(t *events.Trust) error { return put(tx, keyNewest, t) }

// Enqueue gives an ack its number and keeps it until Taken.
func (tx *Tx) Enqueue(a events.Ack) (events.Ack, error) {
	last, err := tx.LastAck()
	if err != nil {
		return a, err
	}
	a.Number = last + 1
	if err := put(tx, keyAcks, &a.Number); err != nil {
		return a, err
	}
	return a, write(tx.tx.Bucket(bucketOutbox), number(a.Number), a)
}

// LastAck is the number of the newest ack that was enqueued; 0 before the first.
func (tx *Tx) LastAck() (uint64, error) {
	n, err := get[uint64](tx, keyAcks)
	if n == nil {
		return 0, err
	}
	return *n, err
}

// Taken removes acks that the bus has stored.
func (tx *Tx) Taken(numbers ...uint64) error {
	for _, n := range numbers {
		if err := tx.tx.Bucket(bucketOutbox).Delete(number(n)); err != nil {
			return err
		}
	}
	return nil
}

// Outbox are the acks that the bus has not stored, oldest first.
func (tx *Tx) Outbox() ([]events.Ack, error) {
	var acks []events.Ack
	err := tx.tx.Bucket(bucketOutbox).ForEach(func(k, b []byte) error {
		var a events.Ack
		if err := read(k, b, &a); err != nil {
			return tx.corrupt("outbox: %w", err)
		}
		acks = append(acks, a)
		return nil
	})
	return acks, err
}

func (tx *Tx) corrupt(format string, args ...any) error {
	return corrupt(tx.tx.DB().Path(), fmt.Errorf(format, args...))
}

// get reads one of meta's records; nil when it is not there.
func get[T any](tx *Tx, key []byte) (*T, error) {
	b := tx.tx.Bucket(bucketMeta).Get(key)
	if b == nil {
		return nil, nil
	}
	v := new(T)
	if err := read(key, b, v); err != nil {
		return nil, tx.corrupt("%s: %w", key, err)
	}
	return v, nil
}

// put writes one of meta's records; nil removes it.
func put[T any](tx *Tx, key []byte, v *T) error {
	meta := tx.tx.Bucket(bucketMeta)
	if v == nil {
		return meta.Delete(key)
	}
	return write(meta, key, v)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers a record's key too: bbolt has none for data, and a flipped bit must not become somebody's setter.
func checksum(key, text []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, text)
}

// write stores v as JSON behind its checksum.
func write(b *bbolt.Bucket, key []byte, v any) error {
	text, err := events.Encode(v)
	if err != nil {
		return err
	}
	return b.Put(key, seal(key, text))
}

// seal puts the checksum before a record.
func seal(key, content []byte) []byte {
	sealed := binary.BigEndian.AppendUint32(make([]byte, 0, crc32.Size+len(content)), checksum(key, content))
	return append(sealed, content...)
}

func read(key, record []byte, v any) error {
	text, err := unseal(key, record)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// unseal is what seal sealed, where the checksum is right.
func unseal(key, record []byte) ([]byte, error) {
	if len(record) < crc32.Size || binary.BigEndian.Uint32(record) != checksum(key, record[crc32.Size:]) {
		return nil, errors.New("a record is not as it was written")
	}
	return record[crc32.Size:], nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
