package ledger_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// forge is an entry that follows the book's last one and holds whatever facts it is given.
func (b *book) forge(facts ...events.Fact) []byte {
	b.t.Helper()
	_, entry, err := events.NewEntry(b.state.Number+1, b.state.Hash, b.state.ID, events.Command{ID: "forged", By: "mallory"}, b.now, "", facts)
	if err != nil {
		b.t.Fatalf("forge: %v", err)
	}
	return entry
}

// reforge is an entry of the book with the facts of its events altered.
func (b *book) reforge(number int, alter func(fact any)) []byte {
	b.t.Helper()
	entry, err := events.DecodeEntry(b.entries[number-1])
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	var facts []events.Fact
	for _, e := range entry.Events {
		fact, err := events.DecodeFact(e)
		if err != nil {
			b.t.Fatalf("%v", err)
		}
		alter(fact)
		facts = append(facts, events.Fact{Type: e.Type, Subject: e.Subject, Data: fact})
	}
	_, payload, err := events.NewEntry(entry.Number, entry.Previous, entry.Ledger, entry.Command, entry.Time, entry.TraceParent, facts)
	if err != nil {
		b.t.Fatalf("reforge: %v", err)
	}
	return payload
}

// upTo is the state before an entry of the book.
func (b *book) upTo(number int) *ledger.State {
	b.t.Helper()
	s := ledger.New(b.state.ID)
	for i, e := range b.entries[:number-1] {
		if _, _, err := s.Apply(e, b.stamps[i]); err != nil {
			b.t.Fatalf("%v", err)
		}
	}
	return s
}

func TestAnEntryThatDoesNotFollowIsRefused(t *testing.T) {
	b := environments(t, "prod")
	b.release(set("prod", "variable/x", "1"))
	last := len(b.entries)
	replace := func(old, new string) []byte {
		payload := bytes.ReplaceAll(b.entries[last-1], []byte(old), []byte(new))
		if bytes.Equal(payload, b.entries[last-1]) {
			t.Fatalf("%q is not there", old)
		}
		return payload
	}
	entry, err := events.DecodeEntry(b.entries[last-1])
	if err != nil {
		t.Fatal(err)
	}
	facts := []events.Fact{{Type: events.TypeRolloutStarted, Subject: "c1", Data: events.RolloutStarted{Change: "c1"}}}
	_, backwards, err := events.NewEntry(entry.Number, entry.Previous, entry.Ledger, entry.Command, epoch, "", facts)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		payload []byte
		is      error
		reason  events.Reason
	}{
		"number gap":            {replace(fmt.Sprintf(`"number":%d,`, last), fmt.Sprintf(`"number":%d,`, last+1)), nil, events.ReasonMalformed}, // its events name the number
		"previous hash":         {replace(entry.Previous.String(), strings.Repeat("ab", 32)), ledger.ErrBroken, ""},
		"another ledger":        {replace(b.state.ID, "1b7c5f0e-1f5e-4a1e-9d53-0d2f6a6f7c11"), ledger.ErrBroken, ""},
		"the entry before":      {b.entries[last-2], ledger.ErrBroken, ""},
		"time runs backwards":   {backwards, ledger.ErrBroken, ""},
		"unknown type":          {replace("rollout.started", "rollout.exploded"), nil, events.ReasonUpgradeNeeded},
		"unknown field":         {replace(`"number":1,"wave"`, `"number":1,"mood":"good","wave"`), nil, events.ReasonUpgradeNeeded},
		"unknown derivation":    {replace(`"derivation":1`, `"derivation":2`), nil, events.ReasonUpgradeNeeded},
		"another wave chain":    {replace(b.state.Environments["prod"].Fold.Chain.String(), strings.Repeat("ab", 32)), ledger.ErrDerivation, ""},
		"another revision":      {replace(`"revision":2`, `"revision":3`), ledger.ErrDerivation, ""},
		"a negative derivation": {replace(`"derivation":1`, `"derivation":-1`), nil, events.ReasonUpgradeNeeded},
		"a fraction":            {replace(`"revision":2`, `"revision":2.5`), nil, events.ReasonMalformed},
		"a negative revision":   {replace(`"revision":2`, `"revision":-2`), nil, events.ReasonMalformed},
		"cut":                   {b.entries[last-1][:100], nil, events.ReasonMalformed},
		"nothing":               {nil, nil, events.ReasonMalformed},
	} {
		_, _, err := b.upTo(last).Apply(c.payload, b.now)
		if err == nil || (c.is != nil && !errors.Is(err, c.is)) || (c.reason != "" && events.ReasonOf(err) != c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, gap, err := events.NewEntry(entry.Number+1, entry.Previous, entry.Ledger, entry.Command, entry.Time, "", facts)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.upTo(last).Apply(gap, b.now); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("a gap: %v", err)
	}
}

func TestFactsThatNoDecisionLeadsToAreRefused(t *testing.T) {
	b := newBook(t)
	b.must("op", ledger.AddEnvironment{Name: "dev", Approvals: 1})
	b.must("op", ledger.AddEnvironment{Name: "prod", Approvals: 2})
	b.enrol("prod", "a")
	one := b.must("anna", set("*", "variable/x", "1")).Change
	b.approve("ben", one)
	b.approve("carla", one)
	two := b.must("anna", set("prod", "variable/x", "2")).Change
	b.approve("ben", two)
	c1, c2, prod := b.state.Changes[one], b.state.Changes[two], b.state.Environments["prod"]
	next := events.ReleaseRef{Environment: "prod", Revision: prod.Head() + 1, Chain: events.Sum(nil)}
	wave := func(refs ...events.ReleaseRef) events.Wave { return events.Wave{Derivation: 1, Releases: refs} }
	sum := events.Sum([]byte("x"))

	for name, fact := range map[string]events.Fact{
		"environment without release":             {Type: events.TypeEnvironmentAdded, Data: events.EnvironmentAdded{Environment: "stage"}},
		"environment of another release":          {Type: events.TypeEnvironmentAdded, Data: events.EnvironmentAdded{Environment: "stage", Wave: wave(next)}},
		"environment with two releases":           {Type: events.TypeEnvironmentAdded, Data: events.EnvironmentAdded{Environment: "stage", Wave: wave(next, next)}},
		"environment twice":                       {Type: events.TypeEnvironmentAdded, Data: events.EnvironmentAdded{Environment: "prod", Wave: wave(next)}},
		"no such environment updated":             {Type: events.TypeEnvironmentUpdated, Data: events.EnvironmentUpdated{Environment: "stage"}},
		"no such environment retired":             {Type: events.TypeEnvironmentRetired, Data: events.EnvironmentRetired{Environment: "stage"}},
		"agent in no environment":                 {Type: events.TypeAgentEnrolled, Data: events.AgentEnrolled{Environment: "stage", Agent: "a"}},
		"agent twice":                             {Type: events.TypeAgentEnrolled, Data: events.AgentEnrolled{Environment: "prod", Agent: "a", Revision: prod.Head(), Chain: prod.Fold.Chain}},
		"agent pinned elsewhere":                  {Type: events.TypeAgentEnrolled, Data: events.AgentEnrolled{Environment: "prod", Agent: "b", Revision: 1 << 50}},
		"no such agent revoked":                   {Type: events.TypeAgentRevoked, Data: events.AgentRevoked{Environment: "prod", Agent: "b"}},
		"agent revoked nowhere":                   {Type: events.TypeAgentRevoked, Data: events.AgentRevoked{Environment: "stage", Agent: "a"}},
		"content of another digest":               {Type: events.TypeContentStored, Data: events.ContentStored{Digest: sum, JSON: json.RawMessage(`[]`)}},
		"content of nothing":                      {Type: events.TypeContentStored, Data: events.ContentStored{Digest: sum}},
		"change without parts":                    {Type: events.TypeChangeProposed, Data: events.ChangeProposed{Change: "c3"}},
		"change without contents":                 {Type: events.TypeChangeProposed, Data: events.ChangeProposed{Change: "c3", Environments: []events.ProposedEnvironment{{Environment: "prod", Operations: sum, Inverse: sum}}}},
		"change for no environment":               {Type: events.TypeChangeProposed, Data: events.ChangeProposed{Change: "c3", Environments: []events.ProposedEnvironment{{Environment: "stage"}}}},
		"change twice":                            {Type: events.TypeChangeProposed, Data: events.ChangeProposed{Change: two}},
		"revised before it is proposed":           {Type: events.TypeChangeRevised, Data: events.ChangeProposed{Change: "c3"}},
		"revised after its release":               {Type: events.TypeChangeRevised, Data: events.ChangeProposed{Change: one, Author: "anna"}},
		"revised by another":                      {Type: events.TypeChangeRevised, Data: events.ChangeProposed{Change: two, Author: "mallory"}},
		"approval of nothing":                     {Type: events.TypeApprovalGiven, Data: events.ApprovalGiven{Change: "c3"}},
		"approval of another digest":              {Type: events.TypeApprovalGiven, Data: events.ApprovalGiven{Change: two, Digest: sum, By: "carla"}},
		"approval of what is released":            {Type: events.TypeApprovalGiven, Data: events.ApprovalGiven{Change: one, Digest: c1.Digest, By: "dora"}},
		"approved with too few":                   {Type: events.TypeChangeApproved, Data: events.ChangeApproved{Change: two, Digest: c2.Digest}},
		"approved twice":                          {Type: events.TypeChangeApproved, Data: events.ChangeApproved{Change: one, Digest: c1.Digest}},
		"rejected after its release":              {Type: events.TypeChangeRejected, Data: events.ChangeEnded{Change: one}},
		"nothing rejected":                        {Type: events.TypeChangeRejected, Data: events.ChangeEnded{Change: "c3"}},
		"rollout of what is open":                 {Type: events.TypeRolloutStarted, Data: events.RolloutStarted{Change: two}},
		"completed and open":                      {Type: events.TypeRolloutCompleted, Data: events.RolloutCompleted{Change: two}},
		"wave of nothing":                         {Type: events.TypeWaveReleased, Data: events.WaveReleased{Change: "c3", Wave: wave(next)}},
		"wave of what is open":                    {Type: events.TypeWaveReleased, Data: events.WaveReleased{Change: two, Wave: wave(next)}},
		"wave to no environment":                  {Type: events.TypeWaveReleased, Data: events.WaveReleased{Change: one, Wave: wave(events.ReleaseRef{Environment: "stage", Revision: 1})}},
		"wave a second time":                      {Type: events.TypeWaveReleased, Data: events.WaveReleased{Change: one, Wave: wave(next)}},
		"left out and released":                   {Type: events.TypeWaveReleased, Data: events.WaveReleased{Change: one, Wave: wave(), LeftOut: []events.LeftOut{{Environment: "prod"}}}},
		"left out where it is not":                {Type: events.TypeWaveReleased, Data: events.WaveReleased{Change: one, Wave: wave(), LeftOut: []events.LeftOut{{Environment: "stage"}}}},
		"rollback without its releases":           {Type: events.TypeRollbackOrdered, Data: events.RollbackOrdered{Undone: []events.Undone{{Environment: "prod", Change: one}}, Wave: wave()}},
		"rollback of another release":             {Type: events.TypeRollbackOrdered, Data: events.RollbackOrdered{Undone: []events.Undone{{Environment: "stage", Change: one}}, Wave: wave(next)}},
		"rollback of what is open":                {Type: events.TypeRollbackOrdered, Data: events.RollbackOrdered{Undone: []events.Undone{{Environment: "prod", Change: two}}, Wave: wave(next)}},
		"sources that are not edited":             {Type: events.TypeWaveReleased, Data: events.WaveReleased{Change: one, Wave: wave(), SourcesOnly: []string{"prod"}}},
		"sources of no environment":               {Type: events.TypeWaveReleased, Data: events.WaveReleased{Change: one, Wave: wave(), SourcesOnly: []string{"stage"}}},
		"sources taken back of what was released": {Type: events.TypeRollbackOrdered, Data: events.RollbackOrdered{Wave: wave(), SourcesOnly: []events.Undone{{Environment: "prod", Change: one}}}},
		"rollback of nothing":                     {Type: events.TypeRollbackOrdered, Data: events.RollbackOrdered{Undone: []events.Undone{{Environment: "prod", Change: "c3"}}, Wave: wave(next)}},
		"trust of another version":                {Type: events.TypeTrustUpdated, Data: events.TrustUpdated{Document: events.Trust{Version: 7, Ledger: ledgerID}}},
		"trust of another ledger":                 {Type: events.TypeTrustUpdated, Data: events.TrustUpdated{Document: events.Trust{Version: 2, Ledger: "other"}}},
		"trust without publishers":                {Type: events.TypeTrustUpdated, Data: events.TrustUpdated{Document: events.Trust{Version: 2, Ledger: ledgerID}, Wave: wave(next)}},
		"delivery of nothing":                     {Type: events.TypeDeliveryRecorded, Data: events.DeliveryRecorded{Deliveries: []events.Delivery{{Environment: "prod", Agent: "a", Stamp: epoch}}}},
		"delivery of nobody":                      {Type: events.TypeDeliveryRecorded, Data: events.DeliveryRecorded{Deliveries: []events.Delivery{{Environment: "stage", Agent: "a", Stamp: epoch, Ack: json.RawMessage(`{}`)}}}},
	} {
		if _, _, err := b.replay().Apply(b.forge(fact), b.now); err == nil {
			t.Errorf("%s: applied", name)
		}
	}
	// Whoever does nothing in an environment edits its sources there.
	nothing := events.Sum([]byte("[]"))
	digest, _, err := events.ChangeDigest([]events.Leaf{{Change: "c3", Environment: "prod", Inverse: nothing, Operations: nothing}})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = b.replay().Apply(b.forge(events.Fact{Type: events.TypeContentStored, Data: events.ContentStored{Digest: nothing, JSON: json.RawMessage("[]")}},
		events.Fact{Type: events.TypeChangeProposed, Data: events.ChangeProposed{Change: "c3", Digest: digest, Author: "anna", Sources: c1.Sources,
			Environments: []events.ProposedEnvironment{{Environment: "prod", Operations: nothing, Inverse: nothing}}}}), b.now)
	if err == nil || !strings.Contains(err.Error(), "none of its sources is edited") {
		t.Errorf("a change that does nothing: %v", err)
	}
	// Before any trust document there is nothing to release.
	empty := &book{t: t, state: ledger.New(ledgerID), now: epoch}
	added := events.Fact{Type: events.TypeEnvironmentAdded, Data: events.EnvironmentAdded{Environment: "prod", Wave: wave(events.ReleaseRef{Environment: "prod", Revision: 1})}}
	if _, _, err := ledger.New(ledgerID).Apply(empty.forge(added), epoch); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("before any trust: %v", err)
	}
	// A command is carried out once.
	again, err := events.DecodeEntry(b.entries[len(b.entries)-1])
	if err != nil {
		t.Fatal(err)
	}
	_, twice, err := events.NewEntry(b.state.Number+1, b.state.Hash, b.state.ID, again.Command, b.now, "",
		[]events.Fact{{Type: events.TypeChangeRejected, Subject: two, Data: events.ChangeEnded{Change: two, By: "dora"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.replay().Apply(twice, b.now); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("a command twice: %v", err)
	}
}

func TestATamperedLedgerIsNoticed(t *testing.T) {
	b := environments(t, "dev", "prod")
	b.release(set("*", "variable/x", "1"))
	number := 0
	for i, entry := range b.entries {
		if bytes.Contains(entry, []byte(events.TypeContentStored)) {
			number = i + 1
		}
	}
	cut := b.reforge(number, func(fact any) {
		content := fact.(*events.ContentStored)
		content.JSON = bytes.Replace(content.JSON, []byte(`"value":1`), []byte(`"value":2`), 1)
	})
	if _, _, err := b.upTo(number).Apply(cut, b.now); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("content altered: %v", err)
	}
	// Content altered with its digest: the change's digest is over what was there.
	swapped := b.reforge(number, func(fact any) {
		content := fact.(*events.ContentStored)
		content.JSON = bytes.Replace(content.JSON, []byte(`"value":1`), []byte(`"value":2`), 1)
		content.Digest = events.Sum(content.JSON)
	})
	s := b.upTo(number)
	if _, _, err := s.Apply(swapped, b.now); err != nil {
		t.Fatal(err)
	}
	proposal := bytes.Replace(b.entries[number], []byte(events.Sum(b.entries[number-1]).String()), []byte(s.Hash.String()), 1)
	if _, _, err := s.Apply(proposal, b.now); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("content missing: %v", err)
	}
	approval := b.reforge(len(b.entries), func(fact any) {
		if w, ok := fact.(*events.WaveReleased); ok {
			w.Wave.Releases[1].Chain[5] ^= 1
		}
	})
	if _, _, err := b.upTo(len(b.entries)).Apply(approval, b.now); !errors.Is(err, ledger.ErrDerivation) {
		t.Errorf("a wave's chain altered: %v", err)
	}
}

// FuzzApply alters one entry of a ledger: whatever comes of it is an error or an entry, never a panic.
func FuzzApply(f *testing.F) {
	b := exampleHistory(f)
	for i := range b.entries {
		f.Add(uint16(i), uint16(0), uint16(0), []byte(nil))
	}
	for i, entry := range b.entries {
		for _, field := range []string{"releases", "environments", "undone", "deliveries", "operations", "document"} {
			if at := bytes.Index(entry, []byte(`"`+field+`":`)); at > 0 {
				f.Add(uint16(i), uint16(at+len(field)+3), uint16(1), []byte(`null,"x":`))
			}
		}
	}
	f.Fuzz(func(t *testing.T, entry, at, cut uint16, insert []byte) {
		b.t = t
		number := int(entry)%len(b.entries) + 1
		payload := b.entries[number-1]
		from := min(int(at), len(payload))
		to := min(from+int(cut), len(payload))
		payload = append(append(bytes.Clone(payload[:from]), insert...), payload[to:]...)
		applies(b, number, payload)
		// The same with what stands beside the data written anew, so that the data is reached.
		if e, err := decodeLoosely(payload); err == nil {
			applies(b, number, e)
		}
	})
}

func applies(b *book, number int, payload []byte) {
	s := b.upTo(number)
	if _, _, err := s.Apply(payload, time.Time{}); err != nil {
		return
	}
	for _, e := range s.EnvironmentList() {
		for r := range e.Releases {
			if _, err := s.Payload(e.Name, uint64(r+1)); err != nil {
				b.t.Fatalf("%v", err)
			}
		}
	}
}

// decodeLoosely writes an entry anew with the data that it finds.
func decodeLoosely(payload []byte) ([]byte, error) {
	var e events.Entry
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	var facts []events.Fact
	for _, event := range e.Events {
		var compact bytes.Buffer
		if err := json.Compact(&compact, event.Data); err != nil {
			return nil, err
		}
		facts = append(facts, events.Fact{Type: event.Type, Subject: event.Subject, Data: json.RawMessage(compact.Bytes())})
	}
	_, out, err := events.NewEntry(e.Number, e.Previous, e.Ledger, e.Command, e.Time, e.TraceParent, facts)
	return out, err
}

// A decision that lost the race for its place leaves nothing behind in what the winner released.
func TestWhatWasDecidedAndNotAppendedIsNotReleased(t *testing.T) {
	b := environments(t, "dev", "prod")
	c := b.must("anna", set("*", "variable/x", "1")).Change
	other := b.upTo(len(b.entries) + 1) // another publisher's
	if _, err := b.decide(ledger.Command{By: "ben", Body: b.approval(c)}); err != nil {
		t.Fatal(err)
	}
	won, err := other.Decide(ledger.Command{By: "carla", Body: b.approval(c)}, b.now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	b.append(won)
	b.verify()
	for _, r := range b.released[len(b.released)-2:] {
		if release, _, err := events.DecodeRelease(r.Payload); err != nil || release.Change.Approvals[0].By != "carla" {
			t.Errorf("%s got %s (%v)", r.Environment, r.Payload, err)
		}
	}
}
