package agent

import (
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
	newest *events.Trust
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
	return true
}

func (b *believed) allows(key string) bool { return slices.Contains(b.publishers(), key) }

// publishers are the keys; nobody changes the list.
func (b *believed) publishers() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.newest != nil {
		return b.newest.Publishers
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
