package audit_test

import (
	"bytes"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/audit"
)

// FuzzCheck: whatever a file holds, it is refused or is a proof; nobody can make one without the publisher's key.
func FuzzCheck(f *testing.F) {
	file := proof(f, story(f), "c1")
	f.Add(file)
	f.Fuzz(func(t *testing.T, other []byte) {
		if found, err := audit.Check(other, nil); err == nil && !bytes.Equal(file, other) && found.Ledger == "" {
			t.Errorf("%q is taken as %+v", other, found)
		}
	})
}

// FuzzVerify: an export is read or refused, and nothing else happens.
func FuzzVerify(f *testing.F) {
	exported := export(f, story(f))
	f.Add(exported)
	f.Fuzz(func(t *testing.T, other []byte) {
		if v, err := verified(other); err == nil && v.OK && v.Tip.Number == 0 {
			t.Errorf("%q verifies as %+v", other, v)
		}
	})
}
