package bus_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// admin is somebody with NATS tools and every right.
func admin(t testing.TB, url string, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.Timeout(bustest.Deadline))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestStreamsAreMadeOnceAndKeepTheirLedgerID(t *testing.T) {
	s, c := bustest.Ready(t)
	first := bustest.Streams(t, c)
	again := bustest.Streams(t, bustest.Connect(t, s.ClientURL()))
	if len(first) != 36 || first != again {
		t.Errorf("ledger id %q, then %q", first, again)
	}
	_, err := c.EnsureStreams(bustest.Context(t), bus.StreamOptions{LedgerID: "another", LeaseTTL: bustest.LeaseTTL})
	var setting *bus.SettingError
	if !errors.As(err, &setting) || setting.Setting != "ledger id" || setting.Have != first {
		t.Errorf("another ledger's id: %v", err)
	}
}

// TestALedgerThatHadBegunIsNotMadeAgain: an empty one in its place would look like a ledger.
func TestALedgerThatHadBegunIsNotMadeAgain(t *testing.T) {
	s, c := bustest.Ready(t)
	id := bustest.Streams(t, c)
	wire := bustest.NewWire(t, s.ClientURL())
	wire.DropStream(events.StreamLedger)
	wire.DropStream(events.StreamReleases)
	if _, err := c.EnsureStreams(bustest.Context(t), bus.StreamOptions{LedgerID: id, LeaseTTL: bustest.LeaseTTL}); !errors.Is(err, bus.ErrLedgerChanged) {
		t.Errorf("ended with %v, want ErrLedgerChanged", err)
	}
	if _, err := c.LedgerEnd(bustest.Context(t)); !errors.Is(err, bus.ErrLedgerChanged) {
		t.Errorf("the ledger was made again (%v)", err)
	}
	if _, _, err := c.ReleaseCounts(bustest.Context(t)); err != nil {
		t.Errorf("the other streams are missing: %v", err)
	}
}

func TestSettingChangedUnderUsIsNamed(t *testing.T) {
	tests := []struct {
		stream, setting, want, have string
		change                      func(*jetstream.StreamConfig)
	}{
		{events.StreamLedger, "max_msgs", "-1", "1", func(c *jetstream.StreamConfig) { c.MaxMsgs = 1 }},
		{events.StreamLedger, "max_age", "0", "3600000000000", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }},
		{events.StreamReleases, "republish", "lockstep.live", "not set", func(c *jetstream.StreamConfig) { c.RePublish = nil }},
		{events.StreamReleases, "allow_direct", "true", "false", func(c *jetstream.StreamConfig) { c.AllowDirect = false }},
		{events.StreamBeats, "max_msgs_per_subject", "1", "2", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 }},
		{events.StreamAcks, "allow_rollup_hdrs", "not set", "true", func(c *jetstream.StreamConfig) { c.AllowRollup = true }},
	}
	for _, tt := range tests {
		t.Run(tt.stream+" "+tt.setting, func(t *testing.T) {
			t.Parallel()
			s, c := bustest.Ready(t)
			ctx := bustest.Context(t)
			js := admin(t, s.ClientURL())
			notices := make(chan bus.Notice, 16)
			stop, err := c.Watch(func(n bus.Notice) { notices <- n })
			if err != nil {
				t.Fatal(err)
			}
			defer stop()

			stream, err := js.Stream(ctx, tt.stream)
			if err != nil {
				t.Fatal(err)
			}
			config := stream.CachedInfo().Config
			tt.change(&config)
			if _, err := js.UpdateStream(ctx, config); err != nil {
				t.Fatal(err)
			}

			if n := <-notices; n != (bus.Notice{Stream: tt.stream, Action: "updated"}) {
				t.Errorf("noticed %+v", n)
			}
			_, err = c.EnsureStreams(ctx, bus.StreamOptions{LeaseTTL: bustest.LeaseTTL})
			var got *bus.SettingError
			if !errors.As(err, &got) || got.Stream != tt.stream || got.Setting != tt.setting || !strings.Contains(got.Want, tt.want) || got.Have != tt.have {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLeaseTimeChangedUnderUsIsNamed(t *testing.T) {
	_, c := bustest.Ready(t)
	_, err := c.EnsureStreams(bustest.Context(t), bus.StreamOptions{LeaseTTL: time.Minute})
	var got *bus.SettingError
	if !errors.As(err, &got) || got.Stream != events.BucketLease || got.Want != "1m0s" {
		t.Errorf("%v", err)
	}
}

func TestDeletedStreamAndReconnectAreNoticed(t *testing.T) {
	p := bustest.StartProcess(t)
	c := bustest.Connect(t, p.URL())
	bustest.Streams(t, c)
	notices := make(chan bus.Notice, 16)
	stop, err := c.Watch(func(n bus.Notice) { notices <- n })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := admin(t, p.URL()).DeleteStream(bustest.Context(t), events.StreamReleases); err != nil {
		t.Fatal(err)
	}
	if n := <-notices; n != (bus.Notice{Stream: events.StreamReleases, Action: "deleted"}) {
		t.Errorf("noticed %+v", n)
	}
	p.Kill()
	p.Restart()
	if n := <-notices; n != (bus.Notice{Action: "reconnected"}) {
		t.Errorf("noticed %+v", n)
	}
}

func TestDurabilityMustBeSeen(t *testing.T) {
	p := bustest.StartProcess(t)
	c := bustest.Connect(t, p.URL())
	bustest.Streams(t, c)
	if err := c.ProveDurability(bustest.Context(t), bus.Proof{MonitorURL: p.MonitorURL()}); err != nil {
		t.Errorf("a server with sync_interval always: %v", err)
	}

	_, embedded := bustest.Ready(t)
	for name, proof := range map[string]bus.Proof{
		"no monitoring":         {MonitorURL: "http://127.0.0.1:1"},
		"another server's":      {MonitorURL: p.MonitorURL()},
		"no monitoring given":   {},
		"no system credentials": {SystemCredentials: "/does/not/exist"},
	} {
		if err := embedded.ProveDurability(bustest.Context(t), proof); !errors.Is(err, bus.ErrDurabilityUnproven) {
			t.Errorf("%s: %v, want ErrDurabilityUnproven", name, err)
		}
	}
}
