package events

import "crypto/sha256"

// LeafHash is the Merkle leaf hash of data (RFC 6962 section 2.1).
func LeafHash(data []byte) Digest {
	return Sum(append([]byte{0}, data...))
}

func nodeHash(left, right Digest) Digest {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return Sum(b[:])
}

// MerkleRoot is the Merkle tree head over leaf hashes (RFC 6962 section 2.1). The root of no leaves is the hash of nothing.
func MerkleRoot(leaves []Digest) Digest {
	switch len(leaves) {
	case 0:
		return Sum(nil)
	case 1:
		return leaves[0]
	}
	k := split(len(leaves))
	return nodeHash(MerkleRoot(leaves[:k]), MerkleRoot(leaves[k:]))
}

// MerklePaths is the audit path (RFC 6962 section 2.1.1) of every leaf, made in one pass over the tree.
func MerklePaths(leaves []Digest) (root Digest, paths [][]Digest) {
	paths = make([][]Digest, len(leaves))
	var walk func(lo, hi int) Digest
	walk = func(lo, hi int) Digest {
		if hi-lo == 1 {
			return leaves[lo]
		}
		k := lo + split(hi-lo)
		left, right := walk(lo, k), walk(k, hi)
		for i := lo; i < k; i++ {
			paths[i] = append(paths[i], right)
		}
		for i := k; i < hi; i++ {
			paths[i] = append(paths[i], left)
		}
		return nodeHash(left, right)
	}
	if len(leaves) == 0 {
		return Sum(nil), paths
	}
	return walk(0, len(leaves)), paths
}

// RootFromPath is the root that a leaf hash at index of a tree of size leaves has by its path (RFC 9162 section 2.1.3.2). ok is
// false when the path has another length than the index and size demand.
func RootFromPath(leaf Digest, index, size uint64, path []Digest) (root Digest, ok bool) {
	if index >= size {
		return Digest{}, false
	}
	fn, sn, r := index, size-1, leaf
	for _, p := range path {
		if sn == 0 {
			return Digest{}, false
		}
		if fn&1 == 1 || fn == sn {
			r = nodeHash(p, r)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			r = nodeHash(r, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	return r, sn == 0
}

// split is the largest power of two smaller than n; n is at least 2.
func split(n int) int {
	k := 1
	for k<<1 < n {
		k <<= 1
	}
	return k
}
