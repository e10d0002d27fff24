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

// Alarms implements api.Alarms: what is wrong is noticed when it is asked for.
func (p *Publisher) Alarms() (notify.Overview, error) {
	view := p.Fleet()
	var findings []notify.Finding
	p.Read(func(s *ledger.State, r fleet.Reports, asOf time.Time) {
		findings = notify.Find(view, fleet.Pending(s, r, asOf), fleet.Who(s))
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alarms.Step(oncall, view.Ledger.ID, findings, view.Ledger.Writable, time.Now())
	return p.alarms.View(), nil
}

// Undeliverable lets what waits to be told be refused.
func (p *Publisher) Undeliverable() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alarms.Took("oncall", time.Now(), errors.New("refused: answered 404 Not Found"), true)
}

// AcknowledgeAlarm implements api.Alarms.
func (p *Publisher) AcknowledgeAlarm(id, by, reason string) (notify.Alarm, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alarms.Acknowledge(id, by, reason, time.Now())
}

// SilenceAlarms implements api.Alarms.
func (p *Publisher) SilenceAlarms(environment string, rule notify.Rule, until time.Time, by, reason string) (notify.Silence, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alarms.Quiet(environment, rule, until, by, reason, time.Now())
}

// EndSilence implements api.Alarms.
func (p *Publisher) EndSilence(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alarms.Speak(id)
}
