package ledger

import (
	"fmt"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Pause holds back what of an approved change waits for the end of a freeze: it is not released then, until it is resumed.
type Pause struct {
	Change string `json:"change"`
	Reason string `json:"reason"`
}

func (Pause) name() string { return "pause" }

func (p Pause) decide(d *decision) error {
	c, err := d.waiting(p.Change)
	switch {
	case err != nil:
		return err
	case c.Paused != nil:
		return refuse(KindConflict, "let it go on with 'publisher resume "+c.ID+"'", "change %s is paused by %s already", c.ID, c.Paused.By)
	}
	if err := demand("the reason", p.Reason); err != nil {
		return err
	}
	d.change = c.ID
	d.record(events.TypeRolloutPaused, c.ID, &events.RolloutPaused{Change: c.ID, By: d.by, Reason: p.Reason})
	return nil
}

// A Resume lets a paused change go on.
type Resume struct {
	Change string `json:"change"`
}

func (Resume) name() string { return "resume" }

func (r Resume) decide(d *decision) error {
	c, err := d.waiting(r.Change)
	switch {
	case err != nil:
		return err
	case c.Paused == nil:
		return refuse(KindConflict, "", "change %s is not paused", c.ID)
	}
	d.change = c.ID
	d.record(events.TypeRolloutResumed, c.ID, &events.RolloutPaused{Change: c.ID, By: d.by})
	return nil
}

// A Paused says who holds a change back, and why.
type Paused struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// waiting is an approved change that has not reached all of its environments.
func (d *decision) waiting(id string) (*Change, error) {
	c, found := d.Changes[id]
	if !found {
		return nil, refuse(KindNotFound, "list them with 'publisher changes'", "there is no change %s", id)
	}
	if c.status != StatusReleased || !c.Frozen() {
		return nil, refuse(KindConflict, "undo what is released with 'publisher rollback "+id+"', or reject what is not approved", "change %s is %s and waits nowhere: there is nothing to hold back", id, c.Status(d.now))
	}
	return c, nil
}

func (p *projection) rolloutPaused(f *events.RolloutPaused, resumed bool) error {
	c, err := p.aboutChange(f.Change)
	if err != nil {
		return err
	}
	if c.status != StatusReleased || !c.Frozen() || (c.Paused != nil) != resumed {
		return fmt.Errorf("%w: change %s is %s and is paused or resumed", ErrBroken, c.ID, c.status)
	}
	c.Paused = nil
	if !resumed {
		c.Paused = &Paused{By: f.By, Reason: f.Reason, Since: p.entry.Time}
	}
	return nil
}
