package bus_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const environment = "prod-eu"

// feedOf follows a chain from its start, unless change says otherwise.
func feedOf(t *testing.T, c *bus.Conn, chain *bustest.Chain, change ...func(*bus.FeedOptions)) *bus.Feed {
	t.Helper()
	o := bus.FeedOptions{Environment: chain.Environment, Position: chain.At(0), Verify: chain.Verify}
	for _, fn := range change {
		fn(&o)
	}
	f, err := c.Feed(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func often(o *bus.FeedOptions) { o.CheckInterval = 100 * time.Millisecond }

// expect takes runs until the feed is at a revision, and wants exactly the chain's releases.
func expect(t *testing.T, f *bus.Feed, chain *bustest.Chain, last uint64) (runs int) {
	t.Helper()
	for f.Position().Revision < last {
		want := f.Position().Revision + 1
		run, err := f.Next(bustest.Context(t))
		if err != nil {
			t.Fatalf("waiting for revision %d: %v (problem: %v)", want, err, f.Problem())
		}
		for _, r := range run {
			expected := chain.Releases[want-1]
			if r.Revision != want || r.Chain != expected.Chain || !bytes.Equal(r.Payload, expected.Payload) || r.Signature != expected.Signature {
				t.Fatalf("got revision %d (%s), want %d (%s)", r.Revision, r.Chain.Short(), want, expected.Chain.Short())
			}
			if r.Sequence == 0 || r.Stamp.IsZero() {
				t.Errorf("revision %d has no sequence or stamp of the bus", want)
			}
			want++
		}
		runs++
	}
	if got := f.Position().Revision; got != last {
		t.Fatalf("at revision %d, want %d", got, last)
	}
	return runs
}

// settled waits until the head was checked once more, and wants the feed to have nothing to say about it.
func settled(t *testing.T, f *bus.Feed) {
	t.Helper()
	before := time.Now()
	ctx, cancel := context.WithCancel(bustest.Context(t))
	ended := make(chan error, 1)
	go func() {
		_, err := f.Next(ctx)
		ended <- err
	}()
	bustest.Eventually(t, "the head is checked", func() bool { return f.LastChecked().After(before) })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("Next returned with %v, want nothing before it was cancelled", err)
	}
}

func TestFeedCatchesUpAndGoesOnLive(t *testing.T) {
	_, c := bustest.Ready(t)
	chain := bustest.NewChain(t, environment).Grow(30, "value")
	chain.Send(c, 1, 20)
	f := feedOf(t, c, chain)
	if runs := expect(t, f, chain, 20); runs != 1 {
		t.Errorf("caught up in %d runs, want 1", runs)
	}
	for r := uint64(21); r <= 30; r++ {
		chain.Send(c, r, r)
		expect(t, f, chain, r)
	}
	if f.Head() != 30 || f.Problem() != nil || f.LastChecked().IsZero() || len(f.Rejected()) != 0 {
		t.Errorf("head %d, problem %v, checked %s, rejected %v", f.Head(), f.Problem(), f.LastChecked(), f.Rejected())
	}
}

func TestFeedSeesOnlyItsEnvironment(t *testing.T) {
	_, c := bustest.Ready(t)
	mine := bustest.NewChain(t, "prod").Grow(3, "mine")
	other := bustest.NewChain(t, "prod-eu").Grow(3, "other")
	other.Send(c, 1, 3)
	mine.Send(c, 1, 3)
	f := feedOf(t, c, mine)
	expect(t, f, mine, 3)
	if len(f.Rejected()) != 0 {
		t.Errorf("rejected %v", f.Rejected())
	}
}

func TestRunsAreBoundedAndWithoutGaps(t *testing.T) {
	_, c := bustest.Ready(t)
	chain := bustest.NewChain(t, environment).Grow(25, "value")
	chain.Send(c, 1, 25)
	if runs := expect(t, feedOf(t, c, chain, func(o *bus.FeedOptions) { o.RunCount = 10 }), chain, 25); runs != 3 {
		t.Errorf("%d runs of at most 10", runs)
	}
	size := len(chain.Releases[0].Payload)
	if runs := expect(t, feedOf(t, c, chain, func(o *bus.FeedOptions) { o.RunBytes = 5 * size }), chain, 25); runs < 5 {
		t.Errorf("%d runs of about 5 releases", runs)
	}
}

func TestFeedContinuesFromItsCheckpoint(t *testing.T) {
	_, c := bustest.Ready(t)
	chain := bustest.NewChain(t, environment).Grow(10, "value")
	chain.Send(c, 1, 10)
	for _, hint := range []uint64{0, 4, 2, 9, 999} {
		f := feedOf(t, c, chain, func(o *bus.FeedOptions) {
			o.Position = chain.At(4)
			o.Position.Sequence = hint
		})
		expect(t, f, chain, 10)
	}
}

func TestResetGivesTheSameAgainAndWhatIsNewer(t *testing.T) {
	_, c := bustest.Ready(t)
	chain := bustest.NewChain(t, environment).Grow(8, "value")
	chain.Send(c, 1, 4)
	f := feedOf(t, c, chain, often)
	expect(t, f, chain, 4)
	checkpoint := f.Position()
	chain.Send(c, 5, 5)
	expect(t, f, chain, 5)
	chain.Send(c, 6, 8)
	f.Reset(checkpoint)
	expect(t, f, chain, 8)
}

// TestWhatGoesBetweenALookAndItsReadingIsForgotten: what was refused may be taken out of the stream after it was seen again, and before it
// is read again. It must not stand as the head for ever.
func TestWhatGoesBetweenALookAndItsReadingIsForgotten(t *testing.T) {
	_, c := bustest.Ready(t)
	chain := bustest.NewChain(t, environment).Grow(3, "value")
	chain.Send(c, 1, 2)
	f := feedOf(t, c, chain, func(o *bus.FeedOptions) { o.CheckInterval = time.Hour }) // looks too seldom to disturb
	expect(t, f, chain, 2)
	checkpoint := f.Position()
	chain.Send(c, 3, 3)
	expect(t, f, chain, 3)
	f.Reset(checkpoint)
	for _, head := range []uint64{3, 2, 3, 2} {
		if f.PretendSeen(head); f.Head() != head {
			t.Errorf("the head is %d, and the stream has %d", f.Head(), head)
		}
	}
}

func TestLostLiveMessagesAreFilledIn(t *testing.T) {
	s, c := bustest.Ready(t)
	wire := bustest.NewWire(t, s.ClientURL())
	var n atomic.Int64
	wire.Intercept(func(l bustest.Live) []bustest.Live {
		if n.Add(1)%3 == 0 {
			return []bustest.Live{l}
		}
		return nil
	})
	chain := bustest.NewChain(t, environment).Grow(30, "value")
	f := feedOf(t, c, chain)
	for r := uint64(3); r <= 30; r += 3 {
		chain.Send(c, r-2, r)
		expect(t, f, chain, r)
	}
}

func TestLastReleaseLostOnTheLiveTailIsFound(t *testing.T) {
	s, c := bustest.Ready(t)
	wire := bustest.NewWire(t, s.ClientURL())
	wire.Intercept(func(bustest.Live) []bustest.Live { return nil })
	chain := bustest.NewChain(t, environment).Grow(3, "value")
	f := feedOf(t, c, chain, often)
	for r := uint64(1); r <= 3; r++ {
		chain.Send(c, r, r)
		expect(t, f, chain, r)
	}
}

func TestDoubledAndReorderedLiveMessagesChangeNothing(t *testing.T) {
	s, c := bustest.Ready(t)
	wire := bustest.NewWire(t, s.ClientURL())
	var held []bustest.Live
	wire.Intercept(func(l bustest.Live) []bustest.Live {
		if held = append(held, l); len(held) < 3 {
			return nil
		}
		out := []bustest.Live{held[2], held[0], held[2], held[1], held[0], held[1]}
		held = nil
		return out
	})
	chain := bustest.NewChain(t, environment).Grow(30, "value")
	f := feedOf(t, c, chain, often)
	chain.Send(c, 1, 30)
	expect(t, f, chain, 30)
	settled(t, f)
	if len(f.Rejected()) != 0 {
		t.Errorf("rejected %v", f.Rejected())
	}
}

func TestWhatThePublisherDidNotSignStartsAndStopsNothing(t *testing.T) {
	s, c := bustest.Ready(t)
	wire := bustest.NewWire(t, s.ClientURL())
	chain := bustest.NewChain(t, environment).Grow(5, "value")
	elsewhere := bustest.NewChain(t, "dev").Grow(4, "value")
	stranger := bustest.NewChain(t, environment).Grow(9, "evil")
	chain.Send(c, 1, 3)
	f := feedOf(t, c, chain, func(o *bus.FeedOptions) { o.CheckInterval = time.Hour }) // after the first look
	expect(t, f, chain, 3)
	settledOnce := f.LastChecked()

	live := func(payload []byte, signature string) {
		wire.Publish(bustest.Live{Environment: environment, Payload: payload, Signature: signature})
	}
	four := chain.Releases[3]
	altered := bytes.Replace(four.Payload, []byte("value"), []byte("evils"), 1)
	live(four.Payload, "")                                                              // unsigned
	live(four.Payload, chain.Releases[2].Signature)                                     // another's signature
	live(altered, four.Signature)                                                       // altered
	live(stranger.Releases[3].Payload, stranger.Releases[3].Signature)                  // another key
	live(stranger.Releases[8].Payload, stranger.Releases[8].Signature)                  // far ahead
	live(stranger.Releases[0].Payload, stranger.Releases[0].Signature)                  // a fork
	live(elsewhere.Releases[3].Payload, elsewhere.Releases[3].Signature)                // another environment's
	live([]byte("{"), four.Signature)                                                   // nothing
	live([]byte(`{"type":"dev.lockstep.release.published.v1","data":{}}`), "signature") // empty
	live(chain.Releases[1].Payload, chain.Releases[1].Signature)                        // replayed
	wire.Flush()
	chain.Send(c, 4, 4)
	expect(t, f, chain, 4)

	want := map[bus.Rejection]uint64{bus.RejectedSignature: 6, bus.RejectedEnvironment: 1, bus.RejectedMalformed: 2}
	got := f.Rejected()
	for reason, n := range want {
		if got[reason] != n {
			t.Errorf("rejected %v, want %v", got, want)
			break
		}
	}
	if f.Head() != 4 || f.Problem() != nil || f.LastChecked() != settledOnce {
		t.Errorf("head %d, problem %v, checked %s: want no trace of the spoofed messages", f.Head(), f.Problem(), f.LastChecked())
	}
}

func TestForeignMessageInTheStreamIsSkipped(t *testing.T) {
	s, c := bustest.Ready(t)
	wire := bustest.NewWire(t, s.ClientURL())
	chain := bustest.NewChain(t, environment).Grow(6, "value")
	evil := bustest.NewChain(t, environment).Grow(9, "evil")
	wire.Store(environment, []byte("nonsense"), "")
	chain.Send(c, 1, 2)
	for _, r := range evil.Releases {
		wire.Store(environment, r.Payload, r.Signature)
	}
	chain.Send(c, 3, 4)
	wire.Store(environment, evil.Releases[4].Payload, evil.Releases[4].Signature)
	f := feedOf(t, c, chain, often, func(o *bus.FeedOptions) { o.RunCount = 3 })
	expect(t, f, chain, 4)
	bustest.Eventually(t, "the foreign head is reported", func() bool { return errors.Is(f.Problem(), bus.ErrForeign) })
	if !f.LastChecked().IsZero() {
		t.Error("a head that is not the publisher's counts as checked")
	}

	foreign, err := c.Head(bustest.Context(t), environment)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteRelease(bustest.Context(t), foreign.Sequence); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the problem is gone", func() bool { return f.Problem() == nil && !f.LastChecked().IsZero() })
	chain.Send(c, 5, 6)
	expect(t, f, chain, 6)
}

func TestReleasesAfterAKeyRotationAreFoundOnceTheKeyIsKnown(t *testing.T) {
	_, c := bustest.Ready(t)
	chain := bustest.NewChain(t, environment).Grow(5, "old key")
	old := chain.Fork(5)
	chain.Rotate()
	chain.Grow(5, "new key")
	chain.Send(c, 1, 10)
	var trustsNew atomic.Bool
	f := feedOf(t, c, chain, often, func(o *bus.FeedOptions) {
		o.Verify = func(digest events.Digest, signature string) error {
			if trustsNew.Load() {
				return chain.Verify(digest, signature)
			}
			return old.Verify(digest, signature)
		}
	})
	expect(t, f, chain, 5)
	trustsNew.Store(true)
	expect(t, f, chain, 10)
}

func TestStreamDeletedAndRebuiltUnderTheFeedIsUnnoticed(t *testing.T) {
	s, c := bustest.Ready(t)
	wire := bustest.NewWire(t, s.ClientURL())
	chain := bustest.NewChain(t, environment).Grow(12, "value")
	noise := bustest.NewChain(t, "dev").Grow(5, "value")
	chain.Send(c, 1, 8)
	f := feedOf(t, c, chain, often)
	expect(t, f, chain, 8)

	wire.DropStream(events.StreamReleases)
	bustest.Streams(t, c)
	noise.Send(c, 1, 5)
	chain.Send(c, 1, 9)
	expect(t, f, chain, 9)
	settled(t, f)

	if err := c.PurgeReleases(bustest.Context(t), environment); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the missing history is reported", func() bool { return errors.Is(f.Problem(), bus.ErrHistoryMissing) })
	chain.Send(c, 1, 12)
	expect(t, f, chain, 12)
	settled(t, f)
	if f.Problem() != nil || len(f.Rejected()) != 0 {
		t.Errorf("problem %v, rejected %v", f.Problem(), f.Rejected())
	}
}

func TestMissingHistoryIsWaitedForAndHeals(t *testing.T) {
	_, c := bustest.Ready(t)
	chain := bustest.NewChain(t, environment).Grow(7, "value")
	chain.Send(c, 1, 5)
	third := uint64(3)
	if err := c.DeleteRelease(bustest.Context(t), third); err != nil {
		t.Fatal(err)
	}
	f := feedOf(t, c, chain, often)
	expect(t, f, chain, 2)

	type result struct {
		run bus.Run
		err error
	}
	got := make(chan result, 1)
	go func() {
		run, err := f.Next(bustest.Context(t))
		got <- result{run, err}
	}()
	bustest.Eventually(t, "the missing history is reported", func() bool { return errors.Is(f.Problem(), bus.ErrHistoryMissing) })
	if len(got) != 0 || f.Head() != 5 {
		t.Fatalf("Next returned without revision 3 (head %d)", f.Head())
	}
	if err := c.PurgeReleases(bustest.Context(t), environment); err != nil {
		t.Fatal(err)
	}
	chain.Send(c, 1, 7)
	if r := <-got; r.err != nil || r.run[0].Revision != 3 {
		t.Fatalf("got %v, %v", r.run, r.err)
	}
	expect(t, f, chain, 7)
}

func TestForkStopsTheFeed(t *testing.T) {
	tests := map[string]struct {
		at   uint64 // the feed's position when the fork appears
		fork uint64 // last common revision
		send func(t *testing.T, c *bus.Conn, wire *bustest.Wire, fork *bustest.Chain)
	}{
		"next revision, live": {at: 5, fork: 4, send: func(t *testing.T, _ *bus.Conn, wire *bustest.Wire, fork *bustest.Chain) {
			r := fork.Releases[5]
			wire.Publish(bustest.Live{Environment: environment, Payload: r.Payload, Signature: r.Signature})
		}},
		"same revision, live": {at: 5, fork: 4, send: func(t *testing.T, _ *bus.Conn, wire *bustest.Wire, fork *bustest.Chain) {
			r := fork.Releases[4]
			wire.Publish(bustest.Live{Environment: environment, Payload: r.Payload, Signature: r.Signature})
		}},
		"earlier revision, live": {at: 5, fork: 2, send: func(t *testing.T, _ *bus.Conn, wire *bustest.Wire, fork *bustest.Chain) {
			r := fork.Releases[2]
			wire.Publish(bustest.Live{Environment: environment, Payload: r.Payload, Signature: r.Signature})
		}},
		"stream rebuilt from a fork": {at: 5, fork: 2, send: func(t *testing.T, c *bus.Conn, wire *bustest.Wire, fork *bustest.Chain) {
			wire.Intercept(func(bustest.Live) []bustest.Live { return nil })
			if err := c.PurgeReleases(bustest.Context(t), environment); err != nil {
				t.Fatal(err)
			}
			fork.Send(c, 1, 8)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, c := bustest.Ready(t)
			wire := bustest.NewWire(t, s.ClientURL())
			chain := bustest.NewChain(t, environment).Grow(5, "value")
			fork := chain.Fork(tt.fork).Grow(6, "another value")
			chain.Send(c, 1, 5)
			f := feedOf(t, c, chain, often, func(o *bus.FeedOptions) {
				o.Known = func(revision uint64) (events.Digest, bool) { return chain.Releases[revision-1].Chain, true }
			})
			expect(t, f, chain, tt.at)
			tt.send(t, c, wire, fork)
			for range 2 {
				if run, err := f.Next(bustest.Context(t)); !errors.Is(err, bus.ErrForked) {
					t.Fatalf("got %v, %v; want ErrForked", run, err)
				}
			}
			if !errors.Is(f.Problem(), bus.ErrForked) || f.Position().Revision != tt.at {
				t.Errorf("problem %v at revision %d", f.Problem(), f.Position().Revision)
			}
		})
	}
}

func TestGoodReleasesBeforeAForkAreDelivered(t *testing.T) {
	_, c := bustest.Ready(t)
	chain := bustest.NewChain(t, environment).Grow(5, "value")
	fork := chain.Fork(2).Grow(6, "another value")
	ctx := bustest.Context(t)
	chain.Send(c, 1, 4)
	for _, r := range fork.Releases[3:] {
		head, err := c.Head(ctx, environment)
		if err != nil {
			t.Fatal(err)
		}
		c.Send(ctx, []bus.Outgoing{{Environment: environment, Payload: r.Payload, Signature: r.Signature, ExpectedLast: head.Sequence}})
	}
	f := feedOf(t, c, chain, often)
	expect(t, f, chain, 4)
	if _, err := f.Next(ctx); !errors.Is(err, bus.ErrForked) {
		t.Errorf("%v, want ErrForked", err)
	}
	f.Reset(chain.At(2))
	expect(t, f, chain, 4)
}

func TestFeedStartedWithoutABusCatchesUpWhenItComes(t *testing.T) {
	p := bustest.StartProcess(t)
	c := bustest.Connect(t, p.URL())
	bustest.Streams(t, c)
	chain := bustest.NewChain(t, environment).Grow(6, "value")
	chain.Send(c, 1, 4)
	p.Kill()

	agent := bustest.Connect(t, p.URL(), func(o *bus.Options) { o.Name, o.Offline = "agent", true })
	f := feedOf(t, agent, chain, often)
	if agent.Connected() {
		t.Error("connected to a server that was killed")
	}
	p.Restart()
	bustest.Eventually(t, "the publisher is back", c.Connected)
	chain.Complete(c, 4)
	expect(t, f, chain, 4)
	chain.Send(c, 5, 6)
	expect(t, f, chain, 6)
}

func TestFeedSurvivesTheServersDeathAndFreeze(t *testing.T) {
	p := bustest.StartProcess(t)
	c := bustest.Connect(t, p.URL())
	bustest.Streams(t, c)
	chain := bustest.NewChain(t, environment).Grow(40, "value")
	agent := bustest.Connect(t, p.URL(), func(o *bus.Options) { o.Name = "agent" })
	f := feedOf(t, agent, chain, often)
	for last := uint64(10); last <= 40; last += 10 {
		chain.Complete(c, last)
		expect(t, f, chain, last)
		p.Pause()
		p.Resume()
		p.Kill()
		p.Restart()
		bustest.Eventually(t, "both are back", func() bool { return c.Connected() && agent.Connected() })
	}
}

func TestNextEndsWithItsContextAndItsConnection(t *testing.T) {
	s, c := bustest.Ready(t)
	chain := bustest.NewChain(t, environment)
	f := feedOf(t, c, chain)
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := f.Next(ctx); !errors.Is(err, cause) {
		t.Errorf("%v, want the cause", err)
	}
	other := bustest.Connect(t, s.ClientURL())
	g := feedOf(t, other, chain)
	other.Close()
	if _, err := g.Next(bustest.Context(t)); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}
