package events

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// StatementType is the DSSE payload type of a person's statement.
const StatementType = "application/vnd.lockstep.statement.v1+json"

// An Envelope is a DSSE envelope (v1.0.2) around one person's statement, with that person's signature.
type Envelope struct {
	PayloadType string              `json:"payloadType"`
	Payload     string              `json:"payload"` // base64, standard alphabet
	Signatures  []EnvelopeSignature `json:"signatures"`
}

// An EnvelopeSignature is one signature over the pre-authentication encoding of payload type and payload.
type EnvelopeSignature struct {
	KeyID string `json:"keyid"` // the key that the statement names
	Sig   string `json:"sig"`   // base64, standard alphabet
}

// A Statement is what a person signs to act: one command, and, where it is about a change, the change's digest. The publisher keeps
// it, and releases carry those of the author and the approvers, so that agents need to believe nobody else.
type Statement struct {
	Ledger  string    `json:"ledger"`
	By      string    `json:"by"`  // name of the person in the trust document
	Key     string    `json:"key"` // public nkey that signs
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires,omitzero"` // an approval does not count in releases decided after this
	Verb    string    `json:"verb"`             // of the command: propose, approve, …
	Command string    `json:"command"`          // id of the command
	Content Digest    `json:"content"`          // of the command's content
	Change  string    `json:"change,omitempty"` // id
	Digest  Digest    `json:"digest"`           // of the change; zero where the command is about none
	Reason  string    `json:"reason,omitempty"` // of a break-glass
}

// The verbs whose statements releases carry; every command has one, by which ledger.Command.Verb calls it.
const (
	VerbPropose    = "propose"
	VerbRevise     = "revise"
	VerbRebase     = "rebase"
	VerbApprove    = "approve"
	VerbBreakGlass = "break-glass"
)

// SignStatement signs a statement; its Key becomes the signer's.
func SignStatement(s Statement, by *Signer) (*Envelope, error) {
	s.Key, s.At = by.public, Stamp(s.At)
	if !s.Expires.IsZero() {
		s.Expires = Stamp(s.Expires)
	}
	payload, err := Encode(s)
	if err != nil {
		return nil, err
	}
	return &Envelope{
		PayloadType: StatementType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: []EnvelopeSignature{{KeyID: by.public, Sig: by.dsse(StatementType, payload)}},
	}, nil
}

// dsse signs the pre-authentication encoding of a payload, which begins with its type: what is signed for one purpose serves no other.
func (s *Signer) dsse(payloadType string, payload []byte) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, dsse.PAE(payloadType, payload)))
}

// Open reads the statement and checks that the key which it names signed it. Whether that key is anybody's is the trust document's to
// say. Errors have ReasonSignature, ReasonMalformed or ReasonUpgradeNeeded.
func (e *Envelope) Open() (Statement, error) {
	var s Statement
	if e.PayloadType != StatementType {
		return s, Errorf(ReasonUpgradeNeeded, "the statement has the type %q, which is not known; upgrade this program", clip(e.PayloadType))
	}
	payload, err := decodeBase64(e.Payload)
	if err != nil {
		return s, err
	}
	if err := DecodeStrict(payload, &s); err != nil {
		return s, err
	}
	if len(e.Signatures) != 1 || e.Signatures[0].KeyID != s.Key {
		return s, Errorf(ReasonSignature, "a statement with %d signatures, or of another key than it names: each person signs one of their own", len(e.Signatures))
	}
	sig, err := decodeBase64(e.Signatures[0].Sig)
	if err != nil {
		return s, err
	}
	return s, verify(s.Key, dsse.PAE(e.PayloadType, payload), sig)
}

// Opened are statements by their envelopes, as they were opened: a decision for a thousand environments verifies each once. Whoever
// judges only reads it; nil holds none.
type Opened map[sealed]Statement

// sealed tells an envelope with one signature from every other.
type sealed struct{ kind, payload, key, sig string }

// Add opens an envelope and keeps its statement; errors are Open's.
func (o Opened) Add(e *Envelope) (Statement, error) {
	s, err := o.Get(e)
	if err == nil {
		o[e.sealed()] = s
	}
	return s, err
}

// Get is the statement of an envelope, which is opened where it was not before.
func (o Opened) Get(e *Envelope) (Statement, error) {
	if len(e.Signatures) == 1 {
		if s, known := o[e.sealed()]; known {
			return s, nil
		}
	}
	return e.Open()
}

func (e *Envelope) sealed() sealed {
	return sealed{e.PayloadType, e.Payload, e.Signatures[0].KeyID, e.Signatures[0].Sig}
}

// decodeBase64 takes one spelling of bytes only.
func decodeBase64(text string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || !bytes.Equal([]byte(text), base64.StdEncoding.AppendEncode(nil, b)) {
		return nil, Errorf(ReasonMalformed, "an envelope holds no base64 as it is written here")
	}
	return b, nil
}

func (w *writer) signedEnvelope(e *Envelope) {
	w.raw(`{"payloadType":`)
	w.string(e.PayloadType)
	w.raw(`,"payload":`)
	w.string(e.Payload)
	w.raw(`,"signatures":`)
	list(w, e.Signatures, func(s EnvelopeSignature) {
		w.raw(`{"keyid":`)
		w.string(s.KeyID)
		w.raw(`,"sig":`)
		w.string(s.Sig)
		w.raw("}")
	})
	w.raw("}")
}

func (r *reader) signedEnvelope() *Envelope {
	e := &Envelope{}
	r.skip(`{"payloadType":`)
	e.PayloadType = r.string()
	r.skip(`,"payload":`)
	e.Payload = r.string()
	r.skip(`,"signatures":`)
	e.Signatures = items(r, func() (s EnvelopeSignature) {
		r.skip(`{"keyid":`)
		s.KeyID = r.string()
		r.skip(`,"sig":`)
		s.Sig = r.string()
		r.skip("}")
		return s
	})
	r.skip("}")
	return e
}
