package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// watch looks at the head: at once, whenever the connection came back, and in every CheckInterval. It finds what the live tail
// lost without anybody noticing, which is always the last message.
func (f *Feed) watch(ctx context.Context) {
	for {
		link, err := f.conn.connected(ctx)
		if err != nil {
			return
		}
		wait := f.opts.CheckInterval
		if _, err := f.check(ctx); err != nil {
			wait /= 6
		}
		select {
		case f.wake <- struct{}{}:
		default:
		}
		timer := time.NewTimer(jitter(wait))
		select {
		case <-timer.C:
		case <-link.down.Done():
			timer.Stop()
			// All agents come back at once, and need not ask at once.
			if _, err := f.conn.connected(ctx); err != nil || pause(ctx, jitter(f.opts.CheckInterval/30)) != nil {
				return
			}
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// check looks at the last message of the environment and returns its sequence; 0: there is none. The error is why the head is not
// known now.
func (f *Feed) check(ctx context.Context) (last uint64, err error) {
	asked, at := time.Now(), f.Position()
	message, err := f.conn.lastDirect(ctx, events.StreamReleases, events.ReleaseSubject(f.opts.Environment))
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, f.unchecked(err)
	}
	if message.Sequence == 0 {
		if at.Revision > 0 {
			return 0, f.unchecked(missing(at.Revision, 0))
		}
		f.checkedAt(asked, at, 0)
		return 0, nil
	}
	c, ok := f.rules.open(message)
	v := rejected
	if ok {
		v = f.rules.judge(at, c)
	}
	switch {
	case v == forked:
		return 0, f.stop(forkError(at, c))
	case v == rejected:
		// Somebody else's message, or the publisher's with a key that only a trust release before it makes known: look once.
		f.mu.Lock()
		f.suspect = true
		f.mu.Unlock()
		return message.Sequence, f.unchecked(fmt.Errorf("%w: the last message of %s is not signed by a known publisher: waiting until it is removed", ErrForeign, f.opts.Environment))
	case c.Revision < at.Revision:
		return message.Sequence, f.unchecked(missing(at.Revision, c.Revision))
	}
	f.checkedAt(asked, at, c.Revision)
	return message.Sequence, nil
}

func (f *Feed) checkedAt(asked time.Time, at Position, head uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head = max(f.head, head); !f.reset.IsZero() && asked.After(f.reset) {
		f.head = max(at.Revision, head) // what was there before may be gone, and what is there now may go before it is read
	}
	f.checked = asked
	if f.head <= at.Revision && f.forked == nil {
		f.problem = nil
	}
}

func (f *Feed) unchecked(problem error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.problem = problem
	return problem
}

func missing(want, have uint64) error {
	return fmt.Errorf("%w: revision %d is needed, the bus has %d: waiting until the publisher has repaired it", ErrHistoryMissing, want, have)
}

// catchUp reads the stream from the position on. Without a result the next one has to wait, longer each time and not as long as
// other agents.
func (f *Feed) catchUp(ctx context.Context) Run {
	f.mu.Lock()
	at := f.position
	f.delay = min(max(2*f.delay, catchUpFirst), f.opts.CheckInterval/2)
	f.retry = time.Now().Add(jitter(f.delay))
	f.mu.Unlock()

	last, _ := f.check(ctx)
	if last == 0 {
		return nil // Problem says why
	}
	f.mu.Lock()
	more := f.head > at.Revision || f.suspect
	f.suspect = false
	f.mu.Unlock()
	if !more {
		return nil
	}
	result, err := f.collect(ctx, at, last)
	if len(result.run) > 0 {
		return f.deliver(at, result.run, result.rest)
	}
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, ErrForked):
		_ = f.stop(err)
	case err != nil:
		_ = f.unchecked(err)
	case result.gap > 0 || f.Head() > at.Revision:
		_ = f.unchecked(missing(at.Revision+1, max(result.gap, f.Head())))
	}
	return nil
}

// found is what a catch-up found.
type found struct {
	run  Run
	gap  uint64 // the revision that is there instead of the next one
	rest bool   // not all of the stream was used
}

// errNotThere says that the message at the position's sequence is not the position's.
var errNotThere = errors.New("another message is at the sequence of the checkpoint")

// collect finds the run that continues a position among the messages up to the sequence last. It begins at the position's own
// message, if that is still where it was.
func (f *Feed) collect(ctx context.Context, at Position, last uint64) (found, error) {
	if at.Sequence > 0 && at.Sequence <= last {
		result, err := f.collectFrom(ctx, at, at.Sequence, last)
		if !errors.Is(err, errNotThere) {
			return result, err
		}
	}
	return f.collectFrom(ctx, at, 0, last)
}

func (f *Feed) collectFrom(ctx context.Context, at Position, from, last uint64) (result found, err error) {
	var (
		messages []candidate
		size     int
		proven   = from == 0
	)
	use := func() (err error) {
		result.run, result.gap, err = f.rules.authenticate(at, messages)
		return err
	}
	err = f.conn.read(ctx, reading{stream: events.StreamReleases, filter: events.ReleaseSubject(f.opts.Environment), from: from, until: last}, func(m message) error {
		c, ok := f.rules.open(m.Stored)
		if !proven {
			if !ok || c.Revision != at.Revision || c.Chain != at.Chain {
				return errNotThere
			}
			proven = true
		}
		if !ok {
			return nil
		}
		if c.Revision <= at.Revision {
			if digest, ok := f.rules.digest(at, c.Revision); ok && digest != c.Chain && f.rules.judge(at, c) == forked {
				return forkError(at, c)
			}
			return nil
		}
		messages, size = append(messages, c), size+len(c.Payload)
		if size < f.opts.RunBytes && len(messages) < f.opts.RunCount {
			return nil
		}
		if err := use(); err != nil || len(result.run) > 0 || result.gap > 0 {
			result.rest = true
			return cmp.Or(err, errEnough)
		}
		messages, size = nil, 0 // nothing of it was authentic
		return nil
	})
	if err == nil && !result.rest {
		err = use()
		result.rest = result.gap > 0 || len(result.run) < len(messages) || err != nil
	}
	return result, err
}
