package api

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lockstep-dev/lockstep/internal/exchange"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

func registerBundle(api huma.API, b Backend) {
	get(api, "/bundle", "bundle", "Manifests, released values and digests of environments, to carry elsewhere", func(_ context.Context, in *struct {
		Environments []string `query:"env,explode" doc:"environments; all that are not retired where none is named"`
	}) (out exchange.Bundle, err error) {
		b.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { out, err = bundle(s, in.Environments) })
		return out, err
	})
}

// bundle packs what the ledger says of environments.
func bundle(s *ledger.State, names []string) (exchange.Bundle, error) {
	out := exchange.Bundle{APIVersion: registry.APIVersion, Kind: exchange.BundleKind, Ledger: s.ID, Entry: s.Number, Time: s.Time, Environments: []exchange.Bundled{}}
	for _, name := range names {
		if s.Environments[name] == nil {
			return out, noEnvironment(name)
		}
	}
	for _, e := range s.EnvironmentList() {
		if len(names) > 0 && !slices.Contains(names, e.Name) || len(names) == 0 && e.Retired {
			continue
		}
		sources, err := s.SourcesOf(e.Name)
		if err != nil {
			return out, err
		}
		head := e.Releases[len(e.Releases)-1] // the first one is made with the environment
		packed := exchange.Bundled{
			Name: e.Name, Labels: maps.Clone(e.Labels), Steward: e.Steward, Approvals: e.Approvals,
			Revision: head.Revision, Chain: head.Chain.String(), State: head.State.String(), Values: e.Fold.State.Values(),
		}
		if err := out.Add(packed, sources); err != nil {
			return out, err
		}
	}
	return out, nil
}
