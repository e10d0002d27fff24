package publisher

import (
	"context"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A reading is what was found in the release stream: how far each environment's releases go, and where there is something else.
type reading struct {
	sender  *sender
	cursors map[string]cursor
	foreign map[string]bool
	headers map[uint64][]string // as this publisher signs them, by entry
}

func (s *sender) newReading() *reading {
	return &reading{sender: s, cursors: map[string]cursor{}, foreign: map[string]bool{}, headers: map[uint64][]string{}}
}

// survey finds out what the whole stream holds. Anything but the ledger's releases up to some revision, each once, is purged.
func (s *sender) survey(ctx context.Context) error {
	r := s.newReading()
	last, err := s.conn.ReadAllReleases(ctx, func(environment string, m bus.Stored) error { return r.take(ctx, environment, m) })
	if err != nil {
		return err
	}
	s.book.read(func(state *ledger.State) {
		for name := range state.Environments {
			if _, found := r.cursors[name]; !found {
				r.cursors[name] = cursor{}
			}
		}
	})
	for environment := range r.foreign {
		if err := s.purge(ctx, environment); err != nil {
			return err
		}
		r.cursors[environment] = cursor{}
	}
	s.cursors, s.last, s.surveyed = r.cursors, last, true
	return nil
}

// locate finds out the same of one environment.
func (s *sender) locate(ctx context.Context, environment string) error {
	r := s.newReading()
	if err := s.conn.ReadReleases(ctx, environment, func(m bus.Stored) error { return r.take(ctx, environment, m) }); err != nil {
		return err
	}
	if r.foreign[environment] {
		if err := s.purge(ctx, environment); err != nil {
			return err
		}
		delete(r.cursors, environment)
	}
	s.cursors[environment] = r.cursors[environment]
	return nil
}

func (s *sender) purge(ctx context.Context, environment string) error {
	s.log.Warn().Str("environment", environment).Msg("the release stream does not hold what the ledger released; sending it again")
	return s.conn.PurgeReleases(ctx, environment)
}

// take judges the next message of an environment. What seems foreign is judged again with the ledger read to its end: another
// publisher may have sent what was not read here yet.
func (r *reading) take(ctx context.Context, environment string, m bus.Stored) error {
	if r.foreign[environment] {
		return nil
	}
	c := cursor{r.cursors[environment].revision + 1, m.Sequence}
	if !r.isRelease(environment, c.revision, m) {
		if err := r.sender.book.sync(ctx); err != nil {
			return err
		}
		if r.foreign[environment] = !r.isRelease(environment, c.revision, m); r.foreign[environment] {
			err := r.sender.contradicts(environment, m)
			if err != nil {
				nudge(r.sender.recheck)
			}
			return err
		}
	}
	r.cursors[environment] = c
	return nil
}

// isRelease says whether a message is the ledger's revision, validly signed.
func (r *reading) isRelease(environment string, revision uint64, m bus.Stored) bool {
	_, _, previous, err := events.PeekRelease(m.Payload)
	if err != nil {
		return false
	}
	chain := events.Chain(previous, m.Payload)
	var entry uint64
	var place int
	var valid func() bool
	r.sender.book.read(func(state *ledger.State) {
		if e := state.Environments[environment]; e != nil && e.OnChain(revision, chain) == nil {
			entry, place = e.Releases[revision-1].Entry, e.Releases[revision-1].Place
			id, allows := state.ID, state.Trust().AllowsPublisher
			valid = func() bool { return events.VerifyWave(id, chain, m.Signature, allows) == nil }
		}
	})
	if valid == nil {
		return false
	}
	// A wave signed once is cheaper than a signature verified for each of its releases.
	if r.headers[entry] == nil {
		r.headers[entry], _ = r.sender.sign(entry) // where that fails, verifying decides
	}
	return place < len(r.headers[entry]) && r.headers[entry][place] == m.Signature || valid()
}

// compare looks whether the stream holds as many messages as are known to be there and no newer ones.
func (s *sender) compare(ctx context.Context) {
	counts, last, err := s.conn.ReleaseCounts(ctx)
	if err != nil {
		s.log.Warn().Err(err).Msg("the release stream could not be looked at; trying again")
		return
	}
	same := last == s.last
	for environment, c := range s.cursors {
		same = same && counts[environment] == c.revision
	}
	s.surveyed = s.surveyed && same
}
