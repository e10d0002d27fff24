package events_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// decodeEntry reads an entry and the data of its events.
func decodeEntry(payload []byte) error {
	e, err := events.DecodeEntry(payload)
	if err != nil {
		return err
	}
	for _, event := range e.Events {
		if _, err := events.DecodeFact(event); err != nil {
			return err
		}
	}
	return nil
}

func decodeRelease(payload []byte) error {
	_, _, err := events.DecodeRelease(payload)
	return err
}

// sample is an entry and a release to alter.
func sample(t testing.TB) (entry, release string) {
	_, b, err := events.NewEntry(2, events.Sum([]byte("1")), foldtest.Ledger, events.Command{ID: "k", By: "ann"}, epoch, "", facts(t)[3:4])
	if err != nil {
		t.Fatal(err)
	}
	_, releases := published(t)
	return string(b), string(releases[3].Payload)
}

func TestWhatALaterVersionWritesAsksForAnUpgrade(t *testing.T) {
	entry, release := sample(t)
	if decodeEntry([]byte(entry)) != nil || decodeRelease([]byte(release)) != nil {
		t.Fatal("the samples are not readable")
	}
	for _, c := range []struct {
		what, payload, old, new string
		decode                  func([]byte) error
	}{
		{"a field of the entry", entry, `{"number"`, `{"grease":{"a":[1]},"number"`, decodeEntry},
		{"a field of the command", entry, `"by":`, `"grease":null,"by":`, decodeEntry},
		{"a field of the event", entry, `"specversion"`, `"grease":"x","specversion"`, decodeEntry},
		{"a field of the data", entry, `"data":{`, `"data":{"grease":1,`, decodeEntry},
		{"a type in the ledger", strings.ReplaceAll(entry, "agent.enrolled.v1", "agent.enrolled.v2"), "", "", decodeEntry},
		{"an attribute of the release", release, `"specversion"`, `"grease":"x","specversion"`, decodeRelease},
		{"a field of the release", release, `"data":{`, `"data":{"grease":1,`, decodeRelease},
		{"a field of the change", release, `"change":{`, `"change":{"grease":1,`, decodeRelease},
		{"a field of an operation", release, `"operations":[{`, `"operations":[{"grease":1,`, decodeRelease},
		{"a kind of release", release, `"kind":"change"`, `"kind":"grease"`, decodeRelease},
		{"a type in the release stream", strings.ReplaceAll(release, "release.published.v1", "release.published.v2"), "", "", decodeRelease},
	} {
		altered := strings.Replace(c.payload, c.old, c.new, 1)
		if err := c.decode([]byte(altered)); events.ReasonOf(err) != events.ReasonUpgradeNeeded {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestSignedBytesHaveOneReading(t *testing.T) {
	entry, release := sample(t)
	alter := func(old, new string) func(string) string {
		return func(payload string) string { return strings.Replace(payload, old, new, 1) }
	}
	all := func(old, new string) func(string) string {
		return func(payload string) string { return strings.ReplaceAll(payload, old, new) }
	}
	for _, c := range []struct {
		what    string
		alter   func(string) string
		entry   bool
		release bool
	}{
		{"a name in another case", alter(`"ledger":`, `"Ledger":`), true, true},
		{"a name in another case, beside itself", alter(`"ledger":`, `"Ledger":"x","ledger":`), true, true},
		{"an attribute in another case", alter(`"specversion":`, `"SpecVersion":`), true, true},
		{"a name with the Kelvin sign", alter(`"kind":`, "\"\u212Aind\":"), false, true},
		{"data in another case", alter(`"environment":`, `"Environment":`), true, true},
		{"a name twice", alter(`"ledger":`, `"ledger":"x","ledger":`), true, true},
		{"null for a number", alter(`"revision":`, `"revision":null,"x":`), false, false},
		{"null for a string", alter(`"by":"ann"`, `"by":null`), true, false},
		{"null for a digest", alter(`"previous":"`+events.Sum([]byte("1")).String()+`"`, `"previous":null`), true, false},
		{"null for a string of the change", alter(`"author":"ann"`, `"author":null`), false, true},
		{"null for data", func(p string) string { return p[:strings.Index(p, `"data":`)] + `"data":null}]}` }, true, false},
		{"an array for an object", alter(`"command":{"id":"k","by":"ann","digest":""}`, `"command":[]`), true, false},
		{"a string for a number", alter(`"number":2`, `"number":"2"`), true, false},
		{"a fraction for an integer", alter(`"number":2`, `"number":2.0`), true, false},
		{"an exponent", alter(`"number":2`, `"number":2e0`), true, false},
		{"a negative number", alter(`"number":2`, `"number":-2`), true, false},
		{"a number beyond 2^53-1", alter(`"entry":2`, `"entry":9007199254740992`), false, true},
		{"white space", alter(`,`, `, `), true, true},
		{"white space after it", func(p string) string { return p + "\n" }, true, true},
		{"a value after it", func(p string) string { return p + "{}" }, true, true},
		{"an escape that is not needed", alter(`"ann"`, `"\u0061nn"`), true, true},
		{"an escape in a name", alter(`"ledger":`, `"l\u0065dger":`), true, true},
		{"no spec version", alter(`"specversion":"1.0",`, ``), true, true},
		{"another order", func(p string) string {
			const attribute = `"datacontenttype":"application/json",`
			return strings.Replace(strings.Replace(p, attribute, "", 1), `"data":`, attribute+`"data":`, 1)
		}, true, true},
		{"an empty field that is left out otherwise", alter(`"time":`, `"traceparent":"","time":`), true, false},
		{"upper-case digits of a digest", alter(`"previous":"`, `"previous":"A`), true, true},
		{"a time with an offset", all(`12:00:00.123456Z`, `13:00:00.123456+01:00`), true, false},
		{"a time with an offset of zero", all(`12:00:00.123456Z`, `12:00:00.123456+00:00`), true, false},
		{"a time with trailing zeros", all(`12:00:00.123456Z`, `12:00:00.1234560Z`), true, false},
		{"a time with nanoseconds", all(`12:00:00.123456Z`, `12:00:00.123456001Z`), true, false},
		{"a time with a comma", all(`12:00:00.123456Z`, `12:00:00,123456Z`), true, false},
		{"a time in lower case", all(`T12:00:00.123456Z`, `t12:00:00.123456z`), true, false},
		{"a time with a space", all(`T12:00:00.123456Z`, ` 12:00:00.123456Z`), true, false},
		{"a time of an event that is not the entry's", alter(`"time":"2026-03-01T12:00:00.123456Z","events"`, `"time":"2026-03-01T12:00:01Z","events"`), true, false},
		{"a recorded time that is not the event's", alter(`"recordedtime":"2026`, `"recordedtime":"2027`), false, true},
		{"another spec version", alter(`"specversion":"1.0"`, `"specversion":"1.1"`), true, true},
		{"another id", alter(`"id":"entry.2.0"`, `"id":"entry.2.1"`), true, false},
		{"another source", alter(`"source":"/ledgers/`, `"source":"/ledger/`), true, true},
		{"another content type", alter(`"application/json"`, `"text/json"`), true, true},
		{"another schema", alter(`https://lockstep.dev/schemas`, `https://evil.example`), true, true},
		{"another sequence", alter(`"sequence":"0`, `"sequence":"1`), false, true},
		{"another partition key", alter(`"partitionkey":"`, `"partitionkey":"x`), false, true},
		{"another correlation", alter(`"correlationid":"`, `"correlationid":"x`), false, true},
		{"another subject", alter(`"subject":"dev"`, `"subject":"prod"`), false, true},
		{"no number", alter(`"number":2`, `"number":0`), true, false},
		{"no revision", alter(`"revision":2`, `"revision":0`), false, true},
		{"no ledger", all(foldtest.Ledger, ``), true, false},
		{"no events", func(p string) string { return p[:strings.Index(p, `"events":`)] + `"events":[]}` }, true, false},
		{"an operation without its value", alter(`,"value":"debug"`, ``), false, true},
		{"an unknown operation", alter(`"op":"set"`, `"op":"merge"`), false, true},
		{"a value to delete", alter(`"op":"set"`, `"op":"delete"`), false, true},
		{"an invalid key", alter(`"key":"variable/log-level"`, `"key":"variable/../log-level"`), false, true},
		{"an invalid environment", all(`"dev"`, `"d_ev"`), false, true},
		{"no operations", func(p string) string {
			return p[:strings.Index(p, `,"operations":`)] + p[strings.Index(p, `,"state":`):]
		}, false, true},
		{"another kind than its parts", alter(`"kind":"change"`, `"kind":"rollback"`), false, true},
		{"a scalar", func(string) string { return "1" }, true, true},
		{"null", func(string) string { return "null" }, true, false},
		{"nothing", func(string) string { return "" }, true, true},
		{"invalid UTF-8", alter(`"ann"`, "\"\xff\""), true, true},
		{"a lone surrogate", alter(`"ann"`, `"\ud800"`), true, true},
	} {
		check := func(what, payload string, decode func([]byte) error) {
			altered := c.alter(payload)
			if altered == payload {
				t.Errorf("%s: nothing is altered in the %s", c.what, what)
			}
			err := decode([]byte(altered))
			if events.ReasonOf(err) != events.ReasonMalformed {
				t.Errorf("%s of the %s: %v", c.what, what, err)
			}
		}
		if c.entry {
			check("entry", entry, decodeEntry)
		}
		if c.release {
			check("release", release, decodeRelease)
		}
	}
}

// TestNothingUnreadableIsAppended: what would make the ledger unreadable is refused when it is written.
func TestNothingUnreadableIsAppended(t *testing.T) {
	agent := foldtest.Signer(t, "agent")
	deep := strings.Repeat("[", 90) + strings.Repeat("]", 90)
	for what, f := range map[string]events.Fact{
		"a reason that is not UTF-8":    {Type: events.TypeChangeRejected, Data: &events.ChangeEnded{Change: "c", Reason: "\xff"}},
		"a subject that is not UTF-8":   {Type: events.TypeRolloutStarted, Subject: "\xff", Data: &events.RolloutStarted{Change: "c"}},
		"an unknown type":               {Type: "dev.lockstep.grease.v1", Data: &events.RolloutStarted{Change: "c"}},
		"data of another type":          {Type: events.TypeRolloutStarted, Data: &events.AgentEnrolled{Environment: "dev", Agent: "a1", Key: agent.Public()}},
		"a revision beyond 2^53-1":      {Type: events.TypeAgentEnrolled, Data: &events.AgentEnrolled{Revision: 1 << 53}},
		"content that nests too deep":   {Type: events.TypeContentStored, Data: &events.ContentStored{JSON: json.RawMessage(deep)}},
		"content that is not JSON":      {Type: events.TypeContentStored, Data: &events.ContentStored{JSON: json.RawMessage(`{`)}},
		"content with a key twice":      {Type: events.TypeContentStored, Data: &events.ContentStored{JSON: json.RawMessage(`{"a":1,"a":2}`)}},
		"a time that JSON cannot write": {Type: events.TypeDeliveryRecorded, Data: &events.DeliveryRecorded{Deliveries: []events.Delivery{{Stamp: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}}}},
	} {
		if _, payload, err := events.NewEntry(1, events.Digest{}, "l", events.Command{}, epoch, "", []events.Fact{f}); err == nil {
			t.Errorf("%s is written: %s", what, payload)
		}
	}
	if _, _, err := events.NewEntry(1, events.Digest{}, "l", events.Command{}, epoch, "", nil); err == nil {
		t.Error("an entry without events is written")
	}
}

func TestPayloadsAreStampedInUTCWithMicroseconds(t *testing.T) {
	at := time.Date(2026, 3, 1, 13, 0, 0, 123456789, time.FixedZone("x", 3600))
	e, payload, err := events.NewEntry(1, events.Digest{}, "l", events.Command{}, at, "", facts(t)[3:4])
	if err != nil {
		t.Fatal(err)
	}
	if !e.Time.Equal(epoch) || strings.Count(string(payload), `"time":"2026-03-01T12:00:00.123456Z"`) != 2 {
		t.Errorf("%s", payload)
	}
	release, err := events.EncodeRelease(events.Release{}, at, "")
	if err != nil || strings.Count(string(release), `time":"2026-03-01T12:00:00.123456Z"`) != 2 {
		t.Errorf("%s (%v)", release, err)
	}
}

func TestReasonsAreFoundInChains(t *testing.T) {
	err := fmt.Errorf("apply: %w", events.Errorf(events.ReasonStore, "write: %w", fs.ErrPermission))
	if events.ReasonOf(err) != events.ReasonStore || !errors.Is(err, fs.ErrPermission) || events.ReasonOf(fs.ErrPermission) != "" || events.ReasonOf(nil) != "" {
		t.Error(err)
	}
}

func TestTrustDocuments(t *testing.T) {
	trust := &events.Trust{Version: 1, Ledger: "l", Publishers: []string{"U1"}, Approvals: events.ApprovalsAreNames}
	by := func(names ...string) *events.Release {
		c := &events.ReleasedChange{ID: "c", Author: "ann"}
		for _, name := range names {
			c.Approvals = append(c.Approvals, events.Approval{By: name})
		}
		return &events.Release{Environment: "prod", Change: c}
	}
	for _, c := range []struct {
		release *events.Release
		want    events.Reason
	}{
		{by("bob"), ""}, {by("bob", "carol"), ""}, {by(), events.ReasonApprovals}, {by("ann"), events.ReasonApprovals},
		{by("bob", "ann"), events.ReasonApprovals}, {by("bob", "bob"), events.ReasonApprovals}, {by(""), events.ReasonApprovals},
	} {
		if got := events.ReasonOf(trust.CheckApprovals(c.release, time.Time{}, nil)); got != c.want {
			t.Errorf("%v: %q, want %q", c.release.Change.Approvals, got, c.want)
		}
	}
	later := *trust
	later.Approvals = "signatures"
	wantReason(t, later.CheckApprovals(by("bob"), time.Time{}, nil), events.ReasonUpgradeNeeded)
	if !trust.AllowsPublisher("U1") || trust.AllowsPublisher("U2") {
		t.Error("publishers")
	}
	one, _ := trust.Digest()
	if other, _ := later.Digest(); one == other {
		t.Error("two documents have one digest")
	}
}
