package publisher

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A sender brings what the ledger released into the release stream and keeps the stream complete. It works while this publisher
// holds the lease and its ledger is checked; the expected sequence of every release makes a second one harmless.
//
// The stream is derived: where it does not hold exactly what the ledger released to an environment, that subject is purged and sent
// again from revision 1. Payloads are the same as before, and agents drop what they know. Only what contradicts the ledger and is
// validly signed is left where it is: it shows that the ledger is not what it was.
type sender struct {
	book   *book
	conn   *bus.Conn
	signer *events.Signer
	log    zerolog.Logger
	tracer trace.Tracer
	every  time.Duration // how often the stream is compared with the ledger

	contradicts func(environment string, m bus.Stored) error
	published   func(r ledger.Released, took time.Duration) // told how long a release took from its decision to the bus
	recheck     chan struct{}                               // the ledger is to be checked
	wake        chan struct{}                               // there is something to send
	look        chan struct{}                               // the stream may not be what it was

	cursors  map[string]cursor // what is known to be in the stream, by environment
	surveyed bool              // cursors are of the whole stream
	last     uint64            // sequence of the stream's last message as far as it was looked at or sent

	mu    sync.Mutex
	fresh map[string]derived // releases just derived, by release id: no need to derive them again
}

// A derived release is one that was decided just now.
type derived struct {
	ledger.Released
	at time.Time
}

// A cursor is what the stream holds of one environment.
type cursor struct {
	revision uint64 // newest in the stream
	sequence uint64 // of that message
}

const (
	sendRetry = time.Second
	sendBatch = 1000
)

func newSender(p *Publisher) *sender {
	return &sender{
		book: p.book, conn: p.conn, signer: p.signer, log: p.log, tracer: p.opts.Tracer, every: p.opts.Recheck, contradicts: p.contradicts,
		recheck: p.recheck, wake: make(chan struct{}, 1), look: make(chan struct{}, 1), fresh: map[string]derived{},
	}
}

// released takes note of new releases.
func (s *sender) released(list []ledger.Released) {
	s.mu.Lock()
	if len(s.fresh) < 2*sendBatch { // a publisher without the lease sends nothing, and must not gather payloads for ever
		for _, r := range list {
			s.fresh[events.ReleaseID(r.Environment, r.Revision)] = derived{r, time.Now()}
		}
	}
	s.mu.Unlock()
	nudge(s.wake)
}

// forgetSent keeps of what was derived what the stream does not hold: that may have been decided since the sender last looked.
func (s *sender) forgetSent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.fresh, func(_ string, r derived) bool { return r.Revision <= s.cursors[r.Environment].revision })
}

// run sends until ctx ends, which is when the lease is lost.
func (s *sender) run(ctx context.Context) {
	s.surveyed = false
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for ctx.Err() == nil {
		standing, changed := s.book.standingNow()
		var again <-chan time.Time
		if standing.writable { // otherwise what the ledger releases may not be what it had released
			if err := s.work(ctx); err != nil && ctx.Err() == nil {
				line := s.log.Warn().Err(err)
				if u, ok := errors.AsType[*unsent](err); ok {
					ofRelease(line, u.Environment, u.Release).Int("others", u.others)
				}
				line.Msg("releases could not be sent; trying again")
				again = time.After(sendRetry)
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		case <-s.wake:
		case <-s.look:
			s.surveyed = false
		case <-tick.C:
			s.compare(ctx)
		}
	}
}

// work sends all that is to be sent.
func (s *sender) work(ctx context.Context) error {
	if !s.surveyed {
		if err := s.survey(ctx); err != nil {
			return err
		}
	}
	for {
		batch, err := s.next(ctx)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			s.forgetSent()
			return nil
		}
		if err := s.send(ctx, batch); err != nil {
			return err
		}
	}
}

// next is the next release of every environment that is short of some.
func (s *sender) next(ctx context.Context) (batch []ledger.Released, err error) {
	heads := map[string]uint64{}
	s.book.read(func(state *ledger.State) {
		for name, e := range state.Environments {
			if c, located := s.cursors[name]; !located || c.revision < e.Head() {
				heads[name] = e.Head()
			}
		}
	})
	for name, head := range heads {
		if len(batch) == sendBatch {
			break
		}
		if _, located := s.cursors[name]; !located {
			if err := s.locate(ctx, name); err != nil {
				return nil, err
			}
		}
		if c := s.cursors[name]; c.revision < head {
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
	payload := s.fresh[events.ReleaseID(environment, revision)].Payload
	s.mu.Unlock()
	s.book.read(func(state *ledger.State) {
		r := state.Environments[environment].Releases[revision-1]
		if events.Chain(r.Previous, payload) != r.Chain { // not derived just now, or before the state was made anew
			payload, err = state.Payload(environment, revision)
		}
		out = ledger.Released{Environment: environment, Release: r, Payload: payload}
	})
	return out, err
}

// send signs a batch, wave by wave, and sends it. Where another publisher sent first, or somebody put something, is looked at anew.
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
	var results []bus.Result
	began := time.Now()
	failed := s.book.fault.Step(fault.ReleasesSent, func() error { results = s.conn.Send(ctx, outgoing); return nil })
	for i, result := range results {
		if result.Err == nil {
			s.cursors[batch[i].Environment] = cursor{batch[i].Revision, result.Sequence}
			s.last = max(s.last, result.Sequence)
			s.notePublished(batch[i], began)
			continue
		}
		delete(s.cursors, batch[i].Environment)
		if errors.Is(result.Err, bus.ErrConflict) {
			continue
		}
		if first, ok := failed.(*unsent); ok {
			first.others++
		} else {
			failed = &unsent{batch[i], 0, result.Err}
		}
	}
	return failed
}

// An unsent release is the first of those that the bus did not take.
type unsent struct {
	ledger.Released
	others int
	err    error
}

func (u *unsent) Error() string { return u.err.Error() }

func (u *unsent) Unwrap() error { return u.err }

// notePublished tells how long a release took that was decided just now, and began to be sent then; one that is sent again was not.
func (s *sender) notePublished(r ledger.Released, began time.Time) {
	s.mu.Lock()
	fresh, found := s.fresh[events.ReleaseID(r.Environment, r.Revision)]
	s.mu.Unlock()
	if found {
		s.published(r, time.Since(fresh.at))
		ofRelease(s.log.Debug(), r.Environment, r.Release).Msg("released")
		traceSent(s.tracer, r, began)
	}
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
