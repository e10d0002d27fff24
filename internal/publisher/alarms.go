package publisher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/webhook"
)

// outboxLook is how often it is looked whether something is due again.
const outboxLook = time.Second

// parting is how long a message that is on its way when a publisher stops may take: cut off, it would be sent again.
const parting = 5 * time.Second

// alarms tell receivers what is wrong: the publisher that holds the lease with the fleet, and every one with its own ledger. What is known is
// kept before anything is sent, and after each sending: of the fleet on the bus, so that whoever leads next goes on with it; of the ledger
// beside the publisher's data, because it is told when the bus cannot be reached.
type alarms struct {
	publisher *Publisher
	config    *notify.Config
	sender    *webhook.Sender
	own       *keptAlarms              // of the ledger
	fleet     *keptAlarms              // of everything else
	wake      map[string]chan struct{} // by target: there may be something to send
}

// openAlarms reads what was known before. Nil: nobody is told of anything.
func (p *Publisher) openAlarms(context.Context) error {
	c := p.opts.Notify
	if c == nil {
		return nil
	}
	a := &alarms{publisher: p, config: c, sender: webhook.New(), wake: map[string]chan struct{}{}}
	for i := range c.Targets {
		t := &c.Targets[i]
		if _, _, err := secrets(t); err != nil {
			return fmt.Errorf("notify: target %s: %w", t.Name, err)
		}
		a.wake[t.Name] = make(chan struct{}, 1)
	}
	file := &alarmFile{path: filepath.Join(p.opts.Data, "alarms.json"), fault: p.opts.Fault}
	a.own, a.fleet = &keptAlarms{keeper: file}, &keptAlarms{keeper: &alarmBucket{publisher: p}}
	if err := a.own.read(context.Background()); err != nil {
		return fmt.Errorf("what is known of alarms, %s: %w; move the file away to begin anew: what was sent may be sent again under another id", file.path, err)
	}
	a.own.state.Drop(c, time.Now())
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

// watch looks at what is wrong from time to time.
func (a *alarms) watch(ctx context.Context) error {
	tick := time.NewTicker(a.publisher.opts.Recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		a.look(ctx, time.Now())
	}
}

// look takes what is wrong now. While the ledger cannot be written nothing is certain of the fleet: none of its episodes begins or ends.
func (a *alarms) look(ctx context.Context, now time.Time) {
	p := a.publisher
	view := p.Fleet()
	leads := p.leading.Load() && view.Ledger.Writable
	var findings []notify.Finding
	var said notify.Said
	p.Read(func(s *ledger.State, r fleet.Reports, asOf time.Time) {
		said = notify.SaidIn(s, now)
		if leads {
			findings = notify.Find(view, fleet.Pending(s, r, asOf), fleet.Who(s))
		}
	})
	var own []notify.Finding
	if !view.Ledger.Writable {
		own = notify.Find(view, nil, nil)
	}
	a.unlessKept(ctx, a.own.change(ctx, func(s *notify.State) bool { return s.Step(a.config, view.Ledger.ID, own, said, now) }))
	switch {
	case leads:
		a.unlessKept(ctx, a.fleet.change(ctx, func(s *notify.State) bool {
			dropped := s.Drop(a.config, now)
			return s.Step(a.config, view.Ledger.ID, findings, said, now) || dropped
		}))
	case view.Ledger.Writable:
		if err := a.fleet.read(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn().Err(err).Msg("what another publisher knows of alarms could not be read")
		}
	}
	for _, wake := range a.wake {
		nudge(wake)
	}
}

// unlessKept says what could not be kept. It is kept with the next change, and nothing is sent before.
func (a *alarms) unlessKept(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		a.publisher.log.Warn().Err(err).Msg("what is known of alarms could not be written down; nothing is sent until it can")
	}
}

// due is what is to be sent to a target now, and where it is kept.
func (a *alarms) due(target string) (d notify.Delivery, from *keptAlarms) {
	var said notify.Said
	now := time.Now()
	a.publisher.book.read(func(s *ledger.State) { said = notify.SaidIn(s, now) })
	for _, k := range []*keptAlarms{a.own, a.fleet} {
		if k == a.fleet && !a.publisher.leading.Load() {
			continue // another publisher sends it
		}
		if d, due := k.due(target, said, now); due {
			return d, k
		}
	}
	return d, nil
}

// send sends what is due to a target, one after the other.
func (a *alarms) send(ctx context.Context, t *notify.Target) error {
	again := time.NewTicker(outboxLook)
	defer again.Stop()
	for {
		for d, from := a.due(t.Name); from != nil && ctx.Err() == nil; d, from = a.due(t.Name) {
			a.sendOne(ctx, t, d, from)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.wake[t.Name]:
		case <-again.C:
		}
	}
}

// sendOne sends a message, and keeps what came of it. It does so to its end while the publisher stops.
func (a *alarms) sendOne(ctx context.Context, t *notify.Target, d notify.Delivery, from *keptAlarms) {
	ctx, cancel := outlive(ctx, parting)
	defer cancel()
	err := a.post(ctx, t, d)
	if ctx.Err() != nil {
		return // whether it arrived is not known: it is sent again
	}
	if err != nil {
		a.publisher.book.read(func(s *ledger.State) {
			ofChange(a.publisher.log.Warn(), s, d.Alarm.Change, d.Alarm.Environment).Err(err).Str("target", t.Name).Str("alarm", d.Alarm.ID).Msg("an alarm could not be sent")
		})
	}
	now := time.Now()
	a.unlessKept(ctx, from.took(ctx, func(s *notify.State) {
		s.Took(d, now, err, errors.Is(err, webhook.ErrRefused), webhook.After(err))
	}))
}

// outlive is a context that ends so long after another one.
func outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(by):
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
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
