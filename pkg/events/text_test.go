package events

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// texts are strings that are hard to write.
var texts = rapid.OneOf(
	rapid.StringMatching(`[a-z][a-z0-9]{0,12}`), rapid.String(),
	rapid.SampledFrom([]string{"", `"`, `\`, "<&>", "\u2028", "\xff", "Grüße", "a\nb", "\x7f", "\ufffd", `","time":"`}),
)

var digests = rapid.Custom(func(t *rapid.T) (d Digest) {
	if rapid.Bool().Draw(t, "some") {
		d = Sum([]byte(rapid.String().Draw(t, "of")))
	}
	return d
})

var moments = rapid.Custom(func(t *rapid.T) time.Time {
	return time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "microseconds")).UTC()
})

var values = rapid.SampledFrom([]json.RawMessage{
	nil, []byte(`1`), []byte(`null`), []byte(`"a,}]"`), []byte(`{"a":[1,{"b":"\"}"}],"c":"\\"}`), []byte(`[]`), []byte(` {"a": 1} `),
	[]byte(`{"a":1,"a":2}`), []byte(`9007199254740993`), []byte(`"\ud800"`), []byte(`"<\u2028>"`), []byte("\"\u2028\""),
})

// released draws a release that need make no sense: writing and reading it must.
func released(t *rapid.T) Release {
	r := Release{
		Environment: texts.Draw(t, "environment"), Revision: rapid.Uint64().Draw(t, "revision"), Previous: digests.Draw(t, "previous"),
		Ledger: texts.Draw(t, "ledger"), Entry: rapid.Uint64Range(0, 1<<54).Draw(t, "entry"), Derivation: rapid.Int().Draw(t, "derivation"), State: digests.Draw(t, "state"),
	}
	switch r.Kind = rapid.SampledFrom([]ReleaseKind{KindChange, KindRollback, KindTrust}).Draw(t, "kind"); r.Kind {
	case KindTrust:
		r.Trust = &Trust{Version: 1, Ledger: r.Ledger, Publishers: []string{"U"}, Approvals: ApprovalsAreNames}
	case KindRollback:
		r.Rollback = &Rollback{ID: texts.Draw(t, "id"), By: texts.Draw(t, "by")}
		r.Inverse = rapid.SliceOf(rapid.Custom(func(t *rapid.T) Inverse {
			return Inverse{Op: texts.Draw(t, "op"), Key: texts.Draw(t, "key"), Value: values.Draw(t, "value"), Setter: digests.Draw(t, "setter")}
		})).Draw(t, "inverse")
	default:
		r.Change = &ReleasedChange{
			ID: texts.Draw(t, "id"), Digest: digests.Draw(t, "digest"), Author: texts.Draw(t, "author"), Reason: texts.Draw(t, "reason"),
			Ticket: texts.Draw(t, "ticket"), Index: rapid.Uint64().Draw(t, "index"), Size: 3,
		}
		if rapid.Bool().Draw(t, "path") {
			r.Change.Path = rapid.SliceOf(digests).Draw(t, "hashes")
		}
		r.Change.Approvals = rapid.SliceOf(rapid.Custom(func(t *rapid.T) Approval {
			return Approval{By: texts.Draw(t, "by"), At: moments.Draw(t, "at")}
		})).Draw(t, "approvals")
		r.Operations = rapid.SliceOf(rapid.Custom(func(t *rapid.T) Operation {
			return Operation{Op: texts.Draw(t, "op"), Key: texts.Draw(t, "key"), Value: values.Draw(t, "value"), Base: digests.Draw(t, "base")}
		})).Draw(t, "operations")
	}
	return r
}

// plausible draws a release of a change that is well-formed as far as one is read quickly.
func plausible(t *rapid.T) Release {
	r := released(t)
	text := rapid.StringMatching(`[a-z]{1,5}`)
	for r.Kind != KindChange {
		r = released(t)
	}
	r.Environment, r.Ledger, r.Derivation = text.Draw(t, "environment"), text.Draw(t, "ledger"), 1
	r.Revision, r.Change.Index = rapid.Uint64Range(1, 1<<40).Draw(t, "revision"), 2
	r.Change.ID, r.Change.Author, r.Change.Ticket = "c1", "anna", rapid.SampledFrom([]string{"", "OPS-1"}).Draw(t, "ticket")
	r.Change.Reason = rapid.SampledFrom([]string{"why", "Grüße", "a \"b\""}).Draw(t, "reason")
	r.Operations = []Operation{
		{Op: OpSet, Key: "variable/a", Value: values.Draw(t, "value"), Base: digests.Draw(t, "base")}, {Op: OpDelete, Key: "flag/b"},
	}
	return r
}

func TestReleasesAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, at, trace := released(t), moments.Draw(t, "at"), texts.Draw(t, "trace")
		e, payload, err := encodeRelease(r, at, trace)
		data, wantErr := Encode(r)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("error %v, encoding/json says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		e.Data = data
		if want, err := Encode(e); err != nil || !bytes.Equal(payload, want) {
			t.Fatalf("%v\nhave %s\nwant %s", err, payload, want)
		}
	})
}

func TestDigestsAreOfWhatEncodingJSONWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := released(t)
		want, wantErr := Encode(r.Operations)
		if have, err := OperationsDigest(r.Operations); (err != nil) != (wantErr != nil) || err == nil && have != Sum(want) {
			t.Fatalf("operations: %v %v", err, wantErr)
		}
		want, wantErr = Encode(r.Inverse)
		if have, err := OperationsDigest(r.Inverse); (err != nil) != (wantErr != nil) || err == nil && have != Sum(want) {
			t.Fatalf("inverse: %v %v", err, wantErr)
		}
		l := Leaf{Change: texts.Draw(t, "change"), Environment: r.Environment, Inverse: r.State, Operations: r.Previous}
		want, _ = Encode(l)
		if have, err := l.Hash(); err != nil || have != LeafHash(want) {
			t.Fatalf("leaf: %v", err)
		}
	})
}

// What is read quickly is what the careful way reads, whatever was done to the payload; and what is as it was written is read quickly.
func TestQuickAndCarefulReadingAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload, err := EncodeRelease(plausible(t), moments.Draw(t, "at"), rapid.SampledFrom([]string{"", "00-1-2-3"}).Draw(t, "trace"))
		if err != nil {
			return
		}
		for range rapid.IntRange(0, 2).Draw(t, "damages") {
			i := rapid.IntRange(0, len(payload)-1).Draw(t, "at byte")
			switch rapid.IntRange(0, 2).Draw(t, "damage") {
			case 0:
				payload[i] = rapid.Byte().Draw(t, "byte")
			case 1:
				payload = append(payload[:i:i], payload[i+1:]...)
			case 2:
				payload = append(append(payload[:i:i], rapid.SampledFrom([]string{" ", ",", `"x":1,`, "0", "\\n", "}"}).Draw(t, "insert")...), payload[i:]...)
			}
		}
		agree(t, payload)
	})
}

func agree(t interface{ Fatalf(string, ...any) }, payload []byte) {
	quick, quickEvent, ok := readRelease(payload)
	careful, carefulEvent, err := decodeRelease(payload)
	if ok && (err != nil || !reflect.DeepEqual(quick, careful) || !reflect.DeepEqual(quickEvent, carefulEvent)) {
		t.Fatalf("%s\nquick   %+v %+v\ncareful %+v %+v %v", payload, quick, quickEvent, careful, carefulEvent, err)
	}
	plain := !bytes.ContainsRune(payload, '\\')
	if !ok && err == nil && careful.Kind == KindChange && plain {
		t.Fatalf("read only carefully: %s", payload)
	}
}

func TestPlainValuesAreCanonicalAsTheyAre(t *testing.T) {
	scalars := rapid.OneOf(
		rapid.StringMatching(`-?[0-9]{0,17}(\.[0-9]+)?`), rapid.StringMatching(`"[ -~]{0,9}"`), rapid.String(),
		rapid.SampledFrom([]string{"true", "false", "null", "-0", "00", "1e3", `"`, `""`, " 1", "nul", "\"\u007f\"", `"é"`, `"\u0041"`}),
	)
	values := rapid.OneOf(scalars, rapid.Custom(func(t *rapid.T) string { return nested(t, scalars, 3) }))
	rapid.Check(t, func(t *rapid.T) {
		v := []byte(values.Draw(t, "value"))
		if len(v) > 0 && rapid.IntRange(0, 3).Draw(t, "damaged") == 0 {
			v[rapid.IntRange(0, len(v)-1).Draw(t, "at byte")] = rapid.SampledFrom([]byte(`"{}[],: 0a\`)).Draw(t, "byte")
		}
		if !isPlain(v) {
			return
		}
		careful, err := canonical(v)
		if err != nil || !bytes.Equal(careful, v) {
			t.Fatalf("%q is taken for canonical, which is %q (%v)", v, careful, err)
		}
	})
}

// nested is a list or an object of what is nearly canonical.
func nested(t *rapid.T, scalars *rapid.Generator[string], depth int) string {
	item := func() string {
		if depth > 0 && rapid.IntRange(0, 2).Draw(t, "deeper") == 0 {
			return nested(t, scalars, depth-1)
		}
		return scalars.Draw(t, "scalar")
	}
	list, object := []string{}, []string{}
	for _, key := range rapid.SliceOfN(rapid.StringMatching(`[ac!]{0,2}`), 0, 3).Draw(t, "keys") {
		list, object = append(list, item()), append(object, `"`+key+`":`+item())
	}
	if rapid.Bool().Draw(t, "list") {
		return "[" + strings.Join(list, ",") + "]"
	}
	return "{" + strings.Join(object, ",") + "}"
}

// An ack that is as it was written is read quickly, and as the careful way reads it; after any damage they agree.
func TestQuickAndCarefulReadingOfAcksAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Ack{
			Environment: rapid.SampledFrom([]string{"dev", "prod-eu", "No Name", ""}).Draw(t, "environment"), Agent: "a1", Ledger: texts.Draw(t, "ledger"),
			Number: rapid.Uint64Range(0, 1<<54).Draw(t, "number"), Word: WordApplied, First: 1, Last: rapid.Uint64Range(0, 1<<54).Draw(t, "last"),
			Chain: digests.Draw(t, "chain"), Observed: digests.Draw(t, "observed"), Message: texts.Draw(t, "message"), Differing: []string{texts.Draw(t, "key")},
			Phases: Phases{Received: moments.Draw(t, "received")},
		}
		e, err := ackEvent(a, moments.Draw(t, "at"))
		if err != nil {
			t.Fatal(err)
		}
		payload, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "damaged") {
			payload[rapid.IntRange(0, len(payload)-1).Draw(t, "at byte")] = rapid.Byte().Draw(t, "byte")
		}
		quick, ok := readAck(payload)
		var careful Ack
		if err := readStatement(payload, TypeReleaseAcknowledged, &careful); ok && (err != nil || !reflect.DeepEqual(quick, careful)) {
			t.Fatalf("%s\nquick   %+v\ncareful %+v %v", payload, quick, careful, err)
		}
	})
}
