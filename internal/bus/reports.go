package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Report is an agent's ack or beat. Environment and Agent are what its subject says: who may have sent it, which only the
// signature proves.
type Report struct {
	Environment, Agent string
	Stored
}

// PublishAck stores an ack and returns when the bus has it. ErrUnavailable: keep it and send it again, a second one does no harm.
func (c *Conn) PublishAck(ctx context.Context, environment, agent string, payload []byte, signature string) error {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	if _, err := c.js.PublishMsg(bounded, outgoing(events.AckSubject(environment, agent), payload, signature)); err != nil {
		return c.failed(ctx, "send the ack", err)
	}
	return nil
}

// FollowAcks hands over the stored acks from a stream sequence on, and then every new one, until ctx ends. It survives
// reconnects and the stream being made anew: then it begins at the new one's start, so Sequence can fall.
func (c *Conn) FollowAcks(ctx context.Context, from uint64, fn func(Report) error) error {
	next := max(from, 1)
	var created time.Time
	return c.follow(ctx, events.StreamAcks, func(info *jetstream.StreamInfo) (reading, error) {
		if info == nil {
			return reading{}, errBroken
		}
		if next > info.State.LastSeq+1 || (!created.IsZero() && !info.Created.Equal(created)) {
			next = 1
		}
		created = info.Created
		return reading{stream: events.StreamAcks, filter: events.SubjectAcks, from: next}, nil
	}, func(m message) error {
		next = m.Sequence + 1
		return report(m, fn)
	})
}

// PublishBeat sends a beat without waiting: the next one follows soon.
func (c *Conn) PublishBeat(environment, agent string, payload []byte, signature string) error {
	return c.publish("send the beat", outgoing(events.BeatSubject(environment, agent), payload, signature))
}

// ReadBeats hands over every agent's last beat, as it is now.
func (c *Conn) ReadBeats(ctx context.Context, fn func(Report) error) error {
	info, err := c.streamInfo(ctx, events.StreamBeats)
	if err != nil || info.State.Msgs == 0 {
		return err
	}
	r := reading{stream: events.StreamBeats, filter: events.SubjectBeats, lastPer: true, until: info.State.LastSeq}
	return c.read(ctx, r, func(m message) error { return report(m, fn) })
}

// FollowBeats hands over every agent's last beat, and then every new one, until ctx ends. After an interruption it begins again
// with the last ones.
func (c *Conn) FollowBeats(ctx context.Context, fn func(Report) error) error {
	return c.follow(ctx, events.StreamBeats, func(info *jetstream.StreamInfo) (reading, error) {
		if info == nil {
			return reading{}, errBroken
		}
		return reading{stream: events.StreamBeats, filter: events.SubjectBeats, lastPer: true}, nil
	}, func(m message) error { return report(m, fn) })
}

// report leaves out what is not under an agent's name.
func report(m message, fn func(Report) error) error {
	environment, agent, ok := events.AgentOf(m.subject)
	if !ok {
		return nil
	}
	return fn(Report{environment, agent, m.Stored})
}

// PublishPulse sends the publisher's pulse to everybody who listens now.
func (c *Conn) PublishPulse(payload []byte, signature string) error {
	return c.publish("send the pulse", outgoing(events.SubjectPulse, payload, signature))
}

// SubscribePulse hands every pulse that arrives to fn, one after the other, until stop is called. Whether it is the publisher's
// only the signature says.
func (c *Conn) SubscribePulse(fn func(payload []byte, signature string)) (stop func(), err error) {
	sub, err := c.nc.Subscribe(events.SubjectPulse, func(m *nats.Msg) { fn(m.Data, m.Header.Get(events.SignatureHeader)) })
	if err != nil {
		return nil, fmt.Errorf("listen to pulses: %w: %w", ErrUnavailable, err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only where the connection is closed
}

func (c *Conn) publish(what string, m *nats.Msg) error {
	if err := c.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	return nil
}
