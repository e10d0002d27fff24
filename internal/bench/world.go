package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	agentName    = "a1"
	author       = "anna"
	approver     = "ben"
	reason       = "measure how fast this arrives"
	keysPerAgent = 10
	changedKey   = "variable/changed"
	unchanged    = `"a value that stays as it is"`
	arrival      = 2 * time.Minute // how long a change may take to arrive everywhere
)

func environmentName(i int) string { return fmt.Sprintf("env-%04d", i) }

func roundValue(n uint64) json.RawMessage { return json.RawMessage(strconv.FormatUint(n, 10)) }

// A world is a publisher with environments and agents.
type world struct {
	publisher *publisher.Publisher
	group     *lifecycle.Group
	rounds    uint64
}

// newWorld starts a publisher with environments. Its parts end with the group.
func newWorld(ctx context.Context, g *lifecycle.Group, dir string, environments int) (*world, error) {
	p, err := publisher.New(ctx, publisher.Options{Data: filepath.Join(dir, "publisher"), Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	g.Defer("publisher", p.Stop)
	if err := p.Start(); err != nil {
		return nil, err
	}
	w := &world{publisher: p, group: g}
	for i := range environments {
		if _, err := w.do(ctx, author, ledger.AddEnvironment{Name: environmentName(i), Approvals: 1}); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) do(ctx context.Context, by string, body ledger.Body) (ledger.Outcome, error) {
	return w.publisher.Do(ctx, ledger.Command{By: by, Body: body}, false)
}

// startAgent starts an agent for an environment, with one JSON file as its instance.
func (w *world) startAgent(ctx context.Context, environment, dir string) error {
	e, err := w.enrol(ctx, environment)
	if err != nil {
		return err
	}
	a, err := openAgent(w.group, e, dir, false)
	if err != nil {
		return err
	}
	w.group.Go("agent of "+environment, a.Run)
	return nil
}

// openAgent makes an agent with one JSON file as its instance, not started.
func openAgent(g *lifecycle.Group, e *keys.Enrolment, dir string, step bool) (*agent.Agent, error) {
	if err := os.MkdirAll(filepath.Join(dir, "app"), 0o700); err != nil {
		return nil, err
	}
	instance, err := file.Open("app", instance, dir, e.Environment+"/"+e.Agent)
	if err != nil {
		return nil, err
	}
	g.Defer("instance of "+e.Environment, func(context.Context) error { return instance.Close() })
	router, err := connector.NewRouter([]connector.Route{{Resources: instanceKeys, Connector: instance}})
	if err != nil {
		return nil, err
	}
	return agent.New(agent.Options{Enrolment: e, State: filepath.Join(dir, "state"), Router: router, Step: step, Log: zerolog.Nop()})
}

var (
	instanceKeys = []connector.Glob{"variable/*", "flag/*"}
	instance     = file.Config{Root: "app", Files: []file.File{{Path: "config.json", Resources: instanceKeys}}}
)

// enrol makes an agent's key and its enrolment.
func (w *world) enrol(ctx context.Context, environment string) (*keys.Enrolment, error) {
	seed, err := keys.NewSeed()
	if err != nil {
		return nil, err
	}
	signer, err := events.NewSigner(seed)
	if err != nil {
		return nil, err
	}
	if _, err := w.do(ctx, author, ledger.EnrolAgent{Environment: environment, Agent: agentName, Key: signer.Public()}); err != nil {
		return nil, err
	}
	e := &keys.Enrolment{Environment: environment, Agent: agentName, Seed: string(seed), Bus: keys.Bus{URL: w.publisher.BusURL()}}
	w.publisher.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		head := s.Environments[environment].Fold
		e.Ledger, e.Publishers, e.Head = s.ID, s.Trust().Publishers, keys.Head{Revision: head.Revision, Chain: head.Chain}
		e.Trust, err = s.Trust().Digest()
	})
	return e, err
}

// first are the values that every environment begins with.
func first(n int) map[string]json.RawMessage {
	values := map[string]json.RawMessage{changedKey: roundValue(0)}
	for i := range n - 1 {
		values["variable/v"+strconv.Itoa(i)] = json.RawMessage(unchanged)
	}
	return values
}

// propose proposes values for all environments.
func (w *world) propose(ctx context.Context, values map[string]json.RawMessage) (ledger.Approve, error) {
	proposed, err := w.do(ctx, author, ledger.Propose{Reason: reason, Edits: []ledger.Edit{{Environments: []string{"*"}, Set: values}}})
	approve := ledger.Approve{Change: proposed.Change}
	w.publisher.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		if err == nil {
			approve.Digest = s.Changes[proposed.Change].Digest
		}
	})
	return approve, err
}

// arrive approves a proposed change and returns how long it took until the last agent had acknowledged it, and the fleet view was built.
func (w *world) arrive(ctx context.Context, approve ledger.Approve) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	began := time.Now()
	out, err := w.do(ctx, approver, approve)
	if err != nil {
		return 0, err
	}
	if err := w.publisher.Await(ctx, out.Released); err != nil {
		return 0, err
	}
	_ = w.publisher.Fleet()
	return time.Since(began), nil
}

// settle waits until the deliveries of a change are in the ledger: that work is not any round's.
func (w *world) settle(ctx context.Context, change string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var c *ledger.Change
		w.publisher.Read(func(s *ledger.State, _ fleet.Reports, asOf time.Time) {
			if found := s.Changes[change]; found.Status(asOf) == ledger.StatusDelivered {
				c = found
			}
		})
		if c != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-w.group.Done():
			return errors.Join(w.group.Cause(), errors.New("a part of what is measured ended"))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// next proposes the change of the next round.
func (w *world) next(ctx context.Context) (ledger.Approve, error) {
	w.rounds++
	return w.propose(ctx, map[string]json.RawMessage{changedKey: roundValue(w.rounds)})
}

// round takes one change to all agents and returns how long that took.
func (w *world) round(ctx context.Context) (time.Duration, error) {
	approve, err := w.next(ctx)
	if err != nil {
		return 0, err
	}
	took, err := w.arrive(ctx, approve)
	if err != nil {
		return 0, err
	}
	return took, w.settle(ctx, approve.Change)
}
