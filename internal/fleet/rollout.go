package fleet

import "github.com/lockstep-dev/lockstep/internal/ledger"

// A Rollout says whether what is approved for an environment is released to it.
type Rollout string

// The states of an environment's rollout; where several are true, the last of them.
const (
	Running Rollout = "running" // what is approved is released
	Frozen  Rollout = "frozen"  // an approved change waits for the end of a freeze
	Paused  Rollout = "paused"  // somebody holds back an approved change that waits
)

// RolloutStates are all of them.
var RolloutStates = []Rollout{Running, Frozen, Paused}

// Rollouts are the rollouts of the environments in which something waits; those of all others run.
func Rollouts(s *ledger.State) map[string]Rollout {
	out := map[string]Rollout{}
	for _, c := range s.FrozenChanges() {
		for _, part := range c.Parts {
			switch {
			case part.Frozen == nil:
			case c.Paused != nil:
				out[part.Environment] = Paused
			case out[part.Environment] == "":
				out[part.Environment] = Frozen
			}
		}
	}
	return out
}
