package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// LedgerInfo is what the bus says about the ledger, without a look at its entries.
type LedgerInfo struct {
	ID          string    // the ledger's UUID
	First, Last uint64    // sequences; Last 0: empty
	Messages    uint64    // fewer than First..Last holds: there are holes
	Created     time.Time // of the stream, by the bus
	Now         time.Time // the bus's clock
	Replicas    int       // of the stream
}

// LedgerEnd asks the bus how far the ledger goes. Without a LEDGER the error is ErrLedgerChanged.
func (c *Conn) LedgerEnd(ctx context.Context) (LedgerInfo, error) {
	info, err := c.streamInfo(ctx, events.StreamLedger)
	if err != nil {
		return LedgerInfo{}, ledgerMissing(err)
	}
	return ledgerInfo(info), nil
}

// ledgerMissing says what it means where a look at LEDGER found none.
func ledgerMissing(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%w: there is no stream %s: repair the ledger", ErrLedgerChanged, events.StreamLedger)
	}
	return err
}

func ledgerInfo(info *jetstream.StreamInfo) LedgerInfo {
	return LedgerInfo{
		ID:       info.Config.Metadata[ledgerIDKey],
		First:    info.State.FirstSeq,
		Last:     info.State.LastSeq,
		Messages: info.State.Msgs,
		Created:  info.Created,
		Now:      info.TimeStamp,
		Replicas: info.Config.Replicas,
	}
}

// Append appends a payload directly after the sequence expectedLast and returns its sequence. ErrConflict: something else is
// there. ErrUnavailable: not appended as far as could be seen; read the ledger before another attempt, which is safe because it
// expects the same end. Where ctx ends first, the outcome is unknown: give it one that outlives the append.
func (c *Conn) Append(ctx context.Context, payload []byte, expectedLast uint64) (sequence uint64, err error) {
	return c.append(ctx, outgoing(events.SubjectLedger, payload, ""), expectedLast)
}

func (c *Conn) append(ctx context.Context, entry *nats.Msg, expectedLast uint64) (sequence uint64, err error) {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	ack, err := c.js.PublishMsg(bounded, entry, jetstream.WithExpectStream(events.StreamLedger), jetstream.WithExpectLastSequence(expectedLast))
	if err == nil {
		return ack.Sequence, nil
	}
	if err = c.failed(ctx, "append to the ledger", err); !isWrongSequence(err) && !errors.Is(err, ErrUnavailable) {
		return 0, err
	}
	settling, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return c.settle(settling, events.StreamLedger, wanted{Sequence: expectedLast + 1}, entry.Data, err, time.Now().Add(settleInFlight))
}

// ReadLedger hands over the entries from a sequence on, up to the end as it is now, in order. A missing one is a *HoleError.
func (c *Conn) ReadLedger(ctx context.Context, from uint64, fn func(Stored) error) error {
	end, err := c.LedgerEnd(ctx)
	if err != nil || from > end.Last {
		return err
	}
	want := max(from, 1)
	err = c.readAll(ctx, reading{stream: events.StreamLedger, from: want, until: end.Last}, contiguous(&want, fn))
	if err == nil && want <= end.Last {
		err = &HoleError{want, end.Last + 1}
	}
	return err
}

// FollowLedger hands over the entries from a sequence on, and then every new one, until ctx ends; it survives reconnects. It ends
// with a *HoleError, or with ErrLedgerChanged where the stream was deleted, made anew or cut.
func (c *Conn) FollowLedger(ctx context.Context, from uint64, fn func(Stored) error) error {
	want := max(from, 1)
	var first *LedgerInfo
	return c.follow(ctx, events.StreamLedger, func(info *jetstream.StreamInfo) (reading, error) {
		if info == nil {
			return reading{}, fmt.Errorf("%w: there is no stream %s any more: repair the ledger", ErrLedgerChanged, events.StreamLedger)
		}
		now := ledgerInfo(info)
		if first == nil {
			first = &now
		}
		if now.ID != first.ID || !now.Created.Equal(first.Created) {
			return reading{}, fmt.Errorf("%w: %s was made %s and has the id %s, before %s and %s: repair the ledger",
				ErrLedgerChanged, events.StreamLedger, now.Created, now.ID, first.Created, first.ID)
		}
		if now.Last+1 < want {
			return reading{}, fmt.Errorf("%w: it ends at %d, but was read up to %d: repair the ledger", ErrLedgerChanged, now.Last, want-1)
		}
		return reading{stream: events.StreamLedger, from: want}, nil
	}, contiguous(&want, fn))
}

// contiguous passes on messages as long as their sequences have no gap.
func contiguous(want *uint64, fn func(Stored) error) func(message) error {
	return func(m message) error {
		if m.Sequence != *want {
			return &HoleError{*want, m.Sequence}
		}
		*want++
		return fn(m.Stored)
	}
}
