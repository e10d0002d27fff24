package bus

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// FuzzAnswer reads whatever comes as an answer of the server: to a question for a stored message, and for its settings. What was
// stored is read as it was stored; nonsense is an error, or nothing.
func FuzzAnswer(f *testing.F) {
	f.Add(uint64(7), []byte(`{"specversion":"1.0"}`), "signature", []byte(`{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","message":{"subject":"lockstep.release.prod","seq":7,"hdrs":"TkFUUy8xLjANCkE6IGINCg0K","data":"e30=","time":"2026-03-01T12:00:00Z"}}`))
	f.Add(uint64(0), []byte(nil), "", []byte(`{"error":{"code":404,"err_code":10037,"description":"no message found"}}`))
	f.Add(uint64(1), []byte("x"), "a, b", []byte(`{"message":{"seq":1,"hdrs":"eA=="}}`))
	f.Add(uint64(1), []byte("x"), "", []byte(`{"server_id":"N","jetstream":{"config":{"sync_always":true}}}`))
	f.Add(uint64(1), []byte("x"), "", []byte(`{"server_id":1}`))
	f.Add(uint64(1), []byte("x"), "", []byte(`[]`))
	f.Fuzz(func(t *testing.T, sequence uint64, payload []byte, signature string, raw []byte) {
		if s, err := storedIn(raw); err == nil && s.Sequence == 0 && (len(s.Payload) > 0 || s.Signature != "") {
			t.Fatalf("%q is a message without a place: %+v", raw, s)
		}
		_, _ = readVarz(bytes.NewReader(raw)) // an error or a description, never a panic

		m := nats.NewMsg("lockstep.release.prod")
		m.Header.Set(events.SignatureHeader, signature)
		// A header travels as a line: what is no such line is not sent.
		var line bytes.Buffer
		if (http.Header{"A": {signature}}).Write(&line) != nil || line.String() != "A: "+signature+"\r\n" {
			return
		}
		answer := map[string]any{"message": map[string]any{"seq": sequence, "data": payload, "time": time.Unix(1_700_000_000, 0).UTC(),
			"hdrs": []byte("NATS/1.0\r\n" + events.SignatureHeader + ": " + signature + "\r\n\r\n")}}
		b, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		s, err := storedIn(b)
		if sequence == 0 {
			if err == nil {
				t.Fatalf("a message without a place is %+v", s)
			}
			return
		}
		if err != nil || s.Sequence != sequence || !bytes.Equal(s.Payload, payload) || s.Signature != signature {
			t.Fatalf("%d %q %q was read as %+v, %v", sequence, payload, signature, s, err)
		}
	})
}

// A direct answer that does not say where its message is stored is no answer: taken for an empty environment it would look in step.
func TestADirectAnswerWithoutAPlaceIsNoAnswer(t *testing.T) {
	for _, sequence := range []string{"", "x", "0", "-1"} {
		m := nats.NewMsg("_INBOX.x")
		m.Header.Set("Nats-Sequence", sequence)
		m.Data = []byte("{}")
		if s, err := directAnswer(m); err == nil {
			t.Errorf("%q is %+v", sequence, s)
		}
	}
	none := nats.NewMsg("_INBOX.x")
	none.Header.Set("Status", "404")
	if s, err := directAnswer(none); err != nil || s.Sequence != 0 {
		t.Errorf("nothing is %+v, %v", s, err)
	}
}
