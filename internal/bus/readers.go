package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	readerQueue = "lockstep-readers" // any publisher answers
	readersMost = 32                 // that are made at once
)

// errNoReader is why a consumer is not made for an agent.
var errNoReader = errors.New("agents read their environment's releases with a short-lived pull consumer, and with nothing else")

// ServeReaders makes consumers for agents that have accounts of their own, until stop is called. The server would make them any consumer:
// one that lasts, or one that delivers to a subject of this account, which is to write there. Made is exactly what Feed asks for; of
// anything else refused is told. It must not block.
func (c *Conn) ServeReaders(refused func(environment string, why error)) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	places := make(chan struct{}, readersMost)
	sub, err := c.nc.QueueSubscribe(credentials.ReaderSubject, readerQueue, func(m *nats.Msg) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		go func() {
			defer func() { <-places }()
			environment, answer, err := c.makeReader(ctx, m)
			if errors.Is(err, errNoReader) {
				refused(environment, err)
			}
			if err == nil || errors.Is(err, errNoReader) { // otherwise the agent waits, and asks again
				_ = m.Respond(answer) // fails only where the connection is closed
			}
		}()
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("make consumers for agents: %w: %w", ErrUnavailable, err)
	}
	return func() {
		_ = sub.Unsubscribe() // fails only where the connection is closed
		cancel()
		for range readersMost {
			places <- struct{}{}
		}
	}, nil
}

// makeReader makes the consumer that an agent asks for and returns the server's answer, or one that says no.
func (c *Conn) makeReader(ctx context.Context, m *nats.Msg) (environment string, answer []byte, err error) {
	tokens := strings.Split(m.Subject, ".")
	name, environment := tokens[len(tokens)-2], tokens[len(tokens)-1]
	if err := checkReader(environment, m.Data); err != nil {
		answer, _ := json.Marshal(map[string]jetstream.APIError{"error": {Code: http.StatusForbidden, Description: err.Error()}})
		return environment, answer, err
	}
	subject := "$JS.API.CONSUMER.CREATE." + events.StreamReleases + "." + name + "." + events.ReleaseSubject(environment)
	reply, err := c.request(ctx, subject, m.Data)
	if err != nil {
		return environment, nil, err
	}
	return environment, reply.Data, nil
}

// checkReader says whether a request for a consumer is one of Feed's. The name is in the request's subject alone.
func checkReader(environment string, request []byte) error {
	var asked struct {
		Stream string                   `json:"stream_name"`
		Config jetstream.ConsumerConfig `json:"config"`
		Action string                   `json:"action"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(request)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return fmt.Errorf("%w: %w", errNoReader, err)
	}
	want := reading{stream: events.StreamReleases, filter: events.ReleaseSubject(environment), from: asked.Config.OptStartSeq}.config()
	if asked.Stream != events.StreamReleases || !reflect.DeepEqual(asked.Config, want) {
		return errNoReader
	}
	return nil
}
