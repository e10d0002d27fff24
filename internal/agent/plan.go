package agent

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// A Plan is what the next apply would do to the instance. Secrets are shown as their references.
type Plan struct {
	Environment  string          `json:"environment"`
	Agent        string          `json:"agent"`
	From         uint64          `json:"from"` // checkpoint
	To           uint64          `json:"to"`   // newest verified revision
	FirstContact bool            `json:"firstContact"`
	Conflicts    []string        `json:"conflicts,omitempty"` // at first contact: resources that the instance holds with other values
	NotReadBack  []string        `json:"notReadBack,omitempty"`
	Changes      []PlannedChange `json:"changes"`
}

// A PlannedChange is one change of a Plan. Before and After are absent where the resource is, and where a connector removes what no
// resource names.
type PlannedChange struct {
	Connector string          `json:"connector"`
	Key       string          `json:"key,omitempty"`
	Place     string          `json:"place"`
	Before    json.RawMessage `json:"before,omitempty"`
	After     json.RawMessage `json:"after,omitempty"`
	Secret    bool            `json:"secret,omitempty"` // Before and After are not the values
}

// plan says what apply would do. It writes nothing.
func (c *chain) plan(ctx context.Context) (*Plan, error) {
	id := c.store.Identity()
	p := &Plan{Environment: id.Environment, Agent: id.Agent, From: c.checkpoint.Revision, To: c.target.Revision, FirstContact: isFirstContact(&c.applied)}
	want, err := c.wanted()
	if err != nil {
		return nil, err
	}
	return p, p.fill(ctx, c.opts.Router, want, &c.target.State, &c.applied)
}

func (p *Plan) fill(ctx context.Context, router *connector.Router, want connector.Values, target, applied *fold.State) error {
	plans, err := planAll(ctx, router, want)
	if err != nil {
		return err
	}
	p.Changes = []PlannedChange{}
	for _, s := range plans {
		for _, change := range s.plan.Changes {
			p.Changes = append(p.Changes, planned(s.connector.Name(), change, target, applied))
		}
	}
	for _, c := range router.Connectors() {
		if !c.Capabilities().Observes {
			p.NotReadBack = append(p.NotReadBack, c.Name())
		}
	}
	if !p.FirstContact {
		return nil
	}
	held, err := router.Observe(ctx, want)
	if err != nil {
		return err
	}
	p.Conflicts, err = conflicting(router, held, want)
	return err
}

func planned(name string, change connector.Change, target, applied *fold.State) PlannedChange {
	out := PlannedChange{Connector: name, Key: change.Key, Place: change.Place, Before: change.Before, After: change.After}
	if change.Key == "" {
		out.Before, out.After = nil, nil
		return out
	}
	after, _ := target.Get(change.Key)
	before, _ := applied.Get(change.Key)
	if !strings.HasPrefix(change.Key, "secret/") && !hasSecret(after.Value) && !hasSecret(before.Value) {
		return out
	}
	out.Secret = true
	if out.After = nil; after.Value != nil {
		out.After = redact(after.Value)
	}
	if out.Before != nil {
		out.Before = json.RawMessage(`"<secret>"`)
	}
	return out
}
