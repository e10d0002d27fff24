package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func mustAppend(t *testing.T, c *bus.Conn, payload string, expectedLast uint64) {
	t.Helper()
	sequence, err := c.Append(bustest.Context(t), []byte(payload), expectedLast)
	if err != nil || sequence != expectedLast+1 {
		t.Fatalf("append %q after %d: sequence %d, %v", payload, expectedLast, sequence, err)
	}
}

func payloads(into *[]string) func(bus.Stored) error {
	return func(s bus.Stored) error {
		*into = append(*into, string(s.Payload))
		return nil
	}
}

func TestAppendGoesWhereItWasMeantOrNowhere(t *testing.T) {
	_, c := bustest.Ready(t)
	ctx := bustest.Context(t)
	mustAppend(t, c, "one", 0)
	mustAppend(t, c, "two", 1)

	if _, err := c.Append(ctx, []byte("other"), 1); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("append where another entry is: %v, want ErrConflict", err)
	}
	if _, err := c.Append(ctx, []byte("ahead"), 7); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("append past the end: %v, want ErrUnavailable", err)
	}
	if sequence, err := c.Append(ctx, []byte("two"), 1); err != nil || sequence != 2 {
		t.Errorf("append of what is there already: sequence %d, %v", sequence, err)
	}

	var got []string
	if err := c.ReadLedger(ctx, 1, payloads(&got)); err != nil || fmt.Sprint(got) != "[one two]" {
		t.Errorf("the ledger holds %v, %v", got, err)
	}
	end, err := c.LedgerEnd(ctx)
	if err != nil || end.First != 1 || end.Last != 2 || end.Messages != 2 {
		t.Errorf("ledger end %+v, %v", end, err)
	}
}

func TestOfRacingAppendsOneWins(t *testing.T) {
	s, _ := bustest.Ready(t)
	const racers = 4
	errs := make([]error, racers)
	var group sync.WaitGroup
	for i := range racers {
		c := bustest.Connect(t, s.ClientURL())
		group.Go(func() { _, errs[i] = c.Append(bustest.Context(t), fmt.Appendf(nil, "racer %d", i), 0) })
	}
	group.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, bus.ErrConflict) {
			t.Errorf("a loser got %v, want ErrConflict", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d won", won, racers)
	}
}

// deafConn loses everything the server says after deafen, and then the connection.
type deafConn struct {
	net.Conn
	deaf *deafness
}

type deafness struct {
	inner interface{ InProcessConn() (net.Conn, error) }
	mu    sync.Mutex
	on    bool
}

func (d *deafness) InProcessConn() (net.Conn, error) {
	conn, err := d.inner.InProcessConn()
	return &deafConn{conn, d}, err
}

func (d *deafness) set(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on = on
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.deaf.mu.Lock()
	defer c.deaf.mu.Unlock()
	if c.deaf.on && n > 0 {
		c.deaf.on = false
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func TestAppendWhoseAnswerWasLostIsSettledByReading(t *testing.T) {
	s, other := bustest.Ready(t)
	wire := &deafness{inner: s}
	c := bustest.Connect(t, "", func(o *bus.Options) { o.InProcess = wire })
	mustAppend(t, c, "one", 0)

	wire.set(true)
	mustAppend(t, c, "two", 1)

	wire.set(true)
	mustAppend(t, other, "foreign", 2)
	if _, err := c.Append(bustest.Context(t), []byte("mine"), 2); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
	end, err := other.LedgerEnd(bustest.Context(t))
	if err != nil || end.Last != 3 {
		t.Errorf("ledger end %+v, %v", end, err)
	}
}

func TestAppendWithoutABusIsUnavailableAndNeverSlipsOutLater(t *testing.T) {
	p := bustest.StartProcess(t)
	changes := make(chan bus.Change, 16)
	c := bustest.Connect(t, p.URL(), func(o *bus.Options) { o.OnChange = func(ch bus.Change) { changes <- ch } })
	bustest.Streams(t, c)
	mustAppend(t, c, "one", 0)
	p.Kill()
	for ch := range changes {
		if !ch.Connected {
			break
		}
	}
	ctx, cancel := context.WithCancel(bustest.Context(t))
	cancel()
	if _, err := c.Append(ctx, []byte("late"), 1); err == nil {
		t.Error("an append without a bus succeeded")
	}
	p.Restart()
	bustest.Eventually(t, "the connection is back", c.Connected)
	end, err := c.LedgerEnd(bustest.Context(t))
	if err != nil || end.Last != 1 {
		t.Errorf("ledger end %+v, %v: want what was appended before", end, err)
	}
}

func TestFollowLedgerSurvivesTheServersDeath(t *testing.T) {
	p := bustest.StartProcess(t)
	c := bustest.Connect(t, p.URL())
	bustest.Streams(t, c)
	got := make(chan bus.Stored, 100)
	ctx, stop := context.WithCancel(bustest.Context(t))
	ended := make(chan error, 1)
	go func() {
		ended <- c.FollowLedger(ctx, 1, func(s bus.Stored) error { got <- s; return nil })
	}()
	const each = 5
	for round := range uint64(3) {
		for i := range uint64(each) {
			mustAppend(t, c, fmt.Sprint(round*each+i+1), round*each+i)
		}
		for i := range uint64(each) {
			s := <-got
			if want := round*each + i + 1; s.Sequence != want || string(s.Payload) != fmt.Sprint(want) || s.Stamp.IsZero() {
				t.Fatalf("got %d %q at %s, want %d", s.Sequence, s.Payload, s.Stamp, want)
			}
		}
		p.Kill()
		p.Restart()
		bustest.Eventually(t, "the connection is back", c.Connected)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestLedgerMadeAnewUnderItsReaderIsNoticed(t *testing.T) {
	s, c := bustest.Ready(t)
	js := admin(t, s.ClientURL())
	ctx := bustest.Context(t)
	mustAppend(t, c, "one", 0)
	seen := make(chan bus.Stored, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- c.FollowLedger(ctx, 1, func(s bus.Stored) error { seen <- s; return nil })
	}()
	<-seen
	end, err := c.LedgerEnd(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(ctx, events.StreamLedger); err != nil {
		t.Fatal(err)
	}
	if err := c.RestoreLedger(ctx, bus.StreamOptions{LedgerID: end.ID}, nil); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, c, "one again", 0)
	mustAppend(t, c, "two", 1)
	if err := <-ended; !errors.Is(err, bus.ErrLedgerChanged) {
		t.Errorf("ended with %v, want ErrLedgerChanged", err)
	}
	if len(seen) != 0 {
		t.Errorf("the new stream's %q was handed over as if nothing had happened", (<-seen).Payload)
	}
}

func TestHoleInTheLedgerIsAnError(t *testing.T) {
	s, c := bustest.Ready(t)
	js := admin(t, s.ClientURL())
	ctx := bustest.Context(t)
	// The server refuses to delete from the ledger, so this one is made without that.
	if err := js.DeleteStream(ctx, events.StreamLedger); err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: events.StreamLedger, Subjects: []string{events.SubjectLedger}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(5) {
		mustAppend(t, c, fmt.Sprint(i+1), i)
	}
	for _, hole := range []struct{ delete, want, have uint64 }{{3, 3, 4}, {1, 1, 2}, {5, 5, 6}} {
		if err := stream.DeleteMsg(ctx, hole.delete); err != nil {
			t.Fatal(err)
		}
		from := hole.want
		if hole.want == 3 {
			from = 1
		}
		var got *bus.HoleError
		err := c.ReadLedger(ctx, from, func(bus.Stored) error { return nil })
		if !errors.As(err, &got) || !errors.Is(err, bus.ErrHole) || got.Want != hole.want || got.Have != hole.have {
			t.Errorf("without %d: %v, want a hole from %d to %d", hole.delete, err, hole.want, hole.have)
		}
	}
}

func TestFlippedBitInTheLedgerIsNoticed(t *testing.T) {
	p := bustest.StartProcess(t)
	c := bustest.Connect(t, p.URL())
	bustest.Streams(t, c)
	const entries = 20
	for i := range uint64(entries) {
		mustAppend(t, c, fmt.Sprint("entry ", i+1), i)
	}
	read := make(chan bus.Stored, entries+1)
	ended := make(chan error, 1)
	go func() {
		ended <- c.FollowLedger(bustest.Context(t), 1, func(s bus.Stored) error { read <- s; return nil })
	}()
	for range entries {
		<-read
	}
	p.Kill()
	p.FlipBit(events.StreamLedger, "entry 11")
	p.Restart()
	if err := <-ended; !errors.Is(err, bus.ErrLedgerChanged) && !errors.Is(err, bus.ErrHole) {
		t.Errorf("ended with %v, want ErrLedgerChanged or ErrHole", err)
	}
	if len(read) != 0 {
		t.Errorf("%q was handed over after the damage", (<-read).Payload)
	}
}
