package publisher

import (
	"slices"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

// A start is what is kept of a start of an agent that is not its newest one.
type start struct {
	boot   string
	past   bool   // another one was heard after it: it never becomes the newest again
	number uint64 // of its newest beat
	beside string // the newest start when that beat came,
	then   uint64 // and the number of that one's newest beat
}

// startsMost is how many starts of an agent are kept beside its newest; of older ones nothing is known.
const startsMost = 16

// start is what is kept of a start, which may be nothing. mu is held.
func (r *reports) start(id fleet.AgentID, boot string) *start {
	of := r.starts[id]
	if i := slices.IndexFunc(of, func(s start) bool { return s.boot == boot }); i >= 0 {
		return &of[i]
	}
	if len(of) == startsMost {
		of = slices.Delete(of, 0, 1)
	}
	r.starts[id] = append(of, start{boot: boot})
	return &r.starts[id][len(of)]
}

// aside notes a beat that is not the agent's newest, and says whether it shows that two processes beat in turn: a start that is over
// is never heard again, whereas this one was heard, then the newest one, then this one. One beat that was held back while the agent was
// restarted, or is said again, does not show it. mu is held.
func (r *reports) aside(id fleet.AgentID, b, newest fleet.Beat) bool {
	s := r.start(id, b.Boot)
	if b.Boot == newest.Boot || b.Number <= s.number {
		return false
	}
	doubled := s.beside == newest.Boot && newest.Number > s.then
	s.number, s.beside, s.then = b.Number, newest.Boot, newest.Number
	return doubled
}
