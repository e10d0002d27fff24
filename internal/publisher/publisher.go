package publisher

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Options of a Publisher. The zero value of a field is its default.
type Options struct {
	Data   string // directory; required. It holds the publisher's key, its copy of the ledger and the embedded bus
	Listen string // HTTP address; empty: 127.0.0.1:7070. Beyond loopback it needs TLS
	TLS    *TLS   // for both listeners beyond loopback; clients show certificates until there are credentials

	NATSListen string // address of the embedded bus; empty: 127.0.0.1:4222. Port 0 is chosen by the system

	NATS                     string   // an existing NATS server or cluster, instead of the embedded one
	Credentials              string   // NATS credentials file
	CA, Cert, Key            string   // PEM files: the server's authority, this client's certificate and key
	Hosts                    []string // names by which the API is reached, beside loopback's
	Replicas                 int      // of the streams; 0: 1, and 3 on a cluster
	MonitorURL               string   // of the existing server, for proving its durability
	SystemCredentials        string   // the same by the system account
	AcceptUnprovenDurability bool     // go on where it cannot be proven, and say so on every screen
	Log                      zerolog.Logger
	Registry                 *prometheus.Registry // nil: a new one
	LeaseTTL                 time.Duration        // how long a dead publisher holds the lease; 0: 5 s
	PulseInterval            time.Duration        // 0: 15 s
	BeatWait                 time.Duration        // how long the first check waits for beats; 0: 12 s
	Recheck                  time.Duration        // how often the ledger's end is looked at; 0: 10 s
}

// TLS names the PEM files of the listeners that other machines reach.
type TLS struct{ Cert, Key, ClientCA string }

const pulseInterval = 15 * time.Second

func (o *Options) beatWait() time.Duration { return orElse(o.BeatWait, beatWait) }
func (o *Options) recheck() time.Duration  { return orElse(o.Recheck, recheckInterval) }

func orElse(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// A Publisher is a running control plane.
type Publisher struct {
	opts       Options
	log        zerolog.Logger
	name       string // among the publishers of one bus
	signer     *events.Signer
	server     *embedded.Server // nil with an existing NATS
	conn       *bus.Conn
	book       *book
	sender     *sender
	reports    *reports
	metrics    *metrics
	durability string
	listener   net.Listener
	recheck    chan struct{} // the ledger is to be checked
	known      chan struct{} // closed when the ledger has been read once
	leading    chan struct{} // holds a value while this publisher has the lease
	group      *lifecycle.Group
}

// New opens the data directory and starts or reaches the bus. Nothing is served before Start.
func New(ctx context.Context, o Options) (_ *Publisher, err error) {
	if o.Data == "" {
		return nil, errors.New("publisher: no data directory is named")
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	p := &Publisher{
		opts: o, log: o.Log, reports: newReports(), recheck: make(chan struct{}, 1), known: make(chan struct{}), leading: make(chan struct{}, 1), group: lifecycle.New(ctx),
		name: "publisher-" + uuid.NewString(), durability: "proven",
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
		}
	}()
	for _, open := range []func(context.Context) error{p.openData, p.openKey, p.openBook, p.listen, p.openBus} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	p.sender = newSender(p.book, p.conn, p.signer, p.log)
	p.book.conn, p.book.released = p.conn, p.sender.released
	p.metrics = newMetrics(o.Registry, p)
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
	p.group.Defer("data directory", func(context.Context) error { return lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("data directory %s: another publisher runs on it (%w): stop it, or name another directory with --data", p.opts.Data, err)
	}
	return nil
}

// openKey reads the publisher's key, and makes one at the first start.
func (p *Publisher) openKey(context.Context) error {
	path := filepath.Join(p.opts.Data, "publisher.key")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		seed, err := keys.NewSeed()
		if err != nil {
			return err
		}
		if err := keys.WriteKey(path, seed); err != nil {
			return err
		}
	}
	var err error
	p.signer, err = keys.ReadKey(path)
	return err
}

// openBook projects the publisher's own copy of the ledger.
func (p *Publisher) openBook(context.Context) error {
	var b *book
	entries, err := openCopy(filepath.Join(p.opts.Data, "ledger.copy"), func(s bus.Stored) error {
		if b == nil {
			first, err := events.DecodeEntry(s.Payload)
			if err != nil {
				return err
			}
			b = newBook(ledger.New(first.Ledger))
		}
		return b.apply(s.Payload, s.Stamp)
	})
	if err != nil {
		return err
	}
	if b == nil {
		b = newBook(ledger.New(""))
	}
	b.copy = entries
	p.book = b
	p.group.Defer("copy of the ledger", func(context.Context) error { return entries.file.Close() })
	return nil
}

// listen opens the HTTP listener before anything is started: a port in use is said at once.
func (p *Publisher) listen(context.Context) error {
	address := p.opts.Listen
	if address == "" {
		address = "127.0.0.1:7070"
	}
	if err := p.checkReach(address, "--listen"); err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w; choose another address with --listen", err)
	}
	p.group.Defer("HTTP listener", func(context.Context) error {
		_ = l.Close() // the server has closed it
		return nil
	})
	p.listener = l
	if !isLoopback(address) {
		config, err := p.opts.TLS.config()
		if err != nil {
			return err
		}
		p.listener = tls.NewListener(l, config)
	}
	return nil
}

// checkReach refuses an address that other machines reach without TLS.
func (p *Publisher) checkReach(address, flag string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("%s %q: %w; write host:port", flag, address, err)
	}
	if !isLoopback(address) && p.opts.TLS == nil {
		return fmt.Errorf("%s %s reaches beyond this machine, and there is no TLS: name --tls-cert, --tls-key and --tls-client-ca, or listen on 127.0.0.1", flag, address)
	}
	return nil
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (t *TLS) config() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("TLS authority for client certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TLS authority for client certificates: %s holds no PEM certificate", t.ClientCA)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}, nil
}

// openBus starts the embedded bus, or connects to the existing one.
func (p *Publisher) openBus(ctx context.Context) error {
	o := bus.Options{Name: p.name, OnChange: p.onChange}
	if p.opts.NATS == "" {
		server, err := p.startServer()
		if err != nil {
			return err
		}
		p.server, o.InProcess = server, server
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
	if p.server != nil {
		return nil
	}
	return p.proveDurability(ctx)
}

func (p *Publisher) startServer() (*embedded.Server, error) {
	address := p.opts.NATSListen
	if address == "" {
		address = "127.0.0.1:4222"
	}
	if err := p.checkReach(address, "--nats-listen"); err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(address)
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("--nats-listen %q: %w", address, err)
	}
	o := embedded.Options{StoreDir: filepath.Join(p.opts.Data, "bus"), Host: host, Port: number, Log: p.log.With().Str("part", "bus").Logger()}
	if p.opts.TLS != nil && !isLoopback(address) {
		o.TLS = &embedded.TLS{Cert: p.opts.TLS.Cert, Key: p.opts.TLS.Key, CA: p.opts.TLS.ClientCA}
	}
	return embedded.Start(o)
}

// proveDurability shows that an existing bus keeps appends through power loss. It needs the streams, which it makes where they are
// missing.
func (p *Publisher) proveDurability(ctx context.Context) error {
	if err := p.openStreams(ctx); err != nil {
		return err
	}
	err := p.conn.ProveDurability(ctx, bus.Proof{MonitorURL: p.opts.MonitorURL, SystemCredentials: p.opts.SystemCredentials})
	if errors.Is(err, bus.ErrDurabilityUnproven) && p.opts.AcceptUnprovenDurability {
		p.durability = "accepted without proof"
		p.log.Warn().Err(err).Msg("going on without proof of durability, as told")
		return nil
	}
	return err
}

func (p *Publisher) onChange(c bus.Change) {
	if c.Connected {
		nudge(p.recheck)
		return
	}
	if c.Err != nil {
		p.log.Warn().Err(c.Err).Msg("the bus connection is lost or was refused something")
	}
	if p.conn != nil && !p.conn.Connected() {
		p.book.stand(standing{reason: events.ReasonBusDown, message: "the bus is not reachable"})
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
	p.group.Go("acks", p.followAcks)
	p.group.Go("beats", p.followBeats)
	p.group.Go("lease", func(ctx context.Context) error { return p.conn.HoldLease(ctx, p.name, p.lead) })
	p.group.Go("http", p.serveHTTP)
	return nil
}

// followAcks begins once the ledger has been read: whose key signs an ack is in there.
func (p *Publisher) followAcks(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.known:
		return p.conn.FollowAcks(ctx, 1, p.takeAck)
	}
}

// followBeats begins once the ledger has been read, too.
func (p *Publisher) followBeats(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.known:
		return p.conn.FollowBeats(ctx, p.takeBeat)
	}
}

func (p *Publisher) takeAck(r bus.Report) error {
	if statement, fresh := p.reports.ack(p.book, r, time.Now()); fresh {
		p.metrics.observe(p.book, fleet.AgentID{Environment: r.Environment, Agent: r.Agent}, statement)
	}
	return nil
}

func (p *Publisher) takeBeat(r bus.Report) error {
	p.reports.beat(p.book, r)
	return nil
}

func (p *Publisher) onNotice(n bus.Notice) {
	p.log.Debug().Str("stream", n.Stream).Str("action", n.Action).Msg("a stream may have changed")
	if n.Stream != events.StreamAcks && n.Stream != events.StreamBeats {
		nudge(p.sender.look)
	}
	if n.Stream != events.StreamReleases || n.Action != "created" {
		nudge(p.recheck)
	}
}

// lead does what one publisher does at a time: it sends, gathers and pulses.
func (p *Publisher) lead(ctx context.Context) {
	p.log.Info().Msg("this publisher holds the lease")
	p.leading <- struct{}{}
	defer func() { <-p.leading }()
	parts := lifecycle.New(ctx)
	parts.Go("sender", func(ctx context.Context) error { p.sender.run(ctx); return nil })
	parts.Go("pulse", func(ctx context.Context) error { p.pulse(ctx); return nil })
	parts.Go("gatherer", func(ctx context.Context) error {
		p.reports.gather(ctx, p.book, func(err error) { p.log.Warn().Err(err).Msg("deliveries could not be recorded; trying again") })
		return nil
	})
	<-parts.Done()
	_ = parts.Stop(context.WithoutCancel(ctx)) // its parts return no errors
}

// pulse tells agents that the publisher lives, and how far the ledger goes.
func (p *Publisher) pulse(ctx context.Context) {
	tick := time.NewTicker(orElse(p.opts.PulseInterval, pulseInterval))
	defer tick.Stop()
	for {
		if err := p.pulseOnce(time.Now()); err != nil {
			p.log.Warn().Err(err).Msg("the pulse could not be sent")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Publisher) pulseOnce(now time.Time) error {
	// The counter grows over restarts and from one publisher to the next, because time does.
	pulse := events.Pulse{Counter: uint64(now.UnixMicro()), Clock: events.Stamp(now)}
	p.book.read(func(s *ledger.State) {
		pulse.Ledger, pulse.Tip = s.ID, events.LedgerTip{Number: s.Number, Hash: s.Hash}
	})
	payload, header, err := events.EncodePulse(pulse, p.signer)
	if err != nil {
		return err
	}
	return p.conn.PublishPulse(payload, header)
}

func (p *Publisher) serveHTTP(ctx context.Context) error {
	handler, err := p.handler()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = server.Shutdown(bounded) // what is still open after that is cut off
	})
	defer stop()
	if err := server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// URL is where the API is served.
func (p *Publisher) URL() string {
	scheme := "http"
	if !isLoopback(p.listener.Addr().String()) {
		scheme = "https"
	}
	return scheme + "://" + p.listener.Addr().String()
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
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return p.Stop(bounded)
}

var _ api.Backend = (*Publisher)(nil)
