package events

import (
	"fmt"
	"slices"
	"strings"
)

// Streams, subjects and headers on the bus (ARCHITECTURE.md, Bus).
const (
	StreamLedger   = "LEDGER"
	StreamReleases = "RELEASES"
	StreamAcks     = "ACKS"
	StreamBeats    = "BEATS"
	BucketLease    = "LEASE"
	BucketAlarms   = "ALARMS"

	SubjectLedger   = "lockstep.ledger"
	SubjectPulse    = "lockstep.pulse"
	subjectRelease  = "lockstep.release."
	subjectLive     = "lockstep.live."
	subjectAck      = "lockstep.ack."
	subjectDrift    = "lockstep.drift."
	subjectBeat     = "lockstep.beat."
	subjectProof    = "lockstep.proof."
	SubjectReleases = subjectRelease + "*"
	SubjectAcks     = subjectAck + "*.*"
	SubjectDrifts   = subjectDrift + "*.*"
	SubjectBeats    = subjectBeat + "*.*"
	SubjectProofs   = subjectProof + "*.*"

	// ContentType marks a message as a CloudEvent in structured mode (CloudEvents NATS binding 3.2).
	ContentType = "application/cloudevents+json"
	// SignatureHeader carries a Signature beside the payload it covers.
	SignatureHeader = "Lockstep-Signature"
	// FirstStampHeader carries, beside an entry of a ledger that was repaired, when the bus first stored it (RFC 3339, nanoseconds).
	// It counts in LEDGER only: nobody else may choose a stamp.
	FirstStampHeader = "Lockstep-First-Stamp"
)

// ReleaseSubject is where an environment's releases are stored.
func ReleaseSubject(environment string) string { return subjectRelease + environment }

// LiveSubject is where the bus republishes an environment's releases.
func LiveSubject(environment string) string { return subjectLive + environment }

// LivePattern is the RePublish destination for SubjectReleases.
func LivePattern() string { return subjectLive + "{{wildcard(1)}}" }

// AckSubject is where one agent's acks go.
func AckSubject(environment, agent string) string { return subjectAck + environment + "." + agent }

// BeatSubject is where one agent's beats go.
func BeatSubject(environment, agent string) string { return subjectBeat + environment + "." + agent }

// ProofSubject is where one agent asks for proofs.
func ProofSubject(environment, agent string) string { return subjectProof + environment + "." + agent }

// ReleaseEnvironment is the environment that a release subject names; ok is false for any other subject.
func ReleaseEnvironment(subject string) (environment string, ok bool) {
	environment, ok = strings.CutPrefix(subject, subjectRelease)
	return environment, ok && CheckName(environment) == nil
}

// AgentOf is the environment and agent that the subject of an ack, a beat or a question for a proof names; ok is false for any other subject.
func AgentOf(subject string) (environment, agent string, ok bool) {
	for _, prefix := range []string{subjectAck, subjectBeat, subjectProof} {
		if rest, found := strings.CutPrefix(subject, prefix); found {
			environment, agent, ok = strings.Cut(rest, ".")
			return environment, agent, ok && CheckName(environment) == nil && CheckName(agent) == nil
		}
	}
	return "", "", false
}

// Kinds are the kinds of resources; the list is closed.
var Kinds = []string{"flag", "variable", "endpoint", "connection", "secret", "document"}

const (
	maxName     = 63
	maxResource = 128
)

// CheckName says whether name may name an environment or an agent.
func CheckName(name string) error {
	if len(name) > maxName || !isName(name) {
		return fmt.Errorf("%q is not a name: lower-case letters, digits and single hyphens between them, at most %d characters", name, maxName)
	}
	return nil
}

// isName matches [a-z0-9](-?[a-z0-9])*.
func isName(s string) bool {
	before := byte('-')
	for i := range len(s) {
		if c := s[i]; !isLower(c) && !isDigit(c) && (c != '-' || before == '-') {
			return false
		}
		before = s[i]
	}
	return before != '-'
}

// isResource matches [A-Za-z0-9][A-Za-z0-9._-]*.
func isResource(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLower(c|0x20) && !isDigit(c) && (i == 0 || (c != '.' && c != '_' && c != '-')) {
			return false
		}
	}
	return s != ""
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// CheckKey says whether key is a resource key, <kind>/<name>.
func CheckKey(key string) error {
	kind, name, found := strings.Cut(key, "/")
	if !found {
		return fmt.Errorf("%q is not a resource: write <kind>/<name>, as in variable/log-level", key)
	}
	if !slices.Contains(Kinds, kind) {
		return fmt.Errorf("%q has the unknown kind %q: the kinds are %s", key, kind, strings.Join(Kinds, ", "))
	}
	if len(name) > maxResource || !isResource(name) {
		return fmt.Errorf("%q has no valid name: a letter or digit, then letters, digits, '.', '_' and '-', at most %d characters", key, maxResource)
	}
	return nil
}
