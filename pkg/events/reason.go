package events

import (
	"errors"
	"fmt"
	"strings"
)

// A Reason says why something is refused, failed or not in step. The set is closed: reasons are ack codes, metric labels and
// what CLI and API map to exit codes and statuses.
type Reason string

// Reasons of verification (permanent: the same bytes are refused again).
const (
	ReasonMalformed        Reason = "malformed"
	ReasonUpgradeNeeded    Reason = "upgrade-needed"
	ReasonSignature        Reason = "signature-invalid"
	ReasonWrongLedger      Reason = "wrong-ledger"
	ReasonWrongEnvironment Reason = "wrong-environment"
	ReasonRevisionGap      Reason = "revision-gap"
	ReasonChainBroken      Reason = "chain-broken"
	ReasonLeafPath         Reason = "leaf-path-invalid"
	ReasonApprovals        Reason = "approvals-missing"
	ReasonBaseMoved        Reason = "base-moved"
	ReasonAlreadyAccepted  Reason = "already-accepted"
	ReasonNotTheSetter     Reason = "not-the-setter"
	ReasonInverse          Reason = "inverse-mismatch"
	ReasonStateMismatch    Reason = "state-mismatch"
	ReasonTrust            Reason = "trust-invalid"
	ReasonRetired          Reason = "environment-retired"
	ReasonWithdrawn        Reason = "withdrawn"
)

// Reasons of an agent's own (see also the connectors' in internal/connector).
const (
	ReasonStartup         Reason = "starting"
	ReasonNoPulse         Reason = "no-pulse"
	ReasonHeadUnchecked   Reason = "head-unchecked"
	ReasonBusDown         Reason = "bus-unreachable"
	ReasonBusRefused      Reason = "bus-refused"
	ReasonBusSettings     Reason = "bus-settings"
	ReasonLedgerForked    Reason = "ledger-forked"
	ReasonLedgerTruncated Reason = "ledger-truncated"
	ReasonHistoryMissing  Reason = "history-missing"
	ReasonUnverified      Reason = "unverified-since-start"
	ReasonFirstContact    Reason = "first-contact"
	ReasonHeldBySteward   Reason = "held-by-steward"
	ReasonReadBack        Reason = "read-back-differs"
	ReasonSecret          Reason = "secret-unresolved"
	ReasonStore           Reason = "store-failed"
	ReasonUndo            Reason = "undo-failed"
	ReasonConnector       Reason = "connector-failed"
)

// ReasonDoubled is the publisher's, of an agent: two processes run with one enrolment.
const ReasonDoubled Reason = "agent-doubled"

// An Error is an error with its Reason.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Reason, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error with a formatted cause.
func Errorf(reason Reason, format string, args ...any) error {
	return &Error{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// ReasonOf is the reason of the first Error in err's chain, or "".
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// MessageOf is what an error says beside its reason, where the reason stands next to it.
func MessageOf(err error) string {
	return strings.TrimPrefix(err.Error(), string(ReasonOf(err))+": ")
}
