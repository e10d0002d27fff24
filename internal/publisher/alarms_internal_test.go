package publisher

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

// TestAMessageOnItsWayMayArriveWhileThePublisherStops, but it does not keep the publisher from stopping.
func TestAMessageOnItsWayMayArriveWhileThePublisherStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		ctx, cancel := outlive(stopping, parting)
		defer cancel()
		time.Sleep(time.Hour)
		stop()
		time.Sleep(parting - time.Nanosecond)
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("it is cut off at once")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("it is never cut off")
		}
	})
}

// A shelf is where several publishers keep the same, in memory.
type shelf struct {
	text []byte
	kept int
	down error
}

// A hand reaches into a shelf.
type hand struct {
	*shelf
	seen int
}

func (h *hand) read(context.Context) ([]byte, error) {
	h.seen = h.kept
	return h.text, h.down
}

func (h *hand) keep(_ context.Context, text []byte) error {
	switch {
	case h.down != nil:
		return h.down
	case h.seen != h.kept:
		return bus.ErrConflict
	}
	h.kept++
	h.text, h.seen = text, h.kept
	return nil
}

// TestWhatTwoPublishersKnowOfAlarmsIsNeverLostBetweenThem, and nothing is sent that is not kept.
func TestWhatTwoPublishersKnowOfAlarmsIsNeverLostBetweenThem(t *testing.T) {
	s := &shelf{}
	one, other := &keptAlarms{keeper: &hand{shelf: s}}, &keptAlarms{keeper: &hand{shelf: s}}
	c := &notify.Config{Targets: []notify.Target{{Name: "oncall"}}}
	find := func(k *keptAlarms, environments ...string) error {
		var findings []notify.Finding
		for _, name := range environments {
			findings = append(findings, notify.Finding{Rule: notify.Failing, Environment: name})
		}
		return k.change(t.Context(), func(s *notify.State) bool { return s.Step(c, "ledger", findings, notify.Said{}, time.Now()) })
	}
	if err := find(one, "a"); err != nil {
		t.Fatal(err)
	}
	first, due := one.due("oncall", notify.Said{}, time.Now())
	if !due {
		t.Fatal("what is kept is not sent")
	}
	if err := find(other, "a", "b"); err != nil { // it has read nothing before
		t.Fatal(err)
	}
	if d, due := other.due("oncall", notify.Said{}, time.Now()); !due || d.ID != first.ID {
		t.Errorf("the other one knows it as %+v, want %s", d, first.ID)
	}
	s.down = errors.New("down")
	if err := find(other, "a", "b", "c"); !errors.Is(err, s.down) {
		t.Error(err)
	}
	if d, due := other.due("oncall", notify.Said{}, time.Now()); due {
		t.Errorf("what is not kept is sent: %+v", d)
	}
	s.down = nil
	if err := find(one, "a", "b"); err != nil {
		t.Fatal(err)
	}
	if len(one.state.Open) != 2 || len(one.state.Outbox) != 2 {
		t.Errorf("%+v", one.state)
	}
}

// TestWhatWasTakenWhileTheBusWasAwayIsNotSentAgain: when it is back the older state is read first, while the lease is not back, and more
// than once. What failed meanwhile is counted once.
func TestWhatWasTakenWhileTheBusWasAwayIsNotSentAgain(t *testing.T) {
	s := &shelf{}
	k := &keptAlarms{keeper: &hand{shelf: s}}
	c := &notify.Config{Targets: []notify.Target{{Name: "oncall"}, {Name: "chat"}}}
	now := time.Now()
	look := func() {
		t.Helper()
		err := k.change(t.Context(), func(n *notify.State) bool {
			return n.Step(c, "ledger", []notify.Finding{{Rule: notify.Failing, Environment: "a"}}, notify.Said{}, now)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	look()
	taken, _ := k.due("oncall", notify.Said{}, now)
	failed, _ := k.due("chat", notify.Said{}, now)
	s.down = errors.New("down")
	for d, failure := range map[*notify.Delivery]error{&taken: nil, &failed: errors.New("answered 503")} {
		if err := k.took(t.Context(), func(n *notify.State) { n.Took(*d, now, failure, false, 0) }); !errors.Is(err, s.down) {
			t.Fatal(err)
		}
	}
	s.down = nil
	for range 2 {
		if err := k.read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look()
	if err := k.read(t.Context()); err != nil { // it is kept: nothing is taken on it once more
		t.Fatal(err)
	}
	look()
	if d, due := k.due("oncall", notify.Said{}, now.Add(time.Hour)); due {
		t.Errorf("it is sent again: %s", d.ID)
	}
	if d, due := k.due("chat", notify.Said{}, now.Add(time.Hour)); !due || d.Attempts != 1 {
		t.Errorf("what was not taken is due: %t, after %d attempts, want 1", due, d.Attempts)
	}
}
