package ledger_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// signed are all releases of a book as the release stream holds them.
func (b *book) signed() (out []events.RecoveredRelease) {
	b.t.Helper()
	for entry := uint64(1); entry <= b.state.Number; entry++ {
		var chains []events.Digest
		for _, ref := range b.state.Wave(entry) {
			chains = append(chains, ref.Chain)
		}
		headers, err := signer("publisher").SignWave(ledgerID, chains)
		if err != nil {
			b.t.Fatalf("sign: %v", err)
		}
		for i, ref := range b.state.Wave(entry) {
			payload, err := b.state.Payload(ref.Environment, ref.Revision)
			if err != nil {
				b.t.Fatalf("payload: %v", err)
			}
			out = append(out, events.RecoveredRelease{Payload: payload, Signature: headers[i]})
		}
	}
	return out
}

// remains are a book's entries without the lost ones.
func (b *book) remains(lost ...uint64) ledger.Remains {
	r := ledger.Remains{ID: ledgerID, Releases: b.signed(), By: "op", Loss: events.Loss{Reason: "the disks are gone"}}
	for i, e := range b.entries {
		kept := ledger.Remaining{Payload: e, Stamp: b.stamps[i]}
		if slices.Contains(lost, uint64(i+1)) {
			kept.Payload = nil
		}
		r.Entries = append(r.Entries, kept)
	}
	return r
}

// recover is a book that goes on with what was recovered, read from its entries alone.
func (b *book) recover(r ledger.Remains) (*book, ledger.Recovery) {
	b.t.Helper()
	made, err := ledger.Recover(r, b.now.Add(time.Hour))
	if err != nil {
		b.t.Fatalf("recover: %v", err)
	}
	on := &book{t: b.t, state: ledger.New(ledgerID), now: b.now.Add(time.Hour), commands: 5000, acks: b.acks, unwatched: b.unwatched}
	for _, e := range made.Entries {
		_, released, err := on.state.Apply(e.Payload, e.Stamp)
		if err != nil {
			b.t.Fatalf("what was recovered does not read: %v", err)
		}
		on.entries, on.stamps, on.released = append(on.entries, e.Payload), append(on.stamps, e.Stamp), append(on.released, released...)
	}
	return on, made
}

// sameReleases compares every release of every environment.
func (b *book) sameReleases(as *book) {
	b.t.Helper()
	for name, e := range as.state.Environments {
		is := b.state.Environments[name]
		if is == nil || is.Head() != e.Head() || is.Fold.Chain != e.Fold.Chain || is.Fold.State.Digest() != e.Fold.State.Digest() {
			b.t.Fatalf("%s is not what it was: %+v", name, is)
		}
		for r := uint64(1); r <= e.Head(); r++ {
			was, err1 := as.state.Payload(name, r)
			now, err2 := b.state.Payload(name, r)
			if err1 != nil || err2 != nil || !bytes.Equal(was, now) {
				b.t.Fatalf("revision %d of %s: %s (%v), was %s (%v)", r, name, now, err2, was, err1)
			}
		}
	}
}

// TestWhateverIsLostReleasesComeBack: any entries may be lost. With the release stream every environment is what it was, to the byte;
// entries that are kept keep bytes, stamps and numbers; the ledger says what was lost and goes on.
func TestWhateverIsLostReleasesComeBack(t *testing.T) {
	whole := exampleHistory(t)
	whole.unwatched = true
	signed := whole.signed()
	rapid.Check(t, func(t *rapid.T) {
		whole.t = t
		var lost []uint64
		for n := range whole.state.Number {
			if rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
				lost = append(lost, n+1)
			}
		}
		if from := rapid.Uint64Range(1, 2*whole.state.Number).Draw(t, "all from"); from <= whole.state.Number {
			for n := from; n <= whole.state.Number; n++ {
				lost = append(lost, n)
			}
		}
		r := whole.remains(lost...)
		places := make([]int, len(r.Releases))
		for i := range places {
			places[i] = i
		}
		for i, place := range rapid.Permutation(places).Draw(t, "as found") {
			r.Releases[i] = signed[place]
		}
		b, made := whole.recover(r)
		b.sameReleases(whole)
		if len(made.Left) > 0 || b.state.Recovering() > 0 || len(b.state.Losses) != 1 {
			t.Fatalf("left %v, losses %+v", made.Left, b.state.Losses)
		}
		kept := uint64(0)
		for i := range whole.entries {
			if bytes.Equal(made.Entries[i].Payload, whole.entries[i]) {
				kept++
				if !made.Entries[i].Stamp.Equal(whole.stamps[i]) {
					t.Fatalf("entry %d has another stamp", i+1)
				}
			} else if !b.state.Explains(events.LedgerTip{Number: uint64(i + 1), Hash: events.Sum(whole.entries[i])}) {
				t.Fatalf("entry %d is gone, and an agent that heard of it is not believed", i+1)
			}
		}
		if l := b.state.Losses[0]; kept+l.Entries != uint64(len(whole.entries)) {
			t.Fatalf("%d kept, and the loss is %+v", kept, l)
		}
		// It goes on.
		for _, e := range b.state.EnvironmentList() {
			if e.Lost && !e.Retired {
				b.must("op", ledger.UpdateEnvironment{Name: e.Name, Approvals: 1})
			}
		}
		id := b.must("Anna", set("dev prod-eu", "variable/after", `true`)).Change
		b.approve("Ben", id)
		if b.state.Changes[id].Status(b.now) == ledger.StatusOpen {
			b.approve("Carla", id)
		}
		b.must("Omar", ledger.Rollback{Change: id, Reason: "no"})
	})
}

// TestReleasesThatDoNotFollowAreLeft: one that is missing ends its environment's history, and no other's.
func TestReleasesThatDoNotFollowAreLeft(t *testing.T) {
	whole := environments(t, "dev", "prod")
	for i := range 5 {
		whole.release(set("dev prod", "variable/x", fmt.Sprint(i)))
	}
	for drop := range 6 {
		r := whole.remains(10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)
		r.Entries = r.Entries[:9]
		gone := events.ReleaseID("dev", uint64(drop+1))
		r.Releases = slices.DeleteFunc(r.Releases, func(f events.RecoveredRelease) bool { return strings.Contains(string(f.Payload), `"id":"`+gone+`"`) })
		for range whole.entries[9:] {
			r.Entries = append(r.Entries, ledger.Remaining{})
		}
		b, made := whole.recover(r)
		if prod := b.state.Environments["prod"]; prod.Fold.Chain != whole.state.Environments["prod"].Fold.Chain {
			t.Errorf("prod suffers from what dev lost: %d of %d", prod.Head(), whole.state.Environments["prod"].Head())
		}
		dev := b.state.Environments["dev"]
		if complete := dev.Head() == 6; complete == slices.Contains(made.Left, "dev") && drop < 5 {
			t.Errorf("without %s dev has %d revisions, and left is %v", gone, dev.Head(), made.Left)
		}
	}
}

// TestARecoveryCannotBeAltered: entries that stand for lost ones are outside the chain of hashes where the next one was kept.
func TestARecoveryCannotBeAltered(t *testing.T) {
	whole := environments(t, "dev")
	whole.release(set("dev", "variable/x", "1"))
	whole.release(set("dev", "variable/x", "2"))
	_, made := whole.recover(whole.remains(2, 5))
	for _, n := range []int{2, 5} {
		s := ledger.New(ledgerID)
		var err error
		for i, e := range made.Entries {
			payload := e.Payload
			if i == n-1 {
				payload = bytes.Replace(payload, []byte(`"by":"op"`), []byte(`"by":"me"`), 1)
			}
			if _, _, err = s.Apply(payload, e.Stamp); err != nil {
				break
			}
		}
		if err == nil {
			t.Errorf("entry %d says something else, and nobody notices", n)
		}
	}
}

// TestALostReleaseNeedsThePublishersSignature: what anybody puts beside the ledger is not taken back.
func TestALostReleaseNeedsThePublishersSignature(t *testing.T) {
	whole := environments(t, "dev")
	whole.release(set("dev", "variable/x", "1"))
	r := whole.remains(whole.state.Number)
	for i, f := range r.Releases {
		headers, err := signer("stranger").SignWave(ledgerID, []events.Digest{events.Sum(f.Payload)})
		if err != nil {
			t.Fatal(err)
		}
		r.Releases[i].Signature = headers[0]
	}
	if _, err := ledger.Recover(r, whole.now); err == nil || !strings.Contains(err.Error(), "not signed by a publisher") {
		t.Error(err)
	}
}

// TestWhatIsNotKnownIsNotInvented: of a change that was lost its release tells some things, and the rest is said to be lost.
func TestWhatIsNotKnownIsNotInvented(t *testing.T) {
	whole := environments(t, "dev", "prod")
	one := whole.release(set("dev prod", "variable/x", "1"))
	open := whole.must("Anna", set("dev", "variable/y", "1")).Change
	var all []uint64
	for n := uint64(1); n <= whole.state.Number; n++ {
		all = append(all, n)
	}
	b, _ := whole.recover(whole.remains(all...))
	c := b.state.Changes[one]
	if c == nil || !c.Recovered || c.Author != "anna" || len(c.Approvals) != 1 || len(c.Parts) != 2 || c.Source != nil || c.Within != 0 {
		t.Fatalf("%+v", c)
	}
	if b.state.Changes[open] != nil {
		t.Error("an open proposal came back from nowhere")
	}
	dev := b.state.Environments["dev"]
	if !dev.Lost || dev.Approvals != 0 || len(dev.Agents) != 0 || !dev.Releases[1].Recovered() {
		t.Errorf("%+v", dev)
	}
	// How many must approve is not known: nothing is approved before it is said again.
	next := b.must("Anna", set("dev", "variable/y", "1")).Change
	if next == one || next == open {
		t.Errorf("%s is used again", next)
	}
	if _, err := b.do("Ben", ledger.Approve{Change: next, Digest: b.state.Changes[next].Digest}); ledger.KindOf(err) != ledger.KindConflict || !strings.Contains(err.Error(), "env update dev") {
		t.Error(err)
	}
	b.must("op", ledger.UpdateEnvironment{Name: "dev", Approvals: 1})
	b.approve("Ben", next)
	b.must("Omar", ledger.Rollback{Change: one, Environments: []string{"prod"}, Reason: "no"})
	if v, _ := b.state.Environments["prod"].Fold.State.Get("variable/x"); v.Value != nil {
		t.Errorf("the rollback of a recovered change left %s", v.Value)
	}
}

// TestAProposalThatWasOpenIsNotApprovedAfterALoss: it may have been withdrawn in an entry that is lost.
func TestAProposalThatWasOpenIsNotApprovedAfterALoss(t *testing.T) {
	whole := environments(t, "dev")
	open := whole.must("Anna", set("dev", "variable/y", "1")).Change
	whole.must("Anna", ledger.Withdraw{Change: open})
	b, _ := whole.recover(whole.remains(whole.state.Number))
	if status := b.state.Changes[open].Status(b.now); status != ledger.StatusExpired {
		t.Errorf("it is %s", status)
	}
}

// TestManyReleasesOfOneLostEntryFitIntoSeveral: an entry of the ledger has a size, a wave of it need not.
func TestManyReleasesOfOneLostEntryFitIntoSeveral(t *testing.T) {
	b := newBook(t)
	b.unwatched = true
	for i := range 40 {
		b.must("op", ledger.AddEnvironment{Name: fmt.Sprintf("e%d", i), Approvals: 1})
	}
	b.release(set("*", "document/big", `"`+strings.Repeat("x", 40<<10)+`"`))
	on, made := b.recover(b.remains(b.state.Number))
	on.sameReleases(b)
	if l := on.state.Losses[0]; l.First != b.state.Number || l.Last != b.state.Number || l.Entries != 1 || l.Releases != 40 || len(made.Entries) < len(b.entries)+2 {
		t.Errorf("%d entries, %+v", len(made.Entries), l)
	}
}

func TestGoldenRecovery(t *testing.T) {
	whole := exampleHistory(t)
	r := whole.remains(1, 3, 17, 18, 19, 30)
	r.Loss.Tips = []events.LedgerTip{{Number: whole.state.Number, Hash: whole.state.Hash}}
	r.Loss.Agents = []events.LostAgent{{Environment: "prod-eu", Agent: "eu-1", Key: signer("prod-eu/eu-1").Public()}}
	r.Loss.Beyond = []events.LostPosition{{Environment: "dev", Agent: "dev-1", Revision: 99, Chain: events.Sum([]byte("lost"))}}
	b, _ := whole.recover(r)
	b.sameReleases(whole)
	var entries, releases bytes.Buffer
	for i, e := range b.entries {
		fmt.Fprintf(&entries, "%s %s\n", b.stamps[i].Format(time.RFC3339Nano), e)
	}
	for _, r := range b.released {
		fmt.Fprintf(&releases, "%s state=%s chain=%s %s\n", events.ReleaseID(r.Environment, r.Revision), r.State, r.Chain, r.Payload)
	}
	golden(t, version+"-recovered", "entries", entries.Bytes())
	golden(t, version+"-recovered", "releases", releases.Bytes())
}
