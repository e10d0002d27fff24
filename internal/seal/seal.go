package seal

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nkeys"
	"golang.org/x/mod/sumdb/note"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Head is a tree head over the first Size entries of a ledger.
type Head struct {
	Ledger string        `json:"ledger"` // id
	Size   uint64        `json:"size"`
	Root   events.Digest `json:"root"`
}

// Origin is the first line of a ledger's seals, and the name of the keys that sign them.
func Origin(ledger string) string { return string(events.DomainSeal) + ledger }

// text is what is signed: origin, size and root, as a checkpoint of a transparency log writes them (C2SP tlog-checkpoint).
func (h Head) text() string {
	return Origin(h.Ledger) + "\n" + strconv.FormatUint(h.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(h.Root[:]) + "\n"
}

// VerifierKey is a publisher's public nkey as a verifier key of golang.org/x/mod/sumdb/note: with it any tool that knows signed notes
// checks the ledger's seals. Its name is the seals' origin, and its hash is the first 4 bytes of SHA-256(name ‖ "\n" ‖ 0x01 ‖ key).
func VerifierKey(ledger, key string) (string, error) {
	public, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(key))
	if err != nil {
		return "", fmt.Errorf("the publisher key of a seal: %w", err)
	}
	verifier, err := note.NewEd25519VerifierKey(Origin(ledger), public)
	if err != nil {
		return "", fmt.Errorf("the publisher key of a seal: %w", err)
	}
	return verifier, nil
}

func verifierOf(ledger, key string) (note.Verifier, error) {
	encoded, err := VerifierKey(ledger, key)
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(encoded)
}

// signer lets a publisher's key sign notes.
type signer struct {
	note.Verifier
	by *events.Signer
}

// Sign signs the text of a note, which begins with the domain of seals.
func (s signer) Sign(text []byte) ([]byte, error) {
	rest, ours := strings.CutPrefix(string(text), string(events.DomainSeal))
	if !ours {
		return nil, fmt.Errorf("a seal begins with %s", events.DomainSeal)
	}
	header, err := s.by.Sign(events.DomainSeal, []byte(rest))
	if err != nil {
		return nil, err
	}
	signature, err := events.ParseSignature(header)
	return signature.Bytes, err
}

// Sign seals a ledger's head: the head as a signed note.
func Sign(h Head, by *events.Signer) (string, error) {
	verifier, err := verifierOf(h.Ledger, by.Public())
	if err != nil {
		return "", err
	}
	signed, err := note.Sign(&note.Note{Text: h.text()}, signer{verifier, by})
	if err != nil {
		return "", fmt.Errorf("sign a seal: %w", err)
	}
	return string(signed), nil
}

// maxNote bounds a seal in bytes.
const maxNote = 4 << 10

// Open reads a seal of a ledger that one of some publisher keys must have signed, alone. It reads what Sign writes and nothing else.
// Errors have ReasonSignature.
func Open(seal, ledger string, keys []string) (Head, error) {
	if len(seal) > maxNote {
		return Head{}, events.Errorf(events.ReasonSignature, "a seal of %d bytes", len(seal))
	}
	var verifiers []note.Verifier
	for i, key := range keys {
		v, err := verifierOf(ledger, key)
		if err != nil {
			return Head{}, events.Errorf(events.ReasonSignature, "%w", err)
		}
		if !slices.Contains(keys[:i], key) {
			verifiers = append(verifiers, v)
		}
	}
	n, err := note.Open([]byte(seal), note.VerifierList(verifiers...))
	if err != nil {
		return Head{}, events.Errorf(events.ReasonSignature, "the seal: %w", err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 || !asWritten(seal, n) {
		return Head{}, events.Errorf(events.ReasonSignature, "the seal: not as it is written, with one signature")
	}
	h, err := parse(n.Text, ledger)
	if err != nil {
		return Head{}, events.Errorf(events.ReasonSignature, "the seal: %w", err)
	}
	return h, nil
}

// asWritten refuses other spellings of the same signature.
func asWritten(seal string, n *note.Note) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	return err == nil && seal == n.Text+"\n— "+n.Sigs[0].Name+" "+base64.StdEncoding.EncodeToString(b)+"\n"
}

func parse(text, ledger string) (Head, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return Head{}, fmt.Errorf("%d lines", len(lines)-1)
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return Head{}, fmt.Errorf("its size: %w", err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(events.Digest{}) {
		return Head{}, fmt.Errorf("%q is no root", lines[2])
	}
	h := Head{Ledger: ledger, Size: size, Root: events.Digest(root)}
	if h.text() != text || size == 0 {
		return Head{}, fmt.Errorf("it seals %q", lines[0])
	}
	return h, nil
}
