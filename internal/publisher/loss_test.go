package publisher_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func acceptLoss(o *publisher.RepairOptions) {
	o.AcceptLoss, o.By, o.Reason = true, "olga", "both disks are gone"
}

// lose takes entries from every copy: those of which keep says no.
func (r *ruin) lose(t *testing.T, keep func(number uint64) bool) {
	t.Helper()
	bustest.NewWire(t, r.process.URL()).DropStream(events.StreamLedger)
	var left bytes.Buffer
	for _, e := range r.before {
		if keep(e.Sequence) {
			fmt.Fprintf(&left, "%d %s %s\n", e.Sequence, e.Stamp.Format(time.RFC3339Nano), e.Payload)
		}
	}
	must(t, os.WriteFile(filepath.Join(r.data, "ledger.copy"), left.Bytes(), 0o600))
}

// tip lets the agent say that it has heard of the newest entry.
func (r *ruin) heardAll() {
	tip := r.before[len(r.before)-1]
	r.one.beatsOn(r.conn, func(b *events.Beat) { b.Seen = events.LedgerTip{Number: tip.Sequence, Hash: events.Sum(tip.Payload)} })
}

// TestWhatNoCopyHoldsIsTakenBackFromReleases: the whole ledger, its end, or entries of its middle are on no copy any more. Nothing is
// written before a person accepts the loss; then the agent, which never stopped, goes on with the next change.
func TestWhatNoCopyHoldsIsTakenBackFromReleases(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keep func(n, last uint64) bool
		kept func(last int) int // entries that are as they were
	}{
		"all":                   {func(n, last uint64) bool { return false }, func(int) int { return 0 }},
		"the beginning":         {func(n, last uint64) bool { return n > 1 }, nil},
		"the tail":              {func(n, last uint64) bool { return n < last-3 }, func(last int) int { return last - 4 }},
		"one in the middle":     {func(n, last uint64) bool { return n != last/2 }, nil},
		"several in the middle": {func(n, last uint64) bool { return n%4 != 1 }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRuin(t)
			last := uint64(len(r.before))
			r.heardAll()
			r.lose(t, func(n uint64) bool { return c.keep(n, last) })

			if dry, err := r.open(t); dry == nil || dry.Loss == nil || dry.Loss.Accepted || dry.Loss.Entries == 0 {
				t.Fatalf("nobody says what is lost: %s (%v)", found(dry), err)
			} else {
				must(t, dry.Stop(t.Context()))
			}
			interrupted, err := r.open(t, acceptLoss)
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := interrupted.Run(ctx, time.Now()); err == nil || !strings.Contains(err.Error(), "run the repair again") {
				t.Fatal(err)
			}
			must(t, interrupted.Stop(t.Context()))
			repair, err := r.open(t) // the copy holds all of it now
			must(t, err)
			must(t, repair.Run(bustest.Context(t), time.Now()))
			must(t, repair.Stop(t.Context()))

			r.isKept(t, c.kept)
			p := start(t, r.data, on(r.process))
			eventuallyWritable(t, p)
			r.goesOn(t, p)
			var losses []ledger.Loss
			p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { losses = s.Losses })
			if len(losses) != 1 || losses[0].By != "olga" || losses[0].Reason != "both disks are gone" || losses[0].Entry <= last {
				t.Errorf("the ledger says it lost %+v", losses)
			}
			if v := verify(t, p); len(v.Losses) != 1 {
				t.Errorf("verified without a word of it: %+v", v)
			}
			stop(t, p)
			again, err := r.open(t)
			must(t, err)
			if again.Needed() || again.Loss != nil || len(again.Beyond) > 0 {
				t.Errorf("after the repair: %s", found(again))
			}
		})
	}
}

// isKept counts the entries that are as they were, with their stamps.
func (r *ruin) isKept(t *testing.T, want func(last int) int) {
	t.Helper()
	kept, of := 0, len(r.before)
	must(t, r.conn.ReadLedger(bustest.Context(t), 1, func(e bus.Stored) error {
		if int(e.Sequence) <= of && bytes.Equal(e.Payload, r.before[e.Sequence-1].Payload) && e.Stamp.Equal(r.before[e.Sequence-1].Stamp) {
			kept++
		}
		return nil
	}))
	if want != nil && kept != want(of) {
		t.Errorf("%d of %d entries are as they were, want %d", kept, of, want(of))
	}
}

// goesOn says again what was lost of dev, and brings a change to its agent, which never stopped.
func (r *ruin) goesOn(t *testing.T, p *publisher.Publisher) {
	t.Helper()
	var dev ledger.Environment
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { dev = *s.Environments["dev"] })
	if dev.Lost {
		do(t, p, "op", ledger.UpdateEnvironment{Name: "dev", Approvals: 1})
	}
	if dev.Agents["one"] == nil {
		do(t, p, "op", ledger.EnrolAgent{Environment: "dev", Agent: "one", Key: r.one.signer.Public()})
	}
	r.heardAll() // an agent that comes late with what it has heard is believed
	change := release(t, p, "variable/x", "after the loss", "dev")
	r.one.reaches(heads(p)["dev"])
	bustest.Eventually(t, "it is delivered", func() bool {
		var status ledger.Status
		p.Read(func(s *ledger.State, _ fleet.Reports, now time.Time) { status = s.Changes[change].Status(now) })
		return status == ledger.StatusDelivered
	})
	if !p.Fleet().Ledger.Writable {
		t.Errorf("read-only again: %+v", p.Fleet().Ledger)
	}
}

// TestAnAgentBeyondWhatIsLeftIsNamed: nobody holds the release any more that it applied. The others go on.
func TestAnAgentBeyondWhatIsLeftIsNamed(t *testing.T) {
	t.Parallel()
	r := newRuin(t)
	newest := len(r.before)
	p := start(t, r.data, on(r.process))
	release(t, p, "variable/x", "lost with its release", "dev")
	r.one.reaches(5)
	r.one.beatsOn(r.conn)
	stop(t, p)
	r.one.stop()
	r.before = r.before[:newest]
	r.lose(t, func(uint64) bool { return true })
	must(t, r.conn.PurgeReleases(bustest.Context(t), "dev"))
	repair, err := r.open(t, acceptLoss)
	must(t, err)
	if repair.Loss == nil || len(repair.Loss.Beyond) != 1 || repair.Loss.Beyond[0].Revision != 5 {
		t.Fatalf("it is not named: %s", found(repair))
	}
	must(t, repair.Run(bustest.Context(t), time.Now()))
	must(t, repair.Stop(t.Context()))
	p = start(t, r.data, on(r.process))
	eventuallyWritable(t, p)
	verify(t, p)
}

// TestALossIsAcceptedBySomebodyAndForAReason: and an agent that nobody vouches for does not make the ledger long.
func TestALossIsAcceptedBySomebodyAndForAReason(t *testing.T) {
	t.Parallel()
	r := newRuin(t)
	if _, err := r.open(t, func(o *publisher.RepairOptions) { o.AcceptLoss, o.By = true, "olga" }); ledger.KindOf(err) != ledger.KindInvalid {
		t.Error(err)
	}
	r.lose(t, func(uint64) bool { return false })
	r.one.beatsOn(r.conn, func(b *events.Beat) { b.Seen = events.LedgerTip{Number: 1 << 40, Hash: events.Sum(nil)} })
	refused := func(why string) {
		t.Helper()
		repair, err := r.open(t, acceptLoss)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %s", err, why)
		}
		must(t, repair.Stop(t.Context()))
	}
	refused("agent one of dev says")
	must(t, os.Remove(filepath.Join(r.data, "publisher.key")))
	refused("publisher.key")
}
