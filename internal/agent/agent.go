package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

const (
	storeFile = "agent.db"
	// stopTimeout bounds Run's stopping; an apply under way is let finish for so long.
	stopTimeout = 20 * time.Second
)

// An Agent follows one environment's releases and applies them to one instance.
type Agent struct {
	opts     Options
	signer   *events.Signer
	boot     string
	store    *store.Store
	chain    *chain
	outbox   *outbox
	hearing  *hearing
	witness  *witness
	metrics  *metrics
	http     net.Listener
	control  net.Listener
	group    *lifecycle.Group
	runs     chan []received
	asks     chan func(ctx context.Context)
	begin    chan bus.Position
	wakeBeat chan struct{}
	conn     *bus.Conn

	mu        sync.Mutex
	shown     Status
	busy      time.Time // since when the chain is at one and the same thing; zero: it waits for something to do
	feed      *bus.Feed
	recovered bool
}

// New opens the agent's state and everything else that can fail, and starts nothing. An agent that is not started is closed with
// Stop.
func New(o Options) (_ *Agent, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	e := o.Enrolment
	a := &Agent{
		opts: o, boot: uuid.NewString(), runs: make(chan []received), asks: make(chan func(context.Context)),
		begin: make(chan bus.Position, 1), wakeBeat: make(chan struct{}, 1), group: lifecycle.New(context.Background()),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.group.Stop(context.Background()))
		}
	}()
	if a.signer, err = e.Signer(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.State, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	err = o.Fault.Step(fault.StoreMade, func() error {
		a.store, err = store.Open(filepath.Join(o.State, storeFile), store.Identity{Ledger: e.Ledger, Environment: e.Environment, Agent: e.Agent})
		return err
	})
	if err != nil {
		return nil, err
	}
	a.group.Defer("store", func(context.Context) error { return a.store.Close() })
	if err := a.load(); err != nil {
		return nil, err
	}
	if a.metrics, err = newMetrics(a); err != nil {
		return nil, err
	}
	a.group.Defer("metrics", func(context.Context) error { a.metrics.unregister(); return nil })
	return a, a.listen()
}

func (a *Agent) load() error {
	o := &a.opts
	trusted, err := believe(o.Enrolment)
	if err != nil {
		return err
	}
	a.outbox = &outbox{
		publish: func(ctx context.Context, payload []byte, signature string) error {
			return a.conn.PublishAck(ctx, o.Enrolment.Environment, o.Enrolment.Agent, payload, signature)
		},
		signer: a.signer, clock: o.Clock, fault: o.Fault, interval: o.Intervals.Retry, log: o.Log, wake: make(chan struct{}, 1),
	}
	a.hearing = &hearing{ledger: o.Enrolment.Ledger, allows: trusted.allows, clock: o.Clock}
	a.chain = &chain{opts: o, log: o.Log, store: a.store, believed: trusted, outbox: a.outbox, show: a.show, reread: a.reread,
		count: func() { a.metrics.refused() }, restored: func(resources int) { a.metrics.restored(resources) }}
	a.witness = &witness{ledger: o.Enrolment.Ledger, key: a.signer.Public(), keys: trusted.publishers, clock: o.Clock, every: o.Intervals.Pulse, wake: make(chan struct{}, 1)}
	outbox, tip, err := a.chain.load()
	if err != nil {
		return err
	}
	err = a.store.View(func(tx *store.Tx) error {
		sealed, err := tx.Seal()
		a.witness.restore(sealed)
		return err
	})
	if err != nil {
		return err
	}
	for i := range outbox {
		outbox[i].Resent = true
	}
	a.outbox.put(outbox, subject{}) // what was sent before a start is not told again
	a.hearing.restore(tip)
	a.shown = Status{Environment: o.Enrolment.Environment, Agent: o.Enrolment.Agent, Ledger: o.Enrolment.Ledger, Version: o.Version,
		Running: true, Started: time.Now(), Connectors: connectorStatus(o.Router)}
	a.show()
	return nil
}

func (a *Agent) listen() (err error) {
	if a.control, err = listenControl(a.opts.State); err != nil {
		return err
	}
	a.group.Defer("control socket", func(context.Context) error { return closed(a.control.Close()) })
	if a.opts.Listen == "" {
		return nil
	}
	if a.http, err = telemetry.ListenLocal(a.opts.Listen); err != nil {
		return err
	}
	a.group.Defer("http listener", func(context.Context) error { return closed(a.http.Close()) })
	a.shown.HTTP = a.Addr()
	return nil
}

func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Addr is where health and metrics are served; "" without Options.Listen.
func (a *Agent) Addr() string {
	if a.http == nil {
		return ""
	}
	return a.http.Addr().String()
}

// Start begins: what a crash left is resolved first, with or without the bus. It does not wait for the bus.
func (a *Agent) Start(ctx context.Context) error {
	e := a.opts.Enrolment
	conn, err := bus.Connect(ctx, bus.Options{
		Name: e.Environment + "." + e.Agent, URL: e.Bus.URL, InProcess: a.opts.InProcess,
		Credentials: e.Bus.Credentials, JWT: e.Bus.JWT, Seed: e.Seed, CA: e.Bus.CA, Authorities: e.Bus.Authorities, Cert: e.Bus.Cert, Key: e.Bus.Key, Offline: true, Spread: a.opts.Intervals.Reconnect, OnChange: a.onChange,
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.conn = conn
	a.mu.Unlock()
	a.group.Defer("bus", func(context.Context) error { conn.Close(); return nil })
	stop, err := conn.SubscribePulse(a.onPulse)
	if err != nil {
		return err
	}
	a.group.Defer("pulses", func(context.Context) error { stop(); return nil })
	a.chain.atCheckpoint(a.opts.Log.Info()).Str("http", a.Addr()).Msg("agent started")
	a.group.Go("beats", a.beats) // it writes down at its end what the outbox had sent
	a.group.Go("outbox", a.outbox.run)
	a.group.Go("releases", a.followReleases)
	a.group.Go("chain", a.run)
	a.group.Go("proofs", a.askForProofs)
	a.group.Go("control", func(ctx context.Context) error { return serveControl(ctx, a) })
	if a.http != nil {
		a.group.Go("http", func(ctx context.Context) error { return telemetry.Serve(ctx, a.http, a.handler()) })
	}
	return nil
}

// Done is closed when a part of the agent failed; Stop says which.
func (a *Agent) Done() <-chan struct{} { return a.group.Done() }

// Stop ends the agent: an apply under way is finished first, as long as ctx allows. It returns what failed.
func (a *Agent) Stop(ctx context.Context) error {
	err := a.group.Stop(ctx)
	a.opts.Log.Info().Msg("agent stopped")
	return err
}

// Run starts the agent and stops it when ctx ends or a part of it fails.
func (a *Agent) Run(ctx context.Context) error {
	err := a.Start(ctx)
	if err == nil {
		select {
		case <-ctx.Done():
		case <-a.Done():
		}
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return errors.Join(err, a.Stop(bounded))
}

func (a *Agent) onChange(c bus.Change) {
	if c.Err != nil {
		a.opts.Log.Warn().Err(c.Err).Bool("connected", c.Connected).Msg("bus")
	}
	if c.Connected {
		a.outbox.nudge()
	}
	a.beatNow()
}

func (a *Agent) onPulse(payload []byte, signature string) {
	if pulse, heard := a.hearing.hear(payload, signature); heard {
		a.witness.hear(pulse)
		a.beatOnChange()
	}
}
