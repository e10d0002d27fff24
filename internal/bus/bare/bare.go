// Package bare is the bus without Lockstep: the fewest calls of nats.go that do what the design asks of a bus. Measurements compare
// with it what Lockstep costs beyond what any implementation would (package bench).
//
// It guarantees nothing: it settles no lost answer, survives no reconnect, and reads what it is given. It is on the same streams,
// with the same settings, as package bus makes them. It is not for the product.
package bare

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	timeout    = 30 * time.Second
	asyncFrom  = 4 // from so many messages on, publishing without waiting for one another is faster
	asyncQueue = 256
)

// A Message is one message on its way to a stream.
type Message struct {
	Subject   string
	Payload   []byte
	Signature string // header; empty: none
	Expected  uint64 // sequence of the last message under the subject
}

// A Conn is a connection to the bus.
type Conn struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// Dial connects.
func Dial(url string) (*Conn, error) {
	nc, err := nats.Connect(url, nats.Timeout(timeout))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(asyncQueue), jetstream.WithPublishAsyncTimeout(timeout), jetstream.WithDefaultTimeout(timeout))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to %s: %w", url, err)
	}
	return &Conn{nc, js}, nil
}

// Close ends the connection.
func (c *Conn) Close() { c.nc.Close() }

// Append puts a payload at the ledger's end, which is the sequence last, and waits until it is stored.
func (c *Conn) Append(ctx context.Context, payload []byte, last uint64) (sequence uint64, err error) {
	ack, err := c.js.PublishMsg(ctx, &nats.Msg{Subject: events.SubjectLedger, Data: payload}, jetstream.WithExpectLastSequence(last))
	if err != nil {
		return 0, fmt.Errorf("append: %w", err)
	}
	return ack.Sequence, nil
}

// Publish puts messages into a stream in order, waits until all are stored, and returns their sequences.
func (c *Conn) Publish(ctx context.Context, messages []Message) ([]uint64, error) {
	sequences := make([]uint64, len(messages))
	if len(messages) < asyncFrom {
		for i, m := range messages {
			ack, err := c.js.PublishMsg(ctx, m.msg(), jetstream.WithExpectLastSequencePerSubject(m.Expected))
			if err != nil {
				return nil, fmt.Errorf("publish: %w", err)
			}
			sequences[i] = ack.Sequence
		}
		return sequences, nil
	}
	pending := make([]jetstream.PubAckFuture, len(messages))
	for i, m := range messages {
		var err error
		if pending[i], err = c.js.PublishMsgAsync(m.msg(), jetstream.WithStallWait(timeout), jetstream.WithExpectLastSequencePerSubject(m.Expected)); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
	}
	for i, p := range pending {
		select {
		case ack := <-p.Ok():
			sequences[i] = ack.Sequence
		case err := <-p.Err():
			return nil, fmt.Errorf("publish: %w", err)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return sequences, nil
}

// Send puts one message into a stream whose order among subjects does not matter, and waits until it is stored.
func (c *Conn) Send(ctx context.Context, m Message) error {
	if _, err := c.js.PublishMsg(ctx, m.msg()); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (m Message) msg() *nats.Msg {
	out := &nats.Msg{Subject: m.Subject, Data: m.Payload}
	if m.Signature != "" {
		out.Header = nats.Header{events.SignatureHeader: {m.Signature}}
	}
	return out
}

// Listen hands what the bus sends under a subject to fn, one after the other, until the connection ends.
func (c *Conn) Listen(subject string, fn func(payload []byte, signature string)) error {
	if _, err := c.nc.Subscribe(subject, func(m *nats.Msg) { fn(m.Data, m.Header.Get(events.SignatureHeader)) }); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := c.nc.Flush(); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// Follow hands every message that is stored from now on to fn, one after the other, until stop is called.
func (c *Conn) Follow(ctx context.Context, stream string, fn func(subject string, payload []byte, signature string)) (stop func(), err error) {
	consumer, err := c.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", stream, err)
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) { fn(m.Subject(), m.Data(), m.Headers().Get(events.SignatureHeader)) })
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", stream, err)
	}
	return func() { consuming.Stop(); <-consuming.Closed() }, nil
}

// Drain reads the first n messages under a subject and does nothing with them.
func (c *Conn) Drain(ctx context.Context, stream, subject string, n int) error {
	consumer, err := c.js.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	if err != nil {
		return fmt.Errorf("drain %s: %w", stream, err)
	}
	all := make(chan struct{})
	seen := 0
	consuming, err := consumer.Consume(func(jetstream.Msg) {
		if seen++; seen == n {
			close(all)
		}
	})
	if err != nil {
		return fmt.Errorf("drain %s: %w", stream, err)
	}
	defer consuming.Stop()
	select {
	case <-all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain %s: %w", stream, context.Cause(ctx))
	}
}

// A Size is what a stream holds.
type Size struct {
	Messages  uint64
	Consumers int
}

// Size asks what a stream holds; a stream that is not there holds nothing.
func (c *Conn) Size(ctx context.Context, stream string) (Size, error) {
	s, err := c.js.Stream(ctx, stream)
	switch {
	case err == nil:
		info := s.CachedInfo().State
		return Size{info.Msgs, info.Consumers}, nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return Size{}, nil
	}
	return Size{}, fmt.Errorf("look at %s: %w", stream, err)
}

// Delete deletes a stream with all that is in it.
func (c *Conn) Delete(ctx context.Context, stream string) error {
	if err := c.js.DeleteStream(ctx, stream); err != nil {
		return fmt.Errorf("delete %s: %w", stream, err)
	}
	return nil
}

// Empty removes the messages of a stream.
func (c *Conn) Empty(ctx context.Context, stream string) error {
	s, err := c.js.Stream(ctx, stream)
	if err == nil {
		err = s.Purge(ctx)
	}
	if err != nil {
		return fmt.Errorf("empty %s: %w", stream, err)
	}
	return nil
}
