package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// lookAgain is how often PlanStopped looks whether it has caught up.
const lookAgain = 20 * time.Millisecond

// PlanStopped is the plan of an agent that does not run: it reads its state, follows the releases up to the head, and compares. It
// writes nothing and says nothing to the bus. Errors wrap bus.ErrUnavailable where the bus cannot be reached.
func PlanStopped(ctx context.Context, o Options) (_ *Plan, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	e := o.Enrolment
	p := &Plan{Environment: e.Environment, Agent: e.Agent}
	trusted, err := believe(e)
	if err != nil {
		return nil, err
	}
	env, err := loadStopped(o.State, e.Ledger, e.Environment, trusted)
	if err != nil {
		return nil, err
	}
	p.From = env.Revision
	var applied fold.State
	for key, r := range env.State.All() {
		applied.Set(key, r)
	}
	p.FirstContact = isFirstContact(&applied)
	steps, err := catchUp(ctx, &o, env, trusted)
	if err != nil {
		return nil, err
	}
	p.To = env.Revision
	c := chain{opts: &o, target: env}
	for _, s := range steps {
		c.waiting = append(c.waiting, link{step: s})
	}
	want, err := c.wanted()
	if err != nil {
		return nil, err
	}
	return p, p.fill(ctx, o.Router, want, &env.State, &applied)
}

func loadStopped(dir, ledger, environment string, trusted *believed) (env *fold.Environment, err error) {
	s, err := store.OpenReadOnly(filepath.Join(dir, storeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fold.New(ledger, environment), nil
	}
	if err != nil {
		return nil, err
	}
	defer s.Close()
	err = s.View(func(tx *store.Tx) (err error) {
		env, err = tx.Environment()
		return err
	})
	if err == nil {
		trusted.learn(env.Trust)
	}
	return env, err
}

// catchUp folds everything that the bus has into env.
func catchUp(ctx context.Context, o *Options, env *fold.Environment, trusted *believed) ([]*fold.Step, error) {
	e := o.Enrolment
	conn, err := bus.Connect(ctx, bus.Options{
		Name: e.Environment + "." + e.Agent + ".plan", URL: e.Bus.URL, InProcess: o.InProcess,
		Credentials: e.Bus.Credentials, JWT: e.Bus.JWT, Seed: e.Seed, CA: e.Bus.CA, Authorities: e.Bus.Authorities, Cert: e.Bus.Cert, Key: e.Bus.Key,
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	feed, err := conn.Feed(bus.FeedOptions{Environment: e.Environment, Position: bus.Position{Revision: env.Revision, Chain: env.Chain}, Verify: trusted.verify, Peek: trusted.readAhead})
	if err != nil {
		return nil, err
	}
	defer feed.Close()
	var steps []*fold.Step
	for {
		look, cancel := context.WithTimeout(ctx, lookAgain)
		run, err := feed.Next(look)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("follow the releases: %w: %w", bus.ErrUnavailable, errors.Join(context.Cause(ctx), feed.Problem()))
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return nil, err
		case len(run) == 0:
			if !feed.LastChecked().IsZero() && feed.Head() <= env.Revision {
				return steps, nil
			}
			continue
		}
		for _, r := range run {
			step, err := env.Accept(r.Payload)
			if err != nil {
				return nil, err
			}
			if err := checkPin(o, step.Release.Revision, step.Chain); err != nil {
				return nil, err
			}
			trusted.learn(step.Release.Trust)
			steps = append(steps, step)
		}
	}
}

// A CheckpointView is what is durable at an agent.
type CheckpointView struct {
	store.Identity
	Checkpoint store.Checkpoint `json:"checkpoint"`
	Trust      int              `json:"trust"` // version of the trust document at the checkpoint
	Resources  []ResourceView   `json:"resources"`
}

// A ResourceView is one resource at the checkpoint, with the change that set it. Secrets are references.
type ResourceView struct {
	Key     string        `json:"key"`
	Value   any           `json:"value"`
	Deleted bool          `json:"deleted,omitempty"`
	Setter  events.Digest `json:"setter"`
	Change  string        `json:"change,omitempty"`
}

// ViewCheckpoint reads a store's checkpoint, and thereby verifies it.
func ViewCheckpoint(s *store.Store) (*CheckpointView, error) {
	view := &CheckpointView{Identity: s.Identity(), Resources: []ResourceView{}}
	err := s.View(func(tx *store.Tx) error {
		env, err := tx.Environment()
		if err != nil {
			return err
		}
		checkpoint, err := tx.Checkpoint()
		if err != nil || checkpoint == nil {
			return err
		}
		view.Checkpoint, view.Trust = *checkpoint, env.Trust.Version
		for key, r := range env.State.All() {
			resource := ResourceView{Key: key, Deleted: r.Value == nil, Setter: r.Setter, Change: env.Accepted[r.Setter].ID}
			if r.Value != nil {
				resource.Value = r.Value
			}
			view.Resources = append(view.Resources, resource)
		}
		return nil
	})
	return view, err
}

// StatusStopped is the status of an agent that does not run, from its store.
func StatusStopped(dir string) (*Status, error) {
	s, err := openStopped(dir)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	id := s.Identity()
	status := &Status{Environment: id.Environment, Agent: id.Agent, Ledger: id.Ledger,
		Condition: Condition{Word: "stopped", Message: "the agent does not run"}, Connectors: []ConnectorStatus{}}
	err = s.View(func(tx *store.Tx) error {
		env, err := tx.Environment()
		if err != nil {
			return err
		}
		checkpoint, err1 := tx.Checkpoint()
		intent, err2 := tx.Intent()
		outbox, err3 := tx.Outbox()
		tip, err4 := tx.Tip()
		var err5, err6 error
		status.Failure, err5 = tx.Failure()
		status.Hold, err6 = tx.Hold()
		if checkpoint != nil {
			status.Checkpoint = *checkpoint
		}
		if tip != nil {
			status.Tip, status.LastPulse = tip.Tip, tip.At
		}
		status.Followed, status.Head, status.Whole, status.Outbox = env.Revision, env.Revision, intent == nil, len(outbox)
		return errors.Join(err1, err2, err3, err4, err5, err6)
	})
	return status, err
}

// StatusSilent is the status of an agent that runs and does not answer, from a copy of its store, which it has locked: what it would find
// there after a crash.
func StatusSilent(dir string, silence error) (_ *Status, err error) {
	at, err := os.MkdirTemp("", "agent-status-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(at)) }()
	held, err := os.ReadFile(filepath.Join(dir, storeFile))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(at, storeFile), held, 0o600); err != nil {
		return nil, err
	}
	status, err := StatusStopped(at)
	if err != nil {
		return nil, err
	}
	status.Condition = Condition{Word: "not answering", Message: silence.Error()}
	return status, nil
}

// CheckpointStopped is ViewCheckpoint for an agent that does not run.
func CheckpointStopped(dir string) (*CheckpointView, error) {
	s, err := openStopped(dir)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return ViewCheckpoint(s)
}

func openStopped(dir string) (*store.Store, error) {
	s, err := store.OpenReadOnly(filepath.Join(dir, storeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no agent's state: %w: start the agent first, or name its directory with --state", dir, fs.ErrNotExist)
	}
	return s, err
}
