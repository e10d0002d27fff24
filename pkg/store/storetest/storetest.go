// Package storetest opens stores that are checked when the test ends.
//
// Every store that a test opens through it is opened again after the test and must keep its invariants, whatever the test did.
package storetest

import (
	"testing"

	"go.etcd.io/bbolt"

	"github.com/lockstep-dev/lockstep/pkg/store"
)

// Open opens a store and closes and checks it when the test ends.
func Open(t testing.TB, path string, id store.Identity) *store.Store {
	t.Helper()
	s, err := store.Open(path, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		Check(t, path)
	})
	return s
}

// Check opens a closed store and fails the test where it breaks an invariant: the pages are sound, the state hashes to the
// checkpoint, the history is gapless from 1 to the checkpoint, and the outbox holds acks that were numbered, each once.
func Check(t testing.TB, path string) {
	t.Helper()
	checkPages(t, path)
	s, err := store.OpenReadOnly(path)
	if err != nil {
		t.Errorf("store after the test: %v", err)
		return
	}
	defer s.Close()
	err = s.View(func(tx *store.Tx) error {
		env, err := tx.Environment()
		if err != nil {
			return err
		}
		revision := uint64(0)
		for r, err := range tx.History(0) {
			if err != nil {
				return err
			}
			if revision++; r.Revision != revision {
				t.Errorf("history: revision %d stands at place %d", r.Revision, revision)
			}
		}
		if revision != env.Revision {
			t.Errorf("history ends at %d, the checkpoint is at %d", revision, env.Revision)
		}
		return checkOutbox(t, tx)
	})
	if err != nil {
		t.Errorf("store after the test: %v", err)
	}
}

func checkOutbox(t testing.TB, tx *store.Tx) error {
	t.Helper()
	last, err := tx.LastAck()
	if err != nil {
		return err
	}
	acks, err := tx.Outbox()
	for i, a := range acks {
		if a.Number == 0 || a.Number > last || (i > 0 && acks[i-1].Number >= a.Number) {
			t.Errorf("outbox: ack %d at place %d, the last numbered is %d", a.Number, i, last)
		}
	}
	return err
}

func checkPages(t testing.TB, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Errorf("store after the test: %v", err)
		return
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("store after the test: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("store after the test: %v", err)
	}
}
