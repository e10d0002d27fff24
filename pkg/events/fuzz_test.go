package events_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// The seeds are the golden vectors and what stands in testdata/fuzz. `task fuzz` runs every target for a while.

func FuzzDecodeEntry(f *testing.F) {
	for _, fact := range facts(f) {
		_, payload, err := events.NewEntry(1, events.Digest{}, foldtest.Ledger, events.Command{ID: "k"}, epoch, "", []events.Fact{fact})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := events.DecodeEntry(payload)
		if err != nil {
			wantClosed(t, err)
			return
		}
		again, err := events.Encode(e)
		if err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("reads %q and writes %q (%v)", payload, again, err)
		}
		quick, read, failed := events.RereadEntry(payload)
		facts := 0
		for i, event := range e.Events {
			data, err := events.DecodeFact(event)
			if err != nil {
				wantClosed(t, err)
				continue
			}
			if facts++; len(read) > i && !reflect.DeepEqual(read[i].Data, data) {
				t.Fatalf("%q is read as %+v and then as %+v", event.Data, data, read[i].Data)
			}
			if again, err := events.Encode(data); err != nil || !bytes.Equal(again, event.Data) {
				t.Fatalf("reads %q and writes %q (%v)", event.Data, again, err)
			}
		}
		if facts == len(e.Events) && (failed != nil || !reflect.DeepEqual(quick, e)) {
			t.Fatalf("is read as %+v, and then as %+v (%v)", e, quick, failed)
		}
	})
}

func FuzzDecodeRelease(f *testing.F) {
	_, releases := published(f)
	for _, r := range releases {
		f.Add(r.Payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, e, err := events.DecodeRelease(payload)
		if err != nil {
			wantClosed(t, err)
			return
		}
		if again, err := events.EncodeRelease(r, e.Time, e.TraceParent); err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("reads %q and writes %q (%v)", payload, again, err)
		}
		if environment, revision, previous, err := events.PeekRelease(payload); err != nil || environment != r.Environment || revision != r.Revision || previous != r.Previous {
			t.Fatalf("peeks as %s %d %s (%v)", environment, revision, previous, err)
		}
	})
}

// FuzzDecodeStatements signs what it gets: a signature does not make a payload harmless.
func FuzzDecodeStatements(f *testing.F) {
	agent := foldtest.Signer(f, "agent")
	for _, a := range acks() {
		payload, _, err := events.EncodeAck(a, epoch, agent)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	beat, _, err := events.EncodeBeat(beats()[0], agent)
	if err != nil {
		f.Fatal(err)
	}
	pulse, _, err := events.EncodePulse(aPulse(), agent)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(beat)
	f.Add(pulse)
	sign := func(t *testing.T, domain events.Domain, payload []byte) string {
		header, err := agent.Sign(domain, payload)
		if err != nil {
			t.Fatal(err)
		}
		return header
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		read := func(payload []byte) (a events.Ack, b events.Beat, p events.Pulse, errs [3]error) {
			a, errs[0] = events.DecodeAck(payload, sign(t, events.DomainAck, payload), "prod-eu", "a1", agent.Public())
			b, errs[1] = events.DecodeBeat(payload, sign(t, events.DomainBeat, payload), "prod-eu", "a1", agent.Public())
			p, errs[2] = events.DecodePulse(payload, sign(t, events.DomainPulse, payload), anyone)
			return a, b, p, errs
		}
		a, b, p, errs := read(payload)
		for i, err := range errs {
			if err != nil {
				wantClosed(t, err)
				continue
			}
			// What is read is written again and read as the same.
			var again []byte
			switch i {
			case 0:
				again, _, err = events.EncodeAck(a, epoch, agent)
			case 1:
				again, _, err = events.EncodeBeat(b, agent)
			case 2:
				again, _, err = events.EncodePulse(p, agent)
			}
			if err != nil {
				t.Fatalf("%q cannot be written again: %v", payload, err)
			}
			a2, b2, p2, errs2 := read(again)
			same := [3]bool{encode(t, a) == encode(t, a2), encode(t, b) == encode(t, b2), encode(t, p) == encode(t, p2)}
			if errs2[i] != nil || !same[i] {
				t.Fatalf("%q is written as %q (%v)", payload, again, errs2[i])
			}
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	headers, err := foldtest.Signer(f, "publisher").SignWave("l", make([]events.Digest, 3))
	if err != nil {
		f.Fatal(err)
	}
	header, err := foldtest.Signer(f, "publisher").Sign(events.DomainAck, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(headers[0])
	f.Add(headers[2])
	f.Add(header)
	f.Fuzz(func(t *testing.T, header string) {
		s, err := events.ParseSignature(header)
		if err != nil {
			wantClosed(t, err)
			return
		}
		if s.String() != header {
			t.Fatalf("reads %q and writes %q", header, s)
		}
		if err := events.VerifyWave("l", events.Digest{1}, header, anyone); err == nil {
			t.Fatalf("%q verifies", header)
		}
	})
}

func FuzzCanonical(f *testing.F) {
	for _, in := range []string{`{"b":[1,2.50,-0],"a":"\u00e9\ud83d\ude00"}`, `1e21`, `9007199254740993`, `{"a":1,"\u0061":2}`, `"\ud800"`, `[[[[]]]]`, ` null `, `{"":{"":""}}`} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		out, err := events.Canonical(value)
		if (err == nil) != (events.CheckJSON(value) == nil) {
			t.Fatalf("%q: Canonical says %v", value, err)
		}
		if err != nil {
			return
		}
		if again, err := events.Canonical(out); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q gives %q, which gives %q (%v)", value, out, again, err)
		}
		var have, want any
		if json.Unmarshal(out, &have) != nil || json.Unmarshal(value, &want) != nil || !jsonEqual(have, want) {
			t.Fatalf("%q gives %q, which means something else", value, out)
		}
	})
}

func FuzzParseDigest(f *testing.F) {
	f.Add("")
	f.Add(events.Sum(nil).String())
	f.Add("0000000000000000000000000000000000000000000000000000000000000000")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := events.ParseDigest(s); err == nil && d.String() != s {
			t.Fatalf("reads %q and writes %q", s, d)
		}
	})
}

// wantClosed says that an error of a decoder has a reason.
func wantClosed(t *testing.T, err error) {
	t.Helper()
	if events.ReasonOf(err) == "" {
		t.Fatalf("an error without a reason: %v", err)
	}
}

func jsonEqual(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	// -0 and 0 are one number in RFC 8785.
	return err1 == nil && err2 == nil && bytes.Equal(bytes.ReplaceAll(x, []byte("-0"), []byte("0")), bytes.ReplaceAll(y, []byte("-0"), []byte("0")))
}
