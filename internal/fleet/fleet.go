package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
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
	Deaf       time.Time                      // since when the publisher hears nobody, because it does not reach the bus; zero: it does
	Before     *Before                        // what looks before this one found out; nil: nothing is kept
	known      map[*ledger.Environment][]*ledger.Agent
}

// Once are the reports for one look at one state: what an environment's agents come to with them is found out once, however many
// changes it is asked for. They are for one goroutine.
func (r Reports) Once() Reports {
	r.known = map[*ledger.Environment][]*ledger.Agent{}
	return r
}

// Versions are what agents say they run, by environment and agent.
func (r Reports) Versions() map[string]map[string]string {
	out := map[string]map[string]string{}
	for id, b := range r.Beats {
		if out[id.Environment] == nil {
			out[id.Environment] = map[string]string{}
		}
		out[id.Environment][id.Agent] = b.Version
	}
	return out
}

// A Beat is an agent's newest heartbeat with the bus's stamp.
type Beat struct {
	events.Beat
	Stamp   time.Time
	Doubled time.Time // the bus's stamp of the newest beat of another process that beats in turn with this one; zero where there is none
}

// Skew is the agent's clock minus the bus's, as far as the way of the beat lets see.
func (b Beat) Skew() time.Duration { return b.Clock.Sub(b.Stamp) }

// byBus is a time by the bus's clock that the beat says by its agent's. What the skew says of the way is left alone: it is another one in
// every beat.
func (b Beat) byBus(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-b.Skew().Round(time.Second))
}

// Conditions are all of them, worst first.
var Conditions = []Condition{Torn, Differing, Failing, Silent, Stale, Held, Behind, InStep, Retired}

func worse(a, b Condition) int {
	return cmp.Compare(slices.Index(Conditions, a), slices.Index(Conditions, b))
}

// Build is the fleet as of a time, which is the bus's: stamps are compared with it.
func Build(s *ledger.State, r Reports, ledgerView LedgerView, asOf time.Time) View {
	v := View{AsOf: asOf, Ledger: ledgerView.Of(s), Totals: map[Condition]int{}, Environments: []Environment{}}
	frozen := frozenChanges(s)
	for _, e := range s.EnvironmentList() {
		env := buildEnvironment(e, r, asOf)
		env.Frozen = frozen[e.Name]
		v.Environments = append(v.Environments, env)
		v.Totals[env.Condition]++
	}
	slices.SortStableFunc(v.Environments, func(a, b Environment) int { return worse(a.Condition, b.Condition) })
	v.Reviews = Reviews(s)
	return v
}

// Reviews are the break-glasses that not enough people have signed off, oldest first.
func Reviews(s *ledger.State) (out []OpenReview) {
	for _, c := range s.UnderReview() {
		r := OpenReview{Change: c.ID, Environments: []string{}, GlassBroken: *c.BreakGlass}
		for _, part := range c.Parts {
			r.Environments = append(r.Environments, part.Environment)
		}
		out = append(out, r)
	}
	return out
}

// EnvironmentOf is where one environment stands, as Build says it. An unknown one is a *ledger.Error.
func EnvironmentOf(s *ledger.State, r Reports, name string, asOf time.Time) (Environment, error) {
	e, found := s.Environments[name]
	if !found {
		return Environment{}, unknownEnvironment(name)
	}
	out := buildEnvironment(e, r, asOf)
	out.Frozen = frozenChanges(s)[name]
	return out, nil
}

// frozenChanges are the approved changes that wait for the end of a freeze, by environment.
func frozenChanges(s *ledger.State) map[string][]FrozenChange {
	out := map[string][]FrozenChange{}
	for _, c := range s.FrozenChanges() {
		for _, part := range c.Parts {
			if part.Frozen != nil {
				out[part.Environment] = append(out[part.Environment], FrozenChange{c.ID, *part.Frozen})
			}
		}
	}
	return out
}

func buildEnvironment(e *ledger.Environment, r Reports, asOf time.Time) Environment {
	out := Environment{
		Name: e.Name, Labels: e.Labels, Steward: e.Steward, Approvals: e.Approvals, Lost: e.Lost,
		Head: e.Head(), LastChange: lastChange(e), Agents: []Agent{},
	}
	if out.Head > 0 {
		out.State = e.Releases[out.Head-1].State
	}
	agents := r.enrolled(e)
	for _, a := range agents {
		beat, heard := r.Beats[AgentID{e.Name, a.Name}]
		out.Agents = append(out.Agents, buildAgent(e, a, beat, heard, r.Deaf, asOf))
	}
	out.Revision = lowest(out.Agents)
	if last := e.LastAgent(); len(agents) == 0 && last != nil {
		out.Revision = last.Position
	}
	out.LagRevisions = out.Head - out.Revision
	if out.LagRevisions > 0 {
		out.LagSeconds = max(0, asOf.Sub(e.Releases[out.Revision].Stamp).Seconds())
	}
	acknowledged := out.Revision
	for _, a := range agents {
		acknowledged = min(acknowledged, a.Position)
	}
	if acknowledged > 0 {
		out.Delivered = slowest(e.Releases[acknowledged-1], r.agents(e))
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
		out.Condition, out.Message, out.Since = Silent, "no agent is enrolled", e.Added
		if last := e.LastAgent(); last != nil {
			out.Message, out.Since = out.Message+" since "+last.Name+" was revoked", last.RevokedAt
		}
		out.Message += "; enrol one with 'publisher env enrol " + e.Name + " --agent NAME -o FILE'"
	default:
		worst := slices.MinFunc(out.Agents, func(a, b Agent) int { return worse(a.Condition, b.Condition) })
		out.Condition, out.Reason, out.Message, out.Since = worst.Condition, worst.Reason, worst.Message, worst.Since
		if len(out.Agents) > 1 && worst.Message != "" {
			out.Message = worst.Name + ": " + worst.Message
		}
	}
}

// agents are all that the environment ever had: what a revoked one acknowledged stays acknowledged.
func (r Reports) agents(e *ledger.Environment) []*ledger.Agent {
	agents := r.enrolled(e)
	for _, name := range slices.Sorted(maps.Keys(e.Agents)) {
		if a := e.Agents[name]; a.Revoked {
			agents = append(agents, a)
		}
	}
	return agents
}

// enrolled are the environment's agents with what they said that is not recorded yet.
func (r Reports) enrolled(e *ledger.Environment) []*ledger.Agent {
	if agents, found := r.known[e]; found {
		return agents
	}
	agents := e.AgentList()
	for i, a := range agents {
		agents[i] = r.Before.with(AgentID{e.Name, a.Name}, a, r.Unrecorded[AgentID{e.Name, a.Name}])
	}
	agents = slices.Clip(agents)
	if r.known != nil {
		r.known[e] = agents
	}
	return agents
}

func lowest(agents []Agent) uint64 {
	if len(agents) == 0 {
		return 0
	}
	return slices.MinFunc(agents, func(a, b Agent) int { return cmp.Compare(a.Revision, b.Revision) }).Revision
}

// lastChange is the newest change in force: one that was undone is not.
func lastChange(e *ledger.Environment) string {
	undone := map[string]bool{}
	for i := len(e.Releases) - 1; i >= 0; i-- {
		switch r := e.Releases[i]; {
		case r.Kind == events.KindRollback:
			undone[r.Change] = true
		case r.Kind == events.KindChange && !undone[r.Change]:
			return r.Change
		}
	}
	return ""
}

// recent is how much later than an ack the bus must have stamped a beat for the beat to have been written after it: they are on
// their way at the same time.
const recent = 2 * time.Second

// said is what is known of an agent: what it acknowledged, and its newest beat. The beat overrides where it came surely later.
type said struct {
	*ledger.Agent
	environment *ledger.Environment
	beat        Beat
	heard       bool      // there is a beat
	forked      error     // the beat's checkpoint is not on the ledger's chain
	overtaken   bool      // something was applied after the beat
	deaf        time.Time // since when nobody can be heard; zero: everybody can
}

// after says that the beat was surely written after a statement: it knows better.
func (s said) after(d *ledger.Delivery) bool {
	return s.heard && (d == nil || s.beat.Stamp.Sub(d.Stamp) > recent)
}

func buildAgent(e *ledger.Environment, a *ledger.Agent, beat Beat, heard bool, deaf, asOf time.Time) Agent {
	s := said{Agent: a, environment: e, beat: beat, heard: heard, deaf: deaf}
	out := Agent{Name: a.Name, Revision: a.Position, ReadBack: true, LastSeen: a.Heard, FirstCounts: a.Revision}
	if a.Latest != nil {
		out.State, out.ReadBack = a.Latest.Expected, a.Latest.ReadBack
	}
	if heard {
		out.Version, out.Connectors, out.Rejected = beat.Version, beat.Connectors, beat.Rejected
		out.ClockSkew = beat.Skew().Seconds()
		s.overtaken = a.Latest != nil && a.Latest.Stamp.After(beat.Stamp)
		if beat.Stamp.After(out.LastSeen) {
			out.LastSeen = beat.Stamp
		}
		if beat.Revision > 0 {
			s.forked = e.OnChain(beat.Revision, beat.Chain)
		}
		if s.forked == nil && (beat.Revision >= out.Revision || s.after(a.Latest)) {
			out.Revision, out.State = beat.Revision, beat.State
		}
	}
	s.judge(&out, asOf)
	return out
}

// judge finds the worst that is known of an agent, and why.
func (s said) judge(out *Agent, asOf time.Time) {
	out.Condition = InStep
	consider := func(c Condition, reason events.Reason, message string, since time.Time) {
		if worse(c, out.Condition) < 0 {
			out.Condition, out.Reason, out.Message, out.Since = c, reason, message, since
		}
	}
	if s.heard && !s.beat.Doubled.IsZero() && asOf.Sub(s.beat.Doubled) <= SilentAfter {
		consider(Differing, events.ReasonDoubled, doubled, s.beat.Doubled)
	}
	s.judgeAcks(out, consider)
	if out.Revision < s.Position {
		consider(Behind, "", fmt.Sprintf("at revision %d of %d, though it acknowledged %d before: it was brought back from an older copy", out.Revision, s.environment.Head(), s.Position), s.environment.Releases[out.Revision].Stamp)
	}
	if s.heard {
		s.judgeBeat(out, consider)
	}
	if out.Revision < s.environment.Head() {
		consider(Behind, "", fmt.Sprintf("at revision %d of %d", out.Revision, s.environment.Head()), s.environment.Releases[out.Revision].Stamp)
	}
	if !s.deaf.IsZero() {
		consider(Silent, events.ReasonBusDown, "this publisher does not reach the bus, and hears nobody", s.deaf)
	}
	if unheard := asOf.Sub(out.LastSeen); out.LastSeen.IsZero() {
		consider(Silent, "", "it has never been heard; start it with 'agent run'", time.Time{})
	} else if unheard > SilentAfter {
		consider(Silent, "", "unheard for "+unheard.Round(time.Second).String(), out.LastSeen)
	}
	if out.Condition == Held {
		out.Until = s.beat.byBus(s.beat.Until)
	}
}

// A verdict is one thing that is known of an agent; the worst one counts.
type verdict func(c Condition, reason events.Reason, message string, since time.Time)

func (s said) judgeAcks(out *Agent, consider verdict) {
	if open := s.Open; open != nil && !s.after(open) {
		condition := Failing
		switch open.Word {
		case events.WordTorn:
			condition = Torn
		case events.WordRetrying:
			condition = Behind
		}
		consider(condition, open.Reason, open.Message, open.Stamp)
	}
	latest := s.Latest
	if latest == nil || s.after(latest) {
		return
	}
	switch {
	case latest.Expected != s.environment.Releases[latest.Last-1].State:
		consider(Differing, events.ReasonStateMismatch, notTheLedgers(latest.Last), latest.Stamp)
	case len(latest.Differing) > 0:
		for _, key := range latest.Differing {
			out.Differing = append(out.Differing, events.DifferingResource{Resource: key})
		}
		out.Drift = len(out.Differing)
		consider(Differing, events.ReasonReadBack, events.OtherValues(out.Differing), latest.Stamp)
	case !latest.Observed.IsZero() && latest.Observed != latest.Expected:
		consider(Differing, events.ReasonReadBack, otherValues, latest.Stamp)
	}
}

func (s said) judgeBeat(out *Agent, consider verdict) {
	beat := s.beat
	since := beat.byBus(beat.Since)
	switch {
	case s.forked != nil:
		consider(Differing, events.ReasonOf(s.forked), events.MessageOf(s.forked), beat.Stamp)
	case beat.Revision == 0:
	case beat.State != s.environment.Releases[beat.Revision-1].State:
		consider(Differing, events.ReasonStateMismatch, notTheLedgers(beat.Revision), beat.Stamp)
	}
	if s.overtaken && Condition(beat.Condition) != Stale {
		return // what it says of an apply, the ack that came after it says better
	}
	if beat.Revision > 0 && beat.Observed.IsZero() {
		out.ReadBack = false
	}
	if !s.overtaken && beat.Drift > 0 {
		out.Drift, out.Differing = beat.Drift, beat.Differing
	}
	if condition := Condition(beat.Condition); !slices.Contains(Conditions, condition) {
		consider(Failing, beat.Reason, fmt.Sprintf("it says that it is %q, which this publisher does not know", beat.Condition), since)
	} else if condition != Behind {
		consider(condition, beat.Reason, beat.Message, since)
	} else if beat.Reason != "" {
		consider(Behind, beat.Reason, beat.Message, since)
	}
	if !beat.Observed.IsZero() && beat.Observed != beat.State {
		consider(Differing, events.ReasonReadBack, otherValues, beat.Stamp)
	}
}

const (
	otherValues = "the instance holds other values than were applied"
	doubled     = "two processes run with its enrolment, and only one of them is seen: stop one of them, then start the other again; enrol another agent for a second instance"
)

func notTheLedgers(revision uint64) string {
	return fmt.Sprintf("the agent's state at revision %d is not the ledger's", revision)
}
