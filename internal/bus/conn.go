package bus

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/internal/fault"
)

const (
	dialTimeout     = 5 * time.Second
	requestTimeout  = 5 * time.Second  // one question, one answer
	settleTimeout   = 15 * time.Second // finding out what became of a write whose answer was lost
	settleInFlight  = 2 * time.Second  // for a message that came first to be seen
	settleReconnect = 2 * time.Second  // waiting for the connection meanwhile: somebody waits for the answer
	pingInterval    = 20 * time.Second
	reconnectFirst  = 100 * time.Millisecond
	reconnectSpread = 200 * time.Millisecond
	reconnectMost   = 5 * time.Second
	moveAfter       = 10 * time.Second // without an answer: longer than most elections in a cluster
)

// Options of a connection.
type Options struct {
	Name        string                                         // who connects, as the server shows it; its inbox is _INBOX_<name>.>; required
	URL         string                                         // empty: nats://127.0.0.1:4222
	InProcess   interface{ InProcessConn() (net.Conn, error) } // an embedded server, instead of URL
	Credentials string                                         // NATS credentials file
	JWT, Seed   string                                         // an agent's JWT, of credentials.Authority, and its nkey seed; instead of Credentials
	CA          string                                         // PEM file: who may have signed the server's certificate
	Authorities string                                         // the same as PEM text
	Cert, Key   string                                         // PEM files: client certificate
	Offline     bool                                           // start even if the bus cannot be reached, and keep trying
	Fault       fault.Hook                                     // told of every durable step; for tests
	Spread      time.Duration                                  // a client that is one of many: the first reconnects of all are spread over so long; 0: 200 ms
	OnChange    func(Change)                                   // told of every Change, one after the other; must not block
}

// A Change is something that happened to a connection.
type Change struct {
	Connected bool
	Err       error // why the connection was lost, or what the server refused (a permission, a slow reader); may be nil
}

// A Conn is a connection to the bus that reconnects for ever. While it is not connected writes fail at once: there is no buffer
// from which one could slip out later.
type Conn struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	async jetstream.JetStream // for many releases at once
	opts  Options

	mu     sync.Mutex
	link   *link
	closed chan struct{}
	close  sync.Once
}

// A link is one period of being connected.
type link struct {
	up   chan struct{} // closed when it came up
	down context.Context
	lose context.CancelFunc

	unanswered time.Time // since when no question was answered; zero: the last one was
}

func newLink() *link {
	l := &link{up: make(chan struct{})}
	l.down, l.lose = context.WithCancel(context.Background())
	return l
}

var notInToken = regexp.MustCompile(`[^A-Za-z0-9_-]`)

// Connect connects to the bus. It tries once, no longer than ctx, unless Options.Offline says to go on in the background.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	if o.Name == "" {
		return nil, errors.New("connect to the bus: no name given: every client has one of its own")
	}
	c := &Conn{opts: o, link: newLink(), closed: make(chan struct{})}
	url := cmp.Or(o.URL, nats.DefaultURL)
	nc, err := dial(ctx, url, append(o.nats(), c.handlers()...))
	if err != nil {
		return nil, fmt.Errorf("connect to the bus at %s: %w: %w: check the address, that the server runs, and the credentials", url, ErrUnavailable, err)
	}
	c.nc = nc
	if c.js, err = jetstream.NewWithAPIPrefix(nc, o.api(), jetstream.WithDefaultTimeout(requestTimeout)); err == nil {
		c.async, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(asyncWindow), jetstream.WithPublishAsyncTimeout(asyncTimeout))
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	return c, nil
}

// dial is nats.Connect that ends with ctx.
func dial(ctx context.Context, url string, opts []nats.Option) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	dialed := make(chan result, 1)
	go func() {
		nc, err := nats.Connect(url, opts...)
		dialed <- result{nc, err}
	}()
	select {
	case r := <-dialed:
		return r.nc, r.err
	case <-ctx.Done():
		go func() {
			if late := <-dialed; late.nc != nil {
				late.nc.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

func (o Options) nats() []nats.Option {
	opts := []nats.Option{
		nats.Name(o.Name),
		nats.CustomInboxPrefix("_INBOX_" + notInToken.ReplaceAllString(o.Name, "_")),
		nats.Timeout(dialTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxReconnects(-1),
		nats.CustomReconnectDelay(func(attempts int) time.Duration { return reconnectDelay(o.Spread, attempts) }),
		nats.ReconnectBufSize(-1), // an append must not slip out before the check of the ledger
		nats.IgnoreAuthErrorAbort(),
		nats.RetryOnFailedConnect(o.Offline),
	}
	if o.InProcess != nil {
		opts = append(opts, nats.InProcessServer(o.InProcess))
	}
	return append(opts, o.identity()...)
}

// api is where JetStream is asked. Who has a JWT of an Authority is an agent in an account without streams.
func (o Options) api() string {
	if o.JWT != "" {
		return credentials.API
	}
	return "$JS.API"
}

func (o Options) identity() (opts []nats.Option) {
	if o.Credentials != "" {
		opts = append(opts, nats.UserCredentials(o.Credentials))
	}
	if o.JWT != "" {
		opts = append(opts, nats.UserJWTAndSeed(o.JWT, o.Seed))
	}
	if o.CA != "" {
		opts = append(opts, nats.RootCAs(o.CA))
	}
	if o.Authorities != "" {
		opts = append(opts, authorities(o.Authorities))
	}
	if o.Cert != "" || o.Key != "" {
		opts = append(opts, nats.ClientCert(o.Cert, o.Key))
	}
	return opts
}

func authorities(pem string) nats.Option {
	return func(o *nats.Options) error {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(pem)) {
			return errors.New("no PEM certificate in the authorities of the bus")
		}
		return nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})(o)
	}
}

// reconnectDelay is the wait before all servers are tried for the nth time: anywhere in a window that doubles and is bounded. All
// clients lose a server in the same moment, so where a client is in its window must tell nothing of where another is.
func reconnectDelay(spread time.Duration, attempts int) time.Duration {
	spread = cmp.Or(spread, reconnectSpread)
	window := min(max(reconnectMost, spread), spread<<min(max(attempts-1, 0), 10))
	return reconnectFirst/2 + rand.N(window)
}

// jitter is between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func (c *Conn) handlers() []nats.Option {
	up := func(*nats.Conn) {
		c.mu.Lock()
		close(c.link.up)
		c.mu.Unlock()
		c.changed(Change{Connected: true})
	}
	return []nats.Option{
		nats.ConnectHandler(up),
		nats.ReconnectHandler(up),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			c.mu.Lock()
			c.link.lose()
			c.link = newLink()
			c.mu.Unlock()
			c.changed(Change{Err: err})
		}),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			c.changed(Change{Connected: nc.IsConnected(), Err: err})
		}),
	}
}

func (c *Conn) changed(change Change) {
	if c.opts.OnChange != nil {
		c.opts.OnChange(change)
	}
}

// current is the link that is up, or will be next.
func (c *Conn) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

// connected waits until there is a link and returns it.
func (c *Conn) connected(ctx context.Context) (*link, error) {
	l := c.current()
	select {
	case <-l.up:
		return l, nil
	case <-c.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// bounded is ctx for one question: it also ends with the link, because an answer to it does not come over the next one.
func (c *Conn) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	stop := context.AfterFunc(c.current().down, cancel)
	return ctx, func() { stop(); cancel() }
}

// answered notes that the bus works.
func (c *Conn) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link.unanswered = time.Time{}
}

// failed is failed, and notes that the bus did not do what it was asked. After a while of that another server is tried.
func (c *Conn) failed(ctx context.Context, what string, err error) error {
	if err = failed(ctx, what, err); !errors.Is(err, ErrUnavailable) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch now := time.Now(); {
	case c.link.unanswered.IsZero():
		c.link.unanswered = now
	case now.Sub(c.link.unanswered) > moveAfter:
		c.link.unanswered = now
		c.Move()
	}
	return err
}

// Move leaves the server for another one of those that are known: one that is cut off from the others of its cluster keeps its clients,
// and a connection through a network that drops everything looks like any other for a minute. It says whether there is another.
func (c *Conn) Move() bool {
	if !c.nc.IsConnected() || len(c.nc.Servers()) < 2 {
		return false
	}
	go func() { _ = c.nc.ForceReconnect() }() // fails only where the connection is closed; it calls the handlers
	return true
}

// Connected says whether the bus is reachable now.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Refused says, while there is no connection, that the bus was reached last and did not let this client in: ErrRefused, or nil.
func (c *Conn) Refused() error {
	if c.nc.IsConnected() {
		return nil
	}
	last := c.nc.LastError()
	for _, refusal := range []error{nats.ErrAuthorization, nats.ErrAuthRevoked, nats.ErrAuthExpired, nats.ErrAccountAuthExpired} {
		if errors.Is(last, refusal) {
			return fmt.Errorf("%w: %w", ErrRefused, last)
		}
	}
	return nil
}

// Close sends what was published and ends the connection and everything that reads from it.
func (c *Conn) Close() {
	c.close.Do(func() {
		close(c.closed)
		if c.nc.IsConnected() {
			_ = c.nc.FlushTimeout(time.Second) // beats and pulses only; whoever waits for an answer has it
		}
		c.nc.Close()
	})
}
