package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// A chain is the one straight line from a release to its ack. It is for one goroutine.
type chain struct {
	opts     *Options
	log      zerolog.Logger
	store    *store.Store
	believed *believed

	checkpoint store.Checkpoint // revision 0 before the first
	at         subject          // the checkpoint's release
	applied    fold.State       // at the checkpoint
	target     *fold.Environment
	waiting    []link     // verified and folded into target, not applied
	queue      []received // not folded yet: what comes before them is applied by itself
	single     bool       // find the release that fails: apply the queue one by one

	intent    *store.Intent // an apply that was not finished and not put back
	failure   *store.Failure
	stuck     bool          // a release was refused: nothing behind it can be verified
	refused   events.Digest // chain digest of that release, as it was said
	tried     events.Digest // chain digest of the target that failed permanently
	retry     *Retry
	hold      *store.Hold
	differing []events.DifferingResource // when the instance was last compared with the checkpoint
	differs   time.Time
	between   bool // an apply wrote to the instance and is neither committed nor put back
	looks     looks
	// unverified: nothing proves that the instance is not ahead of the checkpoint, which may be from an old disk image, as may an instance
	// that was put in the place of another.
	unverified bool
	unread     *unread // why the instance cannot be compared with the checkpoint; nil when it was, or need not be

	outbox   *outbox
	show     func()              // publishes what is here; before an ack says it to others
	count    func()              // counts a release that does not verify
	restored func(resources int) // counts resources that were put back because the steward asked for it
	reread   func(bus.Position)  // has what comes after a position read again, within a check interval
}

// A link is one verified release on its way.
type link struct {
	release            received
	step               *fold.Step
	received, verified time.Time
}

// A received release has been read, which is done while the chain folds and applies the ones before it.
type received struct {
	bus.Release
	content events.Release
	time    time.Time // of the release
	parent  string    // W3C trace context in which it was decided; may be empty
	err     error     // why it cannot be read
}

// receive reads the releases of a run.
func receive(run bus.Run) []received {
	out := make([]received, len(run))
	for i, r := range run {
		content, event, err := events.DecodeRelease(r.Payload)
		out[i] = received{r, content, event.Time, event.TraceParent, err}
	}
	return out
}

// follow takes releases that continue what it has, and folds as many as may be applied together. In the place of a refused release may
// come another.
func (c *chain) follow(run []received) {
	if run[0].Revision == c.target.Revision+1 {
		c.stuck = false
	}
	c.queue = append(c.queue, run...)
	if c.retry != nil {
		c.retry.Next = time.Time{} // what is new may be what mends it
	}
	c.fold()
}

// fold verifies queued releases until one has to be applied by itself.
func (c *chain) fold() {
	for len(c.queue) > 0 {
		if c.stuck {
			c.block(c.queue[0].Revision, c.queue[len(c.queue)-1])
			c.queue = nil
			return
		}
		// Once a release failed, what follows is tried together with it. An instance that may be ahead of the checkpoint must not go
		// back through what it has left behind: then all of it is one step.
		together := c.failure != nil || c.unverified
		if (c.opts.Step || c.single) && !together && len(c.waiting) > 0 {
			return
		}
		received := c.now()
		r := c.queue[0]
		step, err := c.accept(r)
		if err != nil {
			c.refuse(r, err)
			continue
		}
		if n := len(c.waiting); n > 0 && !together && (c.stepwise(step) || c.stepwise(c.waiting[n-1].step)) {
			c.target.Revert(step)
			return
		}
		c.queue = c.queue[1:]
		c.waiting = append(c.waiting, link{r, step, received, c.now()})
		c.learn(step, r.subject())
	}
	c.queue, c.single = nil, false
}

// accept verifies one release, and that the chain meets the head that the enrolment pins.
func (c *chain) accept(r received) (*fold.Step, error) {
	if r.err != nil {
		return nil, r.err
	}
	step, err := c.target.AcceptDecoded(r.content, r.time, r.Payload, nil)
	if err != nil {
		return nil, err
	}
	if err := checkPin(c.opts, step.Release.Revision, step.Chain); err != nil {
		c.target.Revert(step)
		return nil, err
	}
	return step, nil
}

func checkPin(o *Options, revision uint64, chain events.Digest) error {
	if pin := o.Enrolment.Head; revision == pin.Revision && chain != pin.Chain {
		return events.Errorf(events.ReasonLedgerForked, "revision %d has the chain digest %s, the enrolment pins %s: have the ledger looked at, or, where this history is the right one, revoke the agent and enrol a new one with `publisher env enrol`",
			revision, chain.Short(), pin.Chain.Short())
	}
	return nil
}

// stepwise says whether a release touches a resource whose route asks for every revision by itself.
func (c *chain) stepwise(s *fold.Step) bool {
	for _, key := range s.Keys {
		if route, err := c.opts.Router.Route(key); err == nil && route.Step {
			return true
		}
	}
	return false
}

func (c *chain) learn(s *fold.Step, of subject) {
	if !c.believed.learn(s.Release.Trust) {
		return
	}
	if err := c.keep(fault.TrustReadAhead, func(tx *store.Tx) error { return tx.SetNewestTrust(s.Release.Trust) }); err != nil {
		of.about(c.log.Error()).Err(err).Msg("could not keep the trust document read ahead")
	}
}

// due says whether there is something to apply now.
func (c *chain) due(now time.Time, caughtUp bool) bool {
	switch {
	case len(c.waiting) == 0 && c.intent == nil, c.hold != nil:
		return false
	case c.retry != nil && now.Before(c.retry.Next):
		return false
	case c.unverified && !caughtUp:
		return false // an old disk image must not rewind the instance
	}
	return c.tried != c.target.Chain
}

// advance applies what is due and says what became of it in acks, failure and retry. A fold that is taken apart is no
// failure yet: the release to blame will be one.
func (c *chain) advance(ctx context.Context) error {
	// An apply under way is finished, whatever stops the agent.
	err := c.apply(context.WithoutCancel(ctx))
	switch {
	case err == nil:
		c.retry = nil
	case events.ReasonOf(err) == events.ReasonUndo:
		c.fail(events.WordTorn, err)
		c.again(err)
	case connector.AsError(err).Permanent && len(c.waiting) > 1 && c.failure == nil:
		c.newest().about(c.log.Warn()).Err(err).Uint64("first", c.waiting[0].step.Release.Revision).
			Msg("these revisions cannot be applied together; one by one")
		c.unfold()
		err = nil
	case connector.AsError(err).Permanent:
		c.retry, c.tried = nil, c.target.Chain
		c.fail(events.WordFailed, err)
		c.dropPending()
	default:
		c.again(err)
	}
	c.fold()
	return err
}

// unfold takes back what is folded together, so that it is applied one by one and the release that fails is found.
func (c *chain) unfold() {
	requeued := make([]received, 0, len(c.waiting)+len(c.queue))
	for _, l := range c.waiting {
		requeued = append(requeued, l.release)
	}
	for i := len(c.waiting) - 1; i >= 0; i-- {
		c.target.Revert(c.waiting[i].step)
	}
	c.queue, c.waiting, c.single = append(requeued, c.queue...), nil, true
}

// again schedules a retry: doubling, bounded, with jitter.
func (c *chain) again(err error) {
	now := time.Now()
	reason := reasonOf(err)
	if c.retry == nil || c.retry.Reason != reason {
		c.retry = &Retry{Since: c.now(), Reason: reason}
		c.say(events.Ack{Word: events.WordRetrying, Reason: reason, Message: messageOf(err), Since: c.retry.Since})
	}
	c.retry.Attempts++
	c.retry.Message = messageOf(err)
	wait := min(c.opts.Intervals.Retry<<min(c.retry.Attempts-1, 20), c.opts.Intervals.Most)
	c.retry.Next = now.Add(wait/2 + rand.N(wait/2+1))
	c.newest().about(c.log.Warn()).Err(err).Int("attempts", c.retry.Attempts).Msg("not applied; trying again")
}

// tryAgain lets the next advance try whatever failed, now.
func (c *chain) tryAgain() {
	c.tried = events.Digest{}
	if c.retry != nil {
		c.retry.Next = time.Time{}
	}
}

// refuse records that a release does not verify: it and what follows are not applied. It is read again, as long as it is there.
func (c *chain) refuse(r received, err error) {
	c.stuck, c.queue = true, c.queue[1:]
	c.reread(c.position())
	restarted := c.refused == events.Digest{}
	if r.Chain == c.refused && c.failure != nil {
		return // said before
	}
	c.refused = r.Chain
	r.about(c.log.Error()).Err(err).Msg("a release is refused")
	c.count()
	now := c.now()
	before := c.failure
	c.failure = &store.Failure{Revision: r.Revision, Last: r.Revision, Word: events.WordRefused, Reason: reasonOf(err), Message: messageOf(err), Since: now}
	if restarted && before != nil && before.Revision == r.Revision && before.Word == events.WordRefused && before.Reason == c.failure.Reason {
		c.failure.Since, c.failure.Last = before.Since, before.Last // said before the restart
		return
	}
	c.report(c.failure, r.subject(), events.Ack{Word: events.WordRefused, First: r.Revision, Last: r.Revision, Chain: r.Chain,
		Reason: c.failure.Reason, Message: c.failure.Message, Phases: events.Phases{Received: events.Stamp(now), Verified: events.Stamp(now)}})
}

// forgive ends a refusal, once what was refused is not there any more.
func (c *chain) forgive() {
	if c.failure == nil || c.failure.Word != events.WordRefused {
		return
	}
	if err := c.keep(fault.FailureKept, func(tx *store.Tx) error { return tx.SetFailure(nil) }); err != nil {
		c.log.Error().Err(err).Msg("could not forget a release that was refused and is gone")
		return
	}
	c.log.Info().Uint64("revision", c.failure.Revision).Msg("the release that was refused is gone")
	c.failure, c.stuck, c.refused = nil, false, events.Digest{}
	c.show()
}

// block says of revisions behind a refused one that they cannot be applied.
func (c *chain) block(first uint64, last received) {
	if c.failure == nil {
		return // the instance was torn and is whole again: the refusal is said when it is read again
	}
	if first = max(first, c.failure.Last+1); first > last.Revision {
		return
	}
	c.failure.Last = last.Revision
	c.report(c.failure, last.subject(), events.Ack{Word: events.WordBlocked, First: first, Last: last.Revision, Chain: last.Chain,
		By: c.failure.Revision, Reason: c.failure.Reason, Message: c.failure.Message})
}

// fail records that the target cannot be applied, and says it of the revisions of which it was not yet said.
func (c *chain) fail(word events.Word, err error) {
	reason, first := reasonOf(err), min(c.checkpoint.Revision+1, c.target.Revision)
	c.newest().about(c.log.Error()).Err(err).Uint64("first", first).Str("word", string(word)).Msg("not applied")
	ack := events.Ack{Word: word, First: first, Reason: reason, Message: messageOf(err)}
	before := c.failure
	if c.failure = new(store.Failure); before != nil {
		*c.failure = *before
	}
	if before != nil && before.Word == word && before.Reason == reason {
		if c.target.Revision <= before.Last {
			return // said before
		}
		ack.Word, ack.First, ack.By = events.WordBlocked, before.Last+1, before.Revision
		c.failure.Last, c.failure.Message = c.target.Revision, messageOf(err)
	} else {
		since := c.now()
		*c.failure = store.Failure{Revision: first, Last: c.target.Revision, Word: word, Reason: reason, Message: messageOf(err), Since: since}
	}
	ack.Last = c.target.Revision
	c.report(c.failure, c.newest(), c.complete(ack))
}

// say sends an ack about the target.
func (c *chain) say(ack events.Ack) {
	if len(c.waiting) == 0 {
		return
	}
	ack.First, ack.Last = c.waiting[0].step.Release.Revision, c.target.Revision
	c.report(c.failure, c.newest(), c.complete(ack))
}

// complete fills in what acks about the target have.
func (c *chain) complete(a events.Ack) events.Ack {
	a.Chain, a.Expected = c.target.Chain, c.target.State.Digest()
	if n := len(c.waiting); n > 0 {
		last := c.waiting[n-1]
		a.Phases.Received, a.Phases.Verified = events.Stamp(last.received), events.Stamp(last.verified)
	}
	return a
}

// report keeps a failure and an ack in one transaction, and lets the ack go. Where even that cannot be kept it is only logged: the
// beat says it all the same, and no ack is better than a false one.
func (c *chain) report(failure *store.Failure, of subject, ack events.Ack) {
	var acks []events.Ack
	err := c.keep(fault.FailureKept, func(tx *store.Tx) (err error) {
		acks, err = c.enqueue(tx, ack)
		return errors.Join(err, tx.SetFailure(failure))
	})
	if err != nil {
		of.about(c.log.Error()).Err(err).Str("word", string(ack.Word)).Msg("could not keep an ack")
		return
	}
	c.show()
	c.outbox.put(acks, of)
}

// keep writes something into the store as a durable step.
func (c *chain) keep(p fault.Point, fn func(*store.Tx) error) error {
	return c.opts.Fault.Step(p, func() error { return c.store.Update(fn) })
}

func (c *chain) enqueue(tx *store.Tx, list ...events.Ack) ([]events.Ack, error) {
	id := c.store.Identity()
	for i := range list {
		list[i].Environment, list[i].Agent, list[i].Ledger = id.Environment, id.Agent, id.Ledger
		var err error
		if list[i], err = tx.Enqueue(list[i]); err != nil {
			return nil, fmt.Errorf("outbox: %w", err)
		}
	}
	return list, nil
}

// now is what the agent says the time is.
func (c *chain) now() time.Time { return events.Stamp(c.opts.Clock()) }

func (c *chain) position() bus.Position {
	return bus.Position{Revision: c.target.Revision, Chain: c.target.Chain}
}

// messageOf is what an error says beside its reason, which stands next to it everywhere.
func messageOf(err error) string {
	return strings.TrimPrefix(err.Error(), string(reasonOf(err))+": ")
}

func reasonOf(err error) events.Reason {
	if reason := events.ReasonOf(err); reason != "" {
		return reason
	}
	return connector.AsError(err).Reason
}
