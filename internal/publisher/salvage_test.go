package publisher

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// aLedger is a ledger with environments, an agent, changes, and a rollback.
func aLedger(t testing.TB) (out []bus.Stored) {
	t.Helper()
	state := ledger.New(foldtest.Ledger)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	do := func(by string, body ledger.Body) ledger.Result {
		t.Helper()
		for {
			now = now.Add(time.Second)
			d, err := state.Decide(ledger.Command{ID: fmt.Sprint(now), By: by, Body: body}, now)
			if err != nil {
				t.Fatal(err)
			}
			for _, payload := range append(d.Stores, d.Entry) {
				if payload == nil {
					continue
				}
				if _, _, err := state.Apply(payload, now); err != nil {
					t.Fatal(err)
				}
				out = append(out, bus.Stored{Sequence: state.Number, Stamp: now, Payload: payload})
			}
			if d.Entry != nil {
				return d.Result
			}
		}
	}
	do("publisher", ledger.Genesis{Publisher: foldtest.Signer(t, "publisher").Public()})
	do("op", ledger.AddEnvironment{Name: "dev", Approvals: 1})
	do("op", ledger.EnrolAgent{Environment: "dev", Agent: "one", Key: foldtest.Signer(t, "one").Public()})
	for i := range 4 {
		value, err := json.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		c := do("anna", ledger.Propose{Reason: "why not", Edits: []ledger.Edit{{Environments: []string{"dev"}, Set: map[string]json.RawMessage{"variable/x": value}}}})
		do("ben", ledger.Approve{Change: c.Change, Digest: state.Changes[c.Change].Digest})
	}
	do("carla", ledger.Rollback{Change: "c4", Reason: "no"})
	return out
}

// damaged is a copy as disks and people leave it: cut at either end, holed, altered.
func damaged(t *rapid.T, whole []bus.Stored, label string) []bus.Stored {
	first := rapid.IntRange(0, len(whole)-1).Draw(t, label+" begins at")
	if rapid.Bool().Draw(t, label+" has its beginning") {
		first = 0
	}
	c := slices.Clone(whole[first:rapid.IntRange(first, len(whole)).Draw(t, label+" ends at")])
	for range rapid.IntRange(0, 2).Draw(t, label+" flips") {
		if len(c) > 0 {
			i := rapid.IntRange(0, len(c)-1).Draw(t, "entry")
			payload := bytes.Clone(c[i].Payload)
			payload[rapid.IntRange(0, len(payload)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 6).Draw(t, "bit")
			c[i].Payload = payload
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, label+" holes") {
		if len(c) > 0 {
			i := rapid.IntRange(0, len(c)-1).Draw(t, "hole")
			c = slices.Delete(c, i, i+1)
		}
	}
	return c
}

// TestWhatIsSalvagedIsTheLedger: whatever happens to copies, what comes out is the ledger as far as they hold it. Only its very last
// entry can be one that was altered: nothing follows that would show it. With one whole copy it is the whole ledger, or a
// contradiction about the last entry that a person decides.
func TestWhatIsSalvagedIsTheLedger(t *testing.T) {
	whole := aLedger(t)
	rapid.Check(t, func(t *rapid.T) {
		s := newSalvage()
		copies := rapid.IntRange(1, 3).Draw(t, "copies")
		intact := rapid.Bool().Draw(t, "one is whole")
		var union uint64 // entries that copies hold unaltered, from 1 on without a gap
		good := map[uint64]bool{}
		for i := range copies {
			entries := whole
			if i > 0 || !intact {
				entries = damaged(t, whole, fmt.Sprint("copy ", i))
			}
			c := s.copyOf(fmt.Sprint(i))
			for _, e := range entries {
				s.take(c, e)
				good[e.Sequence] = good[e.Sequence] || bytes.Equal(e.Payload, whole[e.Sequence-1].Payload)
			}
		}
		for good[union+1] {
			union++
		}
		chains := s.chains()
		for _, c := range chains {
			for i, e := range c.entries {
				if altered := !bytes.Equal(e.Payload, whole[i].Payload); altered && i < len(c.entries)-1 {
					t.Fatalf("entry %d of %d is altered", i+1, len(c.entries))
				}
			}
		}
		if union == 0 {
			return
		}
		holds := slices.ContainsFunc(chains, func(c *chain) bool {
			return uint64(len(c.entries)) >= union && c.entries[union-1].hash == events.Sum(whole[union-1].Payload)
		})
		if !holds {
			t.Fatalf("copies hold %d entries, and no chain of %+v does", union, s.describe(chains))
		}
		if c, err := choose(chains, ""); intact && err == nil && len(c.entries) != len(whole) {
			t.Fatalf("%d entries of %d", len(c.entries), len(whole))
		}
	})
}
