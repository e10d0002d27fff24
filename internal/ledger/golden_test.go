package ledger_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// The golden histories in testdata are what ledgers are: entries on which others' ledgers are built, and the payloads that are
// derived of them. They do not change. When a fact type is added, extend exampleHistory at its end and run
//
//	go test ./internal/ledger -run Golden -update
//
// and look at the difference: lines may be added, none may change. When decisions change on purpose, or there is a new derivation,
// give them the next directory and let version name it; the older ones stay for derivation.
var update = flag.Bool("update", false, "write testdata instead of comparing with it")

// version is the directory of what is decided and derived now.
const version = "v2"

// exampleHistory has every fact type in use.
func exampleHistory(t tester) *book {
	b := newBook(t)
	b.must("op", ledger.AddEnvironment{Name: "dev", Labels: map[string]string{"stage": "dev"}, Approvals: 1})
	b.must("op", ledger.AddEnvironment{Name: "prod-eu", Labels: map[string]string{"region": "eu", "stage": "prod"}, Steward: "Sam", Approvals: 1})
	b.must("op", ledger.AddEnvironment{Name: "prod-us", Approvals: 2})
	b.must("op", ledger.UpdateEnvironment{Name: "prod-eu", Labels: map[string]string{"region": "eu"}, Steward: "Sam", Approvals: 2})
	b.enrol("dev", "dev-1")
	b.enrol("prod-eu", "eu-1")
	b.enrol("prod-eu", "eu-2")
	b.enrol("prod-us", "us-1")
	b.recorded(b.ack("dev", "dev-1", events.WordApplied, 1, 1), b.ack("prod-eu", "eu-1", events.WordApplied, 1, 1))

	// One change for all, revised, approved by two of whom the first speaks before and after the revision.
	first := ledger.Propose{
		Reason: "let the checkout <redesign> begin & log it", Ticket: "OPS-1", Within: 300, Source: &events.Provenance{Repository: "git@example.org:conf", Commit: "4f1c2d", Build: "17"},
		Edits: []ledger.Edit{
			{Environments: []string{"*"}, Set: map[string]json.RawMessage{
				"flag/checkout-redesign": json.RawMessage(`{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}`),
				"variable/log-level":     json.RawMessage(`"debug"`), "variable/ratio": json.RawMessage(`0.10`),
				"secret/crm-token": json.RawMessage(`{"$secret":{"ref":"env://CRM_TOKEN"}}`),
			}},
			{Environments: []string{"prod-??"}, Set: map[string]json.RawMessage{"variable/log-level": json.RawMessage(`"wärn "`)}},
		},
	}
	one := b.must("Anna", first).Change
	b.approve("Ben", one)
	first.Edits[0].Set["connection/crm"] = json.RawMessage(`{"url":"https://crm.example.org","auth":{"$secret":{"ref":"file:///run/secrets/crm"}}}`)
	b.must("Anna", ledger.Revise{Change: one, Propose: first})
	b.approve("Ben", one)
	b.must("Carla", ledger.Approve{Change: one, Digest: b.state.Changes[one].Digest, Comment: "looks good"})

	// A second author whose base moves in one environment.
	two := b.must("Dora", set("dev prod-us", "variable/log-level", `"info"`)).Change
	b.must("Anna", del("dev", "variable/ratio"))
	b.release(set("dev", "variable/log-level", `"trace"`))
	b.approve("Ben", two)
	b.approve("Carla", two)

	// What ends without a release.
	b.must("Ben", ledger.Reject{Change: b.must("Anna", set("dev", "endpoint/payments", `"https://example.org"`)).Change, Reason: "not this way"})
	b.must("Anna", ledger.Withdraw{Change: "c3", Reason: "not needed"})

	// Deliveries: acks with every word, a beat in place of a lost ack, a completion.
	b.recorded(
		b.ack("dev", "dev-1", events.WordRetrying, 2, 2, func(a *events.Ack) {
			a.Reason, a.Message, a.Since = events.ReasonConnector, "timeout", b.now
		}),
		b.ack("dev", "dev-1", events.WordFailed, 2, 2, func(a *events.Ack) { a.Reason, a.Message = events.ReasonConnector, "500" }),
		b.ack("dev", "dev-1", events.WordBlocked, 3, 3, func(a *events.Ack) { a.By, a.Reason = 2, events.ReasonConnector }),
		b.ack("dev", "dev-1", events.WordSuperseded, 2, 2, func(a *events.Ack) { a.By = 3 }),
		b.ack("dev", "dev-1", events.WordApplied, 2, 3, func(a *events.Ack) { a.Phases = events.Phases{Received: b.now, Applied: b.now} }),
	)
	b.recorded(b.ack("prod-eu", "eu-1", events.WordApplied, 2, 2, func(a *events.Ack) {
		a.Differing, a.Observed = []string{"variable/ratio"}, events.Sum([]byte("what is there"))
	}), b.beat("prod-eu", "eu-2", 2))
	b.recorded(b.ack("prod-us", "us-1", events.WordTorn, 2, 2, func(a *events.Ack) { a.Reason = events.ReasonUndo }),
		b.ack("prod-us", "us-1", events.WordApplied, 1, 3, func(a *events.Ack) { a.ReadBack, a.Observed, a.Resent = false, events.Digest{}, true }))

	// Rollbacks: of a change in some environments, of a change, to a revision.
	b.must("Omar", ledger.Rollback{Change: one, Environments: []string{"prod-e*"}, Reason: "too loud"})
	b.must("Omar", ledger.Rollback{Change: two, Reason: "too quiet"})
	b.release(set("dev", "variable/log-level", `"warn"`))
	b.release(del("dev", "variable/log-level"))
	b.must("Omar", ledger.Rollback{Environment: "dev", ToRevision: 2, Reason: "as it was"})
	b.must("op", ledger.RevokeAgent{Environment: "prod-eu", Agent: "eu-2", Reason: "host gone"})
	b.must("op", ledger.RetireEnvironment{Name: "prod-us", Reason: "moved to prod-eu"})

	// A directory takes a quick edit over, is edited, and that is rolled back.
	directory := func(level string) ledger.Propose {
		return dir("Environment dev template: base", "Environment prod-eu template: base", "Template base values: {document/theme: {colour: blue}}",
			"Variable log-level default: "+level+", overrides: {prod-*: warn}", "Document theme default: {size: 2}")
	}
	b.release(set("dev", "variable/log-level", `"info"`))
	three := b.must("Anna", directory("info")).Change
	b.approve("Ben", three)
	b.approve("Carla", three)
	four := b.must("Anna", directory("debug")).Change // of the sources of prod-eu only
	b.approve("Ben", four)
	b.approve("Carla", four)
	b.must("Omar", ledger.Rollback{Change: four, Reason: "too loud"})
	return b
}

func TestGoldenHistoryIsDecidedAndDerivedAsItWas(t *testing.T) {
	b := exampleHistory(t)
	b.verify()
	var entries, releases bytes.Buffer
	for i, e := range b.entries {
		fmt.Fprintf(&entries, "%s %s\n", b.stamps[i].Format(time.RFC3339Nano), e)
	}
	for _, r := range b.released {
		fmt.Fprintf(&releases, "%s state=%s chain=%s %s\n", events.ReleaseID(r.Environment, r.Revision), r.State, r.Chain, r.Payload)
	}
	golden(t, version, "entries", entries.Bytes())
	golden(t, version, "releases", releases.Bytes())
}

// TestGoldenReleasesAreDerivedFromTheGoldenEntries needs no Decide: it holds when decisions change and derivation must not.
func TestGoldenReleasesAreDerivedFromTheGoldenEntries(t *testing.T) {
	versions, err := filepath.Glob(filepath.Join("testdata", "v*"))
	if err != nil || len(versions) == 0 {
		t.Fatalf("no versions (%v)", err)
	}
	kinds := map[events.Type]bool{}
	for _, dir := range versions {
		s := ledger.New(ledgerID)
		var got bytes.Buffer
		for line := range strings.Lines(read(t, filepath.Base(dir), "entries")) {
			stamp, payload, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			at, err := time.Parse(time.RFC3339Nano, stamp)
			if err != nil {
				t.Fatal(err)
			}
			entry, released, err := s.Apply([]byte(payload), at)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entry.Events {
				kinds[e.Type] = true
			}
			for _, r := range released {
				fmt.Fprintf(&got, "%s state=%s chain=%s %s\n", events.ReleaseID(r.Environment, r.Revision), r.State, r.Chain, r.Payload)
			}
		}
		golden(t, filepath.Base(dir), "releases", got.Bytes())
	}
	if len(kinds) != 19 {
		t.Errorf("the histories have %d types of facts: %v", len(kinds), kinds)
	}
}

func golden(t *testing.T, version, name string, got []byte) {
	t.Helper()
	file := goldenFile(version, name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.Split(read(t, version, name), "\n")
	for i, line := range strings.Split(string(got), "\n") {
		if i >= len(want) || line != want[i] {
			t.Fatalf("%s: line %d is\n%s", file, i+1, line)
		}
	}
	if n := bytes.Count(got, []byte("\n")) + 1; n != len(want) {
		t.Fatalf("%s: %d lines, want %d", file, n, len(want))
	}
}

func goldenFile(version, name string) string { return filepath.Join("testdata", version, name+".txt") }

func read(t *testing.T, version, name string) string {
	t.Helper()
	b, err := os.ReadFile(goldenFile(version, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
