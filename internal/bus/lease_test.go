package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
)

// candidate wants the lease and says when it has it and why it lost it.
type candidate struct {
	got  chan struct{}
	lost chan error
	stop context.CancelFunc
	done chan error
}

func stand(t *testing.T, c *bus.Conn, name string, holding *atomic.Int32) *candidate {
	t.Helper()
	ctx, stop := context.WithCancel(bustest.Context(t))
	cd := &candidate{make(chan struct{}, 8), make(chan error, 8), stop, make(chan error, 1)}
	go func() {
		cd.done <- c.HoldLease(ctx, name, func(held context.Context) {
			if n := holding.Add(1); n != 1 {
				t.Errorf("%d publishers hold the lease", n)
			}
			cd.got <- struct{}{}
			<-held.Done()
			holding.Add(-1)
			cd.lost <- context.Cause(held)
		})
	}()
	return cd
}

// readyFor is a bus whose lease runs out after so long.
func readyFor(t *testing.T, ttl time.Duration) (*embedded.Server, *bus.Conn) {
	t.Helper()
	s := bustest.Start(t)
	c := bustest.Connect(t, s.ClientURL())
	if _, err := c.EnsureStreams(bustest.Context(t), bus.StreamOptions{LeaseTTL: ttl}); err != nil {
		t.Fatal(err)
	}
	return s, c
}

// shortLease runs out soon; a third of it is room enough for a busy machine.
const shortLease = 6 * time.Second

func TestLeaseStaysWithOneHolderThatRenewsIt(t *testing.T) {
	t.Parallel()
	s, c := readyFor(t, shortLease)
	var holding atomic.Int32
	first := stand(t, c, "first", &holding)
	<-first.got
	second := stand(t, bustest.Connect(t, s.ClientURL()), "second", &holding)
	bustest.Eventually(t, "the lease would have run out", after(shortLease*3/2))
	if len(second.got)+len(first.lost) != 0 {
		t.Error("the lease went away from a holder that renews it")
	}
	for _, c := range []*candidate{first, second} {
		c.stop()
		<-c.done
	}
}

func TestLeaseIsHandedOverAtOnce(t *testing.T) {
	t.Parallel()
	s, c := readyFor(t, time.Hour) // it does not run out, nor does anybody try again, before the test gives up
	var holding atomic.Int32
	first := stand(t, c, "first", &holding)
	<-first.got
	second := stand(t, bustest.Connect(t, s.ClientURL()), "second", &holding)
	third := stand(t, bustest.Connect(t, s.ClientURL()), "third", &holding)
	first.stop()
	if err := <-first.done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case <-second.got:
	case <-third.got:
	}
	second.stop()
	third.stop()
	<-second.done
	<-third.done
}

func after(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().After(end) }
}

func TestLeaseOfADeadHolderRunsOut(t *testing.T) {
	t.Parallel()
	s, c := readyFor(t, shortLease)
	var holding atomic.Int32
	dying := bustest.Connect(t, s.ClientURL())
	first := stand(t, dying, "first", &holding)
	<-first.got
	second := stand(t, c, "second", &holding)
	if held, err := c.Lease(bustest.Context(t)); err != nil || held.Holder != "first" || held.TTL != shortLease || held.Renewed.IsZero() {
		t.Errorf("%+v (%v)", held, err)
	}
	dying.Close()
	if err := <-first.lost; !errors.Is(err, bus.ErrLeaseLost) {
		t.Errorf("lost because of %v, want ErrLeaseLost", err)
	}
	<-second.got // stand fails the test if the first one still held it
	if err := <-first.done; !errors.Is(err, bus.ErrClosed) {
		t.Error(err)
	}
	second.stop()
	<-second.done
	if held, err := c.Lease(bustest.Context(t)); err != nil || held.Holder != "" {
		t.Errorf("given back, and still %+v (%v)", held, err)
	}
}

func TestLeaseSurvivesTheServersDeath(t *testing.T) {
	p := bustest.StartProcess(t)
	c := bustest.Connect(t, p.URL())
	bustest.Streams(t, c)
	var holding atomic.Int32
	only := stand(t, c, "only", &holding)
	<-only.got
	p.Kill()
	if err := <-only.lost; !errors.Is(err, bus.ErrLeaseLost) {
		t.Errorf("lost because of %v, want ErrLeaseLost", err)
	}
	p.Restart()
	<-only.got
	only.stop()
	<-only.done
}

func TestLeaseIsGivenBackWhenItsWorkIsDone(t *testing.T) {
	_, c := bustest.Ready(t)
	for i := range 3 {
		ran := false
		err := c.HoldLease(bustest.Context(t), fmt.Sprint("holder ", i), func(context.Context) { ran = true })
		if err != nil || !ran {
			t.Errorf("ran %t, %v", ran, err)
		}
	}
}
