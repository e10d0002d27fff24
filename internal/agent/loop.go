package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// settleEvery is how often an unverified agent looks whether it has caught up.
const settleEvery = 100 * time.Millisecond

// run is the chain's goroutine: it alone touches the instance and moves the checkpoint.
func (a *Agent) run(ctx context.Context) error {
	c := a.chain
	c.recover(ctx)
	a.mu.Lock()
	a.recovered = true
	a.mu.Unlock()
	a.turn(ctx)
	at := c.position()
	if at.Revision == c.checkpoint.Revision {
		at.Sequence = c.checkpoint.Sequence
	}
	a.begin <- at
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		runs := a.runs
		if len(c.queue) > 0 {
			runs = nil // first what is here
		}
		timer.Reset(a.patience())
		select {
		case run := <-runs:
			c.follow(run)
		case ask := <-a.asks:
			a.begins()
			c.reopen(ctx)
			ask(ctx)
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		a.turn(ctx)
	}
}

// begins notes that the chain turns to its instance, which may never answer.
func (a *Agent) begins() { a.setBusy(time.Now()) }

// ends notes that the chain waits for something to do.
func (a *Agent) ends() { a.setBusy(time.Time{}) }

func (a *Agent) setBusy(since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy = since
}

// turn applies whatever is due.
func (a *Agent) turn(ctx context.Context) {
	a.begins()
	defer a.beatOnChange()
	defer a.ends()
	c := a.chain
	c.expireHold()
	c.reopen(ctx)
	a.show()
	for c.due(time.Now(), a.caughtUp()) && ctx.Err() == nil {
		begun := time.Now()
		from := c.checkpoint.Revision
		err := c.advance(ctx)
		a.metrics.advanced(time.Since(begun), c.checkpoint.Revision-from, err)
		a.show()
	}
	if a.caughtUp() {
		c.forgive()
	}
	if c.unverified && len(c.waiting) == 0 && a.caughtUp() {
		if err := c.settle(ctx); err != nil {
			c.notRead(err)
		}
		a.show()
	}
	if c.look(ctx, time.Now()) {
		a.show()
	}
}

// patience is how long nothing can become due by itself.
func (a *Agent) patience() time.Duration {
	c := a.chain
	wait := a.opts.Intervals.Check
	if c.unverified && c.unread == nil {
		wait = settleEvery
	}
	if c.comparable() {
		wait = min(wait, time.Until(c.looks.next))
	}
	if c.retry != nil && len(c.waiting)+len(c.queue) > 0 {
		wait = min(wait, time.Until(c.retry.Next))
	}
	if c.hold != nil {
		wait = min(wait, time.Until(c.hold.Until))
	}
	return max(wait, time.Millisecond)
}

// reread is for a chain that refused what comes after a position. Without a feed yet, it is read from there anyway.
func (a *Agent) reread(from bus.Position) {
	a.mu.Lock()
	feed := a.feed
	a.mu.Unlock()
	if feed != nil {
		feed.Reset(from)
	}
}

// caughtUp says whether the head was looked at since the start and everything up to it was followed.
func (a *Agent) caughtUp() bool {
	a.mu.Lock()
	feed := a.feed
	a.mu.Unlock()
	return feed != nil && !feed.LastChecked().IsZero() && feed.Head() <= a.chain.target.Revision
}

// followReleases hands what the bus brings to the chain, once what a crash left is resolved.
func (a *Agent) followReleases(ctx context.Context) error {
	var at bus.Position
	select {
	case at = <-a.begin:
	case <-ctx.Done():
		return nil
	}
	feed, err := a.conn.Feed(bus.FeedOptions{
		Environment: a.opts.Enrolment.Environment, Position: at, Verify: a.chain.believed.verify, Peek: a.chain.believed.readAhead, Known: a.knownChain, CheckInterval: a.opts.Intervals.Check,
	})
	if err != nil {
		return err
	}
	defer feed.Close()
	a.mu.Lock()
	a.feed = feed
	a.mu.Unlock()
	forked := false
	for {
		run, err := feed.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, bus.ErrForked) {
			if !forked {
				a.opts.Log.Error().Err(err).Msg("the ledger is forked; nothing more is applied before the bus holds this agent's history again")
			}
			forked = true
			a.beatOnChange()
			feed.Reset(feed.Position())
			continue
		}
		if err != nil {
			return fmt.Errorf("follow the releases: %w", err)
		}
		forked = false
		select {
		case a.runs <- receive(run):
		case <-ctx.Done():
			return nil
		}
	}
}

// knownChain is the chain digest of an applied revision.
func (a *Agent) knownChain(revision uint64) (digest events.Digest, known bool) {
	err := a.store.View(func(tx *store.Tx) error {
		r, err := tx.Record(revision)
		if r != nil {
			digest, known = r.Chain, true
		}
		return err
	})
	return digest, known && err == nil
}

// ask lets fn run in the chain's goroutine and waits for it.
func (a *Agent) ask(ctx context.Context, fn func(ctx context.Context) error) error {
	answer := make(chan error, 1)
	select {
	case a.asks <- func(chain context.Context) {
		err := fn(chain)
		a.show() // who asked sees what came of it
		answer <- err
	}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Hold stops applying until a time; releases are verified and followed all the same.
func (a *Agent) Hold(ctx context.Context, until time.Time, reason string) error {
	return a.ask(ctx, func(context.Context) error {
		return a.chain.setHold(&store.Hold{Since: a.chain.now(), Until: events.Stamp(until), Reason: reason})
	})
}

// Resume ends a hold.
func (a *Agent) Resume(ctx context.Context) error {
	return a.ask(ctx, func(context.Context) error { return a.chain.setHold(nil) })
}

// Retry tries whatever failed again, and applies the checkpoint again where the instance differs from it, which it looks at first.
func (a *Agent) Retry(ctx context.Context) error {
	return a.ask(ctx, func(ctx context.Context) error {
		a.chain.tryAgain()
		if len(a.chain.waiting) > 0 || a.chain.hold != nil {
			return nil
		}
		return a.chain.restore(ctx)
	})
}

func (c *chain) setHold(h *store.Hold) error {
	if err := c.keep(fault.HoldKept, func(tx *store.Tx) error { return tx.SetHold(h) }); err != nil {
		return storeFailed(err)
	}
	c.hold = h
	if h != nil {
		c.log.Warn().Time("until", h.Until).Str("reason", h.Reason).Msg("held by the steward")
	} else {
		c.log.Info().Msg("hold ended")
	}
	return nil
}

func (c *chain) expireHold() {
	if c.hold == nil || c.opts.Clock().Before(c.hold.Until) {
		return
	}
	if err := c.setHold(nil); err != nil {
		c.log.Error().Err(err).Msg("could not end the hold")
	}
}
