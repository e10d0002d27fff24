package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// The measures.
const (
	Propagation = "propagation"
	Folded      = "catch-up-folded"
	Stepwise    = "catch-up-stepwise"
	Consumers   = "idle-consumers"
	Idle        = "idle-agent"
	Rebuild     = "rebuild"
	Watched     = "watched"
)

// Measures are all of them, in the order in which they run.
var Measures = []string{Propagation, Folded, Stepwise, Consumers, Idle, Rebuild, Watched}

// Options of a run. The zero value of a field is its default.
type Options struct {
	Measures  []string                         // which; empty: all
	Agents    []int                            // how many, one propagation each; empty: 1, 100, 1000
	Rounds    int                              // of each propagation; 0: 30
	Revisions int                              // to catch up with, and to rebuild; 0: 20,000
	Dir       string                           // where the buses and a lone agent keep their data; empty: the temporary directory
	AgentsDir string                           // where several agents keep theirs; empty: Dir
	Agent     string                           // path of the agent program; empty: beside this program
	Idle      time.Duration                    // how long the idle agent is watched; 0: 30 s
	Progress  func(format string, args ...any) // told of what is going on; nil: nobody is
}

// A Row is one result. What a measure does not have is zero. Ratio is product over floor of times, and product over floor of speeds
// where the goal is a speed.
type Row struct {
	Measure string   `json:"measure"`
	Agents  int      `json:"agents"`
	Rounds  int      `json:"rounds,omitzero"`
	P50     float64  `json:"p50_ms,omitzero"`
	P95     float64  `json:"p95_ms,omitzero"`
	P99     float64  `json:"p99_ms,omitzero"`
	Max     float64  `json:"max_ms,omitzero"`
	Floor   float64  `json:"floor_p50_ms,omitzero"`
	Ratio   float64  `json:"ratio,omitzero"`
	Value   *float64 `json:"value,omitempty"` // of measures that are no times, with its unit
	Unit    string   `json:"unit,omitempty"`
	Goal    string   `json:"goal"`
	Met     bool     `json:"met"`
}

const (
	slower     = 1.5 // how much slower than the floor propagation and rebuild may be
	manyAgents = 1000
)

func (o Options) withDefaults() (Options, error) {
	if len(o.Measures) == 0 {
		o.Measures = Measures
	}
	for _, m := range o.Measures {
		if !slices.Contains(Measures, m) {
			return o, fmt.Errorf("there is no measure %q: want %s", m, strings.Join(Measures, ", "))
		}
	}
	if len(o.Agents) == 0 {
		o.Agents = []int{1, 100, manyAgents}
	}
	o.Rounds, o.Revisions, o.Idle = cmp.Or(o.Rounds, 30), cmp.Or(o.Revisions, 20_000), cmp.Or(o.Idle, 30*time.Second)
	if slices.Min(o.Agents) < 1 || o.Rounds < 1 || o.Revisions < 100 || o.Idle < time.Second {
		return o, fmt.Errorf("at least 1 agent, 1 round, 100 revisions and 1s of idling are measured")
	}
	if slices.Contains(o.Measures, Idle) {
		var err error
		if o.Agent, err = findAgent(o.Agent); err != nil {
			return o, err
		}
	}
	o.Dir = cmp.Or(o.Dir, os.TempDir())
	o.AgentsDir = cmp.Or(o.AgentsDir, o.Dir)
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	return o, nil
}

// Run measures and returns the rows. Everything that it writes is below a directory of its own in Dir and AgentsDir, and removed.
func Run(ctx context.Context, o Options) (rows []Row, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	run := map[string]func(context.Context, Options) ([]Row, error){
		Propagation: propagation, Folded: folded, Stepwise: stepwise, Consumers: consumers, Idle: idle, Rebuild: rebuild, Watched: watched,
	}
	for _, m := range Measures {
		if !slices.Contains(o.Measures, m) {
			continue
		}
		more, err := run[m](ctx, o)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", m, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// times are the durations of some rounds.
type times []time.Duration

// quantile is the smallest time that the share q of all does not exceed.
func (t times) quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(t))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// alternate runs product and floor in turns. Before is not timed.
func alternate(ctx context.Context, rounds int, product, floor func(context.Context) (time.Duration, error)) (p, f times, err error) {
	for range rounds {
		took, err := product(ctx)
		if err != nil {
			return nil, nil, err
		}
		bare, err := floor(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("floor: %w", err)
		}
		p, f = append(p, took), append(f, bare)
	}
	return p, f, nil
}

// atMost is the row of a measure that may take a multiple of the floor's time.
func atMost(measure string, agents int, product, floor times, times float64) Row {
	r := newRow(measure, agents, product, floor)
	r.Ratio = r.P50 / r.Floor
	r.Goal, r.Met = fmt.Sprintf("≤ %g × floor", times), r.Ratio <= times
	return r
}

// atLeast is the row of a measure that is to have a share of the floor's speed.
func atLeast(measure string, agents int, product, floor times, share float64) Row {
	r := newRow(measure, agents, product, floor)
	r.Ratio = r.Floor / r.P50
	r.Goal, r.Met = fmt.Sprintf("≥ %g × floor's speed", share), r.Ratio >= share
	return r
}

func newRow(measure string, agents int, product, floor times) Row {
	r := timesRow(measure, agents, len(product), product)
	r.Floor = ms(floor.quantile(0.5))
	return r
}

func timesRow(measure string, agents, rounds int, of times) Row {
	return Row{Measure: measure, Agents: agents, Rounds: rounds, P50: ms(of.quantile(0.5)), P95: ms(of.quantile(0.95)), P99: ms(of.quantile(0.99)), Max: ms(of.quantile(1))}
}

// removed makes a directory that remove takes away. Its name is short: a socket's path has at most 107 bytes.
func removed(parent string) (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp(parent, "lockstep-bench-")
	return dir, func() { _ = os.RemoveAll(dir) }, err // what stays is in a temporary directory
}
