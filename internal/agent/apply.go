package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// A shared is one connector's part of an apply.
type shared struct {
	connector connector.Connector
	plan      connector.Plan
}

// apply brings the instance to the target: plan → apply → read back → commit → ack. An error says that the instance is as it was,
// or, with ReasonUndo, that not even that could be done. Connector errors say whether another try helps; everything else is worth
// one.
func (c *chain) apply(ctx context.Context) error {
	if c.torn() || (c.intent != nil && c.intent.Chain != c.target.Chain) {
		if err := c.putBack(ctx, nil); err != nil {
			return err
		}
	}
	if len(c.waiting) == 0 {
		return nil
	}
	if err := c.keepPending(); err != nil {
		return err
	}
	want, err := c.wanted()
	if err != nil {
		return err
	}
	plans, err := planAll(ctx, c.opts.Router, want)
	if err != nil {
		return err
	}
	if err := c.firstContact(ctx, want, plans); err != nil {
		return err
	}
	begun := c.intent != nil // by a process that died
	if err := c.declare(ctx, plans); err != nil {
		return err
	}
	c.between = true
	if done, err := c.applyAll(ctx, plans); err != nil {
		units := unitsOf(touched(plans, done, err))
		undo := c.putBackUnits
		if begun {
			undo, units = c.putBack, unitsOf(plans)
		}
		if undo := undo(ctx, units); undo != nil {
			return errors.Join(undo, err)
		}
		return err
	}
	var seen readBack
	err = c.opts.Fault.Step(fault.InstanceReadBack, func() (err error) {
		seen, err = observe(ctx, c.opts.Router, &c.target.State, want, false)
		return err
	})
	if err != nil && connector.AsError(err).Permanent {
		if undo := c.putBack(ctx, unitsOf(plans)); undo != nil {
			return errors.Join(undo, err)
		}
	}
	if err != nil {
		return err
	}
	return c.commit(seen, c.now())
}

func (c *chain) keepPending() error {
	if err := writePending(c.opts.State, c.waiting, c.opts.Fault); err != nil {
		return storeFailed(fmt.Errorf("pending run: %w", err))
	}
	return nil
}

// wanted is the whole target with its secrets: every key that it has or that the waiting releases touch, nil for what is to go.
func (c *chain) wanted() (connector.Values, error) {
	want := connector.Values{}
	for _, l := range c.waiting {
		for _, key := range l.step.Keys {
			want[key] = nil
		}
	}
	return want, addState(want, &c.target.State, c.opts.Secrets)
}

func planAll(ctx context.Context, router *connector.Router, want connector.Values) ([]shared, error) {
	shares, err := router.Split(want)
	if err != nil {
		return nil, err
	}
	var plans []shared
	for _, s := range shares {
		plan, err := s.Connector.Plan(ctx, s.Values)
		if err != nil {
			return nil, fmt.Errorf("connector %s: %w", s.Connector.Name(), err)
		}
		if len(plan.Units) > 0 {
			plans = append(plans, shared{s.Connector, plan})
		}
	}
	return plans, nil
}

// firstContact refuses to overwrite what the instance holds before the agent ever applied anything to it, unless it was told to;
// then it keeps a backup.
func (c *chain) firstContact(ctx context.Context, want connector.Values, plans []shared) error {
	if !isFirstContact(&c.applied) || len(plans) == 0 {
		return nil
	}
	held, err := c.opts.Router.Observe(ctx, want)
	if err != nil {
		return err
	}
	if !c.opts.Overwrite {
		conflicts, err := conflicting(c.opts.Router, held, want)
		if err != nil || len(conflicts) == 0 {
			return err
		}
		return connector.Permanent(events.ReasonFirstContact,
			"the instance holds other values for %s: see them with `agent plan`; propose them with `agent adopt`, or run with --overwrite", keyList(conflicts))
	}
	if len(held) == 0 {
		return nil
	}
	dir := filepath.Join(c.opts.State, "backup-"+c.now().Format("20060102T150405Z"))
	err = c.opts.Fault.Step(fault.BackupMade, func() error { return prepare(ctx, plans, dir) })
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	c.newest().about(c.log.Warn()).Str("backup", dir).Msg("first contact: overwriting what the instance holds")
	return nil
}

// declare prepares an apply of which a part may survive a crash: pre-images first, then the intent that names them.
func (c *chain) declare(ctx context.Context, plans []shared) error {
	if c.intent != nil || !needsIntent(plans) {
		return nil // the intent of an apply that is being finished stands, with the pre-images from before its beginning
	}
	c.dropPreImages() // of an apply that was put back
	if err := prepare(ctx, plans, c.preImages()); err != nil {
		return err
	}
	text, err := json.Marshal(unitsOf(plans))
	if err != nil {
		return err
	}
	intent := &store.Intent{First: c.waiting[0].step.Release.Revision, Revision: c.target.Revision, Chain: c.target.Chain, Keys: c.keys(), Units: text, At: c.now()}
	if err := c.keep(fault.IntentDeclared, func(tx *store.Tx) error { return tx.SetIntent(intent) }); err != nil {
		return storeFailed(err)
	}
	c.intent = intent
	return nil
}

// prepare saves the pre-images of everything that is planned, and notes where they are.
func prepare(ctx context.Context, plans []shared, dir string) error {
	for i := range plans {
		if err := plans[i].connector.Prepare(ctx, &plans[i].plan, dir); err != nil {
			return fmt.Errorf("connector %s: %w", plans[i].connector.Name(), err)
		}
	}
	return nil
}

func needsIntent(plans []shared) bool {
	return len(plans) > 1 || slices.ContainsFunc(plans, func(p shared) bool {
		return len(p.plan.Units) > 1 || p.connector.Capabilities().Atomicity != connector.Atomic
	})
}

func unitsOf(plans []shared) (units []connector.Unit) {
	for _, p := range plans {
		units = append(units, p.plan.Units...)
	}
	return units
}

func (c *chain) keys() []string {
	keys := map[string]bool{}
	for _, l := range c.waiting {
		for _, key := range l.step.Keys {
			keys[key] = true
		}
	}
	return sorted(keys)
}

// applyAll says how many plans are applied whole.
func (c *chain) applyAll(ctx context.Context, plans []shared) (done int, err error) {
	err = fault.Parts(c.opts.Fault, fault.InstanceApplied, plans, func(p shared) error {
		if err := p.connector.Apply(ctx, p.plan); err != nil {
			return fmt.Errorf("connector %s: %w", p.connector.Name(), err)
		}
		done++
		return nil
	})
	return done, err
}

// touched are the plans that an apply which failed may have carried out in part. The one that met somebody else's change has touched
// nothing: what stands there is as they left it, and the next try plans anew.
func touched(plans []shared, done int, err error) []shared {
	if errors.Is(err, connector.ErrForeign) {
		return plans[:done]
	}
	return plans
}

// putBack undoes an apply that failed, of the intent if one was declared, and forgets the intent.
func (c *chain) putBack(ctx context.Context, planned []connector.Unit) error {
	var units []connector.Unit
	if c.intent != nil {
		if err := json.Unmarshal(c.intent.Units, &units); err != nil {
			return events.Errorf(events.ReasonUndo, "the intent of revision %d is not readable: %w", c.intent.Revision, err)
		}
	}
	for _, u := range planned {
		if !slices.ContainsFunc(units, func(o connector.Unit) bool { return o.Connector == u.Connector && o.ID == u.ID }) {
			units = append(units, u)
		}
	}
	return c.putBackUnits(ctx, units)
}

// putBackUnits undoes what an apply did to some units, and forgets the intent.
func (c *chain) putBackUnits(ctx context.Context, units []connector.Unit) error {
	if err := c.opts.Fault.Step(fault.InstancePutBack, func() error { return c.undo(ctx, units) }); err != nil {
		return events.Errorf(events.ReasonUndo, "the instance could not be put back to revision %d: %w", c.checkpoint.Revision, err)
	}
	c.between = false
	if c.intent == nil && !c.torn() {
		return nil
	}
	failure := c.failure
	if c.torn() {
		failure = nil // it is whole again; what comes of the next try says the rest
	}
	if err := c.keep(fault.IntentWithdrawn, func(tx *store.Tx) error { return errors.Join(tx.SetIntent(nil), tx.SetFailure(failure)) }); err != nil {
		return storeFailed(err)
	}
	c.intent, c.failure = nil, failure
	c.dropPreImages()
	return nil
}

// torn says whether the last undo failed.
func (c *chain) torn() bool { return c.failure != nil && c.failure.Word == events.WordTorn }

func (c *chain) undo(ctx context.Context, units []connector.Unit) error {
	var errs []error
	known := map[string]bool{}
	for _, conn := range c.opts.Router.Connectors() {
		known[conn.Name()] = true
		var own []connector.Unit
		for _, u := range units {
			if u.Connector == conn.Name() {
				own = append(own, u)
			}
		}
		if len(own) == 0 {
			continue
		}
		if err := conn.Undo(ctx, own); err != nil {
			errs = append(errs, fmt.Errorf("connector %s: %w", conn.Name(), err))
		}
	}
	for _, u := range units {
		if !known[u.Connector] {
			errs = append(errs, fmt.Errorf("%s belongs to connector %s, which is not in the agent's file any more", u.ID, u.Connector))
		}
	}
	return errors.Join(errs...)
}

// commit writes state, checkpoint and acks in one transaction, and only then lets the acks go.
func (c *chain) commit(seen readBack, applied time.Time) error {
	first, last := c.waiting[0], c.waiting[len(c.waiting)-1]
	at := c.now()
	ack := c.complete(events.Ack{Word: events.WordApplied, First: first.step.Release.Revision, Last: c.target.Revision,
		Observed: seen.digest, ReadBack: seen.complete, Differing: seen.keys()})
	ack.Phases.Received, ack.Phases.Applied, ack.Phases.Committed = events.Stamp(first.received), applied, at
	acks := []events.Ack{ack}
	if f := c.failure; f != nil && f.Last < c.target.Revision && (f.Word == events.WordFailed || f.Word == events.WordTorn) {
		acks = slices.Insert(acks, 0, c.complete(events.Ack{Word: events.WordSuperseded, First: f.Revision, Last: f.Last, By: c.target.Revision}))
	}
	failure := c.failure
	if !c.stuck {
		failure = nil
	}
	taken, committed := c.outbox.taken(), store.Checkpoint{}
	err := c.keep(fault.CheckpointMoved, func(tx *store.Tx) (err error) {
		checkpoint := store.Checkpoint{Observed: seen.digest, ReadBack: seen.complete, At: at, Sequence: last.release.Sequence, TraceParent: last.release.parent}
		committed, err = tx.Advance(c.target, c.steps(), checkpoint)
		if err != nil {
			return err
		}
		acks, err = c.enqueue(tx, acks...)
		return errors.Join(err, tx.SetIntent(nil), tx.SetFailure(failure), tx.Taken(taken...))
	})
	if err != nil {
		c.outbox.untake(taken)
		return storeFailed(err)
	}
	c.checkpoint, c.at, c.failure, c.tried = committed, last.release.subject(), failure, events.Digest{}
	for _, key := range c.keys() {
		r, _ := c.target.State.Get(key)
		c.applied.Set(key, r)
	}
	for _, l := range c.waiting {
		l.release.about(c.log.Info()).Str("kind", string(l.step.Release.Kind)).Msg("applied")
	}
	c.waiting, c.unverified, c.between = nil, false, false
	c.see(seen)
	c.show()
	c.outbox.put(acks, c.at)
	c.cleanUp()
	return nil
}

// cleanUp removes what was kept for a crash; what stays behind is found at the next start.
func (c *chain) cleanUp() {
	if c.intent != nil {
		c.intent = nil
		c.dropPreImages()
	}
	c.dropPending()
}

func (c *chain) dropPending() {
	if err := c.opts.Fault.Step(fault.PendingDropped, func() error { return removePending(c.opts.State) }); err != nil {
		c.atCheckpoint(c.log.Warn()).Err(err).Msg("could not remove the pending run")
	}
}

func (c *chain) preImages() string { return filepath.Join(c.opts.State, "pre-images") }

func (c *chain) dropPreImages() {
	if err := c.opts.Fault.Step(fault.PreImagesDropped, func() error { return os.RemoveAll(c.preImages()) }); err != nil {
		c.atCheckpoint(c.log.Warn()).Err(err).Msg("could not remove pre-images")
	}
}

// storeFailed is worth a retry for ever: the store is ours, and no release is to blame.
func storeFailed(err error) error {
	return connector.Transient(reasonOf(connector.Failed(events.ReasonStore, err)), "the agent's store: %w", err)
}
