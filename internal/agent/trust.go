package agent

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// believed are the publisher keys that count now: those of the newest verified trust document, which takes effect also behind a
// release that fails; before there is any, those of the enrolment. It is safe for concurrent use.
type believed struct {
	enrolment *keys.Enrolment

	mu     sync.Mutex
	newest *events.Trust // accepted at its place in the chain, or pinned
	ahead  *events.Trust // read ahead of that; nil where there is none
}

// believe begins with what an enrolment pins.
func believe(e *keys.Enrolment) (*believed, error) {
	pinned, err := e.Pinned()
	if err != nil {
		return nil, fmt.Errorf("enrolment: %w: enrol the agent again", err)
	}
	return &believed{enrolment: e, newest: pinned}, nil
}

// learn takes a verified trust document and says whether it is newer.
func (b *believed) learn(t *events.Trust) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t == nil || (b.newest != nil && t.Version <= b.newest.Version) {
		return false
	}
	b.newest = t
	if b.ahead != nil && b.ahead.Version <= t.Version {
		b.ahead = nil
	}
	return true
}

// readAhead takes the next trust document from a message that is not verified, and may never be: the document stands on the signatures
// of its roots, so that a publisher whose key was replaced is believed by agents that have not come to the replacement yet, and a stolen
// key no more. The first document that has roots stands on the publisher's word, and waits for its place in the chain.
func (b *believed) readAhead(payload []byte) {
	if !bytes.Contains(payload, []byte(`"kind":"trust"`)) {
		return
	}
	r, _, err := events.DecodeRelease(payload)
	if err != nil || r.Kind != events.KindTrust {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.counts(); now != nil && now.Approvals == events.ApprovalsAreSigned && r.Trust.CheckSuccession(now) == nil {
		b.ahead = r.Trust
	}
}

// counts is the document whose publishers count; nil before there is any.
func (b *believed) counts() *events.Trust {
	if b.ahead != nil {
		return b.ahead
	}
	return b.newest
}

func (b *believed) allows(key string) bool { return slices.Contains(b.publishers(), key) }

// publishers are the keys; nobody changes the list.
func (b *believed) publishers() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.counts(); now != nil {
		return now.Publishers
	}
	return b.enrolment.Publishers
}

// verify says whether a chain digest is the publisher's: signed, or the head that the enrolment pins.
func (b *believed) verify(chain events.Digest, signature string) error {
	if chain == b.enrolment.Head.Chain {
		return nil
	}
	return events.VerifyWave(b.enrolment.Ledger, chain, signature, b.allows)
}
