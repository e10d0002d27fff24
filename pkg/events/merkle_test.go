package events_test

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// The inputs and roots that Certificate Transparency implementations of RFC 6962 test with.
var (
	transparencyLeaves = []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	transparencyRoots  = []string{
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
)

func TestMerkleTreesAreThoseOfRFC6962(t *testing.T) {
	var leaves []events.Digest
	if got := events.MerkleRoot(nil).String(); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("the root of nothing is %s", got)
	}
	for i, leaf := range transparencyLeaves {
		data, err := hex.DecodeString(leaf)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, events.LeafHash(data))
		if got := events.MerkleRoot(leaves).String(); got != transparencyRoots[i] {
			t.Errorf("%d leaves: root %s, want %s", i+1, got, transparencyRoots[i])
		}
	}
}

func TestEveryLeafHasAPathAndNoAlteredOneVerifies(t *testing.T) {
	for size := 1; size <= 40; size++ {
		leaves := make([]events.Digest, size)
		for i := range leaves {
			leaves[i] = events.LeafHash([]byte{byte(i)})
		}
		root, paths := events.MerklePaths(leaves)
		if root != events.MerkleRoot(leaves) {
			t.Fatalf("size %d: two roots", size)
		}
		for i, path := range paths {
			verifies := func(leaf events.Digest, index, size int, path []events.Digest) bool {
				got, ok := events.RootFromPath(leaf, uint64(index), uint64(size), path)
				return ok && got == root
			}
			if !verifies(leaves[i], i, size, path) {
				t.Fatalf("leaf %d of %d does not verify", i, size)
			}
			for other := range size {
				if other != i && verifies(leaves[i], other, size, path) {
					t.Errorf("leaf %d of %d verifies as leaf %d", i, size, other)
				}
				if other != i && verifies(leaves[other], i, size, path) {
					t.Errorf("leaf %d of %d verifies in the place of %d", other, size, i)
				}
			}
			for j := range path {
				altered := slices.Clone(path)
				altered[j][7] ^= 1
				if verifies(leaves[i], i, size, altered) {
					t.Errorf("leaf %d of %d verifies with hash %d altered", i, size, j)
				}
				if verifies(leaves[i], i, size, slices.Delete(slices.Clone(path), j, j+1)) {
					t.Errorf("leaf %d of %d verifies without hash %d", i, size, j)
				}
				if verifies(leaves[i], i, size, slices.Insert(slices.Clone(path), j, path[j])) {
					t.Errorf("leaf %d of %d verifies with hash %d twice", i, size, j)
				}
			}
			if verifies(leaves[i], size, size, path) || verifies(leaves[i], i, 0, path) || verifies(leaves[i], i, size, append(slices.Clone(path), root)) {
				t.Errorf("leaf %d of %d verifies out of bounds", i, size)
			}
		}
	}
}

func TestDigestsHaveOneSpelling(t *testing.T) {
	d := events.Sum([]byte("x"))
	for _, s := range []string{"", d.String()} {
		if got, err := events.ParseDigest(s); err != nil || got.String() != s {
			t.Errorf("%q reads as %q (%v)", s, got, err)
		}
	}
	for _, s := range []string{"0", d.String() + "0", d.String()[1:], "A" + d.String()[1:], " " + d.String()[1:], "0000000000000000000000000000000000000000000000000000000000000000"} {
		if got, err := events.ParseDigest(s); err == nil {
			t.Errorf("%q reads as %q", s, got)
		}
	}
	if d.Short() != d.String()[:12] || (events.Digest{}).Short() != "-" {
		t.Error(d.Short())
	}
}
