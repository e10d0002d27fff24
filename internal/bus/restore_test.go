package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestRestoredEntriesKeepTheirStamps(t *testing.T) {
	s, c := bustest.Ready(t)
	id := bustest.Streams(t, c)
	for i := range uint64(3) {
		mustAppend(t, c, fmt.Sprint("damaged ", i+1), i)
	}
	first := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	want := make([]bus.Stored, 5)
	for i := range want {
		want[i] = bus.Stored{Sequence: uint64(i + 1), Stamp: first.Add(time.Duration(i) * time.Second), Payload: []byte(fmt.Sprint("entry ", i+1))}
	}
	if err := c.RestoreLedger(bustest.Context(t), bus.StreamOptions{LedgerID: id}, want); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, bustest.Connect(t, s.ClientURL()), "entry 6", 5)
	var have []bus.Stored
	if err := c.ReadLedger(bustest.Context(t), 1, func(s bus.Stored) error { have = append(have, s); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(have) != 6 || time.Since(have[5].Stamp) > time.Minute {
		t.Fatalf("the ledger holds %v", have)
	}
	for i, w := range want {
		if h := have[i]; h.Sequence != w.Sequence || !h.Stamp.Equal(w.Stamp) || string(h.Payload) != string(w.Payload) {
			t.Errorf("have %v, want %v", h, w)
		}
	}
	if err := c.CheckLedger(bustest.Context(t), bus.StreamOptions{LedgerID: id}); err != nil {
		t.Error(err)
	}
}

// TestALedgerIsRestoredThoughOthersMakeItToo: publishers that begin make the stream whenever it is missing, also over the files that
// the server still deletes. Then the server may even have two, one of which is not found any more and answers all the same.
func TestALedgerIsRestoredThoughOthersMakeItToo(t *testing.T) {
	s := bustest.StartProcess(t)
	c := bustest.Connect(t, s.URL())
	id := bustest.Streams(t, c)
	entries := make([]bus.Stored, 20)
	for i := range entries {
		entries[i] = bus.Stored{Sequence: uint64(i + 1), Stamp: time.Now(), Payload: []byte(fmt.Sprint("entry ", i+1))}
		mustAppend(t, c, string(entries[i].Payload), uint64(i))
	}
	ctx, cancel := context.WithCancel(bustest.Context(t))
	var others sync.WaitGroup
	for range 2 {
		other := bustest.Connect(t, s.URL())
		others.Go(func() {
			for ctx.Err() == nil {
				_, _ = other.EnsureStreams(ctx, bus.StreamOptions{LeaseTTL: bustest.LeaseTTL}) // fails where it is deleted meanwhile
			}
		})
	}
	restored := func() bool {
		err := c.RestoreLedger(bustest.Context(t), bus.StreamOptions{LedgerID: id}, entries)
		if errors.Is(err, bus.ErrConflict) || errors.Is(err, bus.ErrUnavailable) {
			return false // it says so
		}
		if err != nil {
			t.Fatal(err)
		}
		end, err := c.LedgerEnd(bustest.Context(t))
		if err != nil || end.ID != id || end.First != 1 || end.Last != 20 || end.Messages != 20 {
			t.Fatalf("restored %+v (%v)", end, err)
		}
		return true
	}
	for range 20 {
		restored()
	}
	cancel()
	others.Wait()
	s.Kill()
	s.Restart()
	bustest.Eventually(t, "it is restored when the others are stopped and the bus is restarted", restored)
}

// TestNobodyElseChoosesAStamp: an agent that names the header in an ack does not shorten its lag.
func TestNobodyElseChoosesAStamp(t *testing.T) {
	s, c := bustest.Ready(t)
	nc, err := nats.Connect(s.ClientURL(), nats.Timeout(bustest.Deadline))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	m := &nats.Msg{Subject: events.AckSubject("dev", "a1"), Data: []byte("applied"), Header: nats.Header{events.FirstStampHeader: {"2020-01-01T00:00:00Z"}}}
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	err = c.FollowAcks(bustest.Context(t), 1, func(r bus.Report) error {
		if time.Since(r.Stamp) > time.Minute {
			t.Errorf("the ack is stamped %s", r.Stamp)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
}

func TestWhatIsLeftIsSalvagedOverHoles(t *testing.T) {
	s, c := bustest.Ready(t)
	id := bustest.Streams(t, c)
	if err := c.SalvageLedger(bustest.Context(t), func(s bus.Stored) error { return fmt.Errorf("%q in an empty ledger", s.Payload) }); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(9) {
		mustAppend(t, c, fmt.Sprint("entry ", i+1), i)
	}
	js := admin(t, s.ClientURL())
	stream, err := js.Stream(bustest.Context(t), events.StreamLedger)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = 6
	if _, err := js.UpdateStream(bustest.Context(t), cfg); err != nil {
		t.Fatal(err)
	}
	var left []uint64
	if err := c.SalvageLedger(bustest.Context(t), func(s bus.Stored) error { left = append(left, s.Sequence); return nil }); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(left) != "[4 5 6 7 8 9]" {
		t.Errorf("salvaged %v", left)
	}
	var setting *bus.SettingError
	if err := c.CheckLedger(bustest.Context(t), bus.StreamOptions{LedgerID: id}); !errors.As(err, &setting) || setting.Setting != "max_msgs" {
		t.Errorf("a ledger with a limit is checked with %v", err)
	}
}
