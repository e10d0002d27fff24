package events_test

import (
	"crypto/ed25519"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// facts is one fact of every ledger type, with every field filled.
func facts(t testing.TB) []events.Fact {
	agent, publisher := foldtest.Signer(t, "agent"), foldtest.Signer(t, "publisher")
	d := func(s string) events.Digest { return events.Sum([]byte(s)) }
	proposed := &events.ChangeProposed{
		Change: "c-1", Digest: d("change"), Author: "ann", Reason: "less noise: <debug> & \"trace\" go", Ticket: "OPS-17", Within: 600,
		Source:  &events.Provenance{Repository: "https://git.example/shop", Commit: "9fceb02", Build: "1234"},
		Expires: epoch.Add(24 * time.Hour), Sources: d("sources"),
		Environments: []events.ProposedEnvironment{
			{Environment: "dev", Operations: d("dev operations"), Inverse: d("dev inverse")},
			{Environment: "prod-eu", Operations: d("prod operations"), Inverse: d("prod inverse")},
		},
	}
	revised := *proposed
	revised.Digest, revised.Ticket, revised.Within, revised.Source = d("change revised"), "", 0, nil
	wave := events.Wave{Derivation: 1, Releases: []events.ReleaseRef{
		{Environment: "dev", Revision: 7, Chain: d("dev 7")}, {Environment: "prod-eu", Revision: 3, Chain: d("prod-eu 3")}}}
	ack, ackHeader, err := events.EncodeAck(acks()[0], epoch, agent)
	if err != nil {
		t.Fatal(err)
	}
	beat, beatHeader, err := events.EncodeBeat(beats()[0], agent)
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"stage": "prod", "product": "shop", "region": "eu"}
	all := []events.Fact{
		{Type: events.TypeTrustUpdated, Subject: "trust", Data: &events.TrustUpdated{
			Document: events.Trust{Version: 1, Ledger: foldtest.Ledger, Publishers: []string{publisher.Public()}, Approvals: events.ApprovalsAreNames}, Wave: wave}},
		{Type: events.TypeEnvironmentAdded, Subject: "prod-eu", Data: &events.EnvironmentAdded{Environment: "prod-eu", Labels: labels, Steward: "sam", Approvals: 2, Wave: wave}},
		{Type: events.TypeEnvironmentUpdated, Subject: "prod-eu", Data: &events.EnvironmentUpdated{Environment: "prod-eu", Labels: labels, Steward: "sue", Approvals: 1}},
		{Type: events.TypeAgentEnrolled, Subject: "prod-eu", Data: &events.AgentEnrolled{Environment: "prod-eu", Agent: "a1", Key: agent.Public(), Revision: 3, Chain: d("prod-eu 3")}},
		{Type: events.TypeContentStored, Subject: d("json").String(), Data: &events.ContentStored{Digest: d("json"), JSON: json.RawMessage(`[{"op":"set","key":"variable/a","value":1e-7,"base":""}]`)}},
		{Type: events.TypeContentStored, Subject: d("text").String(), Data: &events.ContentStored{Digest: d("text"), Text: "kind: Variable\nvalue: \u2028\t<ü>\U0001F600\n"}},
		{Type: events.TypeChangeProposed, Subject: "c-1", Data: proposed},
		{Type: events.TypeChangeRevised, Subject: "c-1", Data: &revised},
		{Type: events.TypeApprovalGiven, Subject: "c-1", Data: &events.ApprovalGiven{Change: "c-1", Digest: d("change"), By: "bob", Comment: "good"}},
		{Type: events.TypeChangeApproved, Subject: "c-1", Data: &events.ChangeApproved{Change: "c-1", Digest: d("change")}},
		{Type: events.TypeRolloutStarted, Subject: "c-1", Data: &events.RolloutStarted{Change: "c-1"}},
		{Type: events.TypeWaveReleased, Subject: "c-1", Data: &events.WaveReleased{Change: "c-1", Number: 1, Wave: wave,
			LeftOut: []events.LeftOut{{Environment: "prod-us", Reason: events.ReasonBaseMoved, Detail: "variable/log-level was last set by change c-0"}}}},
		{Type: events.TypeDeliveryRecorded, Subject: "deliveries", Data: &events.DeliveryRecorded{Deliveries: []events.Delivery{
			{Environment: "prod-eu", Agent: "a1", Stamp: epoch.Add(time.Second), Ack: ack, Signature: ackHeader},
			{Environment: "prod-eu", Agent: "a1", Stamp: epoch.Add(2 * time.Second), Beat: beat, Signature: beatHeader}}}},
		{Type: events.TypeRolloutCompleted, Subject: "c-1", Data: &events.RolloutCompleted{Change: "c-1"}},
		{Type: events.TypeRollbackOrdered, Subject: "c-1", Data: &events.RollbackOrdered{By: "carol", Reason: "orders fail",
			Undone: []events.Undone{{Environment: "dev", Change: "c-1"}, {Environment: "prod-eu", Change: "c-1"}}, Wave: wave}},
		{Type: events.TypeChangeRejected, Subject: "c-2", Data: &events.ChangeEnded{Change: "c-2", By: "bob", Reason: "too late"}},
		{Type: events.TypeChangeWithdrawn, Subject: "c-3", Data: &events.ChangeEnded{Change: "c-3", By: "ann"}},
		{Type: events.TypeAgentRevoked, Subject: "prod-eu", Data: &events.AgentRevoked{Environment: "prod-eu", Agent: "a1", By: "sam", Reason: "host sold"}},
		{Type: events.TypeEnvironmentRetired, Subject: "prod-eu", Data: &events.EnvironmentRetired{Environment: "prod-eu", By: "sam", Reason: "tenant left"}},
		{Type: events.TypeHistoryRecovered, Data: &events.HistoryRecovered{Stands: d("lost entry"), Releases: []events.RecoveredRelease{
			{Payload: json.RawMessage(aTrustRelease(t)), Signature: ackHeader}}}},
		{Type: events.TypeHistoryRecovered, Data: &events.HistoryRecovered{Loss: &events.Loss{
			First: 19, Last: 21, Entries: 2, Releases: 1, Recovered: d("entry 19"), Reason: "both disks are gone",
			Tips:   []events.LedgerTip{{Number: 21, Hash: d("entry 21")}},
			Agents: []events.LostAgent{{Environment: "prod-eu", Agent: "a2", Key: foldtest.Signer(t, "a2").Public()}},
			Beyond: []events.LostPosition{{Environment: "prod-eu", Agent: "a1", Revision: 9, Chain: d("chain 9")}}}}},
	}
	return all
}

func aTrustRelease(t testing.TB) []byte {
	t.Helper()
	trust := &events.Trust{Version: 1, Ledger: foldtest.Ledger, Publishers: []string{foldtest.Signer(t, "publisher").Public()}, Approvals: events.ApprovalsAreNames}
	payload, err := events.EncodeRelease(events.Release{Kind: events.KindTrust, Environment: "prod-eu", Revision: 1, Previous: events.ChainStart(foldtest.Ledger, "prod-eu"),
		Ledger: foldtest.Ledger, Entry: 2, Derivation: 1, Trust: trust, State: events.Sum(nil)}, epoch, "")
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// acks is one ack with every field filled and one with none that may be left out.
func acks() []events.Ack {
	d := func(s string) events.Digest { return events.Sum([]byte(s)) }
	return []events.Ack{{
		Environment: "prod-eu", Agent: "a1", Ledger: foldtest.Ledger, Number: 12, Word: events.WordFailed, First: 3, Last: 4,
		Chain: d("chain"), Expected: d("expected"), Observed: d("observed"), ReadBack: true, Differing: []string{"variable/log-level"},
		By: 5, Reason: events.ReasonReadBack, Message: "variable/log-level is \"debug\"", Since: epoch, Resent: true,
		Phases: events.Phases{Received: epoch, Verified: epoch.Add(time.Millisecond), Applied: epoch.Add(2 * time.Millisecond), Committed: epoch.Add(3 * time.Millisecond)},
	}, {
		Environment: "prod-eu", Agent: "a1", Ledger: foldtest.Ledger, Number: 13, Word: events.WordApplied, First: 5, Last: 5, Chain: d("chain"), Expected: d("expected"),
	}}
}

// beats is one beat that tells no difference, and one that tells some.
func beats() []events.Beat {
	d := func(s string) events.Digest { return events.Sum([]byte(s)) }
	held := events.Beat{
		Environment: "prod-eu", Agent: "a1", Boot: "b-7", Number: 9, Version: "1.2.3", Clock: epoch, Ledger: foldtest.Ledger,
		Revision: 4, Chain: d("chain"), State: d("state"), Observed: d("observed"), Seen: events.LedgerTip{Number: 40, Hash: d("entry 40")}, Heard: 77,
		LastAck: 12, Condition: "held", Reason: events.ReasonHeldBySteward, Message: "moving house", Since: epoch, Until: epoch.Add(time.Hour),
		Drift: 2, Connectors: []string{"files", "crm"}, Rejected: 1,
	}
	differing := held
	differing.Number, differing.Condition, differing.Reason, differing.Until = 10, "differing", events.ReasonReadBack, time.Time{}
	differing.Drift, differing.Differing = 3, []events.DifferingResource{{Resource: "flag/checkout", Fields: []string{"/state", "/variants/on"}, More: 1}, {Resource: "secret/crm-token"}}
	differing.Message = events.OtherValues(differing.Differing)
	return []events.Beat{held, differing}
}

func aPulse() events.Pulse {
	return events.Pulse{Ledger: foldtest.Ledger, Counter: 77, Tip: events.LedgerTip{Number: 40, Hash: events.Sum([]byte("entry 40"))}, Clock: epoch}
}

func TestEveryTypeOfTheContractHasAVector(t *testing.T) {
	have := map[events.Type]bool{}
	for _, name := range []string{"entries.json", "entries-signed.json"} {
		for _, v := range readVectors[[]entryVector](t, name) {
			have[v.Type] = true
		}
	}
	for _, v := range readVectors[[]statementVector](t, "statements.json") {
		have[v.Type] = true
	}
	have[events.TypeReleasePublished] = true // releases.json has no other type
	declared := declaredTypes(t)
	if len(declared) < 20 {
		t.Fatalf("only %d types found in cloudevent.go", len(declared))
	}
	for _, declared := range declared {
		if !have[declared] {
			t.Errorf("no golden vector has the type %s", declared)
		}
	}
}

// declaredTypes are the constants of type Type in cloudevent.go.
func declaredTypes(t *testing.T) (types []events.Type) {
	file, err := parser.ParseFile(token.NewFileSet(), "cloudevent.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Type" {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				types = append(types, events.Type(value))
			}
		}
		return true
	})
	return types
}

func encode(t testing.TB, v any) string {
	t.Helper()
	b, err := events.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func operationsDigest[T events.Operation | events.Inverse](t testing.TB, list []T) events.Digest {
	t.Helper()
	d, err := events.OperationsDigest(list)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// checkEd25519 verifies without this package's help.
func checkEd25519(t *testing.T, key string, message, sig []byte) {
	t.Helper()
	public, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(public, message, sig) {
		t.Errorf("Ed25519 says that the signature of %q is not %s's", message, key)
	}
}

func diff(t *testing.T, have, want any) {
	t.Helper()
	if v := reflect.ValueOf(have); v.Kind() == reflect.Pointer {
		have = v.Elem().Interface()
	}
	if v := reflect.ValueOf(want); v.Kind() == reflect.Pointer {
		want = v.Elem().Interface()
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("%T: -want +have\n%s", want, d)
	}
}

func wantReason(t *testing.T, err error, want events.Reason) {
	t.Helper()
	if err == nil || events.ReasonOf(err) != want {
		t.Errorf("have the error %v, want the reason %s", err, want)
	}
}
