package publisher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/webhook"
)

// outboxLook is how often it is looked whether something is due again.
const outboxLook = time.Second

// alarms tell receivers what is wrong with the fleet. The state is written down beside the publisher's data before anything is sent, and
// after each sending.
type alarms struct {
	publisher *Publisher
	config    *notify.Config
	path      string
	sender    *webhook.Sender

	mu      sync.Mutex
	state   notify.State
	written bool                     // the file holds the state
	wake    map[string]chan struct{} // by target: there may be something to send
}

// openAlarms reads what was known before. Nil: nobody is told of anything.
func (p *Publisher) openAlarms(context.Context) error {
	c := p.opts.Notify
	if c == nil {
		return nil
	}
	a := &alarms{publisher: p, config: c, path: filepath.Join(p.opts.Data, "alarms.json"), sender: webhook.New(), written: true, wake: map[string]chan struct{}{}}
	for i := range c.Targets {
		t := &c.Targets[i]
		if _, _, err := secrets(t); err != nil {
			return fmt.Errorf("notify: target %s: %w", t.Name, err)
		}
		a.wake[t.Name] = make(chan struct{}, 1)
	}
	text, err := os.ReadFile(a.path)
	if err == nil {
		err = json.Unmarshal(text, &a.state)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("what is known of alarms, %s: %w; move the file away to begin anew: what was sent may be sent again under another id", a.path, err)
	}
	a.state.Drop(c)
	p.alarms = a
	p.group.Defer("webhooks", func(context.Context) error { a.sender.Close(); return nil })
	return nil
}

// secrets reads a target's address and the key of its signature.
func secrets(t *notify.Target) (address string, key []byte, err error) {
	address = t.URL
	if t.URLFile != "" {
		text, err := os.ReadFile(t.URLFile)
		if err != nil {
			return "", nil, fmt.Errorf("urlFile: %w", err)
		}
		address = strings.TrimSpace(string(text))
	}
	if t.SecretFile != "" {
		text, err := os.ReadFile(t.SecretFile)
		if err != nil {
			return "", nil, fmt.Errorf("secretFile: %w", err)
		}
		if key = []byte(strings.TrimSpace(string(text))); len(key) == 0 {
			return "", nil, fmt.Errorf("secretFile: %s is empty", t.SecretFile)
		}
	}
	return address, key, nil
}

// start lets what is wrong be noticed, and told.
func (a *alarms) start() {
	a.publisher.group.Go("alarms", a.watch)
	for i := range a.config.Targets {
		t := &a.config.Targets[i]
		a.publisher.group.Go("alarms for "+t.Name, func(ctx context.Context) error { return a.send(ctx, t) })
	}
}

// watch looks at the fleet from time to time. The publisher that holds the lease tells of all of it, and every one of its own ledger.
func (a *alarms) watch(ctx context.Context) error {
	tick := time.NewTicker(a.publisher.opts.Recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		a.look(time.Now())
	}
}

func (a *alarms) look(now time.Time) {
	p := a.publisher
	view := p.Fleet()
	leads := p.leading.Load() && view.Ledger.Writable
	var findings []notify.Finding
	if leads {
		p.Read(func(s *ledger.State, r fleet.Reports, asOf time.Time) {
			findings = notify.Find(view, fleet.Pending(s, r, asOf), fleet.Who(s))
		})
	} else if !view.Ledger.Writable {
		findings = notify.Find(view, nil, nil)
	}
	a.change(func(s *notify.State) bool { return s.Step(a.config, view.Ledger.ID, findings, leads, now) })
	for _, wake := range a.wake {
		nudge(wake)
	}
}

// change changes the state and writes it down; what could not be written is written with the next change, and nothing is sent before.
func (a *alarms) change(fn func(*notify.State) (changed bool)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !fn(&a.state) && a.written {
		return
	}
	text, err := json.Marshal(&a.state)
	if err == nil {
		err = a.write(text)
	}
	if a.written = err == nil; err != nil {
		a.publisher.log.Warn().Err(err).Msg("what is known of alarms could not be written down; nothing is sent until it can")
	}
}

// write replaces the file whole or not at all.
func (a *alarms) write(text []byte) error {
	f, err := os.OpenFile(a.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(a.publisher.opts.Fault.Write(fault.AlarmsKept, f, text), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), a.path)
}

// due is what is to be sent to a target now.
func (a *alarms) due(target string) (d notify.Delivery, due bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.written {
		return d, false
	}
	return a.state.Due(target, time.Now())
}

// send sends what is due to a target, in order, one after the other.
func (a *alarms) send(ctx context.Context, t *notify.Target) error {
	again := time.NewTicker(outboxLook)
	defer again.Stop()
	for {
		for d, due := a.due(t.Name); due && ctx.Err() == nil; d, due = a.due(t.Name) {
			err := a.post(ctx, t, d)
			if ctx.Err() != nil {
				break // whether it arrived is not known: it is sent again
			}
			if err != nil {
				a.publisher.book.read(func(s *ledger.State) {
					ofChange(a.publisher.log.Warn(), s, d.Alarm.Change, d.Alarm.Environment).Err(err).Str("target", t.Name).Str("alarm", d.Alarm.ID).Msg("an alarm could not be sent")
				})
			}
			a.change(func(s *notify.State) bool {
				s.Took(t.Name, time.Now(), err, errors.Is(err, webhook.ErrRefused))
				return true
			})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.wake[t.Name]:
		case <-again.C:
		}
	}
}

func (a *alarms) post(ctx context.Context, t *notify.Target, d notify.Delivery) error {
	var id string
	a.publisher.book.read(func(s *ledger.State) { id = s.ID })
	m, err := a.config.Message(id, d)
	if err != nil {
		return err
	}
	address, key, err := secrets(t)
	if err != nil {
		return err
	}
	return a.sender.Post(ctx, address, m.ContentType, m.Body, key, time.Now())
}
