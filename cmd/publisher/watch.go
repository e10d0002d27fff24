package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/fleet"
)

const watchInterval = 2 * time.Second

// watch shows the status again and again until it is interrupted.
func (c *cli) watch(ctx context.Context, publisher *client.Client, args []string) error {
	w := watcher{cli: c, publisher: publisher, args: args, moved: map[string]string{}}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		if err := w.look(ctx); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A watcher shows the status once it has changed, and waits for a publisher that does not answer if it has answered before.
type watcher struct {
	*cli
	publisher *client.Client
	args      []string
	answered  bool
	lost      outage
	warned    []string          // shown last
	moved     map[string]string // shown last, by environment
}

func (w *watcher) look(ctx context.Context) error {
	view, wrong, err := overview(ctx, w.publisher, w.args)
	if w.answered && w.lost.over(w.cli, err) {
		return nil
	}
	if err != nil {
		return err
	}
	w.answered = true
	if isTerminal(w.stdout) && w.live() && w.format.People() {
		fmt.Fprint(w.stdout, "\x1b[H\x1b[2J")
		w.notes(wrong)
		return w.showStatus(view, w.args)
	}
	if !slices.Equal(wrong, w.warned) {
		w.notes(wrong)
		w.warned = wrong
	}
	if w.format == "json" {
		return w.jsonLine(view)
	}
	w.showMoves(view)
	return nil
}

// overview is the fleet, or the environment that is named, and what is wrong beside it.
func overview(ctx context.Context, publisher *client.Client, args []string) (view fleet.View, wrong []string, err error) {
	if view, err = fleetOf(ctx, publisher, args); err != nil {
		return view, nil, err
	}
	missed, err := missedWindows(ctx, publisher)
	return view, append(warnings(view), missed...), err
}

// jsonLine writes what status -o json writes, on one line.
func (w *watcher) jsonLine(view fleet.View) error {
	enc := json.NewEncoder(w.stdout)
	enc.SetEscapeHTML(false)
	if len(w.args) == 1 && !isPattern(w.args[0]) {
		return enc.Encode(view.Environments[0])
	}
	return enc.Encode(view)
}

// showMoves writes a line for each environment that stands elsewhere than it did.
func (w *watcher) showMoves(view fleet.View) {
	for _, e := range view.Environments {
		now := strings.TrimRight(fmt.Sprintf("%s  %d of %d  %s  %s", e.Name, e.Revision, e.Head, e.Condition, why(string(e.Reason), e.Message)), " ")
		if w.moved[e.Name] != now {
			w.moved[e.Name] = now
			w.line("%s  %s", view.AsOf.UTC().Format(time.RFC3339), now)
		}
	}
}

// An outage is since when no publisher answers; zero while one does.
type outage struct{ since time.Time }

// over says whether err only means that no publisher answers now, which is ridden over. It tells the beginning and the end.
func (o *outage) over(c *cli, err error) bool {
	before := o.since
	away := o.observe(err)
	switch {
	case away && before.IsZero():
		c.note("%s; trying again: %s", o, plain(err.Error()))
	case err == nil && !before.IsZero():
		c.note("the publisher answers again")
	}
	return away
}

// observe takes note of an answer, or of what came instead, and says whether that is that no publisher answers now.
func (o *outage) observe(err error) (away bool) {
	away = err != nil && api.KindOf(err) == api.KindUnavailable
	switch {
	case away && o.since.IsZero():
		o.since = time.Now()
	case err == nil:
		o.since = time.Time{}
	}
	return away
}

func (o *outage) String() string {
	return "! no publisher answers since " + o.since.UTC().Format(time.RFC3339)
}
