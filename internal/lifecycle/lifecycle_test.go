package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/leaktest"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestPartsStopLastFirst(t *testing.T) {
	g := lifecycle.New(t.Context())
	var order []string
	for _, name := range []string{"store", "bus", "http"} {
		g.Go(name, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name)
			return ctx.Err()
		})
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"http", "bus", "store"}; !slices.Equal(order, want) {
		t.Errorf("stopped %v, want %v", order, want)
	}
	if err := g.Stop(t.Context()); err != nil || len(order) != 3 {
		t.Errorf("stopped again: %v, %v", order, err)
	}
}

func TestAPartThatFailsEndsTheGroupAndIsNamed(t *testing.T) {
	broken := errors.New("broken")
	g := lifecycle.New(t.Context())
	g.Go("feed", func(context.Context) error { return broken })
	<-g.Done()
	if err := g.Stop(t.Context()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "feed: ") {
		t.Errorf("got %v", err)
	}
}

func TestThePartsOutliveTheirParentUntilTheirTurn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := lifecycle.New(ctx)
	alive := true
	g.Go("store", func(ctx context.Context) error {
		<-ctx.Done()
		alive = false
		return nil
	})
	g.Defer("bus", func(context.Context) error {
		if !alive {
			t.Error("the store ended before its turn")
		}
		return nil
	})
	cancel()
	<-g.Done()
	if err := g.Stop(t.Context()); err != nil {
		t.Errorf("a cancelled parent is no failure: %v", err)
	}
}

func TestAPartThatHangsIsNamedAndDoesNotKeepTheRest(t *testing.T) {
	g := lifecycle.New(t.Context())
	closed := false
	g.Defer("store", func(context.Context) error { closed = true; return nil })
	release := make(chan struct{})
	g.Go("connector", func(context.Context) error { <-release; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Stop(ctx); err == nil || !strings.Contains(err.Error(), "stop connector: did not stop in time") || !closed {
		t.Errorf("got %v, closed %v", err, closed)
	}
	close(release)
}
