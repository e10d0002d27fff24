package connector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"golang.org/x/sys/unix"
)

// The reasons of connectors. The set is closed; each is an ack's code and a metric's label.
const (
	ReasonUnreadable       events.Reason = "instance-unreadable" // what is there cannot be read or understood
	ReasonValueUnsupported events.Reason = "value-unsupported"   // the instance cannot hold this key or value
	ReasonNoRoute          events.Reason = "no-connector"        // no connector takes the key
	ReasonWriteFailed      events.Reason = "write-failed"
	ReasonDiskFull         events.Reason = "disk-full"
	ReasonReloadFailed     events.Reason = "reload-failed"
	ReasonPathEscapes      events.Reason = "path-escapes"   // a path leaves the connector's root
	ReasonTimeout          events.Reason = "timeout"        // also: the caller gave up
	ReasonExecFailed       events.Reason = "exec-failed"    // a program failed, or broke its protocol
	ReasonForeignChange    events.Reason = "foreign-change" // somebody else changed it at the same time
	ReasonPreImageLost     events.Reason = "pre-image-lost" // there is nothing to put back from
)

// ErrForeign is in the chain of every error that says: a unit holds something that neither we nor those before us put there.
var ErrForeign = errors.New("changed by somebody else")

// An Error is a connector's error. A permanent one comes again with the same values and the same instance; any other is worth a retry.
type Error struct {
	Reason    events.Reason
	Permanent bool
	Err       error // what and where, without values
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Reason, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Permanent is an Error that only a change of values, instance or configuration can cure.
func Permanent(reason events.Reason, format string, args ...any) error {
	return &Error{Reason: reason, Permanent: true, Err: fmt.Errorf(format, args...)}
}

// Transient is an Error worth a retry.
func Transient(reason events.Reason, format string, args ...any) error {
	return &Error{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Failed is an Error with the reason that the operating system's error gives (disk-full, timeout), else with the given one. A full
// disk, a timeout and an I/O error are transient; missing permission, a missing directory and a read-only disk are permanent.
func Failed(otherwise events.Reason, err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return &Error{Reason: ReasonDiskFull, Err: err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Reason: ReasonTimeout, Err: err}
	}
	permanent := errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS)
	return &Error{Reason: otherwise, Permanent: permanent, Err: err}
}

// AsError is the first Error in err's chain. An error that is none of ours counts as a transient one with events.ReasonConnector;
// nil gives nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Reason: events.ReasonConnector, Err: err}
}
