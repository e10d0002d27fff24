package ledger_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// signedBook is a ledger in which approvals are signed from its first entry on, with environments that demand what the trust document
// does. Edits make the document another one than trusttest.Document.
func signedBook(t tester, edit func(*events.Trust), names ...string) *book {
	t.Helper()
	b := &book{t: t, state: ledger.New(ledgerID), now: epoch, signs: true}
	document := trusttest.Document(t, ledgerID, signer("publisher").Public())
	if edit != nil {
		edit(&document)
		document = trusttest.Signed(t, document, "root 1", "root 2")
	}
	b.must("publisher", ledger.Genesis{Publisher: signer("publisher").Public(), Document: &document})
	for _, name := range names {
		b.must("otto", ledger.AddEnvironment{Name: name, Approvals: 1})
	}
	return b
}

// sign is a command with the statement of who gives it: what a client does after a dry run.
func (b *book) sign(c ledger.Command) (ledger.Command, error) {
	dry := c
	dry.DryRun = true
	d, err := b.state.Decide(dry, b.now.Add(time.Second))
	if err != nil {
		return c, err
	}
	s := events.Statement{Ledger: ledgerID, At: b.now}
	if !d.Digest.IsZero() {
		s.Change, s.Digest = d.Result.Change, d.Digest
	}
	switch body := c.Body.(type) {
	case ledger.Approve:
		s.Expires = b.now.Add(7 * 24 * time.Hour)
	case ledger.BreakGlass:
		s.Expires, s.Reason = b.now.Add(time.Hour), body.Reason
	}
	return c.Signed(s, trusttest.Key(b.t, c.By))
}

func TestASignedChangeIsReleased(t *testing.T) {
	b := signedBook(t, nil, "dev", "prod")
	c := b.must("ann", set("*", "variable/x", "1"))
	r := b.approve("bob", c.Change)
	if len(r.Released) != 2 {
		t.Fatalf("%+v", r)
	}
	b.readsTheSame()
}

// readsTheSame says whether the ledger, read from its first entry, is what was decided.
func (b *book) readsTheSame() {
	b.t.Helper()
	again, have := picture(b.upTo(len(b.entries)+1)), picture(b.state)
	if !reflect.DeepEqual(again, have) {
		b.t.Errorf("read again the ledger is another one:\n%s", difference(have, again))
	}
}
