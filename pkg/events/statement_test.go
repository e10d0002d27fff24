package events_test

import (
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// A statementCase reads one kind of statement of agent a1 of prod-eu, or of the publisher.
type statementCase struct {
	name    string
	domain  events.Domain
	signer  *events.Signer
	payload string
	decode  func(payload []byte, header, key string) (any, error)
	want    any
}

func statements(t *testing.T) []statementCase {
	agent, publisher := foldtest.Signer(t, "agent"), foldtest.Signer(t, "publisher")
	ack, _, err := events.EncodeAck(acks()[0], epoch, agent)
	if err != nil {
		t.Fatal(err)
	}
	beat, _, err := events.EncodeBeat(beats()[0], agent)
	if err != nil {
		t.Fatal(err)
	}
	pulse, _, err := events.EncodePulse(aPulse(), publisher)
	if err != nil {
		t.Fatal(err)
	}
	return []statementCase{
		{"ack", events.DomainAck, agent, string(ack), func(p []byte, header, key string) (any, error) {
			return events.DecodeAck(p, header, "prod-eu", "a1", key)
		}, acks()[0]},
		{"beat", events.DomainBeat, agent, string(beat), func(p []byte, header, key string) (any, error) {
			return events.DecodeBeat(p, header, "prod-eu", "a1", key)
		}, beats()[0]},
		{"pulse", events.DomainPulse, publisher, string(pulse), func(p []byte, header, key string) (any, error) {
			return events.DecodePulse(p, header, func(k string) bool { return k == key })
		}, aPulse()},
	}
}

func (c statementCase) read(t *testing.T, payload string) (any, error) {
	t.Helper()
	header, err := c.signer.Sign(c.domain, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return c.decode([]byte(payload), header, c.signer.Public())
}

// TestWhatALaterVersionSaysIsTolerated: agents and publishers of different versions hear each other.
func TestWhatALaterVersionSaysIsTolerated(t *testing.T) {
	for _, c := range statements(t) {
		for _, grease := range []string{`"grease":1,`, `"grease":{"a":[{"b":null}],"c":"x"},`, `"grease":` + strings.Repeat("[", 55) + strings.Repeat("]", 55) + `,`} {
			got, err := c.read(t, strings.Replace(c.payload, `"data":{`, `"data":{`+grease, 1))
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			diff(t, got, c.want)
		}
		got, err := c.read(t, strings.Replace(c.payload, `"specversion"`, `"grease":"x","specversion"`, 1))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		diff(t, got, c.want)
	}
}

// TestEveryToleratedStatementFitsIntoAnEntry: an agent cannot say what makes the delivery that records it unreadable.
func TestEveryToleratedStatementFitsIntoAnEntry(t *testing.T) {
	c := statements(t)[0]
	for levels := 40; levels <= 80; levels++ {
		for _, grease := range []string{`"grease":` + strings.Repeat("[", levels) + strings.Repeat("]", levels) + `,`, "\"grease\":\"\\ufffd\u2028<&>\","} {
			payload := strings.Replace(c.payload, `"data":{`, `"data":{`+grease, 1)
			if _, err := c.read(t, payload); err != nil {
				continue
			}
			fact := events.Fact{Type: events.TypeDeliveryRecorded, Data: &events.DeliveryRecorded{Deliveries: []events.Delivery{{Stamp: epoch, Ack: []byte(payload)}}}}
			e, _, err := events.NewEntry(1, events.Digest{}, "l", events.Command{}, epoch, "", []events.Fact{fact})
			if err != nil {
				t.Fatalf("%d levels: %v", levels, err)
			}
			data, err := events.DecodeFact(e.Events[0])
			if err != nil {
				t.Fatal(err)
			}
			if kept := string(data.(*events.DeliveryRecorded).Deliveries[0].Ack); kept != payload {
				t.Errorf("kept %s of %s", kept, payload)
			}
		}
	}
}

func TestMalformedStatementsAreRefused(t *testing.T) {
	for _, c := range statements(t) {
		for _, alter := range [][2]string{
			{`,`, `, `}, {`"specversion":"1.0",`, ``}, {`"specversion":"1.0"`, `"specversion":"7"`}, {`"id":"`, `"x":"`}, {`.v1",`, `.v2",`},
			{`"data":{`, `"data":[{`}, {`"ledger":"`, `"ledger":1,"x":"`}, {`"data":{`, `"data":{"grease":1e400,`}, {`"data":{`, `"data":{"grease":"\ud800",`},
			{`"data":{`, `"data":{"ledger":"x",`}, {`"data":{`, `"data":{"grease":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `,`},
		} {
			payload := strings.Replace(c.payload, alter[0], alter[1], 1)
			if payload == c.payload {
				t.Fatalf("%s: nothing is altered by %q", c.name, alter)
			}
			_, err := c.read(t, payload)
			if events.ReasonOf(err) != events.ReasonMalformed {
				t.Errorf("%s with %q: %v", c.name, alter[1], err)
			}
		}
		for _, payload := range []string{"", "null", "1", "[]", "{}", `"` + "\xff" + `"`} {
			if _, err := c.read(t, payload); events.ReasonOf(err) != events.ReasonMalformed {
				t.Errorf("%s %q: %v", c.name, payload, err)
			}
		}
	}
}

func TestAStatementSpeaksForItsOwnAgent(t *testing.T) {
	agent := foldtest.Signer(t, "agent")
	ack, ackHeader, _ := events.EncodeAck(acks()[0], epoch, agent)
	beat, beatHeader, _ := events.EncodeBeat(beats()[0], agent)
	for _, to := range [][2]string{{"prod-us", "a1"}, {"prod-eu", "a2"}} {
		_, err := events.DecodeAck(ack, ackHeader, to[0], to[1], agent.Public())
		wantReason(t, err, events.ReasonWrongEnvironment)
		_, err = events.DecodeBeat(beat, beatHeader, to[0], to[1], agent.Public())
		wantReason(t, err, events.ReasonWrongEnvironment)
	}
	other := foldtest.Signer(t, "other").Public()
	_, err := events.DecodeAck(ack, ackHeader, "prod-eu", "a1", other)
	wantReason(t, err, events.ReasonSignature)
	_, err = events.DecodeAck(ack, beatHeader, "prod-eu", "a1", agent.Public())
	wantReason(t, err, events.ReasonSignature)
	_, err = events.DecodeBeat(beat, ackHeader, "prod-eu", "a1", agent.Public())
	wantReason(t, err, events.ReasonSignature)
	pulse, pulseHeader, _ := events.EncodePulse(aPulse(), agent)
	_, err = events.DecodePulse(pulse, pulseHeader, func(key string) bool { return key == other })
	wantReason(t, err, events.ReasonSignature)
	_, err = events.DecodePulse(pulse, "", anyone)
	wantReason(t, err, events.ReasonSignature)
}

func TestAnAckNamesRevisions(t *testing.T) {
	agent := foldtest.Signer(t, "agent")
	for _, c := range [][2]uint64{{0, 0}, {0, 3}, {4, 3}} {
		a := acks()[0]
		a.First, a.Last = c[0], c[1]
		payload, header, err := events.EncodeAck(a, epoch, agent)
		if err != nil {
			t.Fatal(err)
		}
		_, err = events.DecodeAck(payload, header, "prod-eu", "a1", agent.Public())
		wantReason(t, err, events.ReasonMalformed)
	}
}
