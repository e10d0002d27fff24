package seal_test

import (
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

var epoch = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func FuzzOpen(f *testing.F) {
	by := signer(f, "publisher")
	sealed, err := seal.Sign(head(f, grown(f, 5, whole), 5), by)
	must(f, err)
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := seal.Open(text, ledgerID, []string{by.Public()}); err == nil && text != sealed {
			t.Errorf("%q is taken as %+v, and nobody signed it", text, h)
		}
	})
}

func FuzzDecodeQuestion(f *testing.F) {
	q, err := events.Encode(seal.Question{Head: seal.Head{Ledger: ledgerID, Size: 3, Root: events.Sum(nil)}, Nonce: "n"})
	must(f, err)
	f.Add(q)
	f.Fuzz(func(t *testing.T, payload []byte) {
		q, err := seal.DecodeQuestion(payload)
		if err != nil {
			return
		}
		if again, err := events.Encode(q); err != nil || string(again) != string(payload) {
			t.Errorf("%s is read, and written as %s (%v)", payload, again, err)
		}
	})
}
