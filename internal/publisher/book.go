package publisher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A book is the ledger as this publisher knows it: the state, the hash of every entry, the copy on disk, and whether it may be
// written. commit is held from a decision to the end of its append; mu guards the values and is never held over I/O.
type book struct {
	conn     *bus.Conn
	released func([]ledger.Released) // told of new releases, in order; must not block

	commit sync.Mutex
	copy   *ledgerCopy

	mu     sync.RWMutex
	state  *ledger.State
	hashes []events.Digest // of entry n at n-1
	standing
	changed chan struct{} // closed when the standing changes
}

// A standing says whether the ledger may be written, and why not.
type standing struct {
	writable bool
	checking bool // it is being found out: commands wait
	reason   events.Reason
	message  string
	since    time.Time
}

// appendTimeout outlives an append whose answer is slow; after it the outcome is unknown, and the ledger is read again.
const appendTimeout = 10 * time.Second

func newBook(state *ledger.State) *book {
	return &book{state: state, changed: make(chan struct{}), released: func([]ledger.Released) {},
		standing: standing{checking: true, reason: events.ReasonStartup, message: "the ledger is being checked", since: time.Now()}}
}

// read calls fn with the state; fn must not keep or change it.
func (b *book) read(fn func(*ledger.State)) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	fn(b.state)
}

// stand sets the standing and says whether it is another one.
func (b *book) stand(s standing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.writable == b.writable && s.checking == b.checking && s.reason == b.reason && s.message == b.message {
		return false
	}
	s.since = time.Now()
	b.standing = s
	close(b.changed)
	b.changed = make(chan struct{})
	return true
}

func (b *book) standingNow() (standing, <-chan struct{}) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.standing, b.changed
}

// awaitChecked waits until it is known whether the ledger may be written.
func (b *book) awaitChecked(ctx context.Context) error {
	for {
		s, changed := b.standingNow()
		if s.writable {
			return nil
		}
		if !s.checking {
			return &api.UnavailableError{Reason: s.reason, Message: fmt.Sprintf("the ledger is read-only (%s): %s", s.reason, s.message), Next: "nothing was changed; see 'publisher doctor'"}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &api.UnavailableError{Reason: s.reason, Message: s.message + "; gave up waiting", Next: "send the command again with the same id"}
		}
	}
}

// do decides a command and appends its entry. A decision that lost the race for its place is made anew.
func (b *book) do(ctx context.Context, c ledger.Command, dryRun bool) (ledger.Outcome, error) {
	if err := b.awaitChecked(ctx); err != nil {
		return ledger.Outcome{}, err
	}
	b.commit.Lock()
	defer b.commit.Unlock()
	for {
		d, err := b.decide(c)
		if err != nil {
			return ledger.Outcome{}, err
		}
		if d.Known || dryRun {
			return ledger.Outcome{Result: d.Result, Effect: d.Effect, Again: d.Known, DryRun: dryRun && !d.Known}, nil
		}
		done, err := b.appendDecision(ctx, d)
		if errors.Is(err, bus.ErrConflict) {
			if err := b.catchUp(ctx); err != nil {
				return ledger.Outcome{}, b.lost(err)
			}
			continue
		}
		if err != nil {
			return ledger.Outcome{}, b.lost(err)
		}
		if done {
			d.Result.Entry = b.number()
			return ledger.Outcome{Result: d.Result, Effect: d.Effect}, nil
		}
	}
}

func (b *book) decide(c ledger.Command) (ledger.Decision, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.Decide(c, time.Now())
}

func (b *book) number() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.state.Number
}

// appendDecision appends the contents that a decision needs first, or its entry; done says that it was the entry.
func (b *book) appendDecision(ctx context.Context, d ledger.Decision) (done bool, err error) {
	entries := d.Stores
	if d.Entry != nil {
		entries, done = [][]byte{d.Entry}, true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	for _, entry := range entries {
		if _, err := b.conn.Append(ctx, entry, b.number()); err != nil {
			return false, err
		}
		if err := b.apply(entry, time.Time{}); err != nil {
			return false, err
		}
	}
	return done, nil
}

// apply projects the next entry and hands on what it released. An error means that this program and the ledger do not agree: the
// state is not used any more.
func (b *book) apply(payload []byte, stamp time.Time) error {
	b.mu.Lock()
	_, released, err := b.state.Apply(payload, stamp)
	if err == nil {
		b.hashes = append(b.hashes, b.state.Hash)
	}
	b.mu.Unlock()
	if err != nil {
		return fatal{err}
	}
	if len(released) > 0 {
		b.released(released)
	}
	return nil
}

// A fatal error ends the publisher: its state is not the ledger's any more.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// lost notes that the bus or the ledger failed a command whose outcome is not known. The ledger is read again before the next
// append.
func (b *book) lost(err error) error {
	b.stand(standing{checking: !errors.As(err, new(fatal)), reason: reasonOf(err), message: err.Error()})
	return &api.UnavailableError{Reason: reasonOf(err), Message: "the ledger could not be written: " + err.Error(),
		Next: "send the command again with the same id: what was done is not done twice"}
}

func reasonOf(err error) events.Reason {
	switch {
	case errors.Is(err, bus.ErrHole):
		return events.ReasonLedgerTruncated
	case errors.Is(err, bus.ErrLedgerChanged), errors.Is(err, ledger.ErrBroken), errors.Is(err, ledger.ErrDerivation):
		return events.ReasonLedgerForked
	}
	if reason := events.ReasonOf(err); reason != "" {
		return reason
	}
	return events.ReasonBusDown
}

// catchUp reads what others appended. commit is held.
func (b *book) catchUp(ctx context.Context) error {
	return b.conn.ReadLedger(ctx, b.number()+1, func(s bus.Stored) error { return b.apply(s.Payload, s.Stamp) })
}

// readBack takes an entry that came from the bus: one's own, which now has its stamp, or another publisher's. It is compared or
// applied, and copied. A known entry with other bytes is ReasonLedgerForked.
func (b *book) readBack(s bus.Stored) error {
	b.commit.Lock()
	defer b.commit.Unlock()
	if s.Sequence > b.number() {
		if err := b.apply(s.Payload, s.Stamp); err != nil {
			return err
		}
	} else if err := b.compare(s); err != nil {
		return err
	}
	if s.Sequence == b.copy.last+1 {
		return b.copy.add(s)
	}
	return nil
}

func (b *book) compare(s bus.Stored) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if want := b.hashes[s.Sequence-1]; events.Sum(s.Payload) != want {
		return events.Errorf(events.ReasonLedgerForked, "entry %d is another one on the bus than the one known here (%s)", s.Sequence, want.Short())
	}
	b.state.Stamp(s.Sequence, s.Stamp)
	return nil
}

func (b *book) copied() uint64 {
	b.commit.Lock()
	defer b.commit.Unlock()
	return b.copy.last
}
