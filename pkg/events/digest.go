package events

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// A Digest is a SHA-256 hash, written as 64 lower-case hexadecimal digits. The zero Digest stands for "none" and is written as
// the empty string.
type Digest [sha256.Size]byte

// Sum is the digest of b.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest reads what String writes.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if s == "" {
		return d, nil
	}
	if len(s) != hex.EncodedLen(len(d)) {
		return d, fmt.Errorf("digest %q: want %d hexadecimal digits, have %d characters", clip(s), hex.EncodedLen(len(d)), len(s))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	if d.String() != s {
		return Digest{}, fmt.Errorf("digest %q: want lower-case digits that are not all zero", s)
	}
	return d, nil
}

// IsZero says that there is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// Short is the digest's first twelve digits, for people.
func (d Digest) Short() string {
	if d.IsZero() {
		return "-"
	}
	return hex.EncodeToString(d[:6])
}

// MarshalText writes the digest as in String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (d *Digest) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDigest(string(b))
	return err
}

// ChainStart is the chain digest of revision 0 of an environment.
func ChainStart(ledger, environment string) Digest {
	return Sum([]byte("lockstep chain v1\n" + ledger + "\n" + environment))
}

// Chain is the chain digest of a release: SHA-256 over the digest before it and its payload.
func Chain(previous Digest, payload []byte) Digest {
	h := sha256.New()
	h.Write(previous[:])
	h.Write(payload)
	return Digest(h.Sum(nil))
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
