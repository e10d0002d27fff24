package fleet

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// BeatInterval is how often an agent beats, and SilentAfter how long it may be unheard: three beats (guarantee 7).
const (
	BeatInterval = 10 * time.Second
	SilentAfter  = 3 * BeatInterval
)

// An AgentID names an agent.
type AgentID struct{ Environment, Agent string }

// Reports are what agents said that the ledger does not hold.
type Reports struct {
	Beats      map[AgentID]Beat               // the newest valid one
	Unrecorded map[AgentID][]ledger.Statement // acks on their way into the ledger, oldest first
}

// A Beat is an agent's newest heartbeat with the bus's stamp.
type Beat struct {
	events.Beat
	Stamp time.Time
}

// Conditions are all of them, worst first.
var Conditions = []Condition{Torn, Differing, Failing, Silent, Stale, Held, Behind, InStep, Retired}

func worse(a, b Condition) int {
	return cmp.Compare(slices.Index(Conditions, a), slices.Index(Conditions, b))
}

// Build is the fleet as of a time, which is the bus's: stamps are compared with it.
func Build(s *ledger.State, r Reports, ledgerView LedgerView, asOf time.Time) View {
	ledgerView.ID, ledgerView.Tip = s.ID, events.LedgerTip{Number: s.Number, Hash: s.Hash}
	v := View{AsOf: asOf, Ledger: ledgerView, Totals: map[Condition]int{}, Environments: []Environment{}}
	for _, e := range s.EnvironmentList() {
		env := buildEnvironment(e, r, asOf)
		v.Environments = append(v.Environments, env)
		v.Totals[env.Condition]++
	}
	slices.SortStableFunc(v.Environments, func(a, b Environment) int { return worse(a.Condition, b.Condition) })
	return v
}

func buildEnvironment(e *ledger.Environment, r Reports, asOf time.Time) Environment {
	out := Environment{
		Name: e.Name, Labels: e.Labels, Steward: e.Steward, Approvals: e.Approvals,
		Head: e.Head(), LastChange: lastChange(e), Agents: []Agent{},
	}
	if out.Head > 0 {
		out.State = e.Releases[out.Head-1].State
	}
	agents := r.agents(e)
	for _, a := range agents {
		beat, heard := r.Beats[AgentID{e.Name, a.Name}]
		out.Agents = append(out.Agents, buildAgent(e, a, beat, heard, asOf))
	}
	out.Revision = lowest(out.Agents)
	out.LagRevisions = out.Head - out.Revision
	if out.LagRevisions > 0 {
		out.LagSeconds = max(0, asOf.Sub(e.Releases[out.Revision].Stamp).Seconds())
	}
	if out.Revision > 0 {
		out.Delivered = slowest(e.Releases[out.Revision-1], agents)
	}
	summarise(&out, e)
	return out
}

// summarise gives the environment the condition of its worst agent, and says so with its reason.
func summarise(out *Environment, e *ledger.Environment) {
	switch {
	case e.Retired:
		out.Condition = Retired
	case len(out.Agents) == 0:
		out.Condition, out.Message, out.Since = Silent, "no agent is enrolled; enrol one with 'publisher env enrol "+e.Name+"'", e.Added
	default:
		worst := slices.MinFunc(out.Agents, func(a, b Agent) int { return worse(a.Condition, b.Condition) })
		out.Condition, out.Reason, out.Message, out.Since = worst.Condition, worst.Reason, worst.Message, worst.Since
		if len(out.Agents) > 1 && worst.Message != "" {
			out.Message = worst.Name + ": " + worst.Message
		}
	}
}

// agents are the environment's agents with what they said that is not recorded yet.
func (r Reports) agents(e *ledger.Environment) []*ledger.Agent {
	agents := e.AgentList()
	for i, a := range agents {
		agents[i] = a.With(r.Unrecorded[AgentID{e.Name, a.Name}])
	}
	return agents
}

func lowest(agents []Agent) uint64 {
	if len(agents) == 0 {
		return 0
	}
	return slices.MinFunc(agents, func(a, b Agent) int { return cmp.Compare(a.Revision, b.Revision) }).Revision
}

func lastChange(e *ledger.Environment) string {
	for i := len(e.Releases) - 1; i >= 0; i-- {
		if r := e.Releases[i]; r.Kind == events.KindChange {
			return r.Change
		}
	}
	return ""
}

func buildAgent(e *ledger.Environment, a *ledger.Agent, beat Beat, heard bool, asOf time.Time) Agent {
	out := Agent{Name: a.Name, Condition: InStep, Revision: a.Position, ReadBack: true, Differing: a.Differing, FirstCounts: a.Revision}
	var applied *ledger.Delivery
	for i := range a.Deliveries {
		d := &a.Deliveries[i]
		if d.Stamp.After(out.LastSeen) {
			out.LastSeen = d.Stamp
		}
		if d.Word == events.WordApplied {
			applied = d
		}
	}
	if applied != nil {
		out.State, out.ReadBack = applied.Observed, applied.ReadBack
	}
	if heard {
		out.Version, out.Connectors, out.Rejected = beat.Version, beat.Connectors, beat.Rejected
		out.ClockSkew = beat.Clock.Sub(beat.Stamp).Seconds()
		if beat.Stamp.After(out.LastSeen) {
			out.LastSeen = beat.Stamp
		}
		if e.OnChain(beat.Revision, beat.Chain) == nil && beat.Revision >= out.Revision {
			out.Revision, out.State = beat.Revision, beat.State
		}
	}
	judge(&out, e, a, beat, heard, applied, asOf)
	return out
}

// judge finds the worst that is known of an agent, and why.
func judge(out *Agent, e *ledger.Environment, a *ledger.Agent, beat Beat, heard bool, applied *ledger.Delivery, asOf time.Time) {
	consider := func(c Condition, reason events.Reason, message string, since time.Time) {
		if worse(c, out.Condition) < 0 {
			out.Condition, out.Reason, out.Message, out.Since = c, reason, message, since
		}
	}
	if out.Revision < e.Head() {
		consider(Behind, "", "", e.Releases[out.Revision].Stamp)
	}
	if a.Open != nil {
		c := Failing
		if a.Open.Word == events.WordTorn {
			c = Torn
		}
		consider(c, a.Open.Reason, a.Open.Message, a.Open.Stamp)
	}
	if len(a.Differing) > 0 {
		consider(Differing, events.ReasonReadBack, "the instance holds other values for "+strings.Join(a.Differing, ", "), applied.Stamp)
	}
	if heard {
		if err := e.OnChain(beat.Revision, beat.Chain); err != nil && beat.Revision > 0 {
			consider(Differing, events.ReasonOf(err), err.Error(), beat.Stamp)
		} else if beat.Revision > 0 && beat.State != e.Releases[beat.Revision-1].State {
			consider(Differing, events.ReasonStateMismatch, "the agent's state at revision "+events.ReleaseID(e.Name, beat.Revision)+" is not the ledger's", beat.Stamp)
		}
		// What a beat says of an apply is overtaken by an ack that came after it.
		overtaken := applied != nil && applied.Stamp.After(beat.Stamp)
		if c := Condition(beat.Condition); !overtaken && slices.Contains(Conditions, c) && c != Behind {
			consider(c, beat.Reason, beat.Message, beat.Since)
			if c == Held {
				out.Until = beat.Until
			}
		}
	}
	if unheard := asOf.Sub(out.LastSeen); out.LastSeen.IsZero() {
		consider(Silent, "", "it has never been heard; start it with 'agent run'", time.Time{})
	} else if unheard > SilentAfter {
		consider(Silent, "", "unheard for "+unheard.Round(time.Second).String(), out.LastSeen)
	}
}
