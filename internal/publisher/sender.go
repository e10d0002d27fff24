package publisher

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A sender brings what the ledger released into the release stream and keeps the stream complete. It works while this publisher
// holds the lease; the expected sequence of every release makes a second one harmless.
//
// The stream is derived: where it does not hold exactly what the ledger released to an environment, that subject is purged and sent
// again from revision 1. Payloads are the same as before, and agents drop what they know.
type sender struct {
	book   *book
	conn   *bus.Conn
	signer *events.Signer
	log    zerolog.Logger
	wake   chan struct{} // there is something to send
	look   chan struct{} // the stream may not be what it was

	cursors map[string]*cursor // by environment; what is known to be in the stream

	mu    sync.Mutex
	fresh map[string][]byte // payloads just derived, by release id: no need to derive them again
}

// A cursor is what the stream holds of one environment.
type cursor struct {
	revision uint64 // newest in the stream
	sequence uint64 // of that message
}

const (
	// compareInterval is how often the stream is compared with the ledger.
	compareInterval = 10 * time.Second
	sendRetry       = time.Second
	sendBatch       = 1000
)

func newSender(b *book, conn *bus.Conn, signer *events.Signer, log zerolog.Logger) *sender {
	return &sender{
		book: b, conn: conn, signer: signer, log: log, wake: make(chan struct{}, 1), look: make(chan struct{}, 1), fresh: map[string][]byte{},
	}
}

// released takes note of new releases.
func (s *sender) released(list []ledger.Released) {
	s.mu.Lock()
	if len(s.fresh) < 2*sendBatch { // a publisher without the lease sends nothing, and must not gather payloads for ever
		for _, r := range list {
			s.fresh[events.ReleaseID(r.Environment, r.Revision)] = r.Payload
		}
	}
	s.mu.Unlock()
	nudge(s.wake)
}

// nudge leaves a signal in a channel of one place.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run sends until ctx ends, which is when the lease is lost.
func (s *sender) run(ctx context.Context) {
	s.cursors = map[string]*cursor{}
	s.clearFresh()
	tick := time.NewTicker(compareInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		pause := s.work(ctx)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-s.look:
			clear(s.cursors)
		case <-tick.C:
			s.compareCounts(ctx)
		case <-pause:
		}
	}
}

func (s *sender) clearFresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.fresh)
}

// work sends all that is to be sent. It returns when to try again, or nil when there is nothing left to do. While the ledger is
// not checked nothing is sent: what it releases may not be what it had released.
func (s *sender) work(ctx context.Context) <-chan time.Time {
	standing, changed := s.book.standingNow()
	if !standing.writable {
		go func() {
			select {
			case <-changed:
				nudge(s.wake)
			case <-ctx.Done():
			}
		}()
		return nil
	}
	for ctx.Err() == nil {
		batch, err := s.next(ctx)
		if err == nil && len(batch) == 0 {
			s.clearFresh()
			return nil
		}
		if err == nil {
			err = s.send(ctx, batch)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("releases could not be sent; trying again")
			return time.After(sendRetry)
		}
	}
	return nil
}

// next is the next release of every environment that is short of some.
func (s *sender) next(ctx context.Context) ([]ledger.Released, error) {
	heads := map[string]uint64{}
	s.book.read(func(state *ledger.State) {
		for name, e := range state.Environments {
			heads[name] = e.Head()
		}
	})
	var batch []ledger.Released
	for name, head := range heads {
		if len(batch) == sendBatch {
			break
		}
		c := s.cursors[name]
		if c == nil {
			var err error
			if c, err = s.locate(ctx, name); err != nil {
				return nil, err
			}
			s.cursors[name] = c
		}
		if c.revision < head {
			r, err := s.release(name, c.revision+1)
			if err != nil {
				return nil, err
			}
			batch = append(batch, r)
		}
	}
	return batch, nil
}

func (s *sender) release(environment string, revision uint64) (out ledger.Released, err error) {
	s.mu.Lock()
	payload := s.fresh[events.ReleaseID(environment, revision)]
	s.mu.Unlock()
	s.book.read(func(state *ledger.State) {
		out = ledger.Released{Environment: environment, Release: state.Environments[environment].Releases[revision-1], Payload: payload}
		if payload == nil {
			out.Payload, err = state.Payload(environment, revision)
		}
	})
	return out, err
}

// send signs a batch, wave by wave, and sends it. What another publisher sent first, or somebody put there, is looked at anew.
func (s *sender) send(ctx context.Context, batch []ledger.Released) error {
	headers := map[uint64][]string{}
	outgoing := make([]bus.Outgoing, len(batch))
	for i, r := range batch {
		if headers[r.Entry] == nil {
			signed, err := s.sign(r.Entry)
			if err != nil {
				return err
			}
			headers[r.Entry] = signed
		}
		outgoing[i] = bus.Outgoing{Environment: r.Environment, Payload: r.Payload, Signature: headers[r.Entry][r.Place], ExpectedLast: s.cursors[r.Environment].sequence}
	}
	var failed error
	for i, result := range s.conn.Send(ctx, outgoing) {
		environment := batch[i].Environment
		switch {
		case result.Err == nil:
			s.cursors[environment] = &cursor{batch[i].Revision, result.Sequence}
		case errors.Is(result.Err, bus.ErrConflict):
			delete(s.cursors, environment)
		default:
			delete(s.cursors, environment)
			failed = result.Err
		}
	}
	return failed
}

// sign signs a wave: once for all its releases.
func (s *sender) sign(entry uint64) (headers []string, err error) {
	var chains []events.Digest
	var id string
	s.book.read(func(state *ledger.State) {
		id = state.ID
		for _, ref := range state.Wave(entry) {
			chains = append(chains, ref.Chain)
		}
	})
	return s.signer.SignWave(id, chains)
}

// locate finds out what the stream holds of an environment. Anything but the ledger's releases up to some revision, each once, is
// purged.
func (s *sender) locate(ctx context.Context, environment string) (*cursor, error) {
	want := uint64(0)
	at := &cursor{}
	foreign := false
	err := s.conn.ReadReleases(ctx, environment, func(m bus.Stored) error {
		want++
		at.revision, at.sequence = want, m.Sequence
		foreign = foreign || !s.isRelease(environment, want, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !foreign {
		return at, nil
	}
	s.log.Warn().Str("environment", environment).Msg("the release stream does not hold what the ledger released; sending it again")
	if err := s.conn.PurgeReleases(ctx, environment); err != nil {
		return nil, err
	}
	return &cursor{}, nil
}

// isRelease says whether a message is the ledger's revision, validly signed.
func (s *sender) isRelease(environment string, revision uint64, m bus.Stored) (ok bool) {
	_, _, previous, err := events.PeekRelease(m.Payload)
	if err != nil {
		return false
	}
	chain := events.Chain(previous, m.Payload)
	s.book.read(func(state *ledger.State) {
		e := state.Environments[environment]
		ok = revision <= e.Head() && e.Releases[revision-1].Chain == chain &&
			events.VerifyWave(state.ID, chain, m.Signature, state.Trust().AllowsPublisher) == nil
	})
	return ok
}

// compareCounts compares the number of messages in the stream with what is known to be there. A subject that belongs to no
// environment is purged.
func (s *sender) compareCounts(ctx context.Context) {
	counts, err := s.conn.ReleaseCounts(ctx)
	if err != nil {
		return // the next look comes soon
	}
	for environment, c := range s.cursors {
		if counts[environment] != c.revision {
			delete(s.cursors, environment)
		}
	}
	for name := range counts {
		known := false
		s.book.read(func(state *ledger.State) { _, known = state.Environments[name] })
		if known || events.CheckName(name) != nil {
			continue
		}
		s.log.Warn().Str("environment", name).Msg("the release stream held messages of an environment that does not exist; removing them")
		if err := s.conn.PurgeReleases(ctx, name); err != nil {
			s.log.Warn().Err(err).Msg("they could not be removed; trying again")
		}
	}
}
