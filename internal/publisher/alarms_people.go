package publisher

import (
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

// errNoAlarms says that this publisher tells nobody.
var errNoAlarms = &ledger.Error{Kind: ledger.KindNotFound, Message: "this publisher was told to tell nobody of what is wrong", Next: "start it with --notify FILE"}

// Alarms is what is known of alarms: of the fleet, and of this publisher's own ledger.
func (p *Publisher) Alarms() (view notify.Overview, err error) {
	a := p.alarms
	if a == nil {
		return view, errNoAlarms
	}
	var said notify.Said
	now := time.Now()
	p.book.read(func(s *ledger.State) { said = notify.SaidIn(s, now) })
	for _, k := range []*keptAlarms{a.own, a.fleet} {
		k.mu.Lock()
		defer k.mu.Unlock()
	}
	return notify.View(said, now, &a.own.state, &a.fleet.state), nil
}
