package seal

import (
	"encoding/json"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Question asks for the proof that the ledger continues a seal that somebody has verified.
type Question struct {
	Head
	Nonce string `json:"nonce"` // made anew for every question: an answer serves one
}

// An Answer is a publisher's signed answer to a Question.
type Answer struct {
	Nonce string          `json:"nonce"`
	Asked Head            `json:"asked"`
	Seal  string          `json:"seal"`            // the newest
	Proof []events.Digest `json:"proof,omitempty"` // that it continues what was asked about
	Loss  *Loss           `json:"loss,omitempty"`  // why it does not, where a repair accepted a loss
}

// A Loss is the ledger's entry that says what a repair accepted to lose, and the proof that it is in the sealed ledger.
type Loss struct {
	Entry json.RawMessage `json:"entry"`
	Proof []events.Digest `json:"proof"`
}

// MaxQuestion and MaxAnswer bound what is sent, in bytes.
const (
	MaxQuestion = 1 << 10
	MaxAnswer   = 512 << 10
)

// DecodeQuestion reads a question.
func DecodeQuestion(payload []byte) (q Question, err error) {
	if len(payload) > MaxQuestion {
		return q, events.Errorf(events.ReasonMalformed, "a question of %d bytes", len(payload))
	}
	if err := events.DecodeStrict(payload, &q); err != nil {
		return q, err
	}
	if q.Nonce == "" || q.Size == 0 {
		return q, events.Errorf(events.ReasonMalformed, "a question without nonce or seal")
	}
	return q, nil
}

// EncodeAnswer writes an answer and signs it.
func EncodeAnswer(a Answer, by *events.Signer) (payload []byte, header string, err error) {
	if payload, err = events.Encode(a); err != nil {
		return nil, "", err
	}
	header, err = by.Sign(events.DomainProof, payload)
	return payload, header, err
}

// DecodeAnswer reads the answer to a question, which one of some publisher keys must have signed, and returns what it seals.
// ReasonLedgerForked says that a publisher signed what contradicts the seal that was asked about; any other error says nothing of the
// ledger.
func DecodeAnswer(payload []byte, header string, q Question, keys []string) (a Answer, sealed Head, err error) {
	if len(payload) > MaxAnswer {
		return a, sealed, events.Errorf(events.ReasonMalformed, "an answer of %d bytes", len(payload))
	}
	signed := events.Errorf(events.ReasonSignature, "there is no publisher key")
	for _, key := range keys {
		if signed = events.Verify(events.DomainProof, payload, header, key); signed == nil {
			break
		}
	}
	if signed != nil {
		return a, sealed, signed
	}
	if err := events.DecodeStrict(payload, &a); err != nil {
		return a, sealed, err
	}
	if a.Nonce != q.Nonce || a.Asked != q.Head {
		return a, sealed, events.Errorf(events.ReasonMalformed, "it answers another question")
	}
	if sealed, err = Open(a.Seal, q.Ledger, keys); err != nil {
		return a, sealed, err
	}
	if a.Loss != nil {
		return a, sealed, a.Loss.explains(q.Head, sealed)
	}
	return a, sealed, sealed.Continues(q.Head, a.Proof)
}

// explains checks that the ledger says for ever that it lost entries which are under the earlier seal.
func (l *Loss) explains(before, sealed Head) error {
	entry, err := events.DecodeEntry(l.Entry)
	if err != nil {
		return err
	}
	if err := sealed.Includes(entry.Number, l.Entry, l.Proof); err != nil {
		return err
	}
	said, err := l.Said()
	if err != nil {
		return err
	}
	if before.Size < said.First || before.Size > said.Last {
		return events.Errorf(events.ReasonLedgerForked, "the loss of the entries %d to %d does not explain why the ledger does not continue the seal of %d entries", said.First, said.Last, before.Size)
	}
	return nil
}

// Said is what was lost, who accepted that, and why.
func (l *Loss) Said() (*events.Loss, error) {
	entry, err := events.DecodeEntry(l.Entry)
	if err != nil {
		return nil, err
	}
	fact, err := events.DecodeFact(entry.Events[0])
	if err != nil {
		return nil, err
	}
	recovered, ok := fact.(*events.HistoryRecovered)
	if !ok || recovered.Loss == nil {
		return nil, events.Errorf(events.ReasonLedgerForked, "entry %d says of no loss", entry.Number)
	}
	return recovered.Loss, nil
}
