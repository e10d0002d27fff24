package seal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const ledgerID = "0b7c5f0e-1f5e-4a1e-9d53-0d2f6a6f7c11"

// signer is a signer whose key follows from a name.
func signer(t testing.TB, name string) *events.Signer {
	t.Helper()
	raw := events.Sum([]byte("lockstep seal test " + name))
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, raw[:])
	must(t, err)
	seed, err := pair.Seed()
	must(t, err)
	s, err := events.NewSigner(seed)
	must(t, err)
	return s
}

func must(t interface {
	Helper()
	Fatal(...any)
}, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func entry(ledger string, n int) []byte { return fmt.Appendf(nil, "entry %d of %s", n, ledger) }

func grown(t interface {
	Helper()
	Fatal(...any)
}, size int, of func(n int) []byte) *seal.Tree {
	t.Helper()
	tree := &seal.Tree{}
	for n := 1; n <= size; n++ {
		must(t, tree.Append(of(n)))
	}
	return tree
}

func head(t interface {
	Helper()
	Fatal(...any)
}, tree *seal.Tree, size uint64) seal.Head {
	t.Helper()
	root, err := tree.Root(size)
	must(t, err)
	return seal.Head{Ledger: ledgerID, Size: size, Root: root}
}

func whole(n int) []byte { return entry("one", n) }

func TestATreeIsTheOneOfRFC6962(t *testing.T) {
	var leaves []events.Digest
	tree := &seal.Tree{}
	for n := 1; n <= 70; n++ {
		leaves = append(leaves, events.LeafHash(whole(n)))
		must(t, tree.Append(whole(n)))
		if h := head(t, tree, uint64(n)); h.Root != events.MerkleRoot(leaves) {
			t.Fatalf("with %d entries the root is %s, want %s", n, h.Root, events.MerkleRoot(leaves))
		}
	}
}

// Whatever the sizes, a seal is continued by its own ledger and by no ledger with another entry under it.
func TestOnlyTheSameLedgerContinuesASeal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 80).Draw(t, "size")
		from := rapid.IntRange(1, size).Draw(t, "from")
		other := rapid.IntRange(1, from).Draw(t, "other")
		tree := grown(t, size, whole)
		forked := grown(t, size, func(n int) []byte {
			if n == other {
				return entry("two", n)
			}
			return whole(n)
		})
		before, now, fork := head(t, tree, uint64(from)), head(t, tree, uint64(size)), head(t, forked, uint64(size))
		proof, err := tree.Consistency(uint64(from), uint64(size))
		must(t, err)
		must(t, now.Continues(before, proof))
		forkProof, err := forked.Consistency(uint64(from), uint64(size))
		must(t, err)
		for name, p := range map[string][]events.Digest{"its own": forkProof, "the other's": proof, "none": nil} {
			if err := fork.Continues(before, p); events.ReasonOf(err) != events.ReasonLedgerForked {
				t.Errorf("with %s proof a fork at entry %d continues: %v", name, other, err)
			}
		}
		if from < size {
			if err := before.Continues(now, proof); err == nil {
				t.Error("a ledger that was cut continues a longer one")
			}
		}
		if err := (seal.Head{Ledger: "another", Size: now.Size, Root: now.Root}).Continues(before, proof); err == nil {
			t.Error("a seal of another ledger continues it")
		}
	})
}

func TestAnEntryIsInTheTreeAtItsOwnPlaceOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 60).Draw(t, "size")
		number := rapid.IntRange(1, size).Draw(t, "number")
		claimed := rapid.IntRange(0, size+1).Draw(t, "claimed")
		tree := grown(t, size, whole)
		h := head(t, tree, uint64(size))
		proof, err := tree.Inclusion(uint64(number), uint64(size))
		must(t, err)
		if err := h.Includes(uint64(claimed), whole(number), proof); (err == nil) != (claimed == number) {
			t.Errorf("entry %d is taken for entry %d of %d: %v", number, claimed, size, err)
		}
		if err := h.Includes(uint64(number), entry("two", number), proof); err == nil {
			t.Error("another entry is taken for it")
		}
		for i := range proof {
			bad := append([]events.Digest{}, proof...)
			bad[i][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			if err := h.Includes(uint64(number), whole(number), bad); err == nil {
				t.Error("an altered proof is taken")
			}
		}
	})
}

func TestWhateverIsFlippedInASealItIsRefused(t *testing.T) {
	by := signer(t, "publisher")
	sealed, err := seal.Sign(head(t, grown(t, 5, whole), 5), by)
	must(t, err)
	keys := []string{signer(t, "other").Public(), by.Public(), by.Public()}
	if h, err := seal.Open(sealed, ledgerID, keys); err != nil || h.Size != 5 {
		t.Fatalf("read back: %+v, %v", h, err)
	}
	for i := range len(sealed) {
		for bit := range 8 {
			b := []byte(sealed)
			b[i] ^= 1 << bit
			if h, err := seal.Open(string(b), ledgerID, keys); err == nil {
				t.Errorf("bit %d of byte %d is flipped, and it is taken as %+v", bit, i, h)
			}
		}
	}
	for name, other := range map[string]string{
		"cut": sealed[:len(sealed)-1], "with a line more": sealed + "— x AAAAAAAA\n", "twice signed": sealed + sealed[strings.LastIndex(sealed, "— "):], "empty": "",
		"long": sealed + strings.Repeat(" ", 5000),
	} {
		if _, err := seal.Open(other, ledgerID, keys); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	if _, err := seal.Open(sealed, "another", keys); err == nil {
		t.Error("it is taken for a seal of another ledger")
	}
	if _, err := seal.Open(sealed, ledgerID, keys[:1]); err == nil {
		t.Error("it is taken for a seal of another key")
	}
}

// Tools that know nothing of Lockstep check seals with the verifier key.
func TestASealIsAnOrdinarySignedNote(t *testing.T) {
	by := signer(t, "publisher")
	sealed, err := seal.Sign(head(t, grown(t, 3, whole), 3), by)
	must(t, err)
	key, err := seal.VerifierKey(ledgerID, by.Public())
	must(t, err)
	verifier, err := note.NewVerifier(key)
	must(t, err)
	n, err := note.Open([]byte(sealed), note.VerifierList(verifier))
	must(t, err)
	if want := "lockstep.dev/ledger/" + ledgerID + "\n3\n"; !strings.HasPrefix(n.Text, want) {
		t.Errorf("the text is %q, want it to begin with %q", n.Text, want)
	}
}

// asked is a question about a seal with its answer by a publisher.
func asked(t *testing.T, tree *seal.Tree, before seal.Head, size uint64, by *events.Signer, change func(*seal.Answer)) (seal.Question, []byte, string) {
	t.Helper()
	q := seal.Question{Head: before, Nonce: "n1"}
	a := seal.Answer{Nonce: q.Nonce, Asked: q.Head}
	var err error
	a.Seal, err = seal.Sign(head(t, tree, size), by)
	must(t, err)
	a.Proof, err = tree.Consistency(before.Size, size)
	must(t, err)
	if change != nil {
		change(&a)
	}
	payload, header, err := seal.EncodeAnswer(a, by)
	must(t, err)
	return q, payload, header
}

func TestAnAnswerServesTheQuestionItWasAsked(t *testing.T) {
	by := signer(t, "publisher")
	keys := []string{by.Public()}
	tree := grown(t, 20, whole)
	before := head(t, tree, 7)
	q, payload, header := asked(t, tree, before, 20, by, nil)
	if _, sealed, err := seal.DecodeAnswer(payload, header, q, keys); err != nil || sealed.Size != 20 {
		t.Fatalf("%+v, %v", sealed, err)
	}
	other := q
	other.Nonce = "n2"
	if _, _, err := seal.DecodeAnswer(payload, header, other, keys); err == nil || events.ReasonOf(err) == events.ReasonLedgerForked {
		t.Errorf("an answer that is said again: %v; it must be dropped, and prove no fork", err)
	}
	if _, _, err := seal.DecodeAnswer(payload, header, q, []string{signer(t, "other").Public()}); events.ReasonOf(err) != events.ReasonSignature {
		t.Errorf("an answer of somebody else: %v", err)
	}
	for i := range payload {
		b := append([]byte{}, payload...)
		b[i] ^= 1
		if _, _, err := seal.DecodeAnswer(b, header, q, keys); events.ReasonOf(err) != events.ReasonSignature {
			t.Fatalf("byte %d is altered: %v", i, err)
		}
	}
	forked := grown(t, 20, func(n int) []byte { return entry("two", n) })
	q, payload, header = asked(t, forked, before, 20, by, nil)
	if _, _, err := seal.DecodeAnswer(payload, header, q, keys); events.ReasonOf(err) != events.ReasonLedgerForked {
		t.Errorf("a signed answer of a forked ledger: %v", err)
	}
}

// lost is a ledger of which the entries first to last were lost, and the entry that says so.
func lost(t *testing.T, first, last uint64, size int) (*seal.Tree, []byte) {
	t.Helper()
	loss := events.HistoryRecovered{Loss: &events.Loss{First: first, Last: last, Entries: last - first + 1, Reason: "the disk is gone"}}
	_, said, err := events.NewEntry(uint64(size), events.Sum(nil), ledgerID, events.Command{By: "olga"}, events.Stamp(epoch), "", []events.Fact{{Type: events.TypeHistoryRecovered, Data: loss}})
	must(t, err)
	return grown(t, size, func(n int) []byte {
		switch {
		case n == size:
			return said
		case uint64(n) >= first && uint64(n) <= last:
			return entry("stand-in", n)
		}
		return whole(n)
	}), said
}

func TestALossThatWasAcceptedExplainsTheSealsOverIt(t *testing.T) {
	by := signer(t, "publisher")
	keys := []string{by.Public()}
	old := grown(t, 12, whole)
	tree, said := lost(t, 6, 9, 12)
	explain := func(a *seal.Answer) {
		proof, err := tree.Inclusion(12, 12)
		must(t, err)
		a.Proof, a.Loss = nil, &seal.Loss{Entry: said, Proof: proof}
	}
	for size, explained := range map[uint64]bool{5: false, 6: true, 8: true, 9: true, 10: false} {
		q, payload, header := asked(t, tree, head(t, old, size), 12, by, explain)
		a, _, err := seal.DecodeAnswer(payload, header, q, keys)
		if (err == nil) != explained {
			t.Errorf("a seal of %d entries: %v", size, err)
		}
		if said, err := a.Loss.Said(); err != nil || said.Reason != "the disk is gone" {
			t.Errorf("it says %+v, %v", said, err)
		}
	}
	q, payload, header := asked(t, tree, head(t, old, 8), 12, by, func(a *seal.Answer) {
		explain(a)
		a.Loss.Entry = []byte(strings.Replace(string(said), "the disk is gone", "the disk was gone", 1))
	})
	if _, _, err := seal.DecodeAnswer(payload, header, q, keys); err == nil {
		t.Error("a loss that is not in the ledger explains it")
	}
}
