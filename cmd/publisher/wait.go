package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// waiting are the flags of a verb that can wait for what it released.
type waiting struct {
	on      bool
	timeout time.Duration
}

func (w *waiting) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.on, "wait", false, "wait until every environment has acknowledged; exit 6 on timeout, 7 when one failed")
	cmd.Flags().DurationVar(&w.timeout, "timeout", 2*time.Minute, "how long --wait waits")
}

const waitInterval = 300 * time.Millisecond

// errTimeout is the cause of a wait's end.
var errTimeout = errors.New("the time to wait is over")

// follow waits until every release was acknowledged, and says how it goes: on one line that is written over where that can be,
// otherwise on a line for each environment.
func (c *cli) follow(ctx context.Context, w waiting, what string, releases []events.ReleaseRef) error {
	publisher, _, err := c.connect()
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, w.timeout, errTimeout)
	defer cancel()
	f := follower{cli: c, publisher: publisher, open: slices.Clone(releases), all: len(releases), began: time.Now()}
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	for {
		err := f.look(bounded)
		switch {
		case errors.Is(err, errTimeout):
			f.clear()
			return &exitError{exitWaiting, fmt.Sprintf("after %s %d of %d environments have not acknowledged %s: %s; go on with 'publisher status'",
				w.timeout, len(f.open), f.all, what, strings.Join(f.standing, ", "))}
		case err != nil:
			f.clear()
			return err
		case len(f.open) == 0:
			return f.end(what)
		}
		select {
		case <-ticker.C:
		case <-bounded.Done():
		}
	}
}

// A follower follows releases until agents have said what became of them.
type follower struct {
	*cli
	publisher *client.Client
	open      []events.ReleaseRef // not acknowledged
	all       int
	began     time.Time
	failed    []string
	standing  []string // where the open ones stand
}

// look takes away what was acknowledged. It only asks for a release whose environment has reached it, or has trouble.
func (f *follower) look(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	view, err := f.publisher.Fleet(ctx)
	if err != nil {
		return err
	}
	environments := map[string]fleet.Environment{}
	for _, e := range view.Environments {
		environments[e.Name] = e
	}
	f.standing = nil
	var open []events.ReleaseRef
	for _, ref := range f.open {
		e := environments[ref.Environment]
		trouble := e.Condition == fleet.Failing || e.Condition == fleet.Torn || e.Condition == fleet.Differing
		if e.Revision >= ref.Revision || trouble {
			ended, err := f.judge(ctx, ref, e)
			if err != nil {
				return err
			}
			if ended {
				continue
			}
		}
		open = append(open, ref)
		f.standing = append(f.standing, standing(e))
	}
	f.open = open
	f.progress()
	return nil
}

// judge says what became of a release, and whether it has ended.
func (f *follower) judge(ctx context.Context, ref events.ReleaseRef, e fleet.Environment) (ended bool, err error) {
	r, err := f.publisher.Release(ctx, ref.Environment, ref.Revision)
	if err != nil {
		return false, err
	}
	for _, a := range r.Agents {
		if slices.Contains([]events.Word{events.WordFailed, events.WordRefused, events.WordTorn}, a.Word) {
			f.failed = append(f.failed, ref.Environment)
			f.say("%s  revision %d  %s", ref.Environment, ref.Revision, agentLine(a))
			return true, nil
		}
	}
	if e.Condition == fleet.Differing && e.Revision >= ref.Revision {
		f.failed = append(f.failed, ref.Environment)
		f.say("%s  revision %d  differing%s", ref.Environment, ref.Revision, because(e.Message))
		return true, nil
	}
	if e.Revision >= ref.Revision {
		f.say("%s  revision %d  applied after %s", ref.Environment, ref.Revision, took(r.Lag))
		return true, nil
	}
	return false, nil
}

// standing is where an environment stands that has not acknowledged.
func standing(e fleet.Environment) string {
	return e.Name + " is " + string(e.Condition) + because(e.Message)
}

// say writes a line about one environment.
func (f *follower) say(format string, args ...any) {
	f.clear()
	f.note(format, args...)
}

func (f *follower) progress() {
	if !f.live() || len(f.open) == 0 {
		return
	}
	f.clear()
	line := []rune(fmt.Sprintf("%d of %d after %s: %s", f.all-len(f.open), f.all, span(time.Since(f.began).Seconds()), brief(f.standing[0])))
	fmt.Fprint(f.stderr, string(line[:min(len(line), width(f.stderr)-1)])) // a longer one would wrap, and could not be taken away
}

// clear takes the progress line away.
func (f *follower) clear() {
	if f.live() {
		fmt.Fprint(f.stderr, "\r\x1b[K")
	}
}

func (f *follower) end(what string) error {
	if len(f.failed) > 0 {
		return &exitError{exitFailed, fmt.Sprintf("%s could not apply %s; roll it back with 'publisher rollback', or look at 'publisher status %s'",
			strings.Join(f.failed, ", "), what, f.failed[0])}
	}
	f.note("%s was acknowledged by %s", what, plural(f.all, "environment", "environments"))
	return nil
}
