package agent

import (
	"context"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// An unread says why nothing is known of the instance.
type unread struct {
	Err   error
	Since time.Time
}

// reopen takes the instance that was put in the place of another one. What was under way is put back first, in the one where it began;
// of the new one nothing is known before it was compared.
func (c *chain) reopen(ctx context.Context) {
	if !c.opts.Router.Replaced() {
		return
	}
	c.unverified = true
	if c.torn() {
		return // advance tries to put it back
	}
	if c.intent != nil {
		if err := c.putBack(ctx, nil); err != nil {
			if events.ReasonOf(err) == events.ReasonUndo {
				c.fail(events.WordTorn, err)
			}
			c.again(err)
			return
		}
	}
	if err := c.opts.Router.Reopen(); err != nil {
		c.notRead(err)
		return
	}
	c.atCheckpoint(c.log.Warn()).Msg("another instance is in the place of the one that was configured; comparing it anew")
	c.unread = nil
	c.tryAgain()
}

// notRead says that the instance cannot be compared with the checkpoint: such a one is not in step, and nothing is known of what it holds.
func (c *chain) notRead(err error) {
	since := c.now()
	if c.unread != nil {
		since = c.unread.Since
	}
	if c.unread == nil || c.unread.Err.Error() != err.Error() {
		c.atCheckpoint(c.log.Warn()).Err(err).Msg("the instance could not be compared with the checkpoint")
	}
	c.unread, c.differing, c.checkpoint.Observed = &unread{err, since}, nil, events.Digest{}
}
