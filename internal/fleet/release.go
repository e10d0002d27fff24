package fleet

import (
	"fmt"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// ReleaseOf is one revision of an environment, whatever its kind: what it did, who applied it, when. An unknown one is a
// *ledger.Error.
func ReleaseOf(s *ledger.State, r Reports, environment string, revision uint64) (ChangeEnvironment, error) {
	e, found := s.Environments[environment]
	if !found {
		return ChangeEnvironment{}, unknownEnvironment(environment)
	}
	if revision == 0 || revision > e.Head() {
		return ChangeEnvironment{}, &ledger.Error{Kind: ledger.KindNotFound, Next: "list them with 'publisher history " + environment + "'",
			Message: fmt.Sprintf("%s has no revision %d: its head is %d", environment, revision, e.Head())}
	}
	release, agents := e.Releases[revision-1], r.agents(e)
	item := historyItem(s, e, release, r.enrolled(e))
	out := ChangeEnvironment{Environment: environment, Operations: item.Operations, Revision: revision, Released: release.Stamp, Lag: slowest(release, agents)}
	if release.Kind == events.KindChange {
		part, _ := s.Changes[release.Change].PartFor(environment)
		out.Undone = part.Undone
	}
	for _, a := range ledger.Counting(release, agents) {
		out.Agents = append(out.Agents, agentDelivery(a, release))
	}
	out.Outcome = outcome(out)
	return out, nil
}
