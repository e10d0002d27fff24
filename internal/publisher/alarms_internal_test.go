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
