package bench_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/agent/agentfile"
	"github.com/lockstep-dev/lockstep/internal/bench"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/leaktest"
)

// TestMain is the agent program too, for the measure of an idle one.
func TestMain(m *testing.M) {
	if len(os.Args) > 5 && os.Args[1] == "run" {
		if err := runAgent(os.Args[3], os.Args[5]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 3 && os.Args[1] == "bench" {
		if err := bench.Part(context.Background(), os.Args[3], os.Args[4:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	leaktest.Main(m, bustest.LeftBehind()...)
}

func runAgent(enrolment, config string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	e, err := keys.ReadEnrolment(enrolment)
	if err != nil {
		return err
	}
	f, err := agentfile.Read(config)
	if err != nil {
		return err
	}
	router, closer, err := f.Open(e)
	if err != nil {
		return err
	}
	a, err := agent.New(f.Options(e, router))
	if err == nil {
		err = a.Run(ctx)
	}
	return errors.Join(err, closer.Close())
}

// Every measure measures something, and leaves nothing behind. What comes out of it is no test's business.
func TestEveryMeasureHasItsRows(t *testing.T) {
	for measure, rows := range map[string]int{
		bench.Propagation: 2, bench.Folded: 1, bench.Stepwise: 1, bench.Consumers: 1, bench.Idle: 2, bench.Rebuild: 1, bench.Watched: 3,
	} {
		t.Run(measure, func(t *testing.T) {
			t.Parallel()
			o := bench.Options{
				Measures: []string{measure}, Agents: []int{1, 3}, Rounds: 2, Revisions: 100, Dir: shortDir(t), AgentsDir: shortDir(t),
				Agent: os.Args[0], Idle: time.Second, Progress: t.Logf,
			}
			got, err := bench.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != rows {
				t.Errorf("%d rows, want %d: %+v", len(got), rows, got)
			}
			for _, r := range got {
				if r.Goal == "" || r.Value == nil && (r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 || r.Floor < 0 || r.Ratio < 0 || r.Rounds != o.Rounds) {
					t.Errorf("not a result: %+v", r)
				}
			}
			for _, dir := range []string{o.Dir, o.AgentsDir} {
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("left in %s: %v %v", dir, left, err)
				}
			}
		})
	}
}

// shortDir is a directory whose name leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestOptionsThatMeasureNothingAreRefused(t *testing.T) {
	for name, o := range map[string]bench.Options{
		"unknown measure": {Measures: []string{"speed"}},
		"no agents":       {Measures: []string{bench.Propagation}, Agents: []int{1, 0}},
		"no rounds":       {Measures: []string{bench.Propagation}, Rounds: -1},
		"no program":      {Measures: []string{bench.Idle}, Agent: "/nowhere/agent"},
	} {
		t.Run(name, func(t *testing.T) {
			if rows, err := bench.Run(t.Context(), o); err == nil {
				t.Errorf("measured %+v", rows)
			}
		})
	}
}
