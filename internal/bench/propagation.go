package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus/bare"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// warmUp are the rounds that are not counted.
const warmUp = 2

// stage gives a measure directories and a group, and takes both away.
func stage(ctx context.Context, o Options, agents int, measure func(g *lifecycle.Group, dir, agentsDir string) error) (err error) {
	dir, remove, err := removed(o.Dir)
	if err != nil {
		return err
	}
	defer remove()
	agentsDir := dir
	if agents > 1 {
		if agentsDir, remove, err = removed(o.AgentsDir); err != nil {
			return err
		}
		defer remove()
	}
	g := lifecycle.New(ctx)
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, g.Stop(bounded))
	}()
	return measure(g, dir, agentsDir)
}

// propagation measures the way of a change to each number of agents.
func propagation(ctx context.Context, o Options) (rows []Row, err error) {
	for _, n := range o.Agents {
		err := stage(ctx, o, n, func(g *lifecycle.Group, dir, agentsDir string) error {
			o.Progress("%s: starting %d agents", Propagation, n)
			w, err := newFleet(ctx, g, dir, agentsDir, n)
			if err != nil {
				return err
			}
			f, err := newFloor(ctx, g, dir, agentsDir, n)
			if err != nil {
				return fmt.Errorf("floor: %w", err)
			}
			if _, _, err := alternate(ctx, warmUp, w.round, f.round); err != nil {
				return err
			}
			o.Progress("%s: %d agents, %d rounds", Propagation, n, o.Rounds)
			product, floor, err := alternate(ctx, o.Rounds, w.round, f.round)
			if err == nil {
				rows = append(rows, atMost(Propagation, n, product, floor, slower))
			}
			return err
		})
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// newFleet starts a publisher and agents, which have applied a first change.
func newFleet(ctx context.Context, g *lifecycle.Group, dir, agentsDir string, n int) (*world, error) {
	w, err := newWorld(ctx, g, dir, n)
	if err != nil {
		return nil, err
	}
	for i := range n {
		if err := w.startAgent(ctx, environmentName(i), filepath.Join(agentsDir, environmentName(i))); err != nil {
			return nil, err
		}
	}
	approve, err := w.propose(ctx, first(keysPerAgent))
	if err != nil {
		return nil, err
	}
	if _, err := w.arrive(ctx, approve); err != nil {
		return nil, err
	}
	return w, w.settle(ctx, approve.Change)
}

// consumers counts what idle agents leave on the server.
func consumers(ctx context.Context, o Options) (rows []Row, err error) {
	n := slices.Max(o.Agents)
	err = stage(ctx, o, n, func(g *lifecycle.Group, dir, agentsDir string) error {
		o.Progress("%s: starting %d agents", Consumers, n)
		w, err := newFleet(ctx, g, dir, agentsDir, n)
		if err != nil {
			return err
		}
		conn, err := bare.Dial(w.publisher.BusURL())
		if err != nil {
			return err
		}
		defer conn.Close()
		size, err := conn.Size(ctx, events.StreamReleases)
		left := float64(size.Consumers)
		rows = []Row{{Measure: Consumers, Agents: n, Value: &left, Unit: "consumers", Goal: "0", Met: left == 0}}
		return err
	})
	return rows, err
}
