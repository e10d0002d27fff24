package fleet

import "github.com/lockstep-dev/lockstep/pkg/events"

// Next is what somebody on call does about an environment that is not in step; "" where there is nothing to do but wait.
func (e Environment) Next() string {
	undo := ""
	if e.LastChange != "" && e.LagRevisions > 0 {
		undo = ", or take the change back with 'publisher rollback " + e.LastChange + "'"
	}
	switch e.Condition {
	case Torn:
		return "put the instance right by hand, then 'agent retry' beside it" + undo
	case Differing:
		switch e.Reason {
		case events.ReasonDoubled:
			return "" // what is said of it says it
		case events.ReasonReadBack, events.ReasonStateMismatch, events.ReasonLedgerForked:
		default:
			return "mend what the reason names, so that the instance can be read, then 'agent retry' beside it"
		}
		return "see what differs with 'agent plan' beside the instance"
	case Failing:
		return "mend what the reason names, then 'agent retry' beside the instance" + undo
	case Silent:
		if len(e.Agents) == 0 {
			return "" // what is said of it says it
		}
		if e.Reason == events.ReasonBusDown {
			return "see 'publisher doctor': what agents do meanwhile is not known here"
		}
		return "see whether the agent and its way to the bus are up: 'agent status' on its host"
	case Stale:
		return "see 'publisher doctor', and 'agent status' on the agent's host"
	case Held:
		return "its steward ends it with 'agent resume', or waits until it ends"
	case Behind:
		if e.Reason == "" {
			return "" // it is on its way
		}
		return "it goes on by itself once that is mended: see 'agent status' beside the instance" + undo
	}
	return ""
}
