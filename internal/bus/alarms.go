package bus

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	alarmsKey = "publisher"
	maxAlarms = 64 << 20 // what publishers keep of alarms, unpacked
)

// Alarms is what publishers keep of what they tell, and its revision; nothing and 0 before anything was kept.
func (c *Conn) Alarms(ctx context.Context) (text []byte, revision uint64, err error) {
	kv, err := c.alarms(ctx)
	if err != nil {
		return nil, 0, err
	}
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	entry, err := kv.Get(bounded, alarmsKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, c.failed(ctx, "read what is kept of alarms", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(entry.Value()))
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(r, maxAlarms))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("what is kept of alarms in the bucket %s cannot be read: %w", events.BucketAlarms, err)
	}
	return text, entry.Revision(), nil
}

// KeepAlarms keeps what follows on a revision, and returns the new one. Where another publisher kept something since, the error is
// ErrConflict.
func (c *Conn) KeepAlarms(ctx context.Context, text []byte, revision uint64) (uint64, error) {
	kv, err := c.alarms(ctx)
	if err != nil {
		return 0, err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(text) // a buffer takes everything
	_ = w.Close()
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	kept, err := kv.Update(bounded, alarmsKey, packed.Bytes(), revision)
	switch {
	case isWrongSequence(err) || errors.Is(err, jetstream.ErrKeyExists):
		return 0, fmt.Errorf("keep what is known of alarms: %w", ErrConflict)
	case err != nil:
		return 0, c.failed(ctx, "keep what is known of alarms", err)
	}
	return kept, nil
}

// alarms is the bucket, which is made where it is missing.
func (c *Conn) alarms(ctx context.Context) (jetstream.KeyValue, error) {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	kv, err := c.js.KeyValue(bounded, events.BucketAlarms)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		if err != nil {
			err = c.failed(ctx, "open the bucket "+events.BucketAlarms, err)
		}
		return kv, err
	}
	ledger, err := c.streamInfo(ctx, events.StreamLedger)
	if err != nil {
		return nil, err
	}
	kv, err = c.js.CreateKeyValue(bounded, jetstream.KeyValueConfig{Bucket: events.BucketAlarms, History: 1, Storage: jetstream.FileStorage, Replicas: ledger.Config.Replicas})
	if errors.Is(err, jetstream.ErrBucketExists) { // another publisher was faster
		kv, err = c.js.KeyValue(bounded, events.BucketAlarms)
	}
	if err != nil {
		return nil, c.failed(ctx, "make the bucket "+events.BucketAlarms, err)
	}
	return kv, nil
}
