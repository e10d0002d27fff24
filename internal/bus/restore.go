package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// SalvageLedger hands over what is left of the ledger, in its order, whatever is missing between. Where there is no LEDGER, nothing
// is left.
func (c *Conn) SalvageLedger(ctx context.Context, fn func(Stored) error) error {
	info, err := c.streamInfo(ctx, events.StreamLedger)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil
	case err != nil:
		return err
	case info.State.Msgs == 0:
		return nil
	}
	r := reading{stream: events.StreamLedger, until: info.State.LastSeq}
	return c.readAll(ctx, r, func(m message) error { return fn(m.Stored) })
}

// CheckLedger says why LEDGER is not the stream that o asks for: it is missing (ErrLedgerChanged), of another ledger, or set
// differently (*SettingError). Without Replicas in o, those that it has are right.
func (c *Conn) CheckLedger(ctx context.Context, o StreamOptions) error {
	info, err := c.streamInfo(ctx, events.StreamLedger)
	if err != nil {
		return ledgerMissing(err)
	}
	o.Replicas = cmp.Or(o.Replicas, info.Config.Replicas)
	if id := info.Config.Metadata[ledgerIDKey]; id != o.LedgerID {
		return &SettingError{events.StreamLedger, "ledger id", o.LedgerID, cmp.Or(id, "none")}
	}
	return compareSettings(streams(o)[0], info.Config)
}

// RestoreLedger replaces LEDGER, whatever it holds, by one that holds the entries, the first at sequence 1. Each keeps its stamp: it
// travels in the header Lockstep-First-Stamp. There are at least as many replicas as before. ErrConflict says that somebody else
// makes the stream too, or appends to the new one. After an error the ledger is incomplete.
func (c *Conn) RestoreLedger(ctx context.Context, o StreamOptions, entries []Stored) error {
	if err := c.opts.Fault.Step(fault.LedgerMadeAnew, func() error { return c.emptyLedger(ctx, o) }); err != nil {
		return err
	}
	var last uint64
	return fault.Parts(c.opts.Fault, fault.EntriesRestored, entries, func(e Stored) error {
		m := outgoing(events.SubjectLedger, e.Payload, "")
		m.Header.Set(events.FirstStampHeader, e.Stamp.UTC().Format(time.RFC3339Nano))
		_, err := c.append(ctx, m, last)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = fmt.Errorf("%w: %w", ErrConflict, err) // somebody's stream went away with the files that it was made over
		}
		if err != nil {
			return fmt.Errorf("write entry %d again: %w", last+1, err)
		}
		last++
		return nil
	})
}

// remakes bounds how often a LEDGER is deleted that somebody else made meanwhile: by a publisher that is just beginning, over the files
// that the server is still deleting, so that it holds old entries or goes on after their numbers.
const remakes = 10

// emptyLedger makes LEDGER anew, without entries.
func (c *Conn) emptyLedger(ctx context.Context, o StreamOptions) error {
	for range remakes {
		info, err := c.streamInfo(ctx, events.StreamLedger)
		if err == nil {
			o.Replicas = max(o.Replicas, info.Config.Replicas)
			bounded, cancel := c.bounded(ctx)
			err = c.js.DeleteStream(bounded, events.StreamLedger)
			cancel()
		}
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return c.failed(ctx, "delete the old "+events.StreamLedger, err)
		}
		if err := c.opts.Fault.At(fault.LedgerMadeAnew, fault.Torn); err != nil {
			return err
		}
		o.Replicas = cmp.Or(o.Replicas, c.usualReplicas())
		made, err := c.ensureStream(ctx, streams(o)[0])
		retry := errors.As(err, new(*SettingError)) || errors.As(err, new(*jetstream.APIError)) || errors.Is(err, ErrLedgerChanged)
		if err != nil && !retry {
			return err
		}
		if err == nil && made.State.LastSeq == 0 && made.Config.Metadata[ledgerIDKey] == o.LedgerID {
			return nil
		}
	}
	return fmt.Errorf("%w: somebody makes %s again and again: stop all publishers of this bus", ErrConflict, events.StreamLedger)
}

// firstStamp is when the bus stored a message, or first stored it where that is an entry of a repaired ledger.
func firstStamp(stream string, m jetstream.Msg, meta *jetstream.MsgMetadata) time.Time {
	if stream == events.StreamLedger {
		if first, err := time.Parse(time.RFC3339Nano, m.Headers().Get(events.FirstStampHeader)); err == nil {
			return first
		}
	}
	return meta.Timestamp
}
