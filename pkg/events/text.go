package events

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// A writer writes what is on every release's way, as Encode would write it: a test holds the two together. It is there because
// encoding/json takes ten times as long.
type writer struct {
	b   []byte
	err error
}

func (w *writer) raw(s string) { w.b = append(w.b, s...) }

// string leaves everything but plain text to Encode.
func (w *writer) string(s string) {
	if !isPrintable(s) {
		w.any(s)
		return
	}
	w.b = append(append(append(w.b, '"'), s...), '"')
}

func (w *writer) number(n uint64) { w.b = strconv.AppendUint(w.b, n, 10) }

func (w *writer) digest(d Digest) {
	w.raw(`"`)
	if !d.IsZero() {
		w.b = hex.AppendEncode(w.b, d[:])
	}
	w.raw(`"`)
}

func (w *writer) time(t time.Time) {
	w.raw(`"`)
	b, err := t.AppendText(w.b)
	if w.b = b; err != nil {
		w.fail(err)
	}
	w.raw(`"`)
}

// value writes a JSON value compactly.
func (w *writer) value(v json.RawMessage) {
	if isPlain(v) {
		w.b = append(w.b, v...)
		return
	}
	out := bytes.NewBuffer(w.b)
	err := json.Compact(out, v)
	if w.b = out.Bytes(); err != nil {
		w.fail(err)
	}
}

// any writes what is rare.
func (w *writer) any(v any) {
	b, err := Encode(v)
	if w.b = append(w.b, b...); err != nil {
		w.fail(err)
	}
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = fmt.Errorf("encode: %w", err)
	}
}

// optional writes a member that is left out when it is empty.
func (w *writer) optional(name, s string) {
	if s != "" {
		w.raw(name)
		w.string(s)
	}
}

// list writes a list as encoding/json does: null where there is none.
func list[T any](w *writer, items []T, item func(T)) {
	if items == nil {
		w.raw("null")
		return
	}
	w.raw("[")
	for i, v := range items {
		if i > 0 {
			w.raw(",")
		}
		item(v)
	}
	w.raw("]")
}

// event writes an event around data that was encoded before.
func (w *writer) event(e *Event) {
	w.attributes(e)
	w.b = append(append(w.b, e.Data...), '}')
}

// attributes writes an event up to its data.
func (w *writer) attributes(e *Event) {
	w.raw(`{"specversion":`)
	w.string(e.SpecVersion)
	w.raw(`,"id":`)
	w.string(e.ID)
	w.raw(`,"source":`)
	w.string(e.Source)
	w.raw(`,"type":`)
	w.string(string(e.Type))
	w.optional(`,"subject":`, e.Subject)
	w.raw(`,"time":`)
	w.time(e.Time)
	w.raw(`,"datacontenttype":`)
	w.string(e.DataContentType)
	w.optional(`,"dataschema":`, e.DataSchema)
	w.optional(`,"sequence":`, e.Sequence)
	w.optional(`,"partitionkey":`, e.PartitionKey)
	w.optional(`,"correlationid":`, e.CorrelationID)
	w.optional(`,"causationid":`, e.CausationID)
	w.optional(`,"traceparent":`, e.TraceParent)
	if e.RecordedTime != nil {
		w.raw(`,"recordedtime":`)
		w.time(*e.RecordedTime)
	}
	w.raw(`,"data":`)
}

func (w *writer) release(r *Release) {
	w.raw(`{"kind":`)
	w.string(string(r.Kind))
	w.raw(`,"environment":`)
	w.string(r.Environment)
	w.raw(`,"revision":`)
	w.number(r.Revision)
	w.raw(`,"previous":`)
	w.digest(r.Previous)
	w.raw(`,"ledger":`)
	w.string(r.Ledger)
	w.raw(`,"entry":`)
	w.number(r.Entry)
	w.raw(`,"derivation":`)
	w.b = strconv.AppendInt(w.b, int64(r.Derivation), 10)
	if r.Change != nil {
		w.raw(`,"change":`)
		w.change(r.Change)
	}
	if r.Rollback != nil {
		w.raw(`,"rollback":`)
		w.any(r.Rollback)
	}
	if r.Trust != nil {
		w.raw(`,"trust":`)
		w.any(r.Trust)
	}
	if len(r.Operations) > 0 {
		w.raw(`,"operations":`)
		list(w, r.Operations, w.operation)
	}
	if len(r.Inverse) > 0 {
		w.raw(`,"inverse":`)
		list(w, r.Inverse, w.inverse)
	}
	w.raw(`,"state":`)
	w.digest(r.State)
	w.raw("}")
}

func (w *writer) change(c *ReleasedChange) {
	w.raw(`{"id":`)
	w.string(c.ID)
	w.raw(`,"digest":`)
	w.digest(c.Digest)
	w.raw(`,"author":`)
	w.string(c.Author)
	w.raw(`,"reason":`)
	w.string(c.Reason)
	w.optional(`,"ticket":`, c.Ticket)
	w.raw(`,"inverse":`)
	w.digest(c.Inverse)
	w.raw(`,"index":`)
	w.number(c.Index)
	w.raw(`,"size":`)
	w.number(c.Size)
	w.raw(`,"path":`)
	list(w, c.Path, w.digest)
	w.raw(`,"approvals":`)
	list(w, c.Approvals, func(a Approval) {
		w.raw(`{"by":`)
		w.string(a.By)
		w.raw(`,"at":`)
		w.time(a.At)
		if a.Envelope != nil {
			w.raw(`,"envelope":`)
			w.signedEnvelope(a.Envelope)
		}
		w.raw("}")
	})
	if c.Proposal != nil {
		w.raw(`,"proposal":`)
		w.signedEnvelope(c.Proposal)
	}
	w.raw("}")
}

func (w *writer) operation(o Operation) {
	w.edit(o.Op, o.Key, o.Value)
	w.raw(`,"base":`)
	w.digest(o.Base)
	w.raw("}")
}

func (w *writer) inverse(i Inverse) {
	w.edit(i.Op, i.Key, i.Value)
	w.raw(`,"setter":`)
	w.digest(i.Setter)
	w.raw("}")
}

// edit begins an operation or an inverse.
func (w *writer) edit(op, key string, value json.RawMessage) {
	w.raw(`{"op":`)
	w.string(op)
	w.raw(`,"key":`)
	w.string(key)
	if len(value) > 0 {
		w.raw(`,"value":`)
		w.value(value)
	}
}

// A reader reads what a writer wrote, in one pass, and nothing else: every part is bad that the writer would have written otherwise, so
// that what was read need not be written again. Where it is bad the careful way says why.
type reader struct {
	b   []byte
	bad bool
}

// skip passes over a text that must come next.
func (r *reader) skip(text string) {
	if !r.has(text) {
		r.bad = true
	}
}

// has passes over a text if it comes next.
func (r *reader) has(text string) bool {
	if len(r.b) < len(text) || string(r.b[:len(text)]) != text {
		return false
	}
	r.b = r.b[len(text):]
	return true
}

// upTo returns what comes before a byte, and passes over both.
func (r *reader) upTo(end byte) []byte {
	i := bytes.IndexByte(r.b, end)
	if i < 0 {
		r.bad = true
		return nil
	}
	found := r.b[:i]
	r.b = r.b[i+1:]
	return found
}

// string reads a string without escapes.
func (r *reader) string() string {
	r.skip(`"`)
	text := string(r.upTo('"'))
	if !isPrintable(text) {
		w := writer{}
		w.any(text)
		r.bad = r.bad || string(w.b) != `"`+text+`"`
	}
	return text
}

// isPrintable says whether a text is printable ASCII without quotes and backslashes: it needs no escapes.
func isPrintable[T string | []byte](s T) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func (r *reader) digest() (d Digest) {
	r.skip(`"`)
	digits := r.upTo('"')
	if len(digits) == 0 {
		return d
	}
	if len(digits) != hex.EncodedLen(len(d)) || bytes.ContainsAny(digits, "ABCDEF") {
		r.bad = true
		return d
	}
	_, err := hex.Decode(d[:], digits)
	r.bad = r.bad || err != nil || d.IsZero()
	return d
}

func (r *reader) number() (n uint64) {
	i := 0
	for ; i < len(r.b) && r.b[i] >= '0' && r.b[i] <= '9' && n <= maxSafeInteger; i++ {
		n = 10*n + uint64(r.b[i]-'0')
	}
	r.bad = r.bad || i == 0 || n > maxSafeInteger || (i > 1 && r.b[0] == '0')
	r.b = r.b[i:]
	return n
}

func (r *reader) time() time.Time {
	r.skip(`"`)
	text := r.upTo('"')
	t, err := time.Parse(time.RFC3339Nano, string(text))
	var space [len(time.RFC3339Nano)]byte
	again, err2 := t.AppendText(space[:0])
	r.bad = r.bad || err != nil || err2 != nil || !bytes.Equal(again, text)
	return t
}

// value reads a compact JSON value that Canonical accepts.
func (r *reader) value() json.RawMessage {
	if n := plainValue(r.b, plainDepth); n > 0 && n < len(r.b) && (r.b[n] == ',' || r.b[n] == '}') {
		v := bytes.Clone(r.b[:n])
		r.b = r.b[n:]
		return v
	}
	i, depth, quoted := 0, 0, false
	for ; i < len(r.b); i++ {
		c := r.b[i]
		if quoted {
			if c == '\\' {
				i++
			}
			quoted = c != '"'
			continue
		}
		if depth == 0 && (c == ',' || c == '}') {
			break
		}
		switch c {
		case '"':
			quoted = true
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ' ', '\t', '\r', '\n':
			r.bad = true
		}
	}
	v := bytes.Clone(r.b[:min(i, len(r.b))])
	r.b = r.b[len(v):]
	r.bad = r.bad || !isPlain(v) && CheckJSON(v) != nil
	return v
}

// items reads a list as list writes it.
func items[T any](r *reader, item func() T) (out []T) {
	if r.has("null") {
		return nil
	}
	r.skip("[")
	out = []T{}
	if r.has("]") {
		return out
	}
	for !r.bad {
		out = append(out, item())
		if r.has("]") {
			return out
		}
		r.skip(",")
	}
	return nil
}

// envelope reads what of an event does not follow from its data, and passes over everything before the data: whoever believes what is
// there writes it again and compares.
func (r *reader) envelope() (at time.Time, traceparent string) {
	head, data, found := bytes.Cut(r.b, []byte(`,"data":`))
	_, stamp, timed := bytes.Cut(head, []byte(`,"time":`))
	if !found || !timed {
		r.bad = true
		return at, ""
	}
	text := reader{b: stamp}
	at = text.time()
	if _, trace, traced := bytes.Cut(text.b, []byte(`,"traceparent":`)); traced {
		text.b = trace
		traceparent = text.string()
	}
	r.b, r.bad = data, r.bad || text.bad
	return at, traceparent
}

// place reads the beginning of a release: where it belongs.
func (r *reader) place(out *Release) {
	r.skip(`{"kind":`)
	out.Kind = ReleaseKind(r.string())
	r.skip(`,"environment":`)
	out.Environment = r.string()
	r.skip(`,"revision":`)
	out.Revision = r.number()
	r.skip(`,"previous":`)
	out.Previous = r.digest()
}

// release reads the release of a change; the other kinds are rare.
func (r *reader) release() (out Release) {
	r.place(&out)
	r.skip(`,"ledger":`)
	out.Ledger = r.string()
	r.skip(`,"entry":`)
	out.Entry = r.number()
	r.skip(`,"derivation":`)
	derivation := r.number()
	r.bad = r.bad || derivation > math.MaxInt32
	out.Derivation = int(derivation)
	r.skip(`,"change":`)
	out.Change = r.change()
	r.skip(`,"operations":`)
	out.Operations = items(r, func() (o Operation) {
		r.skip(`{"op":`)
		o.Op = r.string()
		r.skip(`,"key":`)
		o.Key = r.string()
		if r.has(`,"value":`) {
			o.Value = r.value()
		}
		r.skip(`,"base":`)
		o.Base = r.digest()
		r.skip("}")
		return o
	})
	r.skip(`,"state":`)
	out.State = r.digest()
	r.skip("}")
	return out
}

func (r *reader) change() *ReleasedChange {
	c := &ReleasedChange{}
	r.skip(`{"id":`)
	c.ID = r.string()
	r.skip(`,"digest":`)
	c.Digest = r.digest()
	r.skip(`,"author":`)
	c.Author = r.string()
	r.skip(`,"reason":`)
	c.Reason = r.string()
	if r.has(`,"ticket":`) {
		c.Ticket = r.string()
		r.bad = r.bad || c.Ticket == ""
	}
	r.skip(`,"inverse":`)
	c.Inverse = r.digest()
	r.skip(`,"index":`)
	c.Index = r.number()
	r.skip(`,"size":`)
	c.Size = r.number()
	r.skip(`,"path":`)
	c.Path = items(r, r.digest)
	r.skip(`,"approvals":`)
	c.Approvals = items(r, func() (a Approval) {
		r.skip(`{"by":`)
		a.By = r.string()
		r.skip(`,"at":`)
		a.At = r.time()
		if r.has(`,"envelope":`) {
			a.Envelope = r.signedEnvelope()
		}
		r.skip("}")
		return a
	})
	if r.has(`,"proposal":`) {
		c.Proposal = r.signedEnvelope()
	}
	r.skip("}")
	return c
}
