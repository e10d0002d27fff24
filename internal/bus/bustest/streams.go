package bustest

import (
	"github.com/nats-io/nats.go/jetstream"
)

// Shrink lets a stream hold one message only, as somebody with rights on the server can: the others are gone.
func (w *Wire) Shrink(stream string) {
	w.t.Helper()
	js := w.jetStream()
	s, err := js.Stream(Context(w.t), stream)
	if err != nil {
		w.t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.MaxMsgs = 1
	if _, err := js.UpdateStream(Context(w.t), config); err != nil {
		w.t.Fatal(err)
	}
}

// MakeStream makes a stream with the server's own settings.
func (w *Wire) MakeStream(stream, subject string) {
	w.t.Helper()
	if _, err := w.jetStream().CreateStream(Context(w.t), jetstream.StreamConfig{Name: stream, Subjects: []string{subject}}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *Wire) jetStream() jetstream.JetStream {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	return js
}
