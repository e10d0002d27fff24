package ledger

import (
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// releaseByRule releases a change with its proposal where the trust document, the environments and the policies demand nobody's approval
// of it. The contents go before the entry: it waits until they are there.
func (d *decision) releaseByRule(f *events.ChangeProposed, revised bool) error {
	if !d.signed() || len(d.stores) > 0 {
		return nil
	}
	before, order := d.Changes[f.Change], d.order
	defer func() {
		d.order = order
		if d.Changes[f.Change] = before; before == nil {
			delete(d.Changes, f.Change)
		}
	}()
	p := projection{State: d.State, entry: events.Entry{Number: d.number, Time: d.now}, spoken: d.said}
	if err := p.changeProposed(f, revised); err != nil {
		return err
	}
	c := d.Changes[f.Change]
	if unmet(d.Demands(c, d.now)) != nil {
		return nil
	}
	d.notes = append(d.notes, "no approval is demanded of it: it is released at once")
	c.ByRule = true
	d.effect = nil // as it is released
	return d.release(c)
}
