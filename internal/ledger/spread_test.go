package ledger_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// TestATrustDocumentReachesMoreEnvironmentsThanAnEntryHolds: the others get it in the publisher's own entries.
func TestATrustDocumentReachesMoreEnvironmentsThanAnEntryHolds(t *testing.T) {
	b := newBook(t)
	b.unwatched = true
	const all = 2_003
	for i := range all {
		b.must("op", ledger.AddEnvironment{Name: fmt.Sprintf("e%04d", i), Approvals: 1})
	}
	document := trusttest.Document(t, ledgerID, signer("publisher").Public())
	document.Version, document.Signatures = 2, nil
	c := b.must("ada", ledger.ProposeTrust{Document: document, Reason: "people sign"}).Change
	r := b.must("ada", ledger.Approve{Change: c, Digest: b.state.Changes[c].Digest, Roots: []events.RootSignature{trusttest.Root(t, document, "root 1")}})
	if len(r.Released) != 2_000 || !b.state.Lagging() || b.state.Changes[c].Status(b.now) != ledger.StatusReleased {
		t.Fatalf("%d released", len(r.Released))
	}
	spread := 0
	for ; b.state.Lagging(); spread++ {
		b.must("publisher", ledger.SpreadTrust{})
	}
	for _, e := range b.state.EnvironmentList() {
		if e.Fold.Trust.Version != 2 {
			t.Errorf("%s has trust document %d", e.Name, e.Fold.Trust.Version)
		}
	}
	if spread != 1 {
		t.Errorf("%d entries", spread)
	}
	if _, err := b.do("publisher", ledger.SpreadTrust{}); !errors.Is(err, ledger.ErrNothingNew) {
		t.Error(err)
	}
}
