package ledger_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// TestATrustDocumentReachesMoreEnvironmentsThanAnEntryHolds: the others get it in the publisher's own entries, one version after the other.
func TestATrustDocumentReachesMoreEnvironmentsThanAnEntryHolds(t *testing.T) {
	b := newBook(t)
	b.unwatched = true
	const all = 2_003
	for i := range all {
		b.must("op", ledger.AddEnvironment{Name: fmt.Sprintf("e%04d", i), Approvals: 1})
	}
	document := trusttest.Document(t, ledgerID, signer("publisher").Public())
	document.Version, document.Signatures = 2, nil
	for _, next := range []events.Trust{document, trusttest.Unsigned(document, trusttest.Remove("dan"))} {
		c := b.must("ada", ledger.ProposeTrust{Document: next, Reason: "people sign, and dan left"}).Change
		r := b.must("ada", ledger.Approve{Change: c, Digest: b.state.Changes[c].Digest, Roots: []events.RootSignature{trusttest.Root(t, next, "root 1")}})
		if len(r.Released) != 2_000 || !b.state.Lagging() {
			t.Fatalf("%d released", len(r.Released))
		}
		b.signs = true
	}
	spread := 0
	for ; b.state.Lagging(); spread++ {
		b.must("publisher", ledger.SpreadTrust{})
	}
	for _, e := range b.state.EnvironmentList() {
		if e.Fold.Trust.Version != 3 {
			t.Errorf("%s has trust document %d", e.Name, e.Fold.Trust.Version)
		}
	}
	if spread != 2 {
		t.Errorf("%d entries", spread)
	}
	if _, err := b.do("publisher", ledger.SpreadTrust{}); !errors.Is(err, ledger.ErrNothingNew) {
		t.Error(err)
	}
}
