package events

import (
	"bytes"
	"encoding/json"
)

// RereadEntry reads an entry that DecodeEntry and DecodeFact read before, with its facts. It checks nothing that they check: whoever calls
// it knows that it is the same, byte for byte. Of anything else it may say anything.
func RereadEntry(payload []byte) (e Entry, facts []Fact, err error) {
	head, list, found := bytes.Cut(payload, []byte(`,"events":[`)) // quotes are escaped in texts
	if !found {
		return e, nil, Errorf(ReasonMalformed, "an entry without events")
	}
	if err := rereadHead(head, &e); err != nil {
		return e, nil, err
	}
	for text := (reader{b: list}); ; {
		event, fact, err := rereadEvent(text.object())
		if text.bad || err != nil {
			return e, nil, Errorf(ReasonMalformed, "event %d cannot be read again: %w", len(facts), err)
		}
		e.Events, facts = append(e.Events, event), append(facts, fact)
		if !text.has(",") {
			return e, facts, nil
		}
	}
}

// rereadHead reads an object of which the last members are cut off.
func rereadHead(head []byte, into any) error {
	return json.Unmarshal(append(bytes.Clone(head), '}'), into)
}

func rereadEvent(b []byte) (e Event, f Fact, err error) {
	head, data, found := bytes.Cut(b, []byte(`,"data":`))
	if !found {
		return e, f, Errorf(ReasonMalformed, "an event without data")
	}
	if err := rereadHead(head, &e); err != nil {
		return e, f, err
	}
	e.Data = data[:len(data)-1]
	f = Fact{Type: e.Type, Subject: e.Subject}
	newData, known := factTypes[e.Type]
	if !known {
		return e, f, Errorf(ReasonUpgradeNeeded, "the type %s is not known in the ledger", clip(string(e.Type)))
	}
	f.Data = newData()
	if recorded, ok := f.Data.(*DeliveryRecorded); ok {
		text := reader{b: e.Data}
		if *recorded = text.deliveries(); !text.bad {
			return e, f, nil
		}
	}
	return e, f, json.Unmarshal(e.Data, f.Data)
}

// deliveries reads what agents said, which is most of a ledger.
func (r *reader) deliveries() (out DeliveryRecorded) {
	r.skip(`{"deliveries":`)
	out.Deliveries = items(r, func() (d Delivery) {
		r.skip(`{"environment":`)
		d.Environment = r.string()
		r.skip(`,"agent":`)
		d.Agent = r.string()
		r.skip(`,"stamp":`)
		d.Stamp = r.time()
		if r.has(`,"ack":`) {
			d.Ack = r.object()
		}
		if r.has(`,"beat":`) {
			d.Beat = r.object()
		}
		r.skip(`,"signature":`)
		d.Signature = r.string()
		r.skip("}")
		return d
	})
	r.skip("}")
	return out
}

// object passes over an object and returns it; it looks only at where it ends.
func (r *reader) object() []byte {
	depth := 0
	for i := 0; i < len(r.b); i++ {
		switch r.b[i] {
		case '"':
			for i++; i < len(r.b) && r.b[i] != '"'; i++ {
				if r.b[i] == '\\' {
					i++
				}
			}
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				found := r.b[:i+1]
				r.b = r.b[i+1:]
				return found
			}
		}
	}
	r.bad = true
	return nil
}

// PeekAck reads what an ack says without looking at who signed it, and at how it is written: for what was read before, or is to be dropped.
func PeekAck(payload []byte) (a Ack, err error) { return peek[Ack](payload) }

// PeekBeat is PeekAck for a beat.
func PeekBeat(payload []byte) (b Beat, err error) { return peek[Beat](payload) }

func peek[T any](payload []byte) (out T, err error) {
	var e struct {
		Data T `json:"data"`
	}
	if _, data, found := bytes.Cut(payload, []byte(`,"data":`)); found && len(data) > 0 {
		if json.Unmarshal(data[:len(data)-1], &out) == nil {
			return out, nil
		}
	}
	err = json.Unmarshal(payload, &e) // it is written in another order than ours
	return e.Data, err
}
