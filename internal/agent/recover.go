package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// load reads the durable state and checks it against the enrolment. It returns the acks that the bus may not have.
func (c *chain) load() (outbox []events.Ack, tip *store.Tip, err error) {
	err = c.store.View(func(tx *store.Tx) (err error) {
		if c.target, err = tx.Environment(); err != nil {
			return err
		}
		checkpoint, err1 := tx.Checkpoint()
		newest, err2 := tx.NewestTrust()
		var err3, err4, err5, err6, err7 error
		c.intent, err3 = tx.Intent()
		c.failure, err4 = tx.Failure()
		c.hold, err5 = tx.Hold()
		outbox, err6 = tx.Outbox()
		tip, err7 = tx.Tip()
		if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
			return err
		}
		if checkpoint != nil {
			c.checkpoint = *checkpoint
			if c.at, err = subjectOf(tx, c.checkpoint); err != nil {
				return err
			}
		}
		c.believed.learn(c.target.Trust)
		c.believed.learn(newest)
		pinned, err := tx.Record(c.opts.Enrolment.Head.Revision)
		if err != nil || pinned == nil {
			return err
		}
		return checkPin(c.opts, pinned.Revision, pinned.Chain)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("load the agent's state: %w", err)
	}
	c.applied = fold.State{}
	for key, r := range c.target.State.All() {
		c.applied.Set(key, r)
	}
	return outbox, tip, nil
}

// recover resolves what a crash left, before anything else and without the bus: an apply under way is finished where its releases
// are still there, and put back where they are not. Where neither is left and the instance is not at the checkpoint, nothing is
// touched before the agent has caught up.
func (c *chain) recover(ctx context.Context) {
	run, err := readPending(c.opts.State, c.position(), c.believed.verify)
	if err != nil {
		c.atCheckpoint(c.log.Warn()).Err(err).Msg("the run that was under way cannot be used")
	}
	if len(run) > 0 {
		finished := receive(run)
		finished[len(finished)-1].about(c.log.Info()).Uint64("first", run[0].Revision).Msg("finishing what was under way")
		c.follow(finished)
	}
	finishing := c.intent != nil && c.intent.Chain == c.target.Chain
	if c.intent != nil && (!finishing || c.hold != nil) {
		if err := c.putBack(ctx, nil); err != nil {
			c.fail(events.WordTorn, err)
			c.again(err)
			return
		}
		c.unverified = true
	}
	if c.intent == nil {
		c.dropPreImages() // they hold secrets
	}
	if len(c.waiting) == 0 {
		c.dropPending()
		c.compare(ctx)
		return
	}
	if c.due(time.Now(), true) {
		_ = c.advance(ctx) // said in failure, retry and acks
	}
	if len(c.waiting) > 0 {
		c.unverified = true
		c.fold()
	}
}

// compare reads the instance at the start. One that is at the checkpoint is verified; of any other nothing is said before the heads
// were compared: the checkpoint may be from an old disk image.
func (c *chain) compare(ctx context.Context) {
	if c.checkpoint.Revision == 0 {
		return
	}
	seen, err := c.observeApplied(ctx, false)
	if err != nil {
		c.atCheckpoint(c.log.Warn()).Err(err).Msg("the instance could not be compared with the checkpoint")
	}
	c.unverified = err != nil || !seen.complete || len(seen.differing) > 0
	if !c.unverified {
		c.see(seen)
	}
}

// settle ends being unverified: the agent has caught up and nothing is left to apply, so that a difference is one.
func (c *chain) settle(ctx context.Context) error {
	seen, err := c.observeApplied(ctx, false)
	if err != nil {
		return err
	}
	c.unverified = false
	c.see(seen)
	return nil
}

// observeApplied compares the instance with the checkpoint, or only what is cheaply read of it. It writes nothing.
func (c *chain) observeApplied(ctx context.Context, cheaply bool) (readBack, error) {
	want := connector.Values{}
	if err := addState(want, &c.applied, c.opts.Secrets); err != nil {
		return readBack{}, err
	}
	return observe(ctx, c.opts.Router, &c.applied, want, cheaply)
}

// restore applies the checkpoint again to an instance that differs from it now, because the steward asked for it.
func (c *chain) restore(ctx context.Context) error {
	if !c.comparable() {
		return nil
	}
	if err := c.settle(ctx); err != nil || len(c.differing) == 0 {
		return err
	}
	differed, want := len(c.differing), connector.Values{}
	if err := addState(want, &c.applied, c.opts.Secrets); err != nil {
		return err
	}
	plans, err := planAll(ctx, c.opts.Router, want)
	if err != nil {
		return err
	}
	if done, err := c.applyAll(ctx, plans); err != nil {
		if undo := c.putBackUnits(ctx, unitsOf(touched(plans, done, err))); undo != nil {
			return errors.Join(undo, err)
		}
		return err
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	c.restored(max(0, differed-len(c.differing)))
	return nil
}
