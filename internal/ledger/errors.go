package ledger

import (
	"errors"
	"fmt"
)

// A Kind says what sort of refusal an Error is; API and CLI map it to statuses and exit codes.
type Kind string

// The kinds of refusals.
const (
	KindInvalid  Kind = "invalid"   // the command makes no sense, whatever the state
	KindNotFound Kind = "not-found" // it names something that is not there
	KindConflict Kind = "conflict"  // the state moved, or is not one in which it can be done
	KindDenied   Kind = "denied"    // this person may not
)

// An Error is a refused command: what, why, and what to do next.
type Error struct {
	Kind    Kind
	Message string
	Next    string // what to do; may be empty
	Cause   error  // may be nil
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

func (e *Error) Error() string {
	if e.Next == "" {
		return e.Message
	}
	return e.Message + "; " + e.Next
}

func refuse(kind Kind, next, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Next: next}
}

// KindOf is the kind of the first Error in err's chain, or "".
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// Errors of Apply: the ledger is not one that this program may go on with.
var (
	// ErrBroken: numbers, hashes or ledger id do not fit the entry before.
	ErrBroken = errors.New("the ledger's chain is broken")
	// ErrForged: an entry says what nobody signed who might.
	ErrForged = errors.New("the ledger holds what nobody signed who might")
	// ErrDerivation: a release derived from the ledger has another digest than the ledger recorded.
	ErrDerivation = errors.New("a release cannot be derived as it was recorded")
)
