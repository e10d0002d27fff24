package fleet

import (
	"sync"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// Before keeps, from one look at the ledger's state to the next, what agents come to with what they said that is not recorded yet. It
// holds nothing of an agent that has nothing to be recorded. Its zero value is empty; looks may share it.
type Before struct {
	mu     sync.Mutex
	agents map[AgentID]come
}

// come is what an agent has come to, and what that rests on: statements are numbered, and only added to an agent.
type come struct {
	agent          *ledger.Agent
	recorded, said int
	last           uint64
	to             *ledger.Agent
}

// with is what an agent is with statements.
func (b *Before) with(id AgentID, agent *ledger.Agent, said []ledger.Statement) *ledger.Agent {
	if b == nil {
		return agent.With(said)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(said) == 0 {
		delete(b.agents, id)
		return agent
	}
	now := come{agent: agent, recorded: agent.Recorded(), said: len(said), last: said[len(said)-1].Number}
	before := b.agents[id]
	if now.to = before.to; now != before {
		now.to = agent.With(said)
		if b.agents == nil {
			b.agents = map[AgentID]come{}
		}
		b.agents[id] = now
	}
	return now.to
}
