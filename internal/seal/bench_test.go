package seal_test

import (
	"bytes"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/seal"
)

// BenchmarkAppend is what a publisher does for each entry that it has read back: behind the append, and on no release's way.
func BenchmarkAppend(b *testing.B) {
	entry := bytes.Repeat([]byte("entry "), 500) // 3 kB
	tree := &seal.Tree{}
	for b.Loop() {
		must(b, tree.Append(entry))
	}
}

// BenchmarkPulse is what a pulse costs its publisher: the root of 100,000 entries, the proof that they continue an earlier seal, and the
// signature.
func BenchmarkPulse(b *testing.B) {
	tree, by := grown(b, 100_000, whole), signer(b, "publisher")
	for b.Loop() {
		h := head(b, tree, 100_000)
		if _, err := tree.Consistency(77_777, h.Size); err != nil {
			b.Fatal(err)
		}
		if _, err := seal.Sign(h, by); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHear is what a pulse costs an agent.
func BenchmarkHear(b *testing.B) {
	tree, by := grown(b, 100_000, whole), signer(b, "publisher")
	before, keys := head(b, tree, 77_777), []string{by.Public()}
	proof, err := tree.Consistency(before.Size, tree.Size())
	must(b, err)
	sealed, err := seal.Sign(head(b, tree, tree.Size()), by)
	must(b, err)
	for b.Loop() {
		now, err := seal.Open(sealed, ledgerID, keys)
		must(b, err)
		must(b, now.Continues(before, proof))
	}
}
