package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What callers decide on. Errors of this package wrap one of them where there is something to decide.
var (
	// ErrUnavailable: the bus could not be reached or did not answer. After a write the outcome is unknown: read, then decide anew.
	ErrUnavailable = errors.New("bus unavailable")
	// ErrRefused: the bus is there, and does not let the client in.
	ErrRefused = errors.New("the bus refuses the credentials")
	// ErrConflict: another message has the place in the stream that this one was made for.
	ErrConflict = errors.New("another writer came first")
	// ErrHole: messages are missing between two that are there.
	ErrHole = errors.New("hole in the ledger")
	// ErrLedgerChanged: the ledger stream is not the one that was read before: deleted, made anew, or cut.
	ErrLedgerChanged = errors.New("ledger changed under its reader")
	// ErrNoStream: the stream that was to be read is not there.
	ErrNoStream = errors.New("no such stream")
	// ErrForked: a validly signed release contradicts the chain up to the checkpoint.
	ErrForked = errors.New("ledger forked")
	// ErrHistoryMissing: the bus does not hold the revision that comes next.
	ErrHistoryMissing = errors.New("history missing")
	// ErrForeign: the newest message of an environment is not signed by a publisher that the reader knows.
	ErrForeign = errors.New("foreign message")
	// ErrDurabilityUnproven: nothing shows that an append survives power loss.
	ErrDurabilityUnproven = errors.New("durability unproven")
	// ErrLeaseLost is the cause of the context of a holder whose lease has ended.
	ErrLeaseLost = errors.New("lease lost")
	// ErrClosed: the connection or feed was closed by its owner.
	ErrClosed = errors.New("closed")
)

// A HoleError says which sequences are missing: Want up to, not including, Have. It is an ErrHole.
type HoleError struct{ Want, Have uint64 }

func (e *HoleError) Error() string {
	return fmt.Sprintf("%v: sequence %d is missing, %d comes next: repair the ledger", ErrHole, e.Want, e.Have)
}

func (e *HoleError) Unwrap() error { return ErrHole }

// failed says what failed, and whether the bus was to blame. The caller's own cancellation stays what it is.
func failed(ctx context.Context, what string, err error) error {
	var api *jetstream.APIError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case errors.Is(err, nats.ErrReconnectBufExceeded): // nothing is kept for later while the bus is away
		return fmt.Errorf("%s: %w: the bus does not answer", what, ErrUnavailable)
	case errors.Is(err, ErrUnavailable) || errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%s: %w", what, err)
	case errors.As(err, &api) && api.Code < 500:
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}

func isWrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
