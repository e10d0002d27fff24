package fold

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"iter"
	"maps"
	"slices"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Resource is what the fold knows of one key. A nil Value is a tombstone: the key is absent, and Setter is the change that
// deleted it.
type Resource struct {
	Value  json.RawMessage // canonical JSON
	Setter events.Digest   // the change that last set or deleted the key
}

// A State is all resources of an environment with their setters and tombstones. The zero State is empty and ready to use.
type State struct {
	resources map[string]Resource
	buckets   [256]bucket
	hashes    [256 * sha256.Size]byte // of the buckets
	digest    events.Digest           // of the hashes; zero where a bucket changed since
}

// A bucket holds the keys whose SHA-256 begins with its number (state digest v1).
type bucket struct {
	items []item // sorted by key
	fresh bool   // its hash is of items
}

type item struct{ key, value events.Digest }

// Get is the resource of a key; ok is false for a key that nothing ever set. A tombstone is ok with a nil Value.
func (s *State) Get(key string) (r Resource, ok bool) {
	r, ok = s.resources[key]
	return r, ok
}

// Set replaces the resource of a key. A resource without value and setter removes every trace of the key.
func (s *State) Set(key string, r Resource) {
	if s.resources == nil {
		s.resources = map[string]Resource{}
	}
	if r.Value == nil && r.Setter.IsZero() {
		delete(s.resources, key)
	} else {
		s.resources[key] = r
	}
	hash := events.Sum([]byte(key))
	b := &s.buckets[hash[0]]
	b.fresh, s.digest = false, events.Digest{}
	i, found := slices.BinarySearchFunc(b.items, hash, func(it item, h events.Digest) int { return bytes.Compare(it.key[:], h[:]) })
	switch {
	case r.Value == nil && found:
		b.items = slices.Delete(b.items, i, i+1)
	case r.Value == nil:
	case found:
		b.items[i].value = events.Sum(r.Value)
	default:
		b.items = slices.Insert(b.items, i, item{hash, events.Sum(r.Value)})
	}
}

// Len is how many values are present.
func (s *State) Len() int {
	n := 0
	for i := range s.buckets {
		n += len(s.buckets[i].items)
	}
	return n
}

// All yields every resource, tombstones too, ordered by key.
func (s *State) All() iter.Seq2[string, Resource] {
	return func(yield func(string, Resource) bool) {
		for _, key := range slices.Sorted(maps.Keys(s.resources)) {
			if !yield(key, s.resources[key]) {
				return
			}
		}
	}
}

// Values are the present values by key.
func (s *State) Values() map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(s.resources))
	for key, r := range s.resources {
		if r.Value != nil {
			out[key] = r.Value
		}
	}
	return out
}

// Digest is the state digest v1: a hash over the hashes of 256 buckets, each over its sorted (SHA-256(key) ‖ SHA-256(canonical
// value)); tombstones are outside it. Only the buckets that changed since the last call are hashed again.
func (s *State) Digest() events.Digest {
	if !s.digest.IsZero() {
		return s.digest
	}
	for i := range s.buckets {
		b := &s.buckets[i]
		if !b.fresh {
			text := make([]byte, 0, 32*sha256.Size) // on the stack: in a state of some thousand keys it suffices
			for _, it := range b.items {
				text = append(append(text, it.key[:]...), it.value[:]...)
			}
			hash := events.Sum(text)
			copy(s.hashes[i*sha256.Size:], hash[:])
			b.fresh = true
		}
	}
	s.digest = events.Sum(s.hashes[:])
	return s.digest
}

// With is the state digest that the state would have with some values replaced: what it will be after a release, or what was
// read back from an instance. A nil value means that the key is absent.
func (s *State) With(values map[string]json.RawMessage) events.Digest {
	is := s.Digest()
	if len(values) == 0 {
		return is
	}
	before := make(map[string]Resource, len(values))
	for key, there := range values {
		before[key] = s.resources[key]
		s.Set(key, Resource{Value: there, Setter: before[key].Setter})
	}
	would := s.Digest()
	for key, r := range before {
		s.Set(key, r)
	}
	s.digest = is
	return would
}
