package starter_test

import (
	"slices"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/policy"
	"github.com/lockstep-dev/lockstep/internal/policy/starter"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

func TestEveryPolicyOfThePackHasCasesThatHold(t *testing.T) {
	files, err := registry.Load(starter.Files(), "starter")
	if err != nil {
		t.Fatal(err)
	}
	s, err := registry.Read(files)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := policy.LoadTables(starter.Files(), "starter")
	if err != nil {
		t.Fatal(err)
	}
	results, without, err := policy.Test(s, tables)
	if err != nil || len(without) > 0 {
		t.Fatal(without, err)
	}
	fires := map[string]bool{}
	for _, r := range results {
		if !r.OK {
			t.Errorf("%s: %s: %s", r.Place, r.Case, r.Says)
		}
		fires[r.Policy] = true
	}
	if names := s.OfKind(registry.KindPolicy); len(fires) != len(names) || len(names) != len(files) || slices.ContainsFunc(names, func(m *registry.Manifest) bool { return m.Metadata().Owner == "" }) {
		t.Errorf("%d policies in %d files, %d with cases; each has an owner", len(names), len(files), len(fires))
	}
}
