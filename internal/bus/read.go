package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	consumerIdle  = 30 * time.Second // the server removes a reader's consumer that was left behind
	pullExpiry    = 20 * time.Second
	pullHeartbeat = 5 * time.Second
	pullMessages  = 500
	pullBytes     = 8 << 20
	readStall     = 5 * time.Second // reading to an end: no message for so long means that something broke
	readAttempts  = 3               // reading to an end: breaks in a row without a message between them
	reopenDelay   = 250 * time.Millisecond
)

// errBroken ends one consumer's life: the connection, the consumer or its stream went away. What was read before it was in order.
var errBroken = errors.New("reading was interrupted")

// errEnough is returned by a reader that needs no more.
var errEnough = errors.New("enough")

// A reading says what to read of a stream.
type reading struct {
	stream  string
	filter  string // empty: all subjects
	from    uint64 // first sequence; 0 or 1: all
	until   uint64 // last sequence; 0: live
	lastPer bool   // only the last message of every subject, then live
}

func (r reading) config() jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		FilterSubject:     r.filter,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: consumerIdle,
	}
	switch {
	case r.lastPer:
		cfg.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	case r.from > 1:
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.from
	}
	return cfg
}

// read reads up to r.until and survives interruptions, unless it stops getting on.
func (c *Conn) read(ctx context.Context, r reading, fn func(message) error) error {
	for attempt := 1; ; attempt++ {
		err := c.consume(ctx, r, nil, func(m message) error {
			attempt, r.from = 1, m.Sequence+1
			return fn(m)
		})
		switch {
		case errors.Is(err, errEnough):
			return nil
		case !errors.Is(err, errBroken):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case attempt == readAttempts:
			return fmt.Errorf("read %s: %w: %w", r.stream, ErrUnavailable, err)
		}
		if err := pause(ctx, jitter(reopenDelay)); err != nil {
			return err
		}
	}
}

// readAll is read for those who may ask the stream's leader whether that was all: what a consumer delivers is what the replica holds
// that it happens to be on, and that one may be behind.
func (c *Conn) readAll(ctx context.Context, r reading, fn func(message) error) error {
	r.from = max(r.from, 1)
	for attempt := 1; ; attempt++ {
		err := c.read(ctx, r, func(m message) error {
			attempt, r.from = 1, m.Sequence+1
			return fn(m)
		})
		if err != nil || r.from > r.until {
			return err
		}
		next, err := c.get(ctx, r.stream, wanted{Sequence: r.from, Next: cmp.Or(r.filter, ">")})
		switch {
		case err != nil:
			return err
		case next.Sequence == 0 || next.Sequence > r.until:
			return nil
		case attempt == readAttempts:
			return fmt.Errorf("read %s: %w: the replica that was read ends before message %d", r.stream, ErrUnavailable, next.Sequence)
		}
		if err := pause(ctx, jitter(reopenDelay)); err != nil {
			return err
		}
	}
}

// A begin is told of a stream whenever a consumer of it is about to be made (nil: there is no such stream), and says where to
// go on. errBroken means: wait and ask again.
type begin func(*jetstream.StreamInfo) (reading, error)

// follow reads live for ever: it ends with ctx, with the connection, or with an error of begin or fn.
func (c *Conn) follow(ctx context.Context, stream string, begin begin, fn func(message) error) error {
	for {
		if _, err := c.connected(ctx); err != nil {
			return err
		}
		err := c.followOnce(ctx, stream, begin, fn)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, errBroken) && !errors.Is(err, ErrUnavailable):
			return err
		}
		if err := pause(ctx, jitter(reopenDelay)); err != nil {
			return err
		}
	}
}

func (c *Conn) followOnce(ctx context.Context, stream string, begin begin, fn func(message) error) error {
	info, err := c.streamInfo(ctx, stream)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	r, err := begin(info)
	if err != nil {
		return err
	}
	// A consumer dies with its stream. So once it exists, one more look shows that it is not of a stream made since the first.
	same := func() error {
		now, err := c.streamInfo(ctx, stream)
		if err == nil && now.Created.Equal(info.Created) {
			return nil
		}
		return fmt.Errorf("%w: the stream was made anew", errBroken)
	}
	return c.consume(ctx, r, same, fn)
}

// consume makes a consumer of its own, hands over what it delivers, and removes it. Opened, if given, is called once the
// consumer exists and before the first message.
func (c *Conn) consume(ctx context.Context, r reading, opened func() error, fn func(message) error) error {
	link, err := c.connected(ctx)
	if err != nil {
		return err
	}
	bounded, cancel := c.bounded(ctx)
	consumer, err := c.js.CreateConsumer(bounded, r.stream, r.config())
	cancel()
	if err != nil {
		return c.failed(ctx, "read "+r.stream, err)
	}
	// Nobody waits for the answer: where an agent may not delete consumers, the server does it after consumerIdle.
	defer func() {
		_ = c.nc.Publish(c.opts.api()+".CONSUMER.DELETE."+r.stream+"."+consumer.CachedInfo().Name, nil)
	}()
	if opened != nil {
		if err := opened(); err != nil {
			return err
		}
	}
	if r.until > 0 && consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return c.failed(ctx, "read "+r.stream, err)
	}
	defer messages.Stop()

	alive, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(link.down, cancel)()
	stalled := time.AfterFunc(readStall, cancel)
	stalled.Stop()
	for delivered := uint64(1); ; delivered++ {
		if r.until > 0 {
			stalled.Reset(readStall)
		}
		m, err := messages.Next(jetstream.NextContext(alive))
		stalled.Stop()
		if err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", r.stream, err)
		}
		if meta.Sequence.Consumer != delivered {
			return fmt.Errorf("%w: a message was lost on the way", errBroken)
		}
		if r.until > 0 && meta.Sequence.Stream > r.until {
			return nil
		}
		err = fn(message{
			Stored:  Stored{Sequence: meta.Sequence.Stream, Stamp: firstStamp(r.stream, m, meta), Payload: m.Data(), Signature: m.Headers().Get(events.SignatureHeader)},
			subject: m.Subject(),
			pending: meta.NumPending,
		})
		if err != nil {
			return err
		}
		if r.until > 0 && (meta.Sequence.Stream == r.until || meta.NumPending == 0) {
			return nil
		}
	}
}

// streamInfo asks for a stream's settings and state. A leader without followers is asked again: they may only just have found it.
func (c *Conn) streamInfo(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	for {
		s, err := c.js.Stream(bounded, stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			err = fmt.Errorf("%w: %w", ErrNoStream, err)
		}
		if err != nil {
			return nil, c.failed(ctx, "look at "+stream, err)
		}
		info := s.CachedInfo()
		if err = led(info); err == nil {
			c.answered()
			return info, nil
		}
		if pause(bounded, jitter(reopenDelay)) != nil {
			return nil, c.failed(ctx, "look at "+stream, err)
		}
	}
}

// ledFor is how long a leader that hears nothing from the other replicas still speaks for the stream: shorter than any time after which
// they elect another one (four seconds).
const ledFor = 3 * time.Second

// led says that the answer came from a leader that most replicas follow. One that was cut off from them goes on answering for ten
// seconds, and what it says of the stream's end is old when they have elected another. Without a leader every replica answers, and says
// how far it has come itself.
func led(info *jetstream.StreamInfo) error {
	if info.Cluster == nil || info.Config.Replicas == 1 {
		return nil
	}
	heard, leads := 1, info.Cluster.Leader != ""
	for _, r := range info.Cluster.Replicas {
		if !r.Offline && 0 < r.Active && r.Active < ledFor { // 0: never heard
			heard++
		}
		leads = leads && r.Name != info.Cluster.Leader // a leader names the others
	}
	switch {
	case !leads:
		return fmt.Errorf("%w: %s has no leader that answers", ErrUnavailable, info.Config.Name)
	case heard*2 <= info.Config.Replicas:
		return fmt.Errorf("%w: the leader of %s hears from %d of %d replicas, itself among them", ErrUnavailable, info.Config.Name, heard, info.Config.Replicas)
	}
	return nil
}
