package trust

import (
	"bytes"
	"slices"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// The kinds of files that go to a root's machine, which has no network, and come back from it.
const (
	ProposalKind  = "lockstep trust proposal v1"
	SignatureKind = "lockstep trust signature v1"
)

// A Proposal is a proposed trust document, with the one before it to compare with.
type Proposal struct {
	Kind     string        `json:"kind"`
	Change   string        `json:"change"` // id
	By       string        `json:"by"`
	Reason   string        `json:"reason"`
	Before   *events.Trust `json:"before"`
	Document *events.Trust `json:"document"`
	Signed   []string      `json:"signed"` // roots that have signed it so far
}

// A Signature is what a root's machine gives back.
type Signature struct {
	Kind   string               `json:"kind"`
	Change string               `json:"change"`
	Body   events.Digest        `json:"body"` // of what was signed
	Root   events.RootSignature `json:"root"`
}

// ReadProposal reads the file of a proposal strictly. Errors are *ledger.Error.
func ReadProposal(b []byte) (*Proposal, error) {
	var p Proposal
	if err := events.DecodeStrict(bytes.TrimSpace(b), &p); err != nil || p.Kind != ProposalKind || p.Before == nil || p.Document == nil {
		return nil, refuse(ledger.KindInvalid, "write one with 'publisher trust export ID'", "the file holds no proposed trust document as this program writes it")
	}
	return &p, check(p.Document)
}

// Sign signs the proposed document with a root's key, which must be one of a root before or after. Errors are *ledger.Error.
func (p *Proposal) Sign(root *events.Signer) (Signature, error) {
	if !slices.Contains(append(rootsOf(p.Before).Keys, rootsOf(p.Document).Keys...), root.Public()) {
		return Signature{}, refuse(ledger.KindDenied, "the roots are named in the document that the file holds", "%s is no root key of this ledger, neither before nor after", root.Public())
	}
	body, err := p.Document.Body()
	if err != nil {
		return Signature{}, err
	}
	sig, err := p.Document.SignRoot(root)
	return Signature{Kind: SignatureKind, Change: p.Change, Body: events.Sum(body), Root: sig}, err
}

// ReadSignature reads the file of a signature strictly, and says whether it was made for a document. Errors are *ledger.Error.
func ReadSignature(b []byte, document *events.Trust) (events.RootSignature, error) {
	var s Signature
	if err := events.DecodeStrict(bytes.TrimSpace(b), &s); err != nil || s.Kind != SignatureKind {
		return s.Root, refuse(ledger.KindInvalid, "make one with 'publisher trust sign'", "the file holds no signature of a root as this program writes it")
	}
	body, err := document.Body()
	if err == nil && events.Sum(body) != s.Body {
		err = refuse(ledger.KindConflict, "export the proposal, and sign it again", "the signature was made for another document (of change %s)", s.Change)
	}
	return s.Root, err
}

// Lacking says how many more signatures a document needs to follow another, at least, when some roots have signed it, and of which: its
// own roots, and those of the one before. One signature counts for both where both have the root.
func Lacking(before, document *events.Trust, signed []string) (n int, of []string) {
	was, is := unsigned(rootsOf(before), signed), unsigned(rootsOf(document), signed)
	both := 0
	for _, key := range is.Keys {
		if slices.Contains(was.Keys, key) {
			both++
		} else if is.Threshold > 0 {
			of = append(of, key)
		}
	}
	for _, key := range was.Keys {
		if was.Threshold > 0 || (is.Threshold > 0 && slices.Contains(is.Keys, key)) {
			of = append(of, key)
		}
	}
	return was.Threshold + is.Threshold - min(was.Threshold, is.Threshold, both), of
}

// unsigned are the roots that have not signed, and how many of them still must.
func unsigned(roots events.Roots, signed []string) (out events.Roots) {
	out.Threshold = roots.Threshold
	for _, key := range roots.Keys {
		if slices.Contains(signed, key) {
			out.Threshold--
		} else {
			out.Keys = append(out.Keys, key)
		}
	}
	out.Threshold = max(0, out.Threshold)
	return out
}
