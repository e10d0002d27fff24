package apitest

import (
	"errors"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

// oncall is told of everything that fails, and takes nothing.
var oncall = &notify.Config{Targets: []notify.Target{{Name: "oncall", Format: notify.FormatCloudEvents}}}

// Alarms implements api.Backend: what is wrong is noticed when it is asked for.
func (p *Publisher) Alarms() (notify.Overview, error) {
	view := p.Fleet()
	var findings []notify.Finding
	var said notify.Said
	p.Read(func(s *ledger.State, r fleet.Reports, asOf time.Time) {
		said = notify.SaidIn(s, time.Now())
		findings = notify.Find(view, fleet.Pending(s, r, asOf), fleet.Who(s))
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alarms.Step(oncall, view.Ledger.ID, findings, said, time.Now())
	return notify.View(said, time.Now(), &p.alarms), nil
}

// Undeliverable lets what waits to be told be refused.
func (p *Publisher) Undeliverable() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d, due := p.alarms.Due("oncall", notify.Said{}, time.Now()); due {
		p.alarms.Took(d, time.Now(), errors.New("refused: answered 404 Not Found"), true, 0)
	}
}
