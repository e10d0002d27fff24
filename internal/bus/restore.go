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
	var made time.Time
	err := c.opts.Fault.Step(fault.LedgerMadeAnew, func() (err error) {
		made, err = c.emptyLedger(ctx, o)
		return err
	})
	if err != nil {
		return err
	}
	var last uint64
	err = fault.Parts(c.opts.Fault, fault.EntriesRestored, entries, func(e Stored) error {
		m := outgoing(events.SubjectLedger, e.Payload, "")
		m.Header.Set(events.FirstStampHeader, e.Stamp.UTC().Format(time.RFC3339Nano))
		if _, err := c.append(ctx, m, last); err != nil {
			return fmt.Errorf("write entry %d again: %w", last+1, gone(err))
		}
		last++
		return nil
	})
	if err != nil {
		return err
	}
	end, err := c.LedgerEnd(ctx)
	if err != nil {
		return gone(err)
	}
	if end.ID != o.LedgerID || !end.Created.Equal(made) || end.Last != last || end.Messages != last {
		return somebodyMakesIt()
	}
	return nil
}

// gone says what it means that LEDGER is not there any more right after it was made. A server that several ask for one stream at once,
// while it deletes another, makes it twice: both take what is written, one of them is found, or none.
func gone(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, ErrLedgerChanged) {
		return fmt.Errorf("%w: %w", somebodyMakesIt(), err)
	}
	return err
}

// remakes bounds how often a LEDGER is deleted that somebody else made meanwhile: by a publisher that is just beginning, over the files
// that the server is still deleting, so that it holds old entries or goes on after their numbers.
const remakes = 10

// emptyLedger makes LEDGER anew, without entries, and says when the bus made it.
func (c *Conn) emptyLedger(ctx context.Context, o StreamOptions) (created time.Time, err error) {
	for range remakes {
		info, err := c.streamInfo(ctx, events.StreamLedger)
		if err == nil {
			o.Replicas = max(o.Replicas, info.Config.Replicas)
			bounded, cancel := c.bounded(ctx)
			err = c.js.DeleteStream(bounded, events.StreamLedger)
			cancel()
		}
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return time.Time{}, c.failed(ctx, "delete the old "+events.StreamLedger, err)
		}
		if err := c.opts.Fault.At(fault.LedgerMadeAnew, fault.Torn); err != nil {
			return time.Time{}, err
		}
		o.Replicas = cmp.Or(o.Replicas, c.usualReplicas())
		made, err := c.ensureStream(ctx, streams(o)[0])
		retry := errors.As(err, new(*SettingError)) || errors.As(err, new(*jetstream.APIError)) || errors.Is(err, ErrLedgerChanged)
		if err != nil && !retry {
			return time.Time{}, err
		}
		if err == nil && made.State.LastSeq == 0 && made.Config.Metadata[ledgerIDKey] == o.LedgerID {
			return made.Created, nil
		}
	}
	return time.Time{}, somebodyMakesIt()
}

func somebodyMakesIt() error {
	return fmt.Errorf("%w: somebody else makes %s too: stop all publishers of this bus, restart the bus, and try again", ErrConflict, events.StreamLedger)
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
