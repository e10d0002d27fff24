package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// wave is one release for each of n environments.
func wave(n int, text string) []bus.Outgoing {
	out := make([]bus.Outgoing, n)
	for i := range out {
		out[i] = bus.Outgoing{Environment: fmt.Sprintf("env-%d", i), Payload: fmt.Appendf(nil, "%s for %d", text, i), Signature: "signature"}
	}
	return out
}

func TestReleasesArriveUnchangedWhereTheyWereMeant(t *testing.T) {
	for _, n := range []int{1, 3, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			_, c := bustest.Ready(t)
			ctx := bustest.Context(t)
			out := wave(n, "first")
			for i, r := range c.Send(ctx, out) {
				head, err := c.Head(ctx, out[i].Environment)
				if r.Err != nil || err != nil || head.Sequence != r.Sequence || !bytes.Equal(head.Payload, out[i].Payload) || head.Signature != "signature" || head.Stamp.IsZero() {
					t.Fatalf("%s: %+v, %v; stored %+v", out[i].Environment, r, err, head)
				}
			}
			for i, r := range c.Send(ctx, out) {
				if r.Err != nil || r.Sequence == 0 {
					t.Errorf("%s sent again: %+v", out[i].Environment, r)
				}
			}
			for i, r := range c.Send(ctx, wave(n, "other")) {
				if !errors.Is(r.Err, bus.ErrConflict) {
					t.Errorf("%s, another in its place: %+v", out[i].Environment, r)
				}
			}
			counts, _, err := c.ReleaseCounts(ctx)
			if err != nil || len(counts) != n || counts["env-0"] != 1 {
				t.Errorf("counts %v, %v", counts, err)
			}
		})
	}
}

func TestReleaseIsKnownAsSentEvenUnderANewerOne(t *testing.T) {
	_, c := bustest.Ready(t)
	ctx := bustest.Context(t)
	first := wave(1, "first")
	sequence := c.Send(ctx, first)[0].Sequence
	second := wave(1, "second")
	second[0].ExpectedLast = sequence
	if r := c.Send(ctx, second)[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := c.Send(ctx, first)[0]; r.Err != nil || r.Sequence != sequence {
		t.Errorf("the first one sent again: %+v, want sequence %d", r, sequence)
	}
}

func TestReleasesWhoseAnswersWereLostAreSettledByReading(t *testing.T) {
	for _, n := range []int{1, 50} {
		s, other := bustest.Ready(t)
		wire := &deafness{inner: s}
		c := bustest.Connect(t, "", func(o *bus.Options) { o.InProcess = wire })
		wire.set(true)
		for i, r := range c.Send(bustest.Context(t), wave(n, "first")) {
			// Those that had not left when the connection broke are not there, and nothing else may be said of them.
			head, err := other.Head(bustest.Context(t), fmt.Sprintf("env-%d", i))
			if err != nil || head.Sequence != r.Sequence || (r.Err == nil) != (head.Sequence != 0) || (r.Err != nil && !errors.Is(r.Err, bus.ErrUnavailable)) {
				t.Errorf("env-%d: %+v, but the stream has %d (%v)", i, r, head.Sequence, err)
			}
		}
	}
}

func TestServerKilledWhileReleasesAreSentIsReconciled(t *testing.T) {
	p := bustest.StartProcess(t)
	c := bustest.Connect(t, p.URL())
	bustest.Streams(t, c)
	const environments = 1000
	out := wave(environments, "release")
	done := make(chan []bus.Result, 1)
	ctx := bustest.Context(t)
	go func() { done <- c.Send(ctx, out) }()
	bustest.Eventually(t, "some were stored", func() bool {
		counts, _, err := c.ReleaseCounts(ctx)
		return err == nil && len(counts) > 10
	})
	p.Kill()
	p.Restart()
	results := <-done
	bustest.Eventually(t, "the connection is back", c.Connected)

	// Whatever was said before: sending again what the stream lacks ends with one of each, in its place.
	for i := range results {
		if err := results[i].Err; err != nil && !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrConflict) {
			t.Errorf("%s: %v", out[i].Environment, err)
		}
	}
	for i, r := range c.Send(ctx, out) {
		if r.Err != nil {
			t.Errorf("%s, sent again: %v", out[i].Environment, r.Err)
		}
	}
	counts, _, err := c.ReleaseCounts(ctx)
	if err != nil || len(counts) != environments {
		t.Fatalf("%d environments have releases, %v", len(counts), err)
	}
	for environment, n := range counts {
		if n != 1 {
			t.Errorf("%s has %d releases", environment, n)
		}
	}
}

func TestPurgeAndDeleteTouchOneEnvironmentOnly(t *testing.T) {
	s, c := bustest.Ready(t)
	ctx := bustest.Context(t)
	chain := bustest.NewChain(t, environment).Grow(3, "value")
	other := bustest.NewChain(t, "dev").Grow(2, "value")
	chain.Send(c, 1, 3)
	other.Send(c, 1, 2)
	bustest.NewWire(t, s.ClientURL()).Store("dev", []byte("foreign"), "")

	foreign, err := c.Head(ctx, "dev")
	if err != nil || string(foreign.Payload) != "foreign" {
		t.Fatalf("%+v, %v", foreign, err)
	}
	if err := c.DeleteRelease(ctx, foreign.Sequence); err != nil {
		t.Fatal(err)
	}
	if err := c.PurgeReleases(ctx, environment); err != nil {
		t.Fatal(err)
	}
	head, err := c.Head(ctx, environment)
	if err != nil || head.Sequence != 0 {
		t.Errorf("head %+v, %v after a purge", head, err)
	}
	chain.Send(c, 1, 3)
	for _, want := range []*bustest.Chain{chain, other} {
		var n int
		err := c.ReadReleases(ctx, want.Environment, func(s bus.Stored) error {
			if !bytes.Equal(s.Payload, want.Releases[n].Payload) {
				t.Errorf("%s: message %d is %q", want.Environment, n, s.Payload)
			}
			n++
			return nil
		})
		if err != nil || n != len(want.Releases) {
			t.Errorf("%s: %d messages, %v", want.Environment, n, err)
		}
	}
}

func TestReaderCanStop(t *testing.T) {
	_, c := bustest.Ready(t)
	bustest.NewChain(t, environment).Grow(3, "value").Send(c, 1, 3)
	enough := errors.New("enough of it")
	err := c.ReadReleases(bustest.Context(t), environment, func(bus.Stored) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("%v, want the reader's own error", err)
	}
}

func TestAcksAreStoredAndFollowedOverARecreatedStream(t *testing.T) {
	s, c := bustest.Ready(t)
	ctx, stop := context.WithCancel(bustest.Context(t))
	got := make(chan bus.Report, 10)
	ended := make(chan error, 1)
	go func() { ended <- c.FollowAcks(ctx, 2, func(r bus.Report) error { got <- r; return nil }) }()
	ack := func(n int) {
		t.Helper()
		if err := c.PublishAck(ctx, "prod", "a1", fmt.Appendf(nil, "ack %d", n), "signature"); err != nil {
			t.Fatal(err)
		}
	}
	want := func(sequence uint64, payload string) {
		t.Helper()
		r := <-got
		if r.Environment != "prod" || r.Agent != "a1" || r.Sequence != sequence || string(r.Payload) != payload || r.Signature != "signature" || r.Stamp.IsZero() {
			t.Errorf("got %+v (%q), want %d %q", r, r.Payload, sequence, payload)
		}
	}
	ack(1)
	ack(2)
	first := <-got // FollowAcks began before or after the stream had sequence 1
	if string(first.Payload) == "ack 1" {
		first = <-got
	}
	if string(first.Payload) != "ack 2" {
		t.Errorf("got %q", first.Payload)
	}

	bustest.NewWire(t, s.ClientURL()).DropStream(events.StreamAcks)
	bustest.Streams(t, c)
	ack(3)
	want(1, "ack 3")
	ack(4)
	want(2, "ack 4")
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAckWithoutABusIsKeptByTheAgent(t *testing.T) {
	p := bustest.StartProcess(t)
	c := bustest.Connect(t, p.URL())
	p.Kill()
	bustest.Eventually(t, "the loss is noticed", func() bool { return !c.Connected() })
	if err := c.PublishAck(bustest.Context(t), "prod", "a1", []byte("ack"), ""); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	if err := c.PublishBeat("prod", "a1", []byte("beat"), ""); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
}

func TestBeatsBeginWithTheLastOfEveryAgent(t *testing.T) {
	_, c := bustest.Ready(t)
	ctx := bustest.Context(t)
	beat := func(agent, text string) {
		t.Helper()
		if err := c.PublishBeat("prod", agent, []byte(text), "signature"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		beat("a1", fmt.Sprint("old ", i))
	}
	beat("a2", "only")
	beat("a1", "newest")
	got := make(chan bus.Report, 10)
	stored := func() bool { // beats are not acknowledged: wait until the last one is there
		probe, stop := context.WithCancel(ctx)
		defer stop()
		found := false
		_ = c.FollowBeats(probe, func(r bus.Report) error {
			found = string(r.Payload) == "newest"
			if found {
				return context.Canceled
			}
			return nil
		})
		return found
	}
	bustest.Eventually(t, "the newest beat is stored", stored)
	go func() { _ = c.FollowBeats(ctx, func(r bus.Report) error { got <- r; return nil }) }()
	for _, want := range []string{"a2 only", "a1 newest"} {
		if r := <-got; r.Agent+" "+string(r.Payload) != want || r.Signature != "signature" {
			t.Errorf("got %s %q, want %s", r.Agent, r.Payload, want)
		}
	}
	beat("a2", "live")
	if r := <-got; string(r.Payload) != "live" {
		t.Errorf("got %q", r.Payload)
	}
}

func TestPulsesReachWhoListensNow(t *testing.T) {
	s, c := bustest.Ready(t)
	agent := bustest.Connect(t, s.ClientURL())
	got := make(chan string, 4)
	stop, err := agent.SubscribePulse(func(payload []byte, signature string) { got <- string(payload) + " " + signature })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := agent.PublishPulse([]byte("mine"), "s1"); err != nil { // on its own connection: the subscription is there first
		t.Fatal(err)
	}
	if m := <-got; m != "mine s1" {
		t.Errorf("got %q", m)
	}
	if err := c.PublishPulse([]byte("pulse"), "s2"); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m != "pulse s2" {
		t.Errorf("got %q", m)
	}
}
