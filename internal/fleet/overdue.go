package fleet

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

// An Overdue is something in the sources of environments that somebody should have seen to by a day.
type Overdue struct {
	What         string // "review", "expired", or "waiver"
	Key          string // of the resource; of a waiver, what deviates
	Owner        string
	Reason       string // of a waiver
	Day          time.Time
	Place        registry.Place
	Environments []string
}

// OverdueOf is what is overdue at a time, the longest first: resources that were to be reviewed, flags that should be gone, and waivers that are
// over. Environments that share a manifest are named together.
func OverdueOf(s *ledger.State, asOf time.Time) ([]Overdue, error) {
	type seen struct {
		of   *registry.Manifest
		path string
	}
	found := map[seen]*Overdue{}
	sources, err := s.SourcesOfAll()
	if err != nil {
		return nil, err
	}
	for _, e := range s.EnvironmentList() {
		if e.Retired {
			continue
		}
		for _, m := range sources[e.Name].Manifests() {
			for path, o := range overdueIn(m, asOf) {
				if m.Kind() == registry.KindEnvironment && m.Name() != e.Name {
					continue
				}
				if found[seen{m, path}] == nil {
					found[seen{m, path}] = &o
				}
				found[seen{m, path}].Environments = append(found[seen{m, path}].Environments, e.Name)
			}
		}
	}
	var out []Overdue
	for _, o := range found {
		out = append(out, *o)
	}
	slices.SortFunc(out, func(a, b Overdue) int {
		return cmp.Or(a.Day.Compare(b.Day), cmp.Compare(a.Key, b.Key), cmp.Compare(a.What, b.What), cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line))
	})
	return out, nil
}

// overdueIn is what a manifest says that is overdue, by its path.
func overdueIn(m *registry.Manifest, asOf time.Time) map[string]Overdue {
	out := map[string]Overdue{}
	add := func(path, date string, o Overdue) {
		day, err := time.Parse(time.DateOnly, date)
		if err == nil && day.AddDate(0, 0, 1).Before(asOf) { // the day itself is in time
			o.Day, o.Place = day, m.PlaceOf(path)
			out[path] = o
		}
	}
	switch {
	case m.IsResource():
		r := m.Resource()
		if r == nil || r.Lifecycle == registry.Retired {
			return out
		}
		add("/spec/reviewBy", r.ReviewBy, Overdue{What: "review", Key: m.Key, Owner: m.Metadata().Owner})
		add("/spec/expires", r.Expires, Overdue{What: "expired", Key: m.Key, Owner: m.Metadata().Owner})
	case m.Kind() == registry.KindEnvironment && m.Environment() != nil:
		for i, w := range m.Environment().Waivers {
			add("/spec/waivers/"+strconv.Itoa(i), w.Expires, Overdue{What: "waiver", Key: cmp.Or(w.Resource, w.Rule), Owner: w.Owner, Reason: w.Reason})
		}
	}
	return out
}
