package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus/bare"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// rebuilt is how many environments' releases are rebuilt.
const rebuilt = 100

// rebuild measures how long the release stream is short of something after it was deleted.
func rebuild(ctx context.Context, o Options) (rows []Row, err error) {
	err = stage(ctx, o, 1, func(g *lifecycle.Group, dir, _ string) error {
		r, err := newRebuilding(ctx, g, dir, o)
		if err != nil {
			return err
		}
		o.Progress("%s: %d revisions of %d environments, %d rounds", Rebuild, r.revisions, rebuilt, o.Rounds)
		product, floor, err := alternate(ctx, o.Rounds, r.product, r.floor)
		if err == nil {
			rows = []Row{atMost(Rebuild, 0, product, floor, slower)}
		}
		return err
	})
	return rows, err
}

type rebuilding struct {
	revisions int // of each environment
	conn      *bare.Conn
	bare      *bare.Conn
	batch     []bare.Message // one release of each environment
}

func newRebuilding(ctx context.Context, g *lifecycle.Group, dir string, o Options) (*rebuilding, error) {
	r := &rebuilding{revisions: max(o.Revisions/rebuilt, 2)}
	o.Progress("%s: making %d revisions of %d environments", Rebuild, r.revisions, rebuilt)
	w, err := newWorld(ctx, g, dir, rebuilt)
	if err != nil {
		return nil, err
	}
	for n := range r.revisions - 1 { // the first one is the trust document
		values := first(keysPerAgent)
		values[changedKey] = roundValue(uint64(n))
		approve, err := w.propose(ctx, values)
		if err != nil {
			return nil, err
		}
		if _, err := w.do(ctx, approver, approve); err != nil {
			return nil, err
		}
	}
	if r.conn, err = r.dial(g, w.publisher.BusURL()); err != nil {
		return nil, err
	}
	server, err := embedded.Start(embedded.Options{StoreDir: filepath.Join(dir, "bare-bus"), Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	g.Defer("bare bus", func(context.Context) error { server.Shutdown(); return nil })
	if err := makeStreams(ctx, server.ClientURL()); err != nil {
		return nil, err
	}
	if r.bare, err = r.dial(g, server.ClientURL()); err != nil {
		return nil, err
	}
	w.publisher.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		for i := range rebuilt {
			var payload []byte
			if payload, err = s.Payload(environmentName(i), uint64(r.revisions)); err != nil {
				return
			}
			r.batch = append(r.batch, bare.Message{Subject: events.ReleaseSubject(environmentName(i)), Payload: payload, Signature: place{}.header(make([]byte, 64))})
		}
	})
	if err != nil {
		return nil, err
	}
	return r, r.complete(ctx)
}

func (r *rebuilding) dial(g *lifecycle.Group, url string) (*bare.Conn, error) {
	c, err := bare.Dial(url)
	if err != nil {
		return nil, err
	}
	g.Defer("connection", func(context.Context) error { c.Close(); return nil })
	return c, nil
}

// complete waits until the product's stream holds everything.
func (r *rebuilding) complete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		size, err := r.conn.Size(ctx, events.StreamReleases)
		if err != nil {
			return err
		}
		if size.Messages == uint64(r.revisions*rebuilt) {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d releases are there: %w", size.Messages, r.revisions*rebuilt, context.Cause(ctx))
		}
	}
}

func (r *rebuilding) product(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := r.conn.Delete(ctx, events.StreamReleases); err != nil {
		return 0, err
	}
	err := r.complete(ctx)
	return time.Since(began), err
}

func (r *rebuilding) floor(ctx context.Context) (time.Duration, error) {
	if err := r.bare.Empty(ctx, events.StreamReleases); err != nil {
		return 0, err
	}
	for i := range r.batch {
		r.batch[i].Expected = 0
	}
	began := time.Now()
	for range r.revisions {
		sequences, err := r.bare.Publish(ctx, r.batch)
		if err != nil {
			return 0, err
		}
		for i, sequence := range sequences {
			r.batch[i].Expected = sequence
		}
	}
	return time.Since(began), nil
}
