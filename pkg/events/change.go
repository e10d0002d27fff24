package events

import (
	"encoding/json"
	"time"
)

// What an Operation does to its key.
const (
	OpSet    = "set"
	OpDelete = "delete"
)

// An Operation sets or deletes one resource of one environment. Values are canonical JSON, fully resolved.
type Operation struct {
	Op    string          `json:"op"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value,omitempty"`
	// Base is the key's setter that the operation was compiled against; zero when nothing had ever set the key.
	Base Digest `json:"base"`
}

// An Inverse undoes one Operation: it brings back the value and the setter before it. A delete with a setter brings back a
// tombstone, one without brings back a key that nothing ever set.
type Inverse struct {
	Op     string          `json:"op"`
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value,omitempty"`
	Setter Digest          `json:"setter"`
}

// OperationsDigest is the digest of a list of operations or inverses as Encode writes it.
func OperationsDigest[T Operation | Inverse](of []T) (Digest, error) {
	w := writer{b: make([]byte, 0, 512)}
	switch of := any(of).(type) {
	case []Operation:
		list(&w, of, w.operation)
	case []Inverse:
		list(&w, of, w.inverse)
	}
	return Sum(w.b), w.err
}

// A Leaf is what a change means for one environment; the Merkle root over a change's leaves, ordered by environment, is its
// digest. It names the change, so that a change proposed again after its rollback is another change and not a replay.
type Leaf struct {
	Change      string `json:"change"`
	Environment string `json:"environment"`
	Inverse     Digest `json:"inverse"`    // OperationsDigest of the inverses
	Operations  Digest `json:"operations"` // OperationsDigest of the operations, which carry their bases
}

// Hash is the leaf's Merkle leaf hash.
func (l Leaf) Hash() (Digest, error) {
	w := writer{b: make([]byte, 1, 512)} // a leaf's prefix is 0
	w.leaf(l)
	return Sum(w.b), w.err
}

// ChangeDigest is the digest of a change over its leaves, which are ordered by environment, and each leaf's path.
func ChangeDigest(leaves []Leaf) (root Digest, paths [][]Digest, err error) {
	hashes := make([]Digest, len(leaves))
	for i, l := range leaves {
		if hashes[i], err = l.Hash(); err != nil {
			return Digest{}, nil, err
		}
	}
	root, paths = MerklePaths(hashes)
	return root, paths, nil
}

// An Approval is one person's yes to a change's digest, or the break-glass that stands for all of them. It is a name, or where the
// trust document demands it the person's signed statement.
type Approval struct {
	By       string    `json:"by"`
	At       time.Time `json:"at"`
	Envelope *Envelope `json:"envelope,omitempty"`
}

// Provenance says where a change came from.
type Provenance struct {
	Repository string `json:"repository,omitempty"`
	Commit     string `json:"commit,omitempty"`
	Build      string `json:"build,omitempty"`
}

func (w *writer) leaf(l Leaf) {
	w.raw(`{"change":`)
	w.string(l.Change)
	w.raw(`,"environment":`)
	w.string(l.Environment)
	w.raw(`,"inverse":`)
	w.digest(l.Inverse)
	w.raw(`,"operations":`)
	w.digest(l.Operations)
	w.raw("}")
}
