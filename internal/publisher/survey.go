package publisher

import (
	"context"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A reading is what was found in the release stream: how far each environment's releases go, how the newest is signed, and where
// there is something else.
type reading struct {
	sender     *sender
	cursors    map[string]cursor
	signatures map[string]string
	foreign    map[string]bool
}

func (s *sender) newReading() *reading {
	return &reading{sender: s, cursors: map[string]cursor{}, signatures: map[string]string{}, foreign: map[string]bool{}}
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
	if err := r.purge(ctx); err != nil {
		return err
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
	if err := r.purge(ctx); err != nil {
		return err
	}
	s.cursors[environment] = r.cursors[environment]
	return nil
}

// take judges the next message of an environment. What seems foreign is judged again with the ledger read to its end: another
// publisher may have sent what was not read here yet.
func (r *reading) take(ctx context.Context, environment string, m bus.Stored) error {
	if r.foreign[environment] {
		return nil
	}
	revision := r.cursors[environment].revision + 1
	if !r.sender.isRelease(environment, revision, m) {
		if err := r.sender.book.sync(ctx); err != nil {
			return err
		}
		if !r.sender.isRelease(environment, revision, m) {
			r.foreign[environment] = true
			err := r.sender.contradicts(environment, m)
			if err != nil {
				nudge(r.sender.recheck)
			}
			return err
		}
	}
	r.cursors[environment], r.signatures[environment] = cursor{revision, m.Sequence}, m.Signature
	return nil
}

// purge removes what is foreign. The newest release has to be validly signed: whoever reads up to it believes the others by it.
func (r *reading) purge(ctx context.Context) error {
	for environment, signature := range r.signatures {
		if !r.sender.isSigned(environment, r.cursors[environment].revision, signature) {
			r.foreign[environment] = true
		}
	}
	for environment := range r.foreign {
		r.sender.log.Warn().Str("environment", environment).Msg("the release stream does not hold what the ledger released; sending it again")
		if err := r.sender.book.fault.Step(fault.ReleasesPurged, func() error { return r.sender.conn.PurgeReleases(ctx, environment) }); err != nil {
			return err
		}
		r.cursors[environment] = cursor{}
	}
	return nil
}

// isRelease says whether a message is the ledger's revision.
func (s *sender) isRelease(environment string, revision uint64, m bus.Stored) (ok bool) {
	_, _, previous, err := events.PeekRelease(m.Payload)
	if err != nil {
		return false
	}
	chain := events.Chain(previous, m.Payload)
	s.book.read(func(state *ledger.State) {
		e := state.Environments[environment]
		ok = e != nil && e.OnChain(revision, chain) == nil
	})
	return ok
}

// isSigned says whether a signature of the ledger's revision is one that agents believe.
func (s *sender) isSigned(environment string, revision uint64, signature string) (ok bool) {
	s.book.read(func(state *ledger.State) {
		e := state.Environments[environment]
		ok = e != nil && events.VerifyWave(state.ID, e.Releases[revision-1].Chain, signature, state.Trust().AllowsPublisher) == nil
	})
	return ok
}

// compare looks whether the stream holds as many messages as are known to be there and no newer ones.
func (s *sender) compare(ctx context.Context) {
	counts, last, err := s.conn.ReleaseCounts(ctx)
	if ctx.Err() != nil {
		return // the lease was given back
	}
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
