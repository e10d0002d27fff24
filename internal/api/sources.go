package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Difference is what a directory would change.
type Difference struct {
	Groups []DifferenceGroup `json:"groups"`
	// SourcesOnly are environments whose manifests would change, and no resource.
	SourcesOnly []string `json:"sourcesOnly,omitempty"`
	// Verdicts are of the policies in force, as far as they can be told before somebody proposes it.
	Verdicts []events.Verdict `json:"verdicts,omitempty"`
	// Refused is why it could not be proposed as it is, beside what policies deny.
	Refused []string `json:"refused,omitempty"`
	Notes   []string `json:"notes,omitempty"` // what people should know
}

// A DifferenceGroup is environments in which the same would change, and what.
type DifferenceGroup struct {
	Environments []string   `json:"environments"`
	Resources    []Resource `json:"resources"`
}

// A Resource is one that would change, with its value before and after; nil is absent.
type Resource struct {
	Key    string          `json:"key"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// An Explanation says where a released value comes from.
type Explanation struct {
	Environment string          `json:"environment"`
	Resource    string          `json:"resource"`
	Value       json.RawMessage `json:"value"`
	Origins     []Origin        `json:"origins"`        // of its leaves, ordered by path
	Note        string          `json:"note,omitempty"` // where the sources say otherwise
}

// An Origin is where one leaf of a value comes from, and which change set it last there.
type Origin struct {
	registry.Origin
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Ticket string    `json:"ticket,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

func registerSources(api huma.API, b Backend) {
	huma.Register(api, huma.Operation{
		OperationID: "diff", Method: http.MethodPost, Path: Prefix + "/diff", Summary: "What a directory would change in each environment", Tags: []string{"reads"}, MaxBodyBytes: maxDirectory,
	}, func(_ context.Context, in *struct{ Body ledger.Directory }) (*answer[Difference], error) {
		return answered(diff(b, &in.Body))
	})
	get(api, "/environments/{name}/explain/{kind}/{resource}", "explain", "Where a resource's value comes from", func(_ context.Context, in *struct {
		EnvironmentPath
		Kind     string `path:"kind"`
		Resource string `path:"resource" doc:"name of the resource"`
	}) (out Explanation, err error) {
		b.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
			out, err = explain(s, in.Name, in.Kind+"/"+in.Resource)
		})
		return out, err
	})
	registerComparisons(api, b)
	registerBundle(api, b)
}

// diff compiles a directory and groups the environments in which it does the same.
func diff(b Backend, directory *ledger.Directory) (Difference, error) {
	if _, err := directory.Sources(); err != nil {
		return Difference{}, err
	}
	out := Difference{Groups: []DifferenceGroup{}}
	var err error
	b.Read(func(s *ledger.State, r fleet.Reports, now time.Time) {
		const change = "this directory"
		var c ledger.Compilation
		if c, err = s.Compile(directory, change); err != nil {
			return
		}
		var waived []string
		out.Refused, waived = s.Objections(c, change, r.Versions(), now)
		if out.Verdicts, err = s.Verdicts(c, nil); err != nil {
			return
		}
		out.Notes = append(c.Notes, waived...)
		for _, e := range c.Environments {
			if len(e.Operations) == 0 {
				if e.Changes {
					out.SourcesOnly = append(out.SourcesOnly, e.Environment)
				}
				continue
			}
			changed := make([]Resource, len(e.Operations))
			for i, op := range e.Operations {
				now, _ := s.Environments[e.Environment].Fold.State.Get(op.Key)
				changed[i] = Resource{op.Key, now.Value, op.Value}
			}
			i := slices.IndexFunc(out.Groups, func(g DifferenceGroup) bool { return slices.EqualFunc(g.Resources, changed, sameChange) })
			if i < 0 {
				i = len(out.Groups)
				out.Groups = append(out.Groups, DifferenceGroup{Resources: changed})
			}
			out.Groups[i].Environments = append(out.Groups[i].Environments, e.Environment)
		}
	})
	return out, err
}

func sameChange(a, b Resource) bool {
	return a.Key == b.Key && bytes.Equal(a.Before, b.Before) && bytes.Equal(a.After, b.After)
}

// explain renders the sources of an environment, and says of one resource where its leaves come from.
func explain(s *ledger.State, environment, key string) (Explanation, error) {
	out := Explanation{Environment: environment, Resource: key, Origins: []Origin{}}
	sources, err := s.SourcesOf(environment)
	if err != nil {
		return out, err
	}
	e := s.Environments[environment]
	now, _ := e.Fold.State.Get(key)
	if now.Value == nil {
		return out, &ledger.Error{Kind: ledger.KindNotFound, Message: environment + " has no resource " + key, Next: "list them with 'publisher get " + environment + "'"}
	}
	out.Value = now.Value
	rendering, err := registry.NewRenderer().Render(sources, registry.Target{Name: environment, Labels: e.Labels})
	if err != nil {
		return out, err
	}
	list, agreed := origins(e, rendering, key)
	if !agreed {
		out.Note = "the sources of " + environment + " say otherwise since a rollback; propose the directory again to bring them together"
	}
	for _, o := range list {
		out.Origins = append(out.Origins, told(s, o))
	}
	return out, nil
}

// origins are where a released value comes from. A rollback brings back values, and takes edits away: what other changes edited may
// differ from that, and the value comes from the rollback then.
func origins(e *ledger.Environment, rendering *registry.Rendering, key string) (list []registry.Origin, agreed bool) {
	now, _ := e.Fold.State.Get(key)
	r, found := rendering.Get(key)
	switch {
	case now.Value == nil:
		return nil, !found
	case !found || !bytes.Equal(r.Value.JSON, now.Value):
		return registry.Origin{Value: now.Value, Layer: "rollback", Change: e.Fold.Accepted[now.Setter].ID}.Flat(), false
	}
	return r.Origins(), true
}

// told adds to an origin who made its change, and why.
func told(s *ledger.State, o registry.Origin) Origin {
	out := Origin{Origin: o}
	if c, found := s.Changes[o.Change]; found {
		out.By, out.Reason, out.Ticket, out.At = c.Author, c.Reason, c.Ticket, c.Approved
	}
	return out
}
