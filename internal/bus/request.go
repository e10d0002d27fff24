package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Stored is a message as the bus holds it. Sequence 0 means that there is none.
type Stored struct {
	Sequence  uint64    // in its stream
	Stamp     time.Time // by the bus, when it was stored; of an entry in a repaired ledger, when it was first stored
	Payload   []byte
	Signature string // header Lockstep-Signature
}

// message is a Stored with what only this package needs.
type message struct {
	Stored
	subject string
	pending uint64 // messages after it for the same reader, when it was delivered
}

// A wanted message, as STREAM.MSG.GET asks for it.
type wanted struct {
	Sequence uint64 `json:"seq,omitempty"`
	Last     string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"` // first at or after Sequence
}

// get reads one message from the stream's leader: what was acknowledged before is seen, which a direct get does not promise. Only a
// leader that was just cut off from its replicas may lack it, so "not there" is a reason to look again, and none to write elsewhere.
func (c *Conn) get(ctx context.Context, stream string, w wanted) (Stored, error) {
	body, err := json.Marshal(w)
	if err != nil {
		return Stored{}, err
	}
	reply, err := c.request(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return Stored{}, c.failed(ctx, "read "+stream, err)
	}
	s, err := storedIn(reply.Data)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Stored{}, nil
	case err != nil:
		return Stored{}, c.failed(ctx, "read "+stream, err)
	}
	return s, nil
}

// storedIn is the message in an answer to STREAM.MSG.GET.
func storedIn(reply []byte) (Stored, error) {
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply, &answer); err != nil {
		return Stored{}, err
	}
	m := answer.Message
	switch {
	case answer.Error != nil:
		return Stored{}, answer.Error
	case m.Sequence == 0:
		return Stored{}, errors.New("the answer holds no message and no error")
	}
	s := Stored{Sequence: m.Sequence, Stamp: m.Time, Payload: m.Data}
	if len(m.Header) > 0 {
		header, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			return Stored{}, fmt.Errorf("header of %d: %w", m.Sequence, err)
		}
		s.Signature = header.Get(events.SignatureHeader)
	}
	return s, nil
}

// lastDirect reads the last message of a subject from any replica. Its request subject ends with the subject, so that an agent
// can be allowed its own environment's and no other.
func (c *Conn) lastDirect(ctx context.Context, stream, subject string) (Stored, error) {
	reply, err := c.request(ctx, c.opts.api()+".DIRECT.GET."+stream+"."+subject, nil)
	if err != nil {
		return Stored{}, c.failed(ctx, "read the last message of "+subject, err)
	}
	s, err := directAnswer(reply)
	if err != nil {
		return Stored{}, c.failed(ctx, "read the last message of "+subject, err)
	}
	c.answered()
	return s, nil
}

// directAnswer is the message that a direct get found, if there is one.
func directAnswer(reply *nats.Msg) (Stored, error) {
	switch status := reply.Header.Get("Status"); status {
	case "":
		s := republished(reply)
		if s.Sequence == 0 {
			return s, errors.New("the answer does not say where the message is stored")
		}
		return s, nil
	case "404":
		return Stored{}, nil
	default:
		return Stored{}, fmt.Errorf("status %s %s", status, reply.Header.Get("Description"))
	}
}

// republished reads a message that carries its sequence and stamp in headers, as the server's direct gets and republished ones do.
func republished(m *nats.Msg) Stored {
	// What cannot be parsed stays zero: neither is more than a hint where anybody could have written it.
	sequence, _ := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	stamp, _ := time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer))
	return Stored{Sequence: sequence, Stamp: stamp, Payload: m.Data, Signature: m.Header.Get(events.SignatureHeader)}
}

func (c *Conn) request(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return c.nc.RequestWithContext(ctx, subject, body)
}

// outgoing is a message whose payload goes out unchanged, as a CloudEvent in structured mode.
func outgoing(subject string, payload []byte, signature string) *nats.Msg {
	m := &nats.Msg{Subject: subject, Data: payload, Header: nats.Header{"Content-Type": {events.ContentType}}}
	if signature != "" {
		m.Header.Set(events.SignatureHeader, signature)
	}
	return m
}

// settle finds out what became of a write that had no good answer: w is the place it was meant for. It returns the write's
// sequence if it landed, ErrConflict if another message is there, or ErrUnavailable if none is or the bus does not answer. A cluster says
// that another message came first before it has stored that one, so what cannot be seen yet is looked for again, until then.
func (c *Conn) settle(ctx context.Context, stream string, w wanted, payload []byte, cause error, until time.Time) (uint64, error) {
	for {
		there, err := c.get(ctx, stream, w)
		switch {
		case err == nil && there.Sequence != 0 && bytes.Equal(there.Payload, payload):
			return there.Sequence, nil
		case err == nil && there.Sequence != 0:
			return 0, fmt.Errorf("%w in %s: read it and decide anew", ErrConflict, stream)
		case err == nil && (!isWrongSequence(cause) || time.Now().After(until)):
			return 0, fmt.Errorf("%w: not in %s when it was looked for: %w: read it and decide anew", ErrUnavailable, stream, cause)
		case err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnavailable):
			return 0, fmt.Errorf("outcome in %s unknown: %w: %w", stream, cause, err)
		}
		back, cancel := context.WithTimeout(ctx, settleReconnect)
		if _, err = c.connected(back); err == nil {
			err = pause(ctx, jitter(reconnectFirst))
		}
		cancel()
		if err != nil {
			return 0, fmt.Errorf("%w: outcome in %s unknown: %w: %w: read it and decide anew", ErrUnavailable, stream, cause, err)
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
