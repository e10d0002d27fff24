package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Kinds of errors beside those of internal/ledger.
const (
	KindUnavailable ledger.Kind = "unavailable" // the publisher cannot do it now: bus gone, ledger read-only, no publisher there
	KindInternal    ledger.Kind = "internal"    // a fault of ours
)

// kinds is the one table of what a kind of error is to HTTP and to the shell.
var kinds = map[ledger.Kind]struct{ status, exit int }{
	ledger.KindInvalid:  {http.StatusBadRequest, 5},
	ledger.KindNotFound: {http.StatusNotFound, 1},
	ledger.KindConflict: {http.StatusConflict, 8},
	ledger.KindDenied:   {http.StatusForbidden, 4},
	KindUnavailable:     {http.StatusServiceUnavailable, 9},
	KindInternal:        {http.StatusInternalServerError, 1},
}

// An UnavailableError says that the publisher cannot do something now and could later.
type UnavailableError struct {
	Reason  events.Reason // may be empty
	Message string
	Next    string // what to do; may be empty
}

func (e *UnavailableError) Error() string {
	if e.Next == "" {
		return e.Message
	}
	return e.Message + "; " + e.Next
}

// KindOf is the kind of an error; KindInternal for those of which nothing is known.
func KindOf(err error) ledger.Kind {
	if kind := ledger.KindOf(err); kind != "" {
		return kind
	}
	if _, ok := errors.AsType[*UnavailableError](err); ok || errors.Is(err, context.DeadlineExceeded) {
		return KindUnavailable
	}
	return KindInternal
}

// ExitCode is what a program that ends with the error tells its shell.
func ExitCode(err error) int { return kinds[KindOf(err)].exit }
