package ledger

import (
	"slices"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Withdraw ends an open change of the person's own, or what is left of an approved one that waits for the end of a freeze.
type Withdraw struct {
	Change string `json:"change"`
	Reason string `json:"reason,omitempty"`
}

func (Withdraw) name() string { return "withdraw" }

func (w Withdraw) decide(d *decision) error {
	c, found := d.Changes[w.Change]
	waits := found && c.status == StatusReleased && c.Frozen()
	if !waits {
		var err error
		if c, err = d.openChange(w.Change, "withdrawn", StatusOpen, StatusExpired); err != nil {
			return err
		}
	}
	if err := checkSaid("the reason", w.Reason); err != nil {
		return err
	}
	if !samePerson(c.Author, d.by) {
		return refuse(KindDenied, "reject it with 'publisher reject "+c.ID+" -m …'", "change %s is %s's, and only its author withdraws it", c.ID, c.Author)
	}
	d.change = c.ID
	d.record(events.TypeChangeWithdrawn, c.ID, &events.ChangeEnded{Change: c.ID, By: d.by, Reason: w.Reason})
	if waits && d.delivered(c, nil) {
		d.record(events.TypeRolloutCompleted, c.ID, &events.RolloutCompleted{Change: c.ID})
	}
	return nil
}

// changeEnded ends an open change, or the waiting of an approved one: that is withdrawn where it has reached nothing.
func (p *projection) changeEnded(f *events.ChangeEnded, withdrawn bool) error {
	c, err := p.aboutChange(f.Change)
	if err != nil {
		return err
	}
	if !withdrawn {
		return p.change(f.Change, StatusOpen, func(c *Change) { c.status, c.Ended, c.EndReason = StatusRejected, f.By, f.Reason })
	}
	if c.status != StatusReleased || !c.Frozen() {
		return p.change(f.Change, StatusOpen, func(c *Change) { c.status, c.Ended, c.EndReason = StatusWithdrawn, f.By, f.Reason })
	}
	c.thaw("withdrawn by " + f.By)
	c.Ended, c.EndReason = f.By, f.Reason
	if !slices.ContainsFunc(c.Parts, func(part Part) bool { return part.InSources }) {
		c.status = StatusWithdrawn
	}
	return nil
}

// thaw ends the waiting of a change, which is not released any more where it waited.
func (c *Change) thaw(why string) {
	for i := range c.Parts {
		if part := &c.Parts[i]; part.Frozen != nil {
			part.Frozen, part.LeftOut = nil, &events.LeftOut{Environment: part.Environment, Reason: events.ReasonWithdrawn, Detail: why}
		}
	}
}
