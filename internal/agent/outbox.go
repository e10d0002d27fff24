package agent

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// answerGrace is how long an outbox that is stopped waits for the answer to an ack under way. Without a connection there is no wait.
const answerGrace = time.Second

// An outbox sends acks that the store keeps, in order, until the bus has each of them. What the bus has is removed from the store
// together with the next thing that is written anyway.
type outbox struct {
	publish  func(ctx context.Context, payload []byte, signature string) error
	signer   *events.Signer
	clock    func() time.Time
	fault    fault.Hook
	interval time.Duration // between two tries
	log      zerolog.Logger

	mu      sync.Mutex
	waiting []outgoing
	sent    []uint64 // the bus has them, the store still keeps them
	last    uint64   // newest that the bus took
	wake    chan struct{}
}

// An outgoing ack knows the release that it is about.
type outgoing struct {
	events.Ack
	of subject
}

func (o *outbox) put(acks []events.Ack, of subject) {
	o.mu.Lock()
	for _, ack := range acks {
		o.waiting = append(o.waiting, outgoing{ack, of})
	}
	o.mu.Unlock()
	o.nudge()
}

// nudge lets the next try happen now.
func (o *outbox) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// taken hands over the acks that the bus has, for removal.
func (o *outbox) taken() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	sent := o.sent
	o.sent = nil
	return sent
}

// untake takes back what could not be removed.
func (o *outbox) untake(numbers []uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, numbers...)
}

func (o *outbox) size() (waiting int, last uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting), o.last
}

// run sends until its context ends.
func (o *outbox) run(ctx context.Context) error {
	for {
		for ctx.Err() == nil && o.sendFirst(ctx) {
		}
		var again <-chan time.Time
		if waiting, _ := o.size(); waiting > 0 {
			again = time.After(o.interval/2 + rand.N(o.interval))
		}
		select {
		case <-o.wake:
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// sendFirst sends the oldest ack and says whether the bus took it.
func (o *outbox) sendFirst(ctx context.Context) bool {
	o.mu.Lock()
	if len(o.waiting) == 0 {
		o.mu.Unlock()
		return false
	}
	ack := o.waiting[0]
	o.mu.Unlock()

	err := o.fault.Step(fault.AckSent, func() error { return o.send(ctx, ack.Ack) })
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		if !ack.Resent && ctx.Err() == nil {
			ack.of.about(o.log.Warn()).Err(err).Uint64("ack", ack.Number).Msg("ack not taken by the bus; it is sent again")
		}
		o.waiting[0].Resent = true // whether it arrived is unknown
		return false
	}
	o.waiting, o.sent, o.last = o.waiting[1:], append(o.sent, ack.Number), ack.Number
	return true
}

// send does not end with ctx at once: the answer to an ack under way is waited for, or it would be sent again after the restart.
func (o *outbox) send(ctx context.Context, ack events.Ack) error {
	payload, signature, err := events.EncodeAck(ack, events.Stamp(o.clock()), o.signer)
	if err != nil {
		return err
	}
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(answerGrace, cancel) })()
	return o.publish(sending, payload, signature)
}
