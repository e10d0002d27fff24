package bustest

import (
	"errors"

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

// Thin removes every message of a subject but so many: the oldest of them (first) or the newest.
func (w *Wire) Thin(stream, subject string, keep uint64, first bool) {
	w.t.Helper()
	s, err := w.jetStream().Stream(Context(w.t), stream)
	if err != nil {
		w.t.Fatal(err)
	}
	if !first {
		if err := s.Purge(Context(w.t), jetstream.WithPurgeSubject(subject), jetstream.WithPurgeKeep(keep)); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	for sequence := uint64(1); sequence <= s.CachedInfo().State.LastSeq; sequence++ {
		m, err := s.GetMsg(Context(w.t), sequence)
		if err != nil || m.Subject != subject {
			continue // it is another subject's, or gone
		}
		if keep > 0 {
			keep--
			continue
		}
		if err := s.DeleteMsg(Context(w.t), sequence); err != nil {
			// A publisher that mends the stream meanwhile may have purged the subject: then there is nothing to delete.
			if _, gone := s.GetMsg(Context(w.t), sequence); !errors.Is(gone, jetstream.ErrMsgNotFound) {
				w.t.Fatal(err)
			}
		}
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
