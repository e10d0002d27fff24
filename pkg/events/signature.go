package events

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nkeys"
)

// A Domain is what a signature begins with, so that bytes signed for one purpose serve no other.
type Domain string

// The domains of what is signed on the bus.
const (
	DomainWave  Domain = "lockstep wave v1\n"
	DomainPulse Domain = "lockstep pulse v1\n"
	DomainBeat  Domain = "lockstep beat v1\n"
	DomainAck   Domain = "lockstep ack v1\n"
	DomainProof Domain = "lockstep proof v1\n"
	// DomainMark is a publisher's own: up to where it has checked its copy of the ledger.
	DomainMark Domain = "lockstep mark v1\n"
	// DomainSeal begins the text of a seal, which is a signed note and has its own form (internal/seal).
	DomainSeal Domain = "lockstep.dev/ledger/"
)

// A Signer signs with an Ed25519 nkey seed; it never shows the seed.
type Signer struct {
	key    ed25519.PrivateKey
	public string
}

// NewSigner makes a Signer of a user nkey seed ("SU…").
func NewSigner(seed []byte) (*Signer, error) {
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("key seed: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("key seed: %w", err)
	}
	if !nkeys.IsValidPublicUserKey(public) {
		return nil, fmt.Errorf("key seed: want a user key (U…), have %s", public)
	}
	_, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("key seed: %w", err)
	}
	return &Signer{ed25519.NewKeyFromSeed(raw), public}, nil
}

// Public is the public key ("U…"), which is also the key id in signatures.
func (s *Signer) Public() string { return s.public }

// A Signature is the content of the header Lockstep-Signature. Of a wave it covers the Merkle root over the chain digests of
// all its releases, and carries one release's place and path in that tree; of anything else it covers the payload.
type Signature struct {
	Key         string   // public nkey
	Index, Size uint64   // waves only: place of this release, releases in the wave
	Path        []Digest // waves only
	Bytes       []byte   // Ed25519 signature
}

// Sign signs a payload in a domain and returns the header.
func (s *Signer) Sign(domain Domain, payload []byte) (string, error) {
	sig := ed25519.Sign(s.key, append([]byte(domain), payload...))
	return Signature{Key: s.public, Bytes: sig}.String(), nil
}

// SignWave signs the releases of one entry at once and returns each one's header, in the order of their chain digests.
func (s *Signer) SignWave(ledger string, chains []Digest) ([]string, error) {
	leaves := make([]Digest, len(chains))
	for i, c := range chains {
		leaves[i] = LeafHash(c[:])
	}
	root, paths := MerklePaths(leaves)
	sig := ed25519.Sign(s.key, waveMessage(ledger, uint64(len(chains)), root))
	headers := make([]string, len(chains))
	for i := range chains {
		headers[i] = Signature{Key: s.public, Index: uint64(i), Size: uint64(len(chains)), Path: paths[i], Bytes: sig}.String()
	}
	return headers, nil
}

// waveMessage has the size beside the root, as a tree head of RFC 6962 has: with the size free, one path would stand for several
// places and sizes.
func waveMessage(ledger string, size uint64, root Digest) []byte {
	m := append([]byte(DomainWave), ledger...)
	m = strconv.AppendUint(append(m, '\n'), size, 10)
	return append(append(m, '\n'), root[:]...)
}

// Verify checks a header over a payload and that key made it. Errors have ReasonSignature.
func Verify(domain Domain, payload []byte, header, key string) error {
	sig, err := ParseSignature(header)
	if err != nil {
		return err
	}
	if sig.Key != key {
		return Errorf(ReasonSignature, "signed by %s, want %s", clip(sig.Key), key)
	}
	return verify(key, append([]byte(domain), payload...), sig.Bytes)
}

// VerifyWave checks a release's header: that a key which allowed admits signed a wave of the ledger which holds the chain digest.
// Errors have ReasonSignature.
func VerifyWave(ledger string, chain Digest, header string, allowed func(key string) bool) error {
	sig, err := ParseSignature(header)
	if err != nil {
		return err
	}
	if !allowed(sig.Key) {
		return Errorf(ReasonSignature, "signed by %s, which is no publisher key here", clip(sig.Key))
	}
	root, ok := RootFromPath(LeafHash(chain[:]), sig.Index, sig.Size, sig.Path)
	if !ok {
		return Errorf(ReasonSignature, "the path of the wave does not fit index %d of %d", sig.Index, sig.Size)
	}
	return verify(sig.Key, waveMessage(ledger, sig.Size, root), sig.Bytes)
}

func verify(key string, message, sig []byte) error {
	public, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(key))
	if err != nil || len(public) != ed25519.PublicKeySize {
		return Errorf(ReasonSignature, "%q is no public user key", clip(key))
	}
	if len(sig) != ed25519.SignatureSize || !ed25519.Verify(public, message, sig) {
		return Errorf(ReasonSignature, "by %s: it is not theirs", key)
	}
	return nil
}

// String writes the header: fields in a fixed order, separated by "; ".
func (s Signature) String() string {
	var path []byte
	out := append(make([]byte, 0, 256+44*len(s.Path)), "key="...)
	out = append(out, s.Key...)
	if s.Size > 0 {
		for _, d := range s.Path {
			path = append(path, d[:]...)
		}
		out = strconv.AppendUint(append(out, "; index="...), s.Index, 10)
		out = strconv.AppendUint(append(out, "; size="...), s.Size, 10)
		out = base64.RawURLEncoding.AppendEncode(append(out, "; path="...), path)
	}
	return string(base64.RawURLEncoding.AppendEncode(append(out, "; sig="...), s.Bytes))
}

// maxPath bounds the hashes in a header's path: a tree of 2^32 leaves.
const maxPath = 32

// ParseSignature reads what String writes, and nothing else. Errors have ReasonSignature.
func ParseSignature(header string) (Signature, error) {
	var s Signature
	if header == "" {
		return s, Errorf(ReasonSignature, "there is no signature")
	}
	for field := range strings.SplitSeq(header, "; ") {
		name, value, _ := strings.Cut(field, "=")
		var err error
		switch name {
		case "key":
			s.Key = value
		case "index":
			s.Index, err = strconv.ParseUint(value, 10, 64)
		case "size":
			s.Size, err = strconv.ParseUint(value, 10, 64)
		case "path":
			s.Path, err = parsePath(value)
		case "sig":
			s.Bytes, err = base64.RawURLEncoding.DecodeString(value)
		default:
			err = fmt.Errorf("unknown field %q", clip(name))
		}
		if err != nil {
			return Signature{}, Errorf(ReasonSignature, "header: %w", err)
		}
	}
	if s.String() != header {
		return Signature{}, Errorf(ReasonSignature, "header: not as it is written")
	}
	return s, nil
}

func parsePath(value string) ([]Digest, error) {
	b, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return nil, err
	}
	n := len(Digest{})
	if len(b)%n != 0 || len(b)/n > maxPath {
		return nil, fmt.Errorf("path of %d bytes", len(b))
	}
	var path []Digest
	for ; len(b) > 0; b = b[n:] {
		path = append(path, Digest(b[:n]))
	}
	return path, nil
}
