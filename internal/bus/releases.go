package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	asyncFrom    = 4 // from so many releases on, they are sent without waiting for one another
	asyncWindow  = 256
	asyncTimeout = 10 * time.Second
	asyncStall   = 30 * time.Second
)

// Outgoing is a release on its way to an environment.
type Outgoing struct {
	Environment  string
	Payload      []byte
	Signature    string
	ExpectedLast uint64 // sequence of the environment's last release in the stream; 0: there is none
}

// A Result is what became of one Outgoing: its sequence, or ErrConflict (another message follows ExpectedLast), or
// ErrUnavailable (not in the stream as far as could be seen).
type Result struct {
	Sequence uint64
	Err      error
}

// Send sends at most one release per environment and returns the results in their order. One that is in the stream already is
// a success.
func (c *Conn) Send(ctx context.Context, releases []Outgoing) []Result {
	results := make([]Result, len(releases))
	if len(releases) < asyncFrom {
		for i, r := range releases {
			results[i] = c.sendOne(ctx, r)
		}
	} else {
		c.sendMany(ctx, releases, results)
	}
	settling, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	inFlight := time.Now().Add(settleInFlight)
	for i, r := range releases {
		err := results[i].Err
		if err == nil || (!isWrongSequence(err) && !errors.Is(err, ErrUnavailable)) {
			continue
		}
		place := wanted{Sequence: r.ExpectedLast + 1, Next: events.ReleaseSubject(r.Environment)}
		results[i].Sequence, results[i].Err = c.settle(settling, events.StreamReleases, place, r.Payload, err, inFlight)
	}
	return results
}

func (c *Conn) sendOne(ctx context.Context, r Outgoing) Result {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	ack, err := c.js.PublishMsg(bounded, r.message(), jetstream.WithExpectLastSequencePerSubject(r.ExpectedLast))
	if err != nil {
		return Result{Err: c.failed(ctx, "release to "+r.Environment, err)}
	}
	return Result{Sequence: ack.Sequence}
}

func (c *Conn) sendMany(ctx context.Context, releases []Outgoing, results []Result) {
	pending := make([]jetstream.PubAckFuture, len(releases))
	for i, r := range releases {
		var err error
		pending[i], err = c.async.PublishMsgAsync(r.message(), jetstream.WithStallWait(asyncStall), jetstream.WithExpectLastSequencePerSubject(r.ExpectedLast))
		if err != nil {
			results[i].Err = c.failed(ctx, "release to "+r.Environment, err)
		}
	}
	for i, p := range pending {
		if results[i].Err != nil {
			continue
		}
		var err error
		select {
		case ack := <-p.Ok():
			results[i].Sequence = ack.Sequence
			continue
		case err = <-p.Err():
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		results[i].Err = c.failed(ctx, "release to "+releases[i].Environment, err)
	}
}

func (r Outgoing) message() *nats.Msg {
	return outgoing(events.ReleaseSubject(r.Environment), r.Payload, r.Signature)
}

// ReleaseCounts is the number of messages that the stream holds under every environment's name that has any, known or not, and the
// sequence of the stream's last message: where that has not moved, nothing was put in.
func (c *Conn) ReleaseCounts(ctx context.Context) (counts map[string]uint64, last uint64, err error) {
	err = c.withReleases(ctx, "count the releases", func(ctx context.Context, s jetstream.Stream) error {
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(">")) // asks as often as it takes to get all pages
		if err == nil {
			err = led(info)
		}
		if err != nil {
			return err
		}
		last, counts = info.State.LastSeq, make(map[string]uint64, len(info.State.Subjects))
		for subject, n := range info.State.Subjects {
			counts[environmentOf(subject)] = n
		}
		return nil
	})
	return counts, last, err
}

// environmentOf is the environment that a subject of the stream names, whether or not there can be such an environment.
func environmentOf(subject string) string {
	return strings.TrimPrefix(subject, events.ReleaseSubject(""))
}

// Head is an environment's last message in the stream, from the stream's leader. Sequence 0: there is none.
func (c *Conn) Head(ctx context.Context, environment string) (Stored, error) {
	return c.get(ctx, events.StreamReleases, wanted{Last: events.ReleaseSubject(environment)})
}

// ReadReleases hands over all messages of an environment, up to the last as it is now, in the stream's order.
func (c *Conn) ReadReleases(ctx context.Context, environment string, fn func(Stored) error) error {
	head, err := c.Head(ctx, environment)
	if err != nil || head.Sequence == 0 {
		return err
	}
	r := reading{stream: events.StreamReleases, filter: events.ReleaseSubject(environment), until: head.Sequence}
	return c.readAll(ctx, r, func(m message) error { return fn(m.Stored) })
}

// ReadAllReleases hands over all messages of the stream with the environment that each one's subject names, up to the last as it is
// now, in the stream's order, and returns the sequence of that last one.
func (c *Conn) ReadAllReleases(ctx context.Context, fn func(environment string, s Stored) error) (last uint64, err error) {
	info, err := c.streamInfo(ctx, events.StreamReleases)
	if err != nil {
		return 0, err
	}
	if info.State.Msgs == 0 {
		return info.State.LastSeq, nil
	}
	r := reading{stream: events.StreamReleases, until: info.State.LastSeq}
	return info.State.LastSeq, c.readAll(ctx, r, func(m message) error { return fn(environmentOf(m.subject), m.Stored) })
}

// PurgeReleases removes all messages of an environment, so that they can be sent from revision 1 on; agents drop what they know.
func (c *Conn) PurgeReleases(ctx context.Context, environment string) error {
	return c.withReleases(ctx, "purge the releases of "+environment, func(ctx context.Context, s jetstream.Stream) error {
		return s.Purge(ctx, jetstream.WithPurgeSubject(events.ReleaseSubject(environment)))
	})
}

// DeleteRelease removes one message: one that the publisher did not send.
func (c *Conn) DeleteRelease(ctx context.Context, sequence uint64) error {
	return c.withReleases(ctx, fmt.Sprintf("delete message %d", sequence), func(ctx context.Context, s jetstream.Stream) error {
		return s.DeleteMsg(ctx, sequence)
	})
}

func (c *Conn) withReleases(ctx context.Context, what string, fn func(context.Context, jetstream.Stream) error) error {
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	s, err := c.js.Stream(bounded, events.StreamReleases)
	if err == nil {
		err = fn(bounded, s)
	}
	if err != nil {
		return c.failed(ctx, what, err)
	}
	return nil
}
