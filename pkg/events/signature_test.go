package events_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

func anyone(string) bool { return true }

func TestSignatureHeadersRoundTrip(t *testing.T) {
	digests := rapid.Custom(func(t *rapid.T) events.Digest {
		return events.Sum(rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(t, "seed"))
	})
	rapid.Check(t, func(t *rapid.T) {
		s := events.Signature{Key: rapid.StringMatching(`U[A-Z2-7]{55}`).Draw(t, "key"), Bytes: rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "sig")}
		if rapid.Bool().Draw(t, "wave") {
			s.Size = rapid.Uint64Min(1).Draw(t, "size")
			s.Index = rapid.Uint64Range(0, s.Size-1).Draw(t, "index")
			s.Path = rapid.SliceOfN(digests, 0, 32).Draw(t, "path")
		}
		got, err := events.ParseSignature(s.String())
		if err != nil || got.String() != s.String() || len(got.Path) != len(s.Path) || got.Index != s.Index || got.Size != s.Size {
			t.Fatalf("%s reads as %+v (%v)", s, got, err)
		}
	})
}

func TestSignatureHeadersHaveOneSpelling(t *testing.T) {
	headers, err := foldtest.Signer(t, "publisher").SignWave("l", make([]events.Digest, 3))
	if err != nil {
		t.Fatal(err)
	}
	good := headers[1]
	long := events.Signature{Key: "U", Size: 2, Path: make([]events.Digest, 33), Bytes: []byte{1}}
	for _, header := range []string{
		"", " ", good + ";", good + "; ", " " + good, good + "; sig=AA", strings.ToUpper(good),
		strings.Replace(good, "; ", ";", 1), strings.Replace(good, "index=1; ", "", 1), strings.Replace(good, "index=1", "index=01", 1),
		strings.Replace(good, "index=1", "index=+1", 1), strings.Replace(good, "index=1", "index=-1", 1), strings.Replace(good, "size=3", "size=0", 1),
		strings.Replace(good, "size=3", "size=3; size=3", 1), strings.Replace(good, "size=3", "size=18446744073709551616", 1), strings.Replace(good, "path=", "path=A", 1), strings.Replace(good, "path=", "hash=", 1),
		strings.Replace(good, "; sig", "; x=1; sig", 1), good + "=", good + "\n", long.String(),
	} {
		_, err := events.ParseSignature(header)
		if events.ReasonOf(err) != events.ReasonSignature {
			t.Errorf("%q: %v", header, err)
		}
	}
}

// TestNoAlteredSignatureVerifies alters every byte of headers and payload.
func TestNoAlteredSignatureVerifies(t *testing.T) {
	signer := foldtest.Signer(t, "publisher")
	key := signer.Public()
	for _, size := range []int{1, 2, 3, 5, 6, 7} {
		chains := make([]events.Digest, size)
		for i := range chains {
			chains[i] = events.Sum([]byte{byte(i)})
		}
		headers, err := signer.SignWave(foldtest.Ledger, chains)
		if err != nil {
			t.Fatal(err)
		}
		for i, header := range headers {
			if err := events.VerifyWave(foldtest.Ledger, chains[i], header, anyone); err != nil {
				t.Error(err)
			}
			for _, altered := range alterations(header) {
				wantReason(t, events.VerifyWave(foldtest.Ledger, chains[i], altered, anyone), events.ReasonSignature)
			}
			altered := chains[i]
			altered[31] ^= 1
			wantReason(t, events.VerifyWave(foldtest.Ledger, altered, header, anyone), events.ReasonSignature)
			wantReason(t, events.VerifyWave(foldtest.Ledger+"x", chains[i], header, anyone), events.ReasonSignature)
			wantReason(t, events.VerifyWave(foldtest.Ledger, chains[i], header, func(k string) bool { return k != key }), events.ReasonSignature)
			if other := (i + 1) % size; other != i {
				wantReason(t, events.VerifyWave(foldtest.Ledger, chains[other], header, anyone), events.ReasonSignature)
			}
		}
	}

	payload := []byte("payload")
	header, err := signer.Sign(events.DomainAck, payload)
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Verify(events.DomainAck, payload, header, key); err != nil {
		t.Error(err)
	}
	for _, altered := range alterations(header) {
		wantReason(t, events.Verify(events.DomainAck, payload, altered, key), events.ReasonSignature)
	}
	for i := range payload {
		altered := []byte(string(payload))
		altered[i] ^= 0x20
		wantReason(t, events.Verify(events.DomainAck, altered, header, key), events.ReasonSignature)
	}
	wantReason(t, events.Verify(events.DomainAck, payload, header, foldtest.Signer(t, "other").Public()), events.ReasonSignature)
}

// alterations are all headers that differ in one byte, in a few ways each.
func alterations(header string) (all []string) {
	for i := range header {
		for _, c := range []byte{header[i] ^ 1, header[i] ^ 2, header[i] ^ 0x20, header[i] + 1, ' ', '='} {
			if c != header[i] {
				all = append(all, header[:i]+string(rune(c))+header[i+1:])
			}
		}
		all = append(all, header[:i]+header[i+1:])
	}
	return all
}

// TestAPlaceInAWaveHasOneHeader: no other index and size verify with the same path and signature.
func TestAPlaceInAWaveHasOneHeader(t *testing.T) {
	for size := uint64(1); size <= 9; size++ {
		chains := make([]events.Digest, size)
		for i := range chains {
			chains[i] = events.Sum([]byte{byte(i)})
		}
		headers, err := foldtest.Signer(t, "publisher").SignWave("l", chains)
		if err != nil {
			t.Fatal(err)
		}
		for i, header := range headers {
			s, err := events.ParseSignature(header)
			if err != nil {
				t.Fatal(err)
			}
			for s.Size = 1; s.Size < 20; s.Size++ {
				for s.Index = 0; s.Index < s.Size; s.Index++ {
					same := s.Size == size && s.Index == uint64(i)
					if err := events.VerifyWave("l", chains[i], s.String(), anyone); (err == nil) != same {
						t.Errorf("%d of %d as %d of %d: %v", i, size, s.Index, s.Size, err)
					}
				}
			}
		}
	}
}

func TestASignatureServesOnePurpose(t *testing.T) {
	signer := foldtest.Signer(t, "publisher")
	domains := []events.Domain{events.DomainWave, events.DomainPulse, events.DomainBeat, events.DomainAck}
	for _, signed := range domains {
		header, err := signer.Sign(signed, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		for _, read := range domains {
			if err := events.Verify(read, []byte("x"), header, signer.Public()); (err == nil) != (read == signed) {
				t.Errorf("signed as %q, read as %q: %v", signed, read, err)
			}
		}
		wantReason(t, events.VerifyWave("l", events.Sum([]byte("x")), header, anyone), events.ReasonSignature)
	}
}

func TestOnlyUserSeedsSign(t *testing.T) {
	seed := foldtest.Seed(t, "agent")
	for _, bad := range []string{"", "SU", string(seed[:len(seed)-1]), "SA" + string(seed[2:]), foldtest.Signer(t, "agent").Public()} {
		if s, err := events.NewSigner([]byte(bad)); err == nil {
			t.Errorf("%q signs as %s", bad, s.Public())
		} else if len(bad) > 10 && strings.Contains(fmt.Sprint(err), string(seed[4:])) {
			t.Errorf("the error shows the seed: %v", err)
		}
	}
}
