package ledger

import (
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/policy"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// An Open releases an approved change where the freeze is over that it waited for: the publisher's own command, idempotent by what it
// finds. Where it has to wait longer, or shorter, that is recorded; one whose base moved meanwhile is left out, to be rebased.
type Open struct {
	Change string `json:"change"`
}

func (Open) name() string { return "open" }

func (o Open) decide(d *decision) error {
	c, found := d.Changes[o.Change]
	if !found || c.status != StatusReleased || !c.Frozen() || c.Paused != nil {
		return ErrNothingNew
	}
	waiting := slices.DeleteFunc(slices.Clone(c.Parts), func(part Part) bool { return part.Frozen == nil })
	released, err := d.gather(c, waiting)
	if err != nil {
		return err
	}
	if released+len(d.left) == 0 && slices.EqualFunc(d.frozen, waiting, func(f events.Frozen, part Part) bool { return f == *part.Frozen }) {
		return ErrNothingNew
	}
	d.change = c.ID
	d.recordWave(c)
	if released+len(d.frozen) == 0 && d.delivered(c, nil) {
		d.record(events.TypeRolloutCompleted, c.ID, &events.RolloutCompleted{Change: c.ID})
	}
	return nil
}

// FrozenChanges are the approved changes that wait somewhere for the end of a freeze, oldest first.
func (s *State) FrozenChanges() []*Change {
	var out []*Change
	for _, id := range s.order {
		if c := s.Changes[id]; c.status == StatusReleased && c.Frozen() {
			out = append(out, c)
		}
	}
	return out
}

// changing is what a part of a change does, as policies see it.
func (s *State) changing(part Part, released *registry.Sources) policy.Environment {
	e := s.Environments[part.Environment]
	out := policy.Environment{Name: e.Name, Labels: e.Labels, Released: released}
	if m, found := released.Manifest(registry.KindEnvironment + "/" + e.Name); found {
		out.Facts = m.Environment().Facts
	}
	out.Operations = func(yield func(policy.Operation) bool) {
		for i, op := range part.Operations {
			is, _ := released.Manifest(op.Key)
			if !yield(policy.Operation{Key: op.Key, Before: part.Inverse[i].Value, After: op.Value, Is: is}) {
				return
			}
		}
	}
	return out
}

// asReleased is a change as policies see it when it is released.
func (d *decision) asReleased(c *Change) *policy.Change {
	p := Propose{Reason: c.Reason, Ticket: c.Ticket, Within: int64(c.Within / time.Second), Source: c.Source}
	if sources, err := d.WrittenSources(c); err == nil && len(sources.Directory) > 0 {
		p.Directory = &Directory{}
	}
	return p.described(c.Author, d.now)
}

// frozenRollback refuses a rollback in a freeze that holds rollbacks too.
func (d *decision) frozenRollback(undone []events.Undone, reason string) error {
	sources, err := d.allSources()
	if err != nil {
		return err
	}
	for _, u := range undone {
		c := d.Changes[u.Change]
		part, _ := c.PartFor(u.Environment)
		if frozen := d.policies.Frozen(d.changing(*part, sources[u.Environment].sources), (Propose{Reason: reason}).described(d.by, d.now), d.now, true); frozen != nil {
			return refuse(KindConflict, "wait until then, or take the freeze away in a change of its own",
				"rollbacks wait too in %s until %s (policy %s, %s:%d)", u.Environment, frozen.Until.UTC().Format(time.RFC3339), frozen.Policy, frozen.File, frozen.Line)
		}
	}
	return nil
}
