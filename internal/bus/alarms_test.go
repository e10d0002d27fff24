package bus_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
)

// TestWhatIsKeptOfAlarmsIsReplacedOnlyByWhoKnowsIt, is there after the bus was, and may be larger than a message.
func TestWhatIsKeptOfAlarmsIsReplacedOnlyByWhoKnowsIt(t *testing.T) {
	t.Parallel()
	s := bustest.Start(t)
	one, other, ctx := bustest.Connect(t, s.ClientURL()), bustest.Connect(t, s.ClientURL()), bustest.Context(t)
	if _, err := one.EnsureStreams(ctx, bus.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	if text, revision, err := one.Alarms(ctx); err != nil || len(text) != 0 || revision != 0 {
		t.Fatalf("before anything: %q, %d, %v", text, revision, err)
	}
	large := bytes.Repeat([]byte(`{"environment":"prod-eu","message":"the instance answered 503"}`), 1<<16)
	kept, err := one.KeepAlarms(ctx, large, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, stale := range []uint64{0, kept + 1} {
		if _, err := other.KeepAlarms(ctx, []byte("x"), stale); !errors.Is(err, bus.ErrConflict) {
			t.Errorf("kept over revision %d: %v", stale, err)
		}
	}
	text, revision, err := other.Alarms(ctx)
	if err != nil || !bytes.Equal(text, large) || revision != kept {
		t.Errorf("%d bytes of %d, revision %d, %v", len(text), len(large), revision, err)
	}
	if _, err := other.KeepAlarms(ctx, []byte("less"), revision); err != nil {
		t.Error(err)
	}
	if _, err := one.KeepAlarms(ctx, []byte("more"), kept); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("kept over what another one kept: %v", err)
	}
	if text, _, err := one.Alarms(ctx); err != nil || string(text) != "less" {
		t.Errorf("%q, %v", text, err)
	}
	noise := make([]byte, 2<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(noise)
	if _, err := one.KeepAlarms(ctx, noise, revision+1); err == nil || errors.Is(err, bus.ErrConflict) {
		t.Errorf("more than a message holds: %v", err)
	}
}
