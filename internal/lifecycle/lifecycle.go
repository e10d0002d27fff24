// Package lifecycle runs the parts of a program and stops them in reverse order.
//
// Guarantees: parts are stopped last first, each named in the error that it leaves behind; stopping ends when its context does,
// whatever a part does; a part that fails stops the whole, and its error is the cause. It restarts nothing.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A Group is the running parts of one program. It is used by one goroutine, except for Done and Cause.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	stops  []stop
}

type stop struct {
	name string
	fn   func(context.Context) error
}

// New is a group without parts; it ends when ctx does.
func New(ctx context.Context) *Group {
	g := &Group{}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

// Defer adds what releases something when the group stops.
func (g *Group) Defer(name string, fn func(ctx context.Context) error) {
	g.stops = append(g.stops, stop{name, fn})
}

// Go runs a part until its context ends, which happens when its turn to stop comes. A part that returns an error ends the group;
// the context's own error is none.
func (g *Group) Go(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(g.ctx))
	var result error
	var wg sync.WaitGroup
	wg.Go(func() {
		result = run(ctx)
		if ctx.Err() != nil && errors.Is(result, ctx.Err()) {
			result = nil
		}
		if result != nil {
			g.Fail(fmt.Errorf("%s: %w", name, result))
		}
	})
	g.Defer(name, func(bounded context.Context) error {
		cancel()
		ended := make(chan struct{})
		go func() { wg.Wait(); close(ended) }()
		select {
		case <-ended:
			return nil // a failure is the cause already
		case <-bounded.Done():
			return errors.New("did not stop in time")
		}
	})
}

// Fail ends the group with a cause.
func (g *Group) Fail(err error) { g.cancel(err) }

// Done is closed when the group should stop.
func (g *Group) Done() <-chan struct{} { return g.ctx.Done() }

// Cause is the failure that ended the group; nil when its context ended it or nothing has.
func (g *Group) Cause() error {
	if cause := context.Cause(g.ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// Stop stops all parts, last first, and returns what ended the group joined with what went wrong in stopping. ctx bounds it.
// Stopping again does nothing.
func (g *Group) Stop(ctx context.Context) error {
	errs := []error{g.Cause()}
	g.cancel(nil)
	for len(g.stops) > 0 {
		s := g.stops[len(g.stops)-1]
		g.stops = g.stops[:len(g.stops)-1]
		if err := s.fn(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}
