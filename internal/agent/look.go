package agent

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// confirmAfter is the part of the check interval after which what differs is looked at again: a second of thirty.
	confirmAfter = 30
	// rareLooks is how many looks there are for each at what is costly to observe: programs run every five minutes.
	rareLooks = 10
)

// looks are when the chain looks at its instance by itself, and what it saw that counts only when it is seen again.
type looks struct {
	next     time.Time
	cheap    int             // looks at what is cheap since the last at everything
	suspects map[string]bool // resources that differed in the last look, and not in the one before
	failed   bool            // the last look could not read the instance, and the one before could
}

// saw says that the whole instance was compared: the next look is an interval away, less what lets it be confirmed within the interval.
func (l *looks) saw(now time.Time, interval time.Duration) {
	*l = looks{next: now.Add(interval - interval/confirmAfter - rand.N(interval/5+1))}
}

// comparable says whether the instance is meant to be as the checkpoint says. While an apply is between the two, or the instance is torn
// or unverified, that is said in other words than in step, and what ends it compares the instance. A failed or held release leaves the
// instance at the checkpoint.
func (c *chain) comparable() bool {
	return c.checkpoint.Revision > 0 && !c.unverified && !c.between && c.intent == nil && !c.torn()
}

// look compares the instance with the checkpoint when it is time, and says whether it did. What differs counts when it differs in two
// looks in a row, of which the second comes soon: an application may have been writing. What is as it should be again counts at once.
// It writes nothing, and corrects nothing.
func (c *chain) look(ctx context.Context, now time.Time) bool {
	if !c.comparable() || now.Before(c.looks.next) {
		return false
	}
	last := c.looks
	again := last.failed || len(last.suspects) > 0
	cheaply := !again && len(c.differing) == 0 && c.unread == nil && last.cheap < rareLooks-1
	seen, err := c.observeApplied(ctx, cheaply)
	if ctx.Err() != nil {
		return false
	}
	c.looks.saw(now, c.opts.Intervals.Check)
	switch {
	case err != nil && (last.failed || c.unread != nil):
		c.notRead(err)
	case err != nil:
		c.looks.failed = true
	case cheaply && len(seen.differing) == 0:
		c.looks.cheap = last.cheap + 1
	default:
		suspects := c.suspects(seen, last)
		if !cheaply {
			c.see(seen.without(suspects, &c.applied))
		}
		c.looks.suspects = suspects
	}
	if !again && (c.looks.failed || len(c.looks.suspects) > 0) {
		c.looks.next = now.Add(c.opts.Intervals.Check / confirmAfter)
	}
	return true
}

// suspects are the resources that differ and did not in the last look. Where nothing could be read before, what is read counts.
func (c *chain) suspects(seen readBack, last looks) map[string]bool {
	suspects := map[string]bool{}
	for key := range seen.differing {
		known := slices.ContainsFunc(c.differing, func(d events.DifferingResource) bool { return d.Resource == key })
		if !known && !last.suspects[key] && c.unread == nil {
			suspects[key] = true
		}
	}
	return suspects
}
