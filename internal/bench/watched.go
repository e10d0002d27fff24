package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

const (
	watchers  = 50
	flagsEach = 5
	watchable = 1.1                    // how much slower propagation may be while they watch
	answered  = 100 * time.Millisecond // how long a page may take
	calm      = 2 * time.Millisecond   // for each agent, before each approval: to open a page is not to watch it
)

// watched measures what those who watch cost, and how long they wait.
func watched(ctx context.Context, o Options) (rows []Row, err error) {
	n := slices.Max(o.Agents)
	err = stage(ctx, o, max(n, 2), func(g *lifecycle.Group, dir, agentsDir string) error {
		o.Progress("%s: starting %d agents", Watched, n)
		w, err := newAudience(ctx, g, dir, agentsDir, n)
		if err != nil {
			return err
		}
		if _, _, err := alternate(ctx, warmUp, w.watched, w.unwatched); err != nil {
			return err
		}
		w.served, w.waited = nil, nil
		o.Progress("%s: %d agents, %d who watch, %d rounds", Watched, n, watchers, o.Rounds)
		seen, unseen, err := alternate(ctx, o.Rounds, w.watched, w.unwatched)
		if err == nil {
			rows = w.rows(n, seen, unseen)
		}
		return err
	})
	return rows, err
}

// An audience are browsers that watch a publisher's pages, whose time is taken at the publisher and at the browsers.
type audience struct {
	*world
	agents  int
	url     string
	served  times // by the publisher, from when it had the request to the last byte
	waited  times // by the browsers, from when they asked to the last byte
	mu      sync.Mutex
	serving times // not in served yet
	since   time.Time
}

func newAudience(ctx context.Context, g *lifecycle.Group, dir, agentsDir string, n int) (*audience, error) {
	w, err := newWorld(ctx, g, dir, n)
	if err != nil {
		return nil, err
	}
	for i := range n {
		e, err := w.enrol(ctx, environmentName(i))
		if err != nil {
			return nil, err
		}
		home := filepath.Join(agentsDir, e.Environment)
		if err := os.Mkdir(home, 0o700); err != nil {
			return nil, err
		}
		if err := e.Write(filepath.Join(home, enrolmentFile)); err != nil {
			return nil, err
		}
	}
	agents, err := startPart(context.WithoutCancel(ctx), partAgents, agentsDir)
	if err != nil {
		return nil, err
	}
	g.Defer("agents", func(context.Context) error { return agents.end(nil) })
	a := &audience{world: w, agents: n}
	if err := a.serve(g); err != nil {
		return nil, err
	}
	values := first(keysPerAgent)
	for i := range flagsEach {
		values[fmt.Sprintf("flag/f%d", i)] = json.RawMessage(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}`)
	}
	approve, err := w.propose(ctx, values)
	if err != nil {
		return nil, err
	}
	if _, err := w.arrive(ctx, approve); err != nil {
		return nil, err
	}
	return a, w.settle(ctx, approve.Change)
}

// serve serves what the publisher serves, and takes the time.
func (a *audience) serve(g *lifecycle.Group) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a.url = "http://" + l.Addr().String()
	g.Go("pages", func(ctx context.Context) error {
		pages := a.publisher.Handler(ctx.Done())
		return telemetry.Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			began := time.Now()
			pages.ServeHTTP(w, r)
			if r.URL.Path == "/live" {
				return
			}
			_ = http.NewResponseController(w).Flush() // the browser has gone
			a.mu.Lock()
			defer a.mu.Unlock()
			if began.After(a.since) {
				a.serving = append(a.serving, time.Since(began))
			}
		}))
	})
	return nil
}

// taken are the times of what was asked for since it was called last.
func (a *audience) taken() (served times) {
	a.mu.Lock()
	defer a.mu.Unlock()
	served, a.serving, a.since = a.serving, nil, time.Now()
	return served
}

// pages are what the browsers look at: every kind of page, those of what is under way more often.
func pages(change string) (out []string) {
	kinds := []string{"/", "/propagation", "/changes/" + change, "/environments/" + environmentName(0), "/changes", "/?filter=state%3Dbehind", "/flags", "/delivery", "/audit", "/approvals", "/alarms"}
	for i := range watchers {
		out = append(out, kinds[i%len(kinds)])
	}
	return out
}

// watched is a round while browsers watch.
func (a *audience) watched(ctx context.Context) (took time.Duration, err error) {
	approve, err := a.next(ctx)
	if err != nil {
		return 0, err
	}
	browsers, err := startPart(ctx, append([]string{partWatchers, a.url}, pages(approve.Change)...)...)
	if err != nil {
		return 0, err
	}
	took, err = a.calmly(ctx, approve)
	var waited []time.Duration
	if ended := browsers.end(&waited); err == nil {
		err = ended
	}
	a.served, a.waited = append(a.served, a.taken()...), append(a.waited, waited...)
	return took, err
}

// unwatched is a round while nobody does.
func (a *audience) unwatched(ctx context.Context) (time.Duration, error) {
	approve, err := a.next(ctx)
	if err != nil {
		return 0, err
	}
	return a.calmly(ctx, approve)
}

// calmly takes a change to all agents, once what went before has passed.
func (a *audience) calmly(ctx context.Context, approve ledger.Approve) (took time.Duration, err error) {
	select {
	case <-time.After(calm * time.Duration(a.agents)):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	a.taken() // before the approval
	if took, err = a.arrive(ctx, approve); err == nil {
		err = a.settle(ctx, approve.Change)
	}
	return took, err
}

func (a *audience) rows(n int, seen, unseen times) []Row {
	row := newRow(Watched, n, seen, unseen)
	row.Ratio = row.P50 / row.Floor
	row.Goal, row.Met = fmt.Sprintf("≤ %g × unwatched", watchable), row.Ratio <= watchable
	rows := []Row{row}
	for _, of := range []struct {
		name string
		times
	}{{"-pages", a.served}, {"-pages-browser", a.waited}} {
		row := timesRow(Watched+of.name, n, len(seen), of.times)
		row.Goal, row.Met = fmt.Sprintf("p99 ≤ %s", answered), row.P99 <= ms(answered)
		rows = append(rows, row)
	}
	return rows
}
