package fleet

import (
	"cmp"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// History is what was released, newest first: to one environment, or of one resource in every environment when the environment is
// empty; of one resource in one environment when both are given. An unknown environment is a *ledger.Error, and so is what cannot
// name a resource.
func History(s *ledger.State, r Reports, environment, resource string) ([]HistoryItem, error) {
	if resource != "" {
		if err := checkKey(resource); err != nil {
			return nil, err
		}
	}
	environments := s.EnvironmentList()
	if environment != "" {
		e, found := s.Environments[environment]
		if !found {
			return nil, unknownEnvironment(environment)
		}
		environments = []*ledger.Environment{e}
	}
	out := []HistoryItem{}
	for _, e := range environments {
		agents := r.enrolled(e)
		for _, release := range e.Releases {
			item := historyItem(s, e, release, agents)
			if resource != "" {
				item.Operations = slices.DeleteFunc(item.Operations, func(op OperationView) bool { return op.Key != resource })
			}
			if resource == "" || len(item.Operations) > 0 {
				out = append(out, item)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b HistoryItem) int {
		return cmp.Or(b.Time.Compare(a.Time), strings.Compare(a.Environment, b.Environment), cmp.Compare(b.Revision, a.Revision))
	})
	return out, nil
}

func historyItem(s *ledger.State, e *ledger.Environment, release ledger.Release, agents []*ledger.Agent) HistoryItem {
	item := HistoryItem{
		Environment: e.Name, Revision: release.Revision, Kind: release.Kind, Change: release.Change, By: release.By, Reason: release.Reason,
		Time: release.Time, Entry: release.Entry, State: release.State, Chain: release.Chain, Recovered: release.Recovered(), Applied: appliedByAll(e, release, agents),
	}
	if release.Kind == events.KindTrust {
		item.Reason = "trust document"
		return item
	}
	part, _ := s.Changes[release.Change].PartFor(e.Name)
	item.Operations = operations(*part)
	if release.Kind == events.KindRollback {
		for i, op := range item.Operations {
			item.Operations[i] = OperationView{Op: part.Inverse[i].Op, Key: op.Key, Before: op.After, After: op.Before}
		}
	}
	return item
}

// appliedByAll says whether every agent holds a release, also those that were enrolled after it; without agents, whether the last one did.
func appliedByAll(e *ledger.Environment, release ledger.Release, agents []*ledger.Agent) bool {
	if last := e.LastAgent(); len(agents) == 0 && last != nil {
		agents = []*ledger.Agent{last}
	}
	behind := func(a *ledger.Agent) bool { return a.Position < release.Revision }
	return len(agents) > 0 && !slices.ContainsFunc(agents, behind)
}

// Rollbacks is how many releases of an environment undid a change.
func Rollbacks(e *ledger.Environment) (n int) {
	for i := range e.Releases {
		if e.Releases[i].Kind == events.KindRollback {
			n++
		}
	}
	return n
}

// Resources are an environment's resources at a revision, ordered by key; tombstones are left out.
func Resources(s *ledger.State, environment string, revision uint64) ([]ResourceView, error) {
	state, err := foldAt(s, environment, revision)
	if err != nil {
		return nil, err
	}
	out := []ResourceView{}
	for key, r := range state.State.All() {
		if r.Value != nil {
			out = append(out, resourceView(s, state, key, r))
		}
	}
	return out, nil
}

// ResourceAt is one resource of an environment at a revision. One that nothing ever set there is a *ledger.Error.
func ResourceAt(s *ledger.State, environment, key string, revision uint64) (ResourceView, error) {
	if err := checkKey(key); err != nil {
		return ResourceView{}, err
	}
	state, err := foldAt(s, environment, revision)
	if err != nil {
		return ResourceView{}, err
	}
	r, found := state.State.Get(key)
	if !found {
		return ResourceView{}, &ledger.Error{Kind: ledger.KindNotFound, Message: environment + " has no " + key + " at " + events.ReleaseID(environment, revision)}
	}
	return resourceView(s, state, key, r), nil
}

// foldAt is the fold at a revision; the head is at hand, anything older is folded again from the ledger.
func foldAt(s *ledger.State, environment string, revision uint64) (*fold.Environment, error) {
	e, found := s.Environments[environment]
	if !found {
		return nil, unknownEnvironment(environment)
	}
	if revision == e.Head() {
		return e.Fold, nil
	}
	return s.Folded(environment, revision)
}

func resourceView(s *ledger.State, at *fold.Environment, key string, r fold.Resource) ResourceView {
	out := ResourceView{Environment: at.Name, Revision: at.Revision, Key: key, Value: r.Value, Deleted: r.Value == nil}
	if c, found := s.Changes[at.Accepted[r.Setter].ID]; found {
		out.Change, out.By, out.Reason = c.ID, c.Author, c.Reason
		if part, found := c.PartFor(at.Name); found && part.Revision > 0 {
			out.Set = s.Environments[at.Name].Releases[part.Revision-1].Time
		}
	}
	return out
}

func checkKey(key string) error {
	if err := events.CheckKey(key); err != nil {
		return &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error()}
	}
	return nil
}

func unknownEnvironment(name string) error {
	return &ledger.Error{Kind: ledger.KindNotFound, Message: "there is no environment " + name, Next: "list them with 'publisher env list'"}
}
