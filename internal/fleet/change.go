package fleet

import (
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/policy"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Changes are all changes, newest first.
func Changes(s *ledger.State, r Reports, asOf time.Time) []Change {
	out, _ := ChangesWhere(s, r, func(*ledger.Change) bool { return true }, len(s.Changes), asOf)
	return out
}

// Pending are the changes that wait for approvals or to be applied, newest first.
func Pending(s *ledger.State, r Reports, asOf time.Time) []Change {
	out, _ := ChangesWhere(s, r, func(c *ledger.Change) bool {
		status := c.Status(asOf)
		return status == ledger.StatusOpen || status == ledger.StatusReleased
	}, len(s.Changes), asOf)
	return out
}

// ChangesWhere are the changes that are wanted, newest first: at most so many, and how many more there are.
func ChangesWhere(s *ledger.State, r Reports, wanted func(*ledger.Change) bool, most int, asOf time.Time) (found []Change, more int) {
	found = []Change{}
	for _, c := range slices.Backward(s.ChangeList()) {
		switch {
		case !wanted(c):
		case len(found) < most:
			found = append(found, change(s, r, c, asOf))
		default:
			more++
		}
	}
	return found, more
}

// ChangeOf is one change with where it stands in every environment. An unknown id is a *ledger.Error.
func ChangeOf(s *ledger.State, r Reports, id string, asOf time.Time) (Change, error) {
	c, found := s.Changes[id]
	if !found {
		return Change{}, &ledger.Error{Kind: ledger.KindNotFound, Message: "there is no change " + id, Next: "list them with 'publisher changes'"}
	}
	out := change(s, r, c, asOf)
	s.Could(out.Demands, c, asOf)
	return out, nil
}

func change(s *ledger.State, r Reports, c *ledger.Change, asOf time.Time) Change {
	out := Change{
		ID: c.ID, Digest: c.Digest, Status: string(c.Status(asOf)), Author: c.Author, Reason: c.Reason, Ticket: c.Ticket,
		Within: c.Within.Seconds(), Source: c.Source, Recovered: c.Recovered, Proposed: c.Proposed, Expires: c.Expires, Revised: c.Revised,
		Approved: c.Approved, Completed: c.Completed, Approvals: c.Approvals, Demanded: s.Demanded(c), EndedBy: c.Ended, EndReason: c.EndReason,
		Verdicts: c.Verdicts, Risk: policy.Risk(c.Verdicts),
	}
	if out.Approvals == nil {
		out.Approvals = []events.Approval{}
	}
	out.Proposal, out.ByRule, out.BreakGlass, out.UnderReview, out.Paused, out.Trust = c.Proposal, c.ByRule, c.BreakGlass, c.BreakGlass.UnderReview(), c.Paused, c.Trust
	for _, root := range c.Roots {
		out.Roots = append(out.Roots, root.Key)
	}
	open := out.Status == string(ledger.StatusOpen) || out.Status == string(ledger.StatusExpired)
	if open {
		out.Demands = s.Demands(c, asOf)
	}
	for _, part := range c.Parts {
		e := changeEnvironment(s, r, part)
		if open {
			e.Moved = s.Moved(part)
		}
		out.Environments = append(out.Environments, e)
	}
	out.Window = windowOf(c, out.Environments, asOf)
	return out
}

func changeEnvironment(s *ledger.State, r Reports, part ledger.Part) ChangeEnvironment {
	out := ChangeEnvironment{Environment: part.Environment, Operations: operations(part), Revision: part.Revision, Undone: part.Undone, Outcome: "proposed"}
	if part.LeftOut != nil {
		out.LeftOut, out.Outcome = part.LeftOut.Detail, "left out"
	}
	if part.Frozen != nil {
		out.Frozen, out.Outcome = part.Frozen, "frozen"
	}
	if part.Revision == 0 {
		if part.InSources {
			out.Outcome = "in its sources"
		}
		return out
	}
	e := s.Environments[part.Environment]
	release := e.Releases[part.Revision-1]
	out.Released = release.Stamp
	agents := r.agents(e)
	for _, a := range ledger.Counting(release, agents) {
		out.Agents = append(out.Agents, agentDelivery(a, release))
	}
	out.Lag = slowest(release, agents)
	out.Outcome = outcome(out)
	return out
}

func outcome(e ChangeEnvironment) string {
	if e.Undone > 0 {
		return "undone"
	}
	if e.Lag != nil {
		return "applied"
	}
	if len(e.Agents) == 0 {
		return "no agent"
	}
	for _, a := range e.Agents {
		if a.Word != "" && a.Word != events.WordApplied {
			return string(a.Word)
		}
	}
	return "waiting"
}

func agentDelivery(a *ledger.Agent, release ledger.Release) AgentDelivery {
	out := AgentDelivery{Agent: a.Name}
	d := a.Applied(release.Revision)
	if d == nil && a.Position >= release.Revision {
		if d = release.Arrival().By(a.Name); d == nil {
			out.Word, out.Past = events.WordApplied, true
			return out
		}
	}
	if d == nil {
		d = lastAbout(a, release.Revision)
	}
	if d == nil {
		return out
	}
	out.Word, out.Stamp, out.Digest, out.ReadBack = d.Word, d.Stamp, d.Observed, d.ReadBack
	out.Reason, out.Message, out.Recorded, out.Phases = d.Reason, d.Message, d.Entry, d.Phases
	if d.Word == events.WordApplied {
		if d.Last > release.Revision {
			out.With = d.Last
			out.Failed, out.Reason, out.Message = trouble(a, release.Revision)
		}
		out.Lag = &Duration{Seconds: lag(release, d), AtMost: d.AtMost || release.Recovered()}
	}
	return out
}

// lastAbout is the agent's newest statement about a revision that it has not applied.
func lastAbout(a *ledger.Agent, revision uint64) *ledger.Delivery {
	for _, s := range slices.Backward(a.Said()) {
		if s.First <= revision && revision <= s.Last {
			return &s.Delivery
		}
	}
	return nil
}

// trouble is what an agent said last of a revision that it could not apply, whatever it said of later ones; nothing when there was none.
func trouble(a *ledger.Agent, revision uint64) (events.Word, events.Reason, string) {
	for _, s := range slices.Backward(a.Said()) {
		if s.First <= revision && revision <= s.Last && s.Word != events.WordApplied && s.Word != events.WordSuperseded {
			return s.Word, s.Reason, s.Message
		}
	}
	return "", "", ""
}

// lag is the bus's stamp of the ack minus the bus's stamp of the ledger entry.
func lag(release ledger.Release, d *ledger.Delivery) float64 {
	return max(0, d.Stamp.Sub(release.Stamp).Seconds())
}

// slowest is the lag of the slowest agent that counts for a release; nil while one of them has not applied it.
func slowest(release ledger.Release, agents []*ledger.Agent) *Duration {
	d, _ := lastArrival(release, agents)
	if d == nil {
		return nil
	}
	return &Duration{Seconds: lag(release, d), AtMost: d.AtMost || release.Recovered()}
}

// lastArrival is what the slowest agent that counts for a release said when it had applied it, and which one that is; nil while one of
// them has not.
func lastArrival(release ledger.Release, agents []*ledger.Agent) (last *ledger.Delivery, agent string) {
	for _, a := range ledger.Counting(release, agents) {
		if a.Position < release.Revision {
			return nil, ""
		}
		d := a.Applied(release.Revision)
		if d == nil {
			d = release.Arrival().By(a.Name)
		}
		if d != nil && (last == nil || d.Stamp.After(last.Stamp)) {
			last, agent = d, a.Name
		}
	}
	return last, agent
}

// windowOf says whether a released change reached every environment within its propagation window.
func windowOf(c *ledger.Change, environments []ChangeEnvironment, asOf time.Time) Window {
	if c.Within == 0 || c.Approved.IsZero() {
		return ""
	}
	window := WindowKept
	for _, e := range environments {
		switch {
		case e.Revision == 0 || e.Undone > 0:
		case e.Lag != nil && e.Lag.Seconds > c.Within.Seconds(), e.Lag == nil && asOf.Sub(e.Released) > c.Within:
			return WindowMissed
		case e.Lag == nil:
			window = WindowOpen
		}
	}
	return window
}

func operations(part ledger.Part) []OperationView {
	out := make([]OperationView, len(part.Operations))
	for i, op := range part.Operations {
		out[i] = OperationView{Op: op.Op, Key: op.Key, Before: part.Inverse[i].Value, After: op.Value}
	}
	return out
}
