package ledger_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// TestWhatAgentsHaveIsWhatCountingTheirAcksGives: acks that come twice, late, in another order, among forged ones and in any portions lead to
// what one gets who looks at all that are valid, each as it came first: how far an agent is, and when it had each revision.
func TestWhatAgentsHaveIsWhatCountingTheirAcksGives(t *testing.T) {
	const revisions = 5 // the first is of the environments' own making
	rapid.Check(t, func(t *rapid.T) {
		b := environments(t, "dev", "prod")
		agents := [][2]string{{"dev", "a"}, {"prod", "a"}, {"prod", "b"}}
		for _, a := range agents {
			b.enrol(a[0], a[1])
		}
		var changes []string
		for i := range revisions - 1 {
			changes = append(changes, b.release(set("*", "variable/x", string(rune('1'+i)))))
		}
		var come []events.Delivery
		valid := map[string]bool{} // by what was signed
		model := map[string][]counted{}
		for range rapid.IntRange(1, 24).Draw(t, "acks") {
			who := rapid.SampledFrom(agents).Draw(t, "agent")
			last := rapid.Uint64Range(1, revisions).Draw(t, "last")
			word := rapid.SampledFrom([]events.Word{events.WordApplied, events.WordApplied, events.WordFailed, events.WordSuperseded}).Draw(t, "word")
			d := b.ack(who[0], who[1], word, rapid.Uint64Range(1, last).Draw(t, "first"), last)
			forge := rapid.IntRange(0, 6).Draw(t, "forge")
			switch forge {
			case 0: // signed by another
				d.Signature = b.ack("dev", "a", word, last, last).Signature
			case 1: // of another ledger
				d = b.ack(who[0], who[1], word, last, last, func(a *events.Ack) { a.Ledger = "other" })
			case 2: // of what was never released
				d = b.ack(who[0], who[1], events.WordApplied, last, last, func(a *events.Ack) { a.Chain[0] ^= 1 })
			case 3: // signed by nobody who is enrolled
				d = b.ack(who[0], "nobody", word, last, last)
			default:
				valid[string(d.Ack)] = true
			}
			for range rapid.IntRange(1, 3).Draw(t, "copies") {
				d.Stamp = b.now.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "late")) * time.Second)
				come = append(come, d)
			}
		}
		come = rapid.Permutation(come).Draw(t, "order")
		counts := map[string]bool{}
		for _, d := range come {
			if !valid[string(d.Ack)] || counts[string(d.Ack)] {
				continue
			}
			counts[string(d.Ack)] = true
			said, _, err := b.state.Read(d)
			if err != nil {
				t.Fatal(err)
			}
			if said.Word == events.WordApplied {
				model[d.Environment+"/"+d.Agent] = append(model[d.Environment+"/"+d.Agent], counted{said.Last, d.Stamp})
			}
		}
		for len(come) > 0 {
			n := rapid.IntRange(1, len(come)).Draw(t, "portion")
			if _, err := b.record(come[:n]...); err != nil && !errors.Is(err, ledger.ErrNothingNew) {
				t.Fatal(err)
			}
			come = come[n:]
		}
		for _, a := range agents {
			said, agent := model[a[0]+"/"+a[1]], b.agent(a[0], a[1])
			for revision := uint64(1); revision <= revisions; revision++ {
				want, have := earliest(said, revision), agent.Applied(revision)
				if (have != nil) != !want.IsZero() || have != nil && !have.Stamp.Equal(want) {
					t.Fatalf("%s: revision %d is applied as %+v, want %s", a, revision, have, want)
				}
				if (agent.Position >= revision) != (have != nil) {
					t.Fatalf("%s is at %d, and has revision %d: %v", a, agent.Position, revision, have != nil)
				}
			}
		}
		for i, id := range changes {
			delivered := !slices.ContainsFunc(agents, func(a [2]string) bool { return earliest(model[a[0]+"/"+a[1]], uint64(i+2)).IsZero() })
			if (b.status(id) == ledger.StatusDelivered) != delivered {
				t.Fatalf("%s is %s, and every agent has it: %v", id, b.status(id), delivered)
			}
		}
		b.verify() // and a publisher that starts anew says the same
	})
}

// counted is what an ack says: everything up to last was applied by then.
type counted struct {
	last  uint64
	stamp time.Time
}

// earliest is when a revision was said to be applied; zero where it never was.
func earliest(said []counted, revision uint64) (at time.Time) {
	for _, c := range said {
		if c.last >= revision && (at.IsZero() || c.stamp.Before(at)) {
			at = c.stamp
		}
	}
	return at
}
