package publisher

import "github.com/lockstep-dev/lockstep/internal/fleet"

// A boot is one start of an agent.
type boot struct {
	agent fleet.AgentID
	id    string
}

// A start is what is kept of a start of an agent that is not its newest one.
type start struct {
	past   bool   // another one was heard after it: it never becomes the newest again
	number uint64 // of its newest beat
	beside boot   // the newest start when that beat came,
	then   uint64 // and the number of that one's newest beat
}

// aside notes a beat that is not the agent's newest, and says whether it shows that two processes beat in turn: a start that is over
// is never heard again, whereas this one was heard, then the newest one, then this one. One beat that was held back while the agent was
// restarted, or is said again, does not show it. mu is held.
func (r *reports) aside(id fleet.AgentID, b, newest fleet.Beat) bool {
	this, other := boot{id, b.Boot}, boot{id, newest.Boot}
	s := r.starts[this]
	if this == other || b.Number <= s.number {
		return false
	}
	doubled := s.beside == other && newest.Number > s.then
	s.number, s.beside, s.then = b.Number, other, newest.Number
	r.starts[this] = s
	return doubled
}
