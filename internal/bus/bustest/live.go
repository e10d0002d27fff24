package bustest

import (
	"maps"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Live is a message on the live tail.
type Live struct {
	Environment string
	Payload     []byte
	Signature   string

	header nats.Header
}

// A Wire is somebody who can publish on the live tail, and be put into it.
type Wire struct {
	t  testing.TB
	nc *nats.Conn
}

// NewWire connects to a server.
func NewWire(t testing.TB, url string) *Wire {
	t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(Deadline), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return &Wire{t, nc}
}

// Publish puts a message on the live tail.
func (w *Wire) Publish(l Live) {
	w.t.Helper()
	m := nats.NewMsg(events.LiveSubject(l.Environment))
	m.Data = l.Payload
	maps.Copy(m.Header, l.header)
	m.Header.Set(events.SignatureHeader, l.Signature)
	if err := w.nc.PublishMsg(m); err != nil {
		w.t.Error(err)
	}
}

// Flush returns when the server has what was published.
func (w *Wire) Flush() {
	w.t.Helper()
	if err := w.nc.Flush(); err != nil {
		w.t.Fatal(err)
	}
}

// Store puts a message into the release stream, as a foreigner with the right to publish there would.
func (w *Wire) Store(environment string, payload []byte, signature string) {
	w.t.Helper()
	m := nats.NewMsg(events.ReleaseSubject(environment))
	m.Data = payload
	m.Header.Set(events.SignatureHeader, signature)
	if _, err := w.nc.RequestMsgWithContext(Context(w.t), m); err != nil {
		w.t.Fatal(err)
	}
}

// Intercept puts the wire between the release stream and the live tail: fn says what arrives there instead of a message, in
// order. The stream's settings are other ones from then on.
func (w *Wire) Intercept(fn func(Live) []Live) {
	w.t.Helper()
	const detour = "intercepted."
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.nc.Subscribe(detour+">", func(m *nats.Msg) {
		l := Live{strings.TrimPrefix(m.Subject, detour), m.Data, m.Header.Get(events.SignatureHeader), m.Header}
		for _, out := range fn(l) {
			w.Publish(out)
		}
	}); err != nil {
		w.t.Fatal(err)
	}
	ctx := Context(w.t)
	stream, err := js.Stream(ctx, events.StreamReleases)
	if err != nil {
		w.t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.RePublish = &jetstream.RePublish{Source: events.SubjectReleases, Destination: detour + "{{wildcard(1)}}"}
	if _, err := js.UpdateStream(ctx, config); err != nil {
		w.t.Fatal(err)
	}
}

// DropStream deletes a stream with everything in it.
func (w *Wire) DropStream(stream string) {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err == nil {
		err = js.DeleteStream(Context(w.t), stream)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}
