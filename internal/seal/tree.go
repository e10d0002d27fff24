package seal

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Tree is the Merkle tree (RFC 6962) over the bytes of a ledger's entries; entry n is leaf n-1. It is grown entry by entry and
// keeps 64 bytes of each. The zero Tree is empty. It is not safe for concurrent use.
type Tree struct {
	size   int64
	hashes stored
}

// stored are the hashes of all subtrees that are full, as tlog orders them.
type stored []tlog.Hash

// ReadHashes implements tlog.HashReader.
func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= int64(len(s)) {
			return nil, fmt.Errorf("the tree has no hash %d", index)
		}
		out[i] = s[index]
	}
	return out, nil
}

// Append adds the next entry.
func (t *Tree) Append(entry []byte) error {
	hashes, err := tlog.StoredHashes(t.size, entry, t.hashes)
	if err != nil {
		return fmt.Errorf("add entry %d to the tree: %w", t.size+1, err)
	}
	t.hashes, t.size = append(t.hashes, hashes...), t.size+1
	return nil
}

// Size is how many entries the tree has.
func (t *Tree) Size() uint64 { return uint64(t.size) }

// Root is the tree's hash as it was when it had size entries.
func (t *Tree) Root(size uint64) (events.Digest, error) {
	if err := t.holds(size); err != nil {
		return events.Digest{}, err
	}
	root, err := tlog.TreeHash(int64(size), t.hashes)
	return events.Digest(root), err
}

// Inclusion proves that entry number is in the tree of the first size entries.
func (t *Tree) Inclusion(number, size uint64) ([]events.Digest, error) {
	if err := t.holds(size); err != nil {
		return nil, err
	}
	if number == 0 || number > size {
		return nil, fmt.Errorf("entry %d is not among the first %d", number, size)
	}
	proof, err := tlog.ProveRecord(int64(size), int64(number-1), t.hashes)
	return digests(proof), err
}

// Consistency proves that the tree of the first size entries begins with the tree of the first from.
func (t *Tree) Consistency(from, size uint64) ([]events.Digest, error) {
	if err := t.holds(size); err != nil {
		return nil, err
	}
	if from == 0 || from > size {
		return nil, fmt.Errorf("a ledger of %d entries does not continue one of %d", size, from)
	}
	proof, err := tlog.ProveTree(int64(size), int64(from), t.hashes)
	return digests(proof), err
}

func (t *Tree) holds(size uint64) error {
	if size == 0 || size > t.Size() {
		return fmt.Errorf("the tree has %d entries, not %d", t.size, size)
	}
	return nil
}

func digests(hashes []tlog.Hash) []events.Digest {
	out := make([]events.Digest, len(hashes))
	for i, h := range hashes {
		out[i] = events.Digest(h)
	}
	return out
}

func hashes(digests []events.Digest) []tlog.Hash {
	out := make([]tlog.Hash, len(digests))
	for i, d := range digests {
		out[i] = tlog.Hash(d)
	}
	return out
}

// most bounds the numbers that proofs are asked about: beyond it they would not fit the library's.
const most = 1 << 53

// Includes checks the proof that an entry with a number is in the sealed ledger. Errors have ReasonLedgerForked.
func (h Head) Includes(number uint64, entry []byte, proof []events.Digest) error {
	if number == 0 || number > h.Size || h.Size > most {
		return events.Errorf(events.ReasonLedgerForked, "entry %d is not among the %d that are sealed", number, h.Size)
	}
	if err := tlog.CheckRecord(hashes(proof), int64(h.Size), tlog.Hash(h.Root), int64(number-1), tlog.RecordHash(entry)); err != nil {
		return events.Errorf(events.ReasonLedgerForked, "entry %d is not in the sealed ledger of %d entries: %w", number, h.Size, err)
	}
	return nil
}

// Continues checks the proof that the sealed ledger begins with an earlier one. Errors have ReasonLedgerForked.
func (h Head) Continues(before Head, proof []events.Digest) error {
	switch {
	case h.Ledger != before.Ledger:
		return events.Errorf(events.ReasonLedgerForked, "a seal of ledger %s does not continue one of ledger %s", h.Ledger, before.Ledger)
	case before.Size == 0 || before.Size > h.Size || h.Size > most:
		return events.Errorf(events.ReasonLedgerForked, "a ledger of %d entries does not continue one of %d", h.Size, before.Size)
	case before.Size == h.Size:
		if before.Root != h.Root || len(proof) > 0 {
			return events.Errorf(events.ReasonLedgerForked, "the first %d entries are sealed as %s, and were sealed as %s before", h.Size, h.Root.Short(), before.Root.Short())
		}
		return nil
	}
	if err := tlog.CheckTree(hashes(proof), int64(h.Size), tlog.Hash(h.Root), int64(before.Size), tlog.Hash(before.Root)); err != nil {
		return events.Errorf(events.ReasonLedgerForked, "the sealed ledger of %d entries does not begin with the %d that were sealed before: %w", h.Size, before.Size, err)
	}
	return nil
}
