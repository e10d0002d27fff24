package bus

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	defaultCheckInterval = 30 * time.Second
	defaultRunBytes      = 8 << 20
	defaultRunCount      = 10_000
	liveBuffer           = 64 // more are dropped, noticed as a gap, and read from the stream
	catchUpFirst         = 250 * time.Millisecond
)

// FeedOptions of Conn.Feed.
type FeedOptions struct {
	Environment string
	Position    Position // the reader's checkpoint
	// Verify says whether the publisher signed a chain digest. Known gives the chain digest of a revision before the position,
	// where the reader still has it; nil: it has none. Both are called from several goroutines.
	Verify func(chain events.Digest, signature string) error
	Known  func(revision uint64) (events.Digest, bool)
	// Peek is shown every release before Verify is asked about it, whoever sent it; nil: nobody looks. A trust document in it may say
	// whose signature counts.
	Peek func(payload []byte)

	CheckInterval time.Duration // the head is looked at at least so often; 0: 30 s
	RunBytes      int           // a run ends when its payloads reach this; 0: 8 MiB
	RunCount      int           // or at so many releases; 0: 10,000
}

// A Feed hands an environment's releases to one reader: in order, from its position on, each once, all authentic. It finds out by
// itself what the live tail lost, doubled or invented.
type Feed struct {
	conn  *Conn
	opts  FeedOptions
	rules rules
	live  chan *nats.Msg
	wake  chan struct{} // the head was looked at
	close func()

	mu       sync.Mutex
	position Position
	head     uint64 // newest revision that an authentic message had
	checked  time.Time
	suspect  bool // the stream may hold more than head says
	forked   error
	problem  error
	rejected map[Rejection]uint64
	delay    time.Duration // after a catch-up without result
	retry    time.Time
	reset    time.Time // when the reader went back: each look begun since says what is there now, not what was; zero: it went on
}

// Feed begins to listen for an environment's releases. Close it.
func (c *Conn) Feed(o FeedOptions) (*Feed, error) {
	o.CheckInterval = cmp.Or(o.CheckInterval, defaultCheckInterval)
	o.RunBytes = cmp.Or(o.RunBytes, defaultRunBytes)
	o.RunCount = cmp.Or(o.RunCount, defaultRunCount)
	f := &Feed{
		conn: c, opts: o, position: o.Position, head: o.Position.Revision,
		live:     make(chan *nats.Msg, liveBuffer),
		wake:     make(chan struct{}, 1),
		rejected: make(map[Rejection]uint64),
	}
	f.rules = rules{environment: o.Environment, verify: o.Verify, known: o.Known, peek: o.Peek, reject: f.reject}
	// First the live tail, then the stream: what is released in between is seen twice rather than not at all.
	sub, err := c.nc.ChanSubscribe(events.LiveSubject(o.Environment), f.live)
	if err != nil {
		return nil, fmt.Errorf("listen to the releases of %s: %w: %w", o.Environment, ErrUnavailable, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { f.watch(ctx) })
	f.close = func() {
		_ = sub.Unsubscribe() // fails only where the connection is closed
		cancel()
		watching.Wait()
	}
	return f, nil
}

// Close ends the feed. A Next that waits does not notice: end its context first.
func (f *Feed) Close() { f.close() }

// Next waits for the releases after the position, moves the position to their end and returns them. While the bus is away or lacks
// the next revision it waits, and Problem says why. It ends with ctx, with the connection (ErrClosed), or with an error that wraps
// ErrForked, then every time until Reset. It is for one goroutine.
func (f *Feed) Next(ctx context.Context) (Run, error) {
	for {
		for range len(f.live) {
			if run, err := f.take(<-f.live); run != nil || err != nil {
				return run, err
			}
		}
		wait, err := f.state()
		if err != nil {
			return nil, err
		}
		if wait == 0 {
			if run := f.catchUp(ctx); run != nil {
				return run, nil
			}
			if wait, err = f.state(); err != nil {
				return nil, err
			}
		}
		if run, err := f.wait(ctx, wait); run != nil || err != nil {
			return run, err
		}
	}
}

// wait waits for a live message, for news about the head, or until it is time for the next catch-up.
func (f *Feed) wait(ctx context.Context, d time.Duration) (Run, error) {
	var again <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		again = timer.C
	}
	select {
	case m := <-f.live:
		return f.take(m)
	case <-f.wake:
	case <-again:
	case <-f.conn.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return nil, nil
}

// state says how long to wait before a catch-up: 0 is now, negative is never, because there is nothing to catch up with.
func (f *Feed) state() (wait time.Duration, forked error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.forked != nil {
		return 0, f.forked
	}
	if f.head <= f.position.Revision && !f.suspect {
		return -1, nil
	}
	return max(0, time.Until(f.retry)), nil
}

// take judges a live message. A message that is not authentic changes nothing but a counter.
func (f *Feed) take(m *nats.Msg) (Run, error) {
	c, ok := f.rules.open(republished(m))
	if !ok {
		return nil, nil
	}
	at := f.Position()
	switch f.rules.judge(at, c) {
	case next:
		return f.deliver(at, Run{c.Release}, false), nil
	case ahead:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.head = max(f.head, c.Revision)
	case forked:
		return nil, f.stop(forkError(at, c))
	}
	return nil, nil
}

// deliver moves the position from where the run begins. Rest says that the stream holds more than the run, which may make sense after
// it. It delivers nothing where the reader went back meanwhile.
func (f *Feed) deliver(from Position, run Run, rest bool) Run {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.position != from {
		return nil
	}
	f.suspect = f.suspect || rest
	f.position, f.reset = run.Position(), time.Time{}
	f.head = max(f.head, f.position.Revision)
	f.delay, f.retry, f.problem = 0, time.Time{}, nil
	return run
}

func (f *Feed) stop(forked error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forked, f.problem = forked, forked
	return forked
}

func (f *Feed) reject(why Rejection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rejected[why]++
}

// Reset moves the position, for a reader that did not accept what it got, and after ErrForked: Problem stays then until the bus holds
// the reader's history again. Next looks at the stream again within a check interval, and returns at once what the live tail brings
// after the position.
func (f *Feed) Reset(p Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.position, f.forked, f.suspect, f.reset = p, nil, true, time.Now()
	f.head = max(f.head, p.Revision)
	f.retry = f.reset.Add(jitter(f.opts.CheckInterval))
}

// Position is where the feed is: at the end of the last run, or where Reset put it.
func (f *Feed) Position() Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position
}

// Head is the environment's newest revision as far as authentic messages told.
func (f *Feed) Head() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.head
}

// LastChecked is when the stream was last seen to hold an authentic head at or past the position; zero: never.
func (f *Feed) LastChecked() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.checked
}

// Problem is why nothing comes although something should, or why the head is not known: it wraps ErrHistoryMissing,
// ErrUnavailable, ErrForeign or ErrForked. It is nil when all is well.
func (f *Feed) Problem() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.problem
}

// Rejected counts the messages that were dropped because they are not what a publisher sends here.
func (f *Feed) Rejected() map[Rejection]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.rejected)
}
