package publisher

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Publisher is a running control plane.
type Publisher struct {
	opts       Options
	log        zerolog.Logger
	name       string // among the publishers of one bus
	signer     *events.Signer
	authority  *credentials.Authority // nil where the bus's credentials are not this publisher's to issue
	gate       gate
	founding   *events.Trust    // the document that was prepared for a new ledger; nil: there is none, or the ledger has begun
	server     *embedded.Server // nil with an existing NATS
	conn       *bus.Conn
	book       *book
	sender     *sender
	reports    *reports
	metrics    *metrics
	alarms     *alarms // nil: nobody is told of anything
	durability string
	listener   net.Listener
	recheck    chan struct{}             // the ledger is to be checked
	streams    chan struct{}             // a stream beside the ledger is to be checked
	known      chan struct{}             // closed when the ledger has been read as far as it can be
	leading    atomic.Bool               // this publisher has the lease
	verified   atomic.Pointer[time.Time] // bus time of the last look at the ledger that found nothing wrong
	pulsed     uint64                    // the counter of its last pulse; of the goroutine that pulses
	sealed     sealing                   // the newest seal that went out; of the goroutine that pulses
	group      *lifecycle.Group
}

// New opens the data directory and starts or reaches the bus. Nothing is served before Start.
func New(ctx context.Context, o Options) (_ *Publisher, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	p := &Publisher{
		opts: o, log: o.Log, name: "publisher-" + uuid.NewString(), durability: "proven", group: lifecycle.New(ctx),
		recheck: make(chan struct{}, 1), streams: make(chan struct{}, 1), known: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
		}
	}()
	for _, open := range []func(context.Context) error{p.openData, p.openKey, p.openCredentials, p.openBook, p.openAlarms, p.listen, p.openBus, p.proveDurability} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	p.sender = newSender(p)
	p.reports = newReports(p.book)
	p.book.conn, p.book.fault, p.book.clock, p.book.released = p.conn, o.Fault, o.Clock, p.sender.released
	p.book.agents, p.book.counts = p.reports.versions, p.counts
	p.metrics = newMetrics(o.Registry, p)
	p.sender.published = p.metrics.published
	return p, nil
}

// openData makes the data directory and locks it: one publisher each.
func (p *Publisher) openData(context.Context) error {
	if err := os.MkdirAll(p.opts.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	path := filepath.Join(p.opts.Data, "lock")
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	p.group.Defer("data directory", func(context.Context) error {
		// Given back by itself: a process that is just being started elsewhere in this program still holds the file.
		return errors.Join(syscall.Flock(int(lock.Fd()), syscall.LOCK_UN), lock.Close())
	})
	err = p.opts.Fault.Step(fault.DataLocked, func() error { return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err != nil {
		return fmt.Errorf("data directory %s: another publisher runs on it (%w): stop it, or name another directory with --data", p.opts.Data, err)
	}
	return nil
}

// openKey reads the publisher's key, and makes one at the first start.
func (p *Publisher) openKey(context.Context) (err error) {
	p.signer, err = keys.OpenKey(filepath.Join(p.opts.Data, "publisher.key"), p.opts.Fault)
	return err
}

// openBook projects the publisher's own copy of the ledger.
func (p *Publisher) openBook(context.Context) error {
	entries, err := openCopy(filepath.Join(p.opts.Data, "ledger.copy"))
	if err != nil {
		return err
	}
	p.group.Defer("copy of the ledger", func(context.Context) error { return entries.file.Close() })
	entries.fault, entries.signer = p.opts.Fault, p.signer
	if p.book, err = newBook(entries); err != nil {
		return err
	}
	return p.openFounding()
}

// listen opens the HTTP listener before anything is started: a port in use is said at once.
func (p *Publisher) listen(context.Context) error {
	l, err := net.Listen("tcp", p.opts.Listen)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w; choose another address with --listen", err)
	}
	p.group.Defer("HTTP listener", func(context.Context) error {
		_ = l.Close() // the server has closed it
		return nil
	})
	p.listener = l
	if !isLoopback(p.opts.Listen) {
		config, err := p.opts.TLS.config()
		if err != nil {
			return err
		}
		p.listener = tls.NewListener(l, config)
	}
	return nil
}

// openBus starts the embedded bus, or connects to the existing one.
func (p *Publisher) openBus(ctx context.Context) error {
	o := bus.Options{Name: p.name, OnChange: p.onChange, Fault: p.opts.Fault}
	if p.opts.NATS == "" {
		server, err := p.startServer()
		if err != nil {
			return err
		}
		p.server, o.InProcess = server, server
		if p.authority != nil {
			o.Credentials = p.authority.Publisher()
		}
		p.group.Defer("bus", func(context.Context) error { server.Shutdown(); return nil })
	} else {
		o.URL, o.Credentials, o.CA, o.Cert, o.Key = p.opts.NATS, p.opts.Credentials, p.opts.CA, p.opts.Cert, p.opts.Key
	}
	conn, err := bus.Connect(ctx, o)
	if err != nil {
		return err
	}
	p.conn = conn
	p.group.Defer("bus connection", func(context.Context) error { conn.Close(); return nil })
	return p.checkAuthority(ctx)
}

func (p *Publisher) startServer() (*embedded.Server, error) {
	host, port, _ := net.SplitHostPort(p.opts.NATSListen)
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("--nats-listen %q: %w; write the port as a number", p.opts.NATSListen, err)
	}
	o := embedded.Options{StoreDir: filepath.Join(p.opts.Data, "bus"), Host: host, Port: number, Log: p.log.With().Str("part", "bus").Logger()}
	if p.opts.TLS != nil && !isLoopback(p.opts.NATSListen) {
		if p.opts.TLS.ClientCA == "" && p.authority == nil {
			return nil, fmt.Errorf("--nats-listen %s reaches beyond this machine: name with --tls-client-ca who signs the certificates of agents, or make credentials for them with 'publisher trust init'", p.opts.NATSListen)
		}
		o.TLS = &embedded.TLS{Cert: p.opts.TLS.Cert, Key: p.opts.TLS.Key, CA: p.opts.TLS.ClientCA}
	}
	if o.Operator, err = p.operator(); err != nil {
		return nil, err
	}
	return embedded.Start(o)
}

// proveDurability shows that an existing bus keeps appends through power loss. It needs the streams, which it makes where they are
// missing. The embedded one does by its settings.
func (p *Publisher) proveDurability(ctx context.Context) error {
	if p.server != nil {
		return nil
	}
	if err := p.makeStreams(ctx); err != nil && !isLedgerTrouble(err) {
		return err
	}
	err := p.conn.ProveDurability(ctx, bus.Proof{MonitorURL: p.opts.MonitorURL, SystemCredentials: p.opts.SystemCredentials})
	if errors.Is(err, bus.ErrDurabilityUnproven) && p.opts.AcceptUnprovenDurability {
		p.durability = "accepted without proof"
		p.log.Warn().Err(err).Msg("going on without proof of durability, as told")
		return nil
	}
	if errors.Is(err, bus.ErrDurabilityUnproven) {
		return fmt.Errorf("%w; show the server's settings with --nats-monitor URL or --nats-system-creds FILE, or go on without proof with --accept-unproven-durability", err)
	}
	return err
}

// onChange is told when the connection is lost; what follows when it comes back is onNotice's.
func (p *Publisher) onChange(c bus.Change) {
	if c.Err != nil {
		p.log.Warn().Err(c.Err).Msg("the bus connection is lost or was refused something")
	}
	if !c.Connected {
		p.book.doubt(standing{reason: events.ReasonBusDown, message: "the bus is not reachable"})
	}
}

// Start starts the parts. They run until Stop, or until one fails.
func (p *Publisher) Start() error {
	stop, err := p.conn.Watch(p.onNotice)
	if err != nil {
		return err
	}
	p.group.Defer("stream watch", func(context.Context) error { stop(); return nil })
	p.group.Go("ledger", p.watchLedger)
	if err := p.serveReaders(); err != nil {
		return err
	}
	p.group.Go("revocations", p.keepOut)
	p.group.Go("acks", p.insist("acks cannot be read", func(ctx context.Context) error { return p.reports.follow(ctx, p.conn.FollowAcks) }))
	p.group.Go("beats", p.insist("beats cannot be read", func(ctx context.Context) error { return p.conn.FollowBeats(ctx, p.reports.beat) }))
	p.group.Go("gatherer", p.gather)
	p.group.Go("lease", p.insist("the lease cannot be had", func(ctx context.Context) error { return p.conn.HoldLease(ctx, p.name, p.lead) }))
	if p.alarms != nil {
		p.alarms.start()
	}
	p.group.Go("http", func(ctx context.Context) error { return telemetry.Serve(ctx, p.listener, p.Handler(ctx.Done())) })
	return nil
}

// insist is a part that begins when the ledger has been read, because who may say what is in there, and is run again after what
// it returns.
func (p *Publisher) insist(failure string, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.known:
		}
		for {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				p.log.Warn().Err(err).Msg(failure + "; trying again")
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(busRetry):
			}
		}
	}
}

// onNotice is told of what happens to the streams.
func (p *Publisher) onNotice(n bus.Notice) {
	p.log.Debug().Str("stream", n.Stream).Str("action", n.Action).Msg("a stream may have changed")
	switch n.Stream {
	case "", events.StreamLedger: // all of them
		if n.Action != "created" { // by this publisher, or one that checks it
			nudge(p.recheck)
		}
	default:
		nudge(p.streams)
	}
}

// nudge leaves a signal in a channel of one place.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// lead does what one publisher does at a time: it sends, gathers and pulses. One that may not write gives way from time to time, so
// that another gets a turn.
func (p *Publisher) lead(ctx context.Context) {
	// What the publisher before this one did is read first: agents must not hear of fewer entries than they did.
	if err := p.book.sync(ctx); err != nil {
		p.log.Warn().Err(err).Msg("the ledger could not be read to its end when the lease was taken")
	}
	p.log.Info().Msg("this publisher holds the lease")
	_ = p.opts.Fault.Step(fault.LeaseTaken, func() error { p.leading.Store(true); return nil })
	defer p.leading.Store(false)

	parts := lifecycle.New(ctx)
	parts.Go("sender", func(ctx context.Context) error { p.sender.run(ctx); return nil })
	parts.Go("pulse", func(ctx context.Context) error { p.pulse(ctx); return nil })
	parts.Go("proofs", p.answerProofs)
	giveWay := time.NewTicker(p.opts.Recheck)
	defer giveWay.Stop()
	for stay := true; stay; {
		select {
		case <-parts.Done():
			stay = false
		case <-giveWay.C:
			standing, _ := p.book.standingNow()
			stay = standing.writable || standing.checking
		}
	}
	_ = parts.Stop(context.WithoutCancel(ctx)) // its parts return no errors
}

// pulseGap is the shortest time between two pulses.
const pulseGap = 250 * time.Millisecond

// pulse tells agents that the publisher lives, and how far the ledger goes: from time to time, and soon when one has started, which
// is stale until it hears a pulse.
func (p *Publisher) pulse(ctx context.Context) {
	tick := time.NewTicker(p.opts.PulseInterval)
	defer tick.Stop()
	for {
		if err := p.pulseOnce(p.opts.Clock()); err != nil {
			p.log.Warn().Err(err).Msg("the pulse could not be sent")
		}
		gap := time.After(pulseGap)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.reports.booted:
		}
		select {
		case <-ctx.Done():
			return
		case <-gap:
		}
	}
}

// pulseCounter is that of a pulse at a time.
func pulseCounter(at time.Time) uint64 { return uint64(at.UnixMicro()) }

func (p *Publisher) pulseOnce(now time.Time) error {
	// The counter grows over restarts because time does, and over clocks that differ or are turned back because agents say which was
	// the last one they heard.
	p.pulsed = max(pulseCounter(now), p.pulsed+1, p.reports.pulsed()+1)
	pulse := events.Pulse{Counter: p.pulsed, Clock: events.Stamp(now)}
	p.book.read(func(s *ledger.State) {
		pulse.Ledger, pulse.Tip = s.ID, events.LedgerTip{Number: s.Number, Hash: s.Hash}
	})
	if p.counts() != nil || pulse.Tip.Number == 0 {
		return nil // nobody would believe it, or there is nothing to tell yet
	}
	var err error
	if p.sealed, err = p.book.grown.after(p.sealed, pulse.Ledger, p.signer); err != nil {
		return err
	}
	pulse.Seal, pulse.Before, pulse.Proof = p.sealed.note, p.sealed.before, p.sealed.proof
	payload, header, err := events.EncodePulse(pulse, p.signer)
	if err != nil {
		return err
	}
	return p.conn.PublishPulse(payload, header)
}

// URL is where the API is served.
func (p *Publisher) URL() string {
	scheme := "http"
	if !isLoopback(p.listener.Addr().String()) {
		scheme = "https"
	}
	return scheme + "://" + p.reachable(p.listener.Addr().String())
}

// reachable puts a name that others can use in the place of an address that stands for all of this machine's.
func (p *Publisher) reachable(address string) string {
	host, port, _ := net.SplitHostPort(address)
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return address
	}
	if len(p.opts.Hosts) > 0 {
		return net.JoinHostPort(p.opts.Hosts[0], port)
	}
	return net.JoinHostPort("127.0.0.1", port)
}

// Done is closed when a part has failed or the context of New has ended; Stop says why.
func (p *Publisher) Done() <-chan struct{} { return p.group.Done() }

// Stop stops all parts, last first, and returns what went wrong.
func (p *Publisher) Stop(ctx context.Context) error { return p.group.Stop(ctx) }

// Run starts the publisher and serves until ctx ends or a part fails.
func Run(ctx context.Context, o Options, ready func(*Publisher)) error {
	p, err := New(ctx, o)
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
	}
	ready(p)
	<-p.Done()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err = p.Stop(bounded)
	p.log.Info().Msg("publisher stopped")
	return err
}

var _ api.Backend = (*Publisher)(nil)
