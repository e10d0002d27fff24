package bus

import (
	"fmt"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Position is how far an environment's releases were followed.
type Position struct {
	Revision uint64        // 0: none
	Chain    events.Digest // chain digest of Revision; of revision 0: events.ChainStart
	Sequence uint64        // of its message in the stream; a hint that is checked; 0: unknown
}

// A Release is one authentic release: its place in the chain is proven, its content is for the reader to judge.
type Release struct {
	Revision uint64
	Chain    events.Digest
	Stored   // Sequence and Stamp of a live message are hints
}

// A Run is one or more releases with consecutive revisions.
type Run []Release

// Position is where a reader is after the run.
func (r Run) Position() Position {
	last := r[len(r)-1]
	return Position{last.Revision, last.Chain, last.Sequence}
}

// A Rejection is why a message was dropped.
type Rejection string

// The reasons for rejections; the list is closed.
const (
	RejectedMalformed   Rejection = "malformed"   // no release
	RejectedEnvironment Rejection = "environment" // for another environment
	RejectedSignature   Rejection = "signature"   // not signed by whom the reader trusts
)

// A candidate is a message that says it is a release; nothing of it is proven.
type candidate struct {
	Release
	previous events.Digest
}

type verdict int

const (
	known    verdict = iota // nothing new
	next                    // the revision after the position
	ahead                   // authentic, but there is a gap before it
	rejected                // not signed
	forked                  // authentic, and contradicts the position
)

// rules tell authentic releases of one environment from anything else.
type rules struct {
	environment string
	verify      func(chain events.Digest, signature string) error
	known       func(revision uint64) (events.Digest, bool)
	peek        func(payload []byte) // nil: nobody looks
	reject      func(Rejection)
}

// open reads where a message claims to belong.
func (r *rules) open(s Stored) (candidate, bool) {
	environment, revision, previous, err := events.PeekRelease(s.Payload)
	switch {
	case err != nil || revision == 0:
		r.reject(RejectedMalformed)
	case environment != r.environment:
		r.reject(RejectedEnvironment)
	default:
		if r.peek != nil {
			r.peek(s.Payload)
		}
		return candidate{Release{revision, events.Chain(previous, s.Payload), s}, previous}, true
	}
	return candidate{}, false
}

// digest is the chain digest of a revision up to at, where it is known.
func (r *rules) digest(at Position, revision uint64) (events.Digest, bool) {
	if revision == at.Revision {
		return at.Chain, true
	}
	if revision > at.Revision || r.known == nil {
		return events.Digest{}, false
	}
	return r.known(revision)
}

// judge says what one message means for a reader at a position.
func (r *rules) judge(at Position, c candidate) verdict {
	digest, ok := r.digest(at, c.Revision)
	if ok && digest == c.Chain {
		return known
	}
	if r.verify(c.Chain, c.Signature) != nil {
		r.reject(RejectedSignature)
		return rejected
	}
	switch {
	case ok:
		return forked
	case c.Revision <= at.Revision:
		return known // as far as anybody remembers
	case c.Revision > at.Revision+1:
		return ahead
	case c.previous != at.Chain:
		return forked
	}
	return next
}

// authenticate finds the run that continues a position: by one signature at its end where the messages are one chain, otherwise
// one by one, so that the good ones before a bad one count. Gap is the revision that was found instead of the next one.
func (r *rules) authenticate(at Position, messages []candidate) (run Run, gap uint64, err error) {
	if n := len(messages); n > 0 && chained(at, messages) && r.verify(messages[n-1].Chain, messages[n-1].Signature) == nil {
		run = make(Run, n)
		for i, c := range messages {
			run[i] = c.Release
		}
		return run, 0, nil
	}
	for _, c := range messages {
		switch r.judge(at, c) {
		case next:
			run = append(run, c.Release)
			at = run.Position()
		case ahead:
			return run, c.Revision, nil
		case forked:
			return run, 0, forkError(at, c)
		}
	}
	return run, 0, nil
}

func chained(at Position, messages []candidate) bool {
	for _, c := range messages {
		if c.Revision != at.Revision+1 || c.previous != at.Chain {
			return false
		}
		at.Revision, at.Chain = c.Revision, c.Chain
	}
	return true
}

func forkError(at Position, c candidate) error {
	return fmt.Errorf("%w: revision %d with the chain digest %s is signed, but does not continue or repeat what was accepted up to revision %d with %s: have the ledger looked at; nothing more is accepted",
		ErrForked, c.Revision, c.Chain.Short(), at.Revision, at.Chain.Short())
}
