package ledger_test

import (
	"errors"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// TestWhatIsKeptOfAnAgentDoesNotGrowWithWhatItSays: however much an agent says, as much is kept of it, and what is said again is known all
// the same.
func TestWhatIsKeptOfAnAgentDoesNotGrowWithWhatItSays(t *testing.T) {
	b := environments(t, "prod")
	b.unwatched = true
	b.enrol("prod", "a")
	for i := range 4 {
		b.release(set("prod", "variable/x", string(rune('1'+i))))
	}
	words := []events.Word{events.WordFailed, events.WordRetrying, events.WordApplied, events.WordTorn, events.WordBlocked}
	var all []events.Delivery
	for i := range 2_000 {
		last := uint64(2 + i%4)
		all = append(all, b.ack("prod", "a", words[i%len(words)], last, last))
		all[i].Stamp = b.now.Add(time.Duration(i) * time.Second)
	}
	for begin := 0; begin < len(all); begin += ledger.MaxDeliveries {
		b.recorded(all[begin:min(len(all), begin+ledger.MaxDeliveries)]...)
	}
	for _, s := range []*ledger.State{b.state, b.replay(), b.again()} {
		have, most := s.Environments["prod"].Agents["a"].Sizes()
		for i := range have {
			if have[i] > most[i] {
				t.Errorf("%v are kept, at most %v may be", have, most)
			}
		}
	}
	for begin := 0; begin < len(all); begin += ledger.MaxDeliveries {
		if _, err := b.record(all[begin:min(len(all), begin+ledger.MaxDeliveries)]...); !errors.Is(err, ledger.ErrNothingNew) {
			t.Fatalf("recorded again from %d on (%v)", begin, err)
		}
	}
	late := b.ack("prod", "a", events.WordApplied, 5, 5)
	b.recorded(late)
	if d := b.deliveries(); d != len(all)+1 {
		t.Errorf("%d are recorded, want %d", d, len(all)+1)
	}
}
