package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lockstep-dev/lockstep/internal/config"
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
	if _, ok := errors.AsType[*config.Error](err); ok {
		return ledger.KindInvalid
	}
	if _, ok := errors.AsType[*UnavailableError](err); ok || errors.Is(err, context.DeadlineExceeded) {
		return KindUnavailable
	}
	return KindInternal
}

// ExitCode is what a program that ends with the error tells its shell.
func ExitCode(err error) int { return kinds[KindOf(err)].exit }

// A Problem is an error as the API tells it (RFC 9457).
type Problem struct {
	Title  string        `json:"title"`
	Status int           `json:"status"`
	Detail string        `json:"detail"`
	Kind   ledger.Kind   `json:"kind" doc:"invalid, not-found, conflict, denied, unavailable or internal"`
	Reason events.Reason `json:"reason,omitempty"`
	Next   string        `json:"next,omitempty" doc:"what to do"`
}

// Error, GetStatus and ContentType are what huma asks of an error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the media type of a problem.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders adds what such a status goes with.
func (p *Problem) GetHeaders() http.Header {
	if p.Status == http.StatusUnauthorized {
		return http.Header{"Www-Authenticate": {`DSSE realm="lockstep"`}} // a statement beside the command
	}
	return nil
}

// ofStatements are reasons of commands that another statement mends.
var ofStatements = []events.Reason{ledger.ReasonUnsigned, ledger.ReasonStatement}

// problem is how the API tells an error.
func problem(err error) *Problem {
	kind := KindOf(err)
	p := &Problem{Status: kinds[kind].status, Kind: kind, Detail: err.Error(), Reason: events.ReasonOf(err)}
	if slices.Contains(ofStatements, p.Reason) {
		p.Status = http.StatusUnauthorized
	}
	p.Title = http.StatusText(p.Status)
	if refused, ok := errors.AsType[*ledger.Error](err); ok {
		p.Next = refused.Next
	}
	if unavailable, ok := errors.AsType[*UnavailableError](err); ok {
		p.Next = unavailable.Next
		p.Reason = unavailable.Reason
	}
	if p.Next != "" {
		p.Detail = strings.TrimSuffix(p.Detail, "; "+p.Next)
	}
	return p
}

// Err is the typed error that a problem tells of: what the backend returned, for whoever asked over HTTP.
func (p *Problem) Err() error {
	switch p.Kind {
	case KindUnavailable:
		return &UnavailableError{Reason: p.Reason, Message: p.Detail, Next: p.Next}
	case ledger.KindInvalid, ledger.KindNotFound, ledger.KindConflict, ledger.KindDenied:
		err := error(&ledger.Error{Kind: p.Kind, Message: p.Detail, Next: p.Next})
		if p.Reason != "" {
			return &events.Error{Reason: p.Reason, Err: err}
		}
		return err
	}
	return errors.New("the publisher failed: " + p.Detail)
}

// huma has one constructor of errors for all of a program, and its own complaints about requests come from there.
func init() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		for _, err := range errs {
			if err == nil {
				continue
			}
			text := err.Error()
			if detail := (*huma.ErrorDetail)(nil); errors.As(err, &detail) {
				text = detail.Location + ": " + detail.Message // without the value
			}
			message += "; " + text
		}
		p := &Problem{Status: status, Title: http.StatusText(status), Detail: message, Kind: ledger.KindInvalid}
		if status >= http.StatusInternalServerError {
			p.Kind = KindInternal
		}
		return p
	}
}
