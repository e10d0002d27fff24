// Package bustest gives tests a real bus: an embedded server, or a nats-server process that can be killed and frozen, a
// connection to it, a fault injector for the live tail, and signed releases to send.
//
// It is for tests only. Everything it starts ends with the test, by its own id.
package bustest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
)

// LeaseTTL is the lease's time in tests.
const LeaseTTL = time.Second

// Deadline is how long a test waits for something that should take milliseconds, on a machine that has other things to do.
const Deadline = 2 * time.Minute

// Start starts an embedded server on a port that the system chooses, with its store in the test's directory.
func Start(t testing.TB) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Options{StoreDir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// Connect connects to a server under the test's name. Change may alter the options first.
func Connect(t testing.TB, url string, change ...func(*bus.Options)) *bus.Conn {
	t.Helper()
	o := bus.Options{Name: "test", URL: url}
	for _, fn := range change {
		fn(&o)
	}
	var c *bus.Conn
	Eventually(t, "a connection to "+url, func() bool { // it tries once, and no longer than one does who serves
		var err error
		if c, err = bus.Connect(Context(t), o); err != nil && !errors.Is(err, bus.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Cleanup(c.Close)
	return c
}

// Ready starts an embedded server, connects to it, and makes the streams.
func Ready(t testing.TB) (*embedded.Server, *bus.Conn) {
	t.Helper()
	s := Start(t)
	c := Connect(t, s.ClientURL())
	Streams(t, c)
	return s, c
}

// Streams makes the streams with short leases and returns the ledger's id.
func Streams(t testing.TB, c *bus.Conn) string {
	t.Helper()
	id, err := c.EnsureStreams(Context(t), bus.StreamOptions{LeaseTTL: LeaseTTL})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Context ends with the test, or after Deadline, so that a test that hangs says where.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Deadline)
	t.Cleanup(cancel)
	return ctx
}

// Eventually waits until a condition holds that no event announces.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx := Context(t)
	wait := time.Millisecond
	for !condition() {
		wait = min(wait*3/2, 20*time.Millisecond) // who looks all the time keeps what it waits for from happening
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", Deadline, what)
		}
	}
}
