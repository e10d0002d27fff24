package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// EnvironmentPath names an environment. It is exported for huma, which cannot see embedded fields otherwise.
type EnvironmentPath struct {
	Name string `path:"name" doc:"of the environment"`
}

// PlacePath names an environment at a revision or time.
type PlacePath struct {
	EnvironmentPath
	At string `query:"at" doc:"a revision, or a time (RFC 3339); the head by default"`
}

type resourcePath struct {
	PlacePath
	Kind     string `path:"kind"`
	Resource string `path:"resource" doc:"name of the resource"`
}

type changesQuery struct {
	Status string `query:"status" enum:"open,expired,released,delivered,rejected,withdrawn,rolled-back" doc:"only those"`
}

type historyQuery struct {
	Environment string `query:"environment" doc:"of this environment"`
	Resource    string `query:"resource" doc:"only what touched this resource, in every environment where none is named"`
}

// get registers a read.
func get[I, T any](api huma.API, path, id, summary string, read func(context.Context, *I) (T, error)) {
	huma.Register(api, huma.Operation{OperationID: id, Method: http.MethodGet, Path: Prefix + path, Summary: summary, Tags: []string{"reads"}},
		func(ctx context.Context, in *I) (*answer[T], error) { return answered(read(ctx, in)) })
}

func registerReads(api huma.API, b Backend) {
	get(api, "/fleet", "fleet", "Where every environment stands", func(context.Context, *struct{}) (fleet.View, error) { return b.Fleet(), nil })
	get(api, "/environments/{name}", "environment", "Where one environment stands", func(_ context.Context, in *EnvironmentPath) (fleet.Environment, error) {
		all := b.Fleet().Environments
		if i := slices.IndexFunc(all, func(e fleet.Environment) bool { return e.Name == in.Name }); i >= 0 {
			return all[i], nil
		}
		return fleet.Environment{}, noEnvironment(in.Name)
	})
	get(api, "/environments/{name}/resources", "resources", "An environment's resources", func(_ context.Context, in *PlacePath) (out []fleet.ResourceView, err error) {
		err = in.read(b, func(s *ledger.State, revision uint64) (err error) {
			out, err = fleet.Resources(s, in.Name, revision)
			return err
		})
		return out, err
	})
	get(api, "/environments/{name}/resources/{kind}/{resource}", "resource", "One resource", func(_ context.Context, in *resourcePath) (out fleet.ResourceView, err error) {
		err = in.read(b, func(s *ledger.State, revision uint64) (err error) {
			out, err = fleet.ResourceAt(s, in.Name, in.Kind+"/"+in.Resource, revision)
			return err
		})
		return out, err
	})
	get(api, "/environments/{name}/releases/{revision}", "release", "One revision: who applied it, when", func(_ context.Context, in *struct {
		EnvironmentPath
		Revision uint64 `path:"revision"`
	}) (out fleet.ChangeEnvironment, err error) {
		b.Read(func(s *ledger.State, r fleet.Reports, _ time.Time) {
			out, err = fleet.ReleaseOf(s, r, in.Name, in.Revision)
		})
		return out, err
	})
	get(api, "/changes", "changes", "All changes, newest first", func(_ context.Context, in *changesQuery) (out []fleet.Change, err error) {
		b.Read(func(s *ledger.State, r fleet.Reports, now time.Time) { out = fleet.Changes(s, r, now) })
		return slices.DeleteFunc(out, func(c fleet.Change) bool { return in.Status != "" && c.Status != in.Status }), err
	})
	get(api, "/changes/{id}", "change", "One change with where it stands in every environment", func(_ context.Context, in *struct {
		ID string `path:"id"`
	}) (out fleet.Change, err error) {
		b.Read(func(s *ledger.State, r fleet.Reports, now time.Time) { out, err = fleet.ChangeOf(s, r, in.ID, now) })
		return out, err
	})
	get(api, "/changes/{id}/terms", "terms", "What a change's digest is over: whoever signs it computes it from this", func(_ context.Context, in *struct {
		ID string `path:"id"`
	}) (out ledger.Terms, err error) {
		b.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { out, err = s.TermsOf(in.ID) })
		return out, err
	})
	get(api, "/history", "history", "What was released, newest first", func(_ context.Context, in *historyQuery) (out []fleet.HistoryItem, err error) {
		if in.Environment == "" && in.Resource == "" {
			return nil, &ledger.Error{Kind: ledger.KindInvalid, Message: "the history of what is not said", Next: "name an environment, a resource, or both"}
		}
		b.Read(func(s *ledger.State, r fleet.Reports, _ time.Time) {
			out, err = fleet.History(s, r, in.Environment, in.Resource)
		})
		return out, err
	})
	registerLedger(api, b)
}

func registerLedger(api huma.API, b Backend) {
	get(api, "/ledger", "ledger", "How long the ledger is, and whether it can be written", func(context.Context, *struct{}) (fleet.LedgerView, error) {
		return b.Fleet().Ledger, nil
	})
	get(api, "/doctor", "doctor", "Everything that the publisher needs", func(ctx context.Context, _ *struct{}) ([]Check, error) { return b.Doctor(ctx), nil })
	get(api, "/trust", "trust", "What an enrolment pins", func(_ context.Context, in *struct {
		Environment string `query:"environment" doc:"with this environment's head"`
	}) (Pins, error) {
		return trust(b, in.Environment)
	})
	get(api, "/environments/{name}/agents/{agent}/credentials", "credentials", "What an enrolled agent shows the bus beside its key", func(_ context.Context, in *struct {
		Name  string `path:"name"`
		Agent string `path:"agent"`
	}) (AgentCredentials, error) {
		return credentials(b, in.Name, in.Agent)
	})
	get(api, "/trust/{version}", "trustDocument", "A trust document", func(_ context.Context, in *struct {
		Version int `path:"version" minimum:"1"`
	}) (out events.Trust, err error) {
		b.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
			if in.Version > len(s.Trusts) {
				err = &ledger.Error{Kind: ledger.KindNotFound, Message: "there is no trust document " + strconv.Itoa(in.Version), Next: "the newest is " + strconv.Itoa(len(s.Trusts))}
				return
			}
			out = s.Trusts[in.Version-1]
		})
		return out, err
	})
	huma.Register(api, huma.Operation{
		OperationID: "verify", Method: http.MethodPost, Path: Prefix + "/ledger/verify", Tags: []string{"reads"},
		Summary: "Read the whole ledger again and derive every release again",
	}, func(ctx context.Context, _ *struct{}) (*answer[Verification], error) { return answered(b.Verify(ctx)) })
}

// read calls fn with the revision that is asked for.
func (p *PlacePath) read(b Backend, fn func(s *ledger.State, revision uint64) error) (err error) {
	b.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		var revision uint64
		if revision, err = p.revision(s); err == nil {
			err = fn(s, revision)
		}
	})
	return err
}

func (p *PlacePath) revision(s *ledger.State) (uint64, error) {
	e, found := s.Environments[p.Name]
	if !found {
		return 0, noEnvironment(p.Name)
	}
	if p.At == "" {
		return e.Head(), nil
	}
	if revision, err := strconv.ParseUint(p.At, 10, 64); err == nil {
		return revision, nil
	}
	at, err := time.Parse(time.RFC3339, p.At)
	if err != nil {
		return 0, &ledger.Error{Kind: ledger.KindInvalid, Message: strconv.Quote(p.At) + " is neither a revision nor a time", Next: "write 12 or 2026-11-21T09:30:00Z"}
	}
	revision := e.RevisionAt(at)
	if revision == 0 {
		return 0, &ledger.Error{Kind: ledger.KindNotFound, Message: p.Name + " did not exist at " + p.At, Next: "it was added at " + e.Added.Format(time.RFC3339)}
	}
	return revision, nil
}

func trust(b Backend, environment string) (out Pins, err error) {
	b.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		document := s.Trust()
		if document == nil {
			err = &UnavailableError{Message: "the ledger has not begun", Next: "wait for the publisher to be ready"}
			return
		}
		out = Pins{Ledger: s.ID, Document: *document, BusURL: b.BusURL(), Credentials: b.IssuesCredentials()}
		if out.Digest, err = document.Digest(); err != nil || environment == "" {
			return
		}
		e, found := s.Environments[environment]
		if !found {
			err = noEnvironment(environment)
			return
		}
		out.Head = &Head{Environment: e.Name, Revision: e.Fold.Revision, Chain: e.Fold.Chain}
	})
	return out, err
}

func credentials(b Backend, environment, agent string) (out AgentCredentials, err error) {
	var key string
	b.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		switch e, found := s.Environments[environment]; {
		case !found:
			err = noEnvironment(environment)
		case e.Agents[agent] == nil || e.Agents[agent].Revoked || e.Retired:
			err = &ledger.Error{Kind: ledger.KindNotFound, Message: "there is no agent " + agent + " in " + environment, Next: "enrol one with 'publisher env enrol'"}
		default:
			key = e.Agents[agent].Key
		}
	})
	if err == nil {
		out.JWT, err = b.Credentials(environment, agent, key)
	}
	return out, err
}

func noEnvironment(name string) error {
	return &ledger.Error{Kind: ledger.KindNotFound, Message: "there is no environment " + name, Next: "list them with 'publisher env list'"}
}
