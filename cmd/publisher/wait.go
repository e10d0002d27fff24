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
	"github.com/lockstep-dev/lockstep/internal/console"
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
	f := follower{cli: c, publisher: publisher, open: slices.Clone(releases), all: environments(releases), began: time.Now()}
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	for {
		err := f.look(bounded)
		if err != nil {
			f.clear()
		}
		switch {
		case f.lost.over(c, err):
		case errors.Is(err, errTimeout):
			return f.late(w, what)
		case err != nil:
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

// environments is in how many environments the releases are: a rollback to a revision has one for each change that it undoes.
func environments(releases []events.ReleaseRef) int {
	names := map[string]bool{}
	for _, r := range releases {
		names[r.Environment] = true
	}
	return len(names)
}

// A follower follows releases until agents have said what became of them.
type follower struct {
	*cli
	publisher *client.Client
	open      []events.ReleaseRef // not acknowledged
	all       int                 // environments
	began     time.Time
	failed    []string // environments
	standing  []string // where the open ones stand
	lost      outage
}

// look takes away what was acknowledged. It only asks for a release whose environment has reached it, or has trouble.
func (f *follower) look(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	view, err := fleetOf(ctx, f.publisher, nil)
	if err != nil {
		return err
	}
	environments := map[string]fleet.Environment{}
	for _, e := range view.Environments {
		environments[e.Name] = e
	}
	f.standing = nil
	var open []events.ReleaseRef
	for i, ref := range f.open {
		e := environments[ref.Environment]
		if e.Revision >= ref.Revision || trouble(e.Condition) {
			ended, err := f.judge(ctx, ref, e)
			if err != nil {
				f.open = append(open, f.open[i:]...)
				return err
			}
			if ended {
				continue
			}
		}
		open = append(open, ref)
		if now := standing(e); !slices.Contains(f.standing, now) {
			f.standing = append(f.standing, now)
		}
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
		if slices.Contains([]events.Word{events.WordFailed, events.WordRefused, events.WordTorn, events.WordBlocked}, a.Word) {
			f.fail(ref, agentLine(a))
			return true, nil
		}
	}
	if e.Condition == fleet.Differing && e.Revision >= ref.Revision {
		f.fail(ref, "differing"+because(e.Message))
		return true, nil
	}
	for _, a := range e.Agents {
		if a.Revision < ref.Revision && trouble(a.Condition) && stuck(a, r.Released) {
			f.fail(ref, fmt.Sprintf("%s: %s at revision %d%s", a.Name, a.Condition, a.Revision, because(a.Message)))
			return true, nil
		}
	}
	if e.Revision >= ref.Revision {
		f.say("%s  revision %d  applied after %s", ref.Environment, ref.Revision, took(r.Lag))
		return true, nil
	}
	return false, nil
}

func trouble(c fleet.Condition) bool {
	return c == fleet.Failing || c == fleet.Torn || c == fleet.Differing
}

// stuck says that an agent in trouble does not come out of it by the release: it has been heard for longer than a beat without a word
// about it. It tries what is new at once, because that may mend what failed before, and then says so.
func stuck(a fleet.Agent, released time.Time) bool {
	return a.LastSeen.Sub(released) > fleet.BeatInterval
}

// fail notes that an environment could not apply a release.
func (f *follower) fail(ref events.ReleaseRef, why string) {
	if !slices.Contains(f.failed, ref.Environment) {
		f.failed = append(f.failed, ref.Environment)
	}
	f.say("%s  revision %d  %s", ref.Environment, ref.Revision, why)
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
	if !f.live() || len(f.standing) == 0 {
		return
	}
	f.clear()
	line := []rune(fmt.Sprintf("%d of %d after %s: %s", f.all-environments(f.open), f.all, span(time.Since(f.began).Seconds()), brief(f.standing[0])))
	fmt.Fprint(f.stderr, string(line[:min(len(line), width(f.stderr)-1)])) // a longer one would wrap, and could not be taken away
}

// clear takes the progress line away.
func (f *follower) clear() {
	if f.live() {
		fmt.Fprint(f.stderr, "\r\x1b[K")
	}
}

// late is the error when the time to wait is over.
func (f *follower) late(w waiting, what string) error {
	why := because(strings.Join(f.standing, ", "))
	if !f.lost.since.IsZero() {
		why = ": no publisher answers since " + f.lost.since.UTC().Format(time.RFC3339)
	}
	return console.Exit(console.ExitWaiting, fmt.Sprintf("after %s %s was acknowledged by %d of %s%s; go on with 'publisher status'",
		w.timeout, what, f.all-environments(f.open), plural(f.all, "environment", "environments"), why))
}

func (f *follower) end(what string) error {
	if len(f.failed) > 0 {
		return console.Exit(console.ExitFailed, fmt.Sprintf("%s could not apply %s; roll it back with 'publisher rollback', or look at 'publisher status %s'",
			strings.Join(f.failed, ", "), what, f.failed[0]))
	}
	f.note("%s was acknowledged by %s", what, plural(f.all, "environment", "environments"))
	return nil
}
