package events

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// A Word is what an ack says about a revision.
type Word string

// The words of acks.
const (
	WordApplied    Word = "applied"
	WordFailed     Word = "failed"
	WordBlocked    Word = "blocked"
	WordSuperseded Word = "superseded"
	WordRefused    Word = "refused"
	WordRetrying   Word = "retrying"
	WordTorn       Word = "torn"
)

// An Ack is an agent's signed statement about the revisions First to Last.
type Ack struct {
	Environment string    `json:"environment"`
	Agent       string    `json:"agent"`
	Ledger      string    `json:"ledger"`
	Number      uint64    `json:"number"` // of this agent's acks: the same ack sent again has the same
	Word        Word      `json:"word"`
	First       uint64    `json:"first"`
	Last        uint64    `json:"last"`
	Chain       Digest    `json:"chain"`               // at Last
	Expected    Digest    `json:"expected"`            // state digest that the release at Last names
	Observed    Digest    `json:"observed"`            // state digest as read back; zero where nothing was read back
	ReadBack    bool      `json:"readBack"`            // false: at least one connector cannot observe
	Differing   []string  `json:"differing,omitempty"` // keys whose read-back differs
	By          uint64    `json:"by,omitempty"`        // blocked or superseded by this revision
	Reason      Reason    `json:"reason,omitempty"`
	Message     string    `json:"message,omitempty"`
	Since       time.Time `json:"since,omitzero"` // retrying since
	Resent      bool      `json:"resent,omitempty"`
	Phases      Phases    `json:"phases"`
}

// Phases are the agent's own clock readings on the way of a revision; they show skew and where time goes, and never make lag.
type Phases struct {
	Received  time.Time `json:"received,omitzero"`
	Verified  time.Time `json:"verified,omitzero"`
	Applied   time.Time `json:"applied,omitzero"` // applied and read back
	Committed time.Time `json:"committed,omitzero"`
}

// A Beat is an agent's signed heartbeat.
type Beat struct {
	Environment string    `json:"environment"`
	Agent       string    `json:"agent"`
	Boot        string    `json:"boot"`    // new at every start
	Number      uint64    `json:"number"`  // of this boot's beats
	Version     string    `json:"version"` // of the program
	Clock       time.Time `json:"clock"`
	Ledger      string    `json:"ledger"`
	Revision    uint64    `json:"revision"`           // checkpoint
	Chain       Digest    `json:"chain"`              // checkpoint
	State       Digest    `json:"state"`              // state digest at the checkpoint
	Observed    Digest    `json:"observed"`           // last read-back; zero where nothing was read back
	Seen        LedgerTip `json:"seen"`               // newest entry known from a pulse
	Heard       uint64    `json:"heard,omitempty"`    // highest counter of a pulse that was taken, in this or an earlier boot
	LastAck     uint64    `json:"lastAck"`            // number of the last ack that the bus took
	Condition   string    `json:"condition"`          // a state word of ARCHITECTURE.md, Words
	Reason      Reason    `json:"reason,omitempty"`   // why it is not in step
	Message     string    `json:"message,omitempty"`  // the same for people
	Since       time.Time `json:"since,omitzero"`     // of the condition
	Until       time.Time `json:"until,omitzero"`     // held until
	Drift       int       `json:"drift"`              // how many resources differ from the checkpoint
	Connectors  []string  `json:"connectors"`         // names
	Rejected    uint64    `json:"rejected,omitempty"` // messages dropped as not validly signed, since boot

	Differing []DifferingResource `json:"differing,omitempty"` // which ones: the first of them
}

// A LedgerTip names the newest entry that somebody knows.
type LedgerTip struct {
	Number uint64 `json:"number"`
	Hash   Digest `json:"hash"`
}

// A Pulse is the publisher's signed heartbeat.
type Pulse struct {
	Ledger  string    `json:"ledger"`
	Counter uint64    `json:"counter"` // grows with every pulse of a ledger, whichever publisher sends it
	Tip     LedgerTip `json:"tip"`
	Clock   time.Time `json:"clock"`
	// Seal is a signed tree head over the ledger, and Proof that it continues the one before it, which had Before entries. A publisher
	// that sealed nothing before leaves the proof out; who needs another one asks for it.
	Seal   string   `json:"seal,omitempty"`
	Before uint64   `json:"before,omitempty"`
	Proof  []Digest `json:"proof,omitempty"`
}

// EncodeAck writes an ack's payload and signs it.
func EncodeAck(a Ack, at time.Time, s *Signer) (payload []byte, header string, err error) {
	e, err := ackEvent(a, at)
	if err != nil {
		return nil, "", err
	}
	return seal(e, DomainAck, s)
}

func ackEvent(a Ack, at time.Time) (Event, error) {
	e, err := newEvent(TypeReleaseAcknowledged, a.Environment+"."+a.Agent+"."+strconv.FormatUint(a.Number, 10),
		AgentSource(a.Environment, a.Agent), a.Environment, at, a)
	e.Sequence = sequence(a.Last)
	e.PartitionKey = a.Environment
	e.CausationID = ReleaseID(a.Environment, a.Last)
	return e, err
}

// EncodeBeat writes a beat's payload and signs it.
func EncodeBeat(b Beat, s *Signer) (payload []byte, header string, err error) {
	e, err := newEvent(TypeAgentBeat, b.Boot+"."+strconv.FormatUint(b.Number, 10), AgentSource(b.Environment, b.Agent), b.Environment, b.Clock, b)
	if err != nil {
		return nil, "", err
	}
	return seal(e, DomainBeat, s)
}

// EncodePulse writes a pulse's payload and signs it.
func EncodePulse(p Pulse, s *Signer) (payload []byte, header string, err error) {
	e, err := newEvent(TypePublisherPulse, "pulse."+strconv.FormatUint(p.Counter, 10), LedgerSource(p.Ledger), "", p.Clock, p)
	if err != nil {
		return nil, "", err
	}
	return seal(e, DomainPulse, s)
}

func seal(e Event, domain Domain, s *Signer) ([]byte, string, error) {
	payload, err := e.encode()
	if err != nil {
		return nil, "", err
	}
	header, err := s.Sign(domain, payload)
	return payload, header, err
}

// DecodeAck reads an ack tolerantly and checks that key signed it and that it speaks for the environment and agent.
func DecodeAck(payload []byte, header, environment, agent, key string) (Ack, error) {
	if err := Verify(DomainAck, payload, header, key); err != nil {
		return Ack{}, err
	}
	a, ok := readAck(payload)
	if !ok {
		if err := readStatement(payload, TypeReleaseAcknowledged, &a); err != nil {
			return Ack{}, err
		}
	}
	if a.Environment != environment || a.Agent != agent {
		return Ack{}, Errorf(ReasonWrongEnvironment, "an ack of %s/%s came as one of %s/%s", clip(a.Environment), clip(a.Agent), environment, agent)
	}
	if a.First == 0 || a.First > a.Last {
		return Ack{}, Errorf(ReasonMalformed, "an ack of the revisions %d to %d", a.First, a.Last)
	}
	return a, nil
}

// DecodeBeat reads a beat tolerantly and checks that key signed it and that it speaks for the environment and agent.
func DecodeBeat(payload []byte, header, environment, agent, key string) (Beat, error) {
	var b Beat
	if err := openStatement(payload, header, DomainBeat, key, TypeAgentBeat, &b); err != nil {
		return Beat{}, err
	}
	if b.Environment != environment || b.Agent != agent {
		return Beat{}, Errorf(ReasonWrongEnvironment, "a beat of %s/%s came as one of %s/%s", clip(b.Environment), clip(b.Agent), environment, agent)
	}
	return b, nil
}

// DecodePulse reads a pulse tolerantly and checks that a key which allowed admits signed it.
func DecodePulse(payload []byte, header string, allowed func(key string) bool) (Pulse, error) {
	sig, err := ParseSignature(header)
	if err != nil {
		return Pulse{}, err
	}
	if !allowed(sig.Key) {
		return Pulse{}, Errorf(ReasonSignature, "pulse signed by %s, which is no publisher key here", clip(sig.Key))
	}
	var p Pulse
	err = openStatement(payload, header, DomainPulse, sig.Key, TypePublisherPulse, &p)
	return p, err
}

func openStatement(payload []byte, header string, domain Domain, key string, t Type, into any) error {
	if err := Verify(domain, payload, header, key); err != nil {
		return err
	}
	return readStatement(payload, t, into)
}

// readAck reads an ack that is as EncodeAck writes it, as nearly all are. Of anything else it only says that it is not that.
func readAck(payload []byte) (a Ack, ok bool) {
	text := reader{b: payload}
	at, _ := text.envelope()
	if text.bad || len(text.b) == 0 || json.Unmarshal(text.b[:len(text.b)-1], &a) != nil {
		return Ack{}, false
	}
	if CheckName(a.Environment) != nil || CheckName(a.Agent) != nil || max(a.Number, a.First, a.Last, a.By) > maxSafeInteger {
		return Ack{}, false
	}
	e, err := ackEvent(a, at)
	if err != nil {
		return Ack{}, false
	}
	again, err := e.encode()
	return a, err == nil && bytes.Equal(payload, again)
}

// readStatement reads what is signed tolerantly.
func readStatement(payload []byte, t Type, into any) error {
	// A delivery embeds the signed bytes in an entry, which keeps them only when they are compact.
	var compact bytes.Buffer
	if err := json.Compact(&compact, payload); err != nil {
		return Errorf(ReasonMalformed, "%w", err)
	}
	if !bytes.Equal(compact.Bytes(), payload) {
		return Errorf(ReasonMalformed, "the payload is not compact JSON")
	}
	return readTolerant(payload, t, into)
}
