package publisher

import (
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

// errNoAlarms says that this publisher tells nobody.
var errNoAlarms = &ledger.Error{Kind: ledger.KindNotFound, Message: "this publisher was told to tell nobody of what is wrong", Next: "start it with --notify FILE"}

// Alarms is what this publisher knows of alarms.
func (p *Publisher) Alarms() (view notify.Overview, err error) {
	if p.alarms == nil {
		return view, errNoAlarms
	}
	p.alarms.mu.Lock()
	defer p.alarms.mu.Unlock()
	return p.alarms.state.View(), nil
}

// AcknowledgeAlarm notes who takes care of an open alarm.
func (p *Publisher) AcknowledgeAlarm(id, by, reason string) (alarm notify.Alarm, err error) {
	err = p.withAlarms(func(s *notify.State) error { alarm, err = s.Acknowledge(id, by, reason, time.Now()); return err })
	return alarm, err
}

// SilenceAlarms keeps alarms from being sent until a time.
func (p *Publisher) SilenceAlarms(environment string, rule notify.Rule, until time.Time, by, reason string) (silence notify.Silence, err error) {
	err = p.withAlarms(func(s *notify.State) error {
		silence, err = s.Quiet(environment, rule, until, by, reason, time.Now())
		return err
	})
	return silence, err
}

// EndSilence ends a silence before its time.
func (p *Publisher) EndSilence(id string) error {
	return p.withAlarms(func(s *notify.State) error { return s.Speak(id) })
}

// withAlarms calls fn with the state, and writes down what it changed.
func (p *Publisher) withAlarms(fn func(*notify.State) error) (err error) {
	if p.alarms == nil {
		return errNoAlarms
	}
	p.alarms.change(func(s *notify.State) bool { err = fn(s); return err == nil })
	return err
}
