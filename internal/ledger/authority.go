package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// An entry begins with the fact that says what it is; forms says by which commands that comes about, and what else may follow it.
var forms = map[events.Type]form{
	events.TypeChangeProposed:     {verbs: []string{events.VerbPropose, events.VerbRebase, ProposeTrust{}.name()}, with: rollout},
	events.TypeChangeRevised:      {verbs: []string{events.VerbRevise, events.VerbRebase}, with: rollout},
	events.TypeApprovalGiven:      {verbs: []string{events.VerbApprove}, with: append(slices.Clone(rollout), events.TypeTrustUpdated)},
	events.TypeChangeRejected:     {verbs: []string{Reject{}.name()}},
	events.TypeChangeWithdrawn:    {verbs: []string{Withdraw{}.name()}, with: []events.Type{events.TypeRolloutCompleted}},
	events.TypeRolloutPaused:      {verbs: []string{Pause{}.name()}},
	events.TypeRolloutResumed:     {verbs: []string{Resume{}.name()}},
	events.TypeRollbackOrdered:    {verbs: []string{Rollback{}.name()}},
	events.TypeBreakGlassUsed:     {verbs: []string{events.VerbBreakGlass}, with: rollout},
	events.TypeBreakGlassReviewed: {verbs: []string{Review{}.name()}},
	events.TypeEnvironmentAdded:   {verbs: []string{AddEnvironment{}.name()}},
	events.TypeEnvironmentUpdated: {verbs: []string{UpdateEnvironment{}.name()}},
	events.TypeEnvironmentRetired: {verbs: []string{RetireEnvironment{}.name()}, with: []events.Type{events.TypeRolloutCompleted}},
	events.TypeAgentEnrolled:      {verbs: []string{EnrolAgent{}.name()}},
	events.TypeAgentRevoked:       {verbs: []string{RevokeAgent{}.name()}, with: []events.Type{events.TypeRolloutCompleted}},
	events.TypeAlarmAcknowledged:  {verbs: []string{AcknowledgeAlarm{}.name()}},
	events.TypeAlarmsSilenced:     {verbs: []string{SilenceAlarms{}.name()}},
	events.TypeSilenceEnded:       {verbs: []string{EndSilence{}.name()}},
	// The publisher's own: they follow from what is in the ledger, or hold what others signed.
	events.TypeContentStored:    {with: []events.Type{events.TypeContentStored}},
	events.TypeDeliveryRecorded: {with: []events.Type{events.TypeRolloutCompleted}},
	events.TypeWaveReleased:     {with: []events.Type{events.TypeRolloutCompleted}},
	events.TypeTrustUpdated:     {},
	events.TypeHistoryRecovered: {},
}

var rollout = []events.Type{events.TypeChangeApproved, events.TypeRolloutStarted, events.TypeWaveReleased, events.TypeRolloutCompleted}

type form struct {
	verbs []string // none: the publisher's own, which nobody signs
	with  []events.Type
}

// CheckAuthority says whether an entry that follows this state is what a person signed who might, or one of the publisher's own. It is
// what Decide checks before the append, of what is there; where approvals are names it says nothing. Errors wrap ErrForged.
func (s *State) CheckAuthority(entry events.Entry) error {
	facts, err := factsOf(entry)
	if err != nil {
		return err
	}
	_, err = s.judgedEntry(entry, facts)
	return err
}

// judgedEntry is CheckAuthority for facts that were read, with the statement as it was opened.
func (s *State) judgedEntry(entry events.Entry, facts []events.Fact) (*spoken, error) {
	if !s.signed() {
		return nil, nil
	}
	forged := func(format string, args ...any) error {
		return fmt.Errorf("%w: entry %d: "+format, append([]any{ErrForged, entry.Number}, args...)...)
	}
	f, known := forms[facts[0].Type]
	if !known {
		return nil, forged("it begins with %s", facts[0].Type)
	}
	for _, more := range facts[1:] {
		if !slices.Contains(f.with, more.Type) {
			return nil, forged("%s stands in an entry of %s", more.Type, facts[0].Type)
		}
	}
	if len(f.verbs) == 0 {
		if entry.Command.Statement != nil {
			return nil, forged("%s is signed, and nobody signs those", facts[0].Type)
		}
		return nil, nil
	}
	if entry.Command.Statement == nil {
		return nil, forged("%s by %q is not signed", facts[0].Type, clip(entry.Command.By, 80))
	}
	said, err := openSpoken(entry.Command.Statement)
	if err != nil {
		return nil, forged("the statement of %q: %w", clip(entry.Command.By, 80), err)
	}
	if why := s.unlike(said.Statement, entry.Command, entry.Time); why != "" {
		return nil, forged("the statement of %q is none for it: %s", clip(entry.Command.By, 80), why)
	}
	if !slices.Contains(f.verbs, said.Verb) {
		return nil, forged("%s under a statement that says %q", facts[0].Type, clip(said.Verb, 40))
	}
	if err := s.authorized(said, s.about(facts), facts, entry.Time); err != nil {
		return nil, forged("%w", err)
	}
	return said, nil
}

// authorized says whether what a person signed is about a subject, and lets them do what the facts say, by the newest trust document. Without a statement nothing is demanded here. Errors
// are *Error, KindDenied or KindConflict.
func (s *State) authorized(said *spoken, about subject, facts []events.Fact, at time.Time) error {
	if said == nil {
		return nil
	}
	if said.Change != about.change || said.Digest != about.digest {
		return refuse(KindConflict, "look at it again, and sign what it is now", "the statement of %s is over %s, and the command is about %s", said.By, named(said.Change, said.Digest), named(about.change, about.digest))
	}
	if content, known := rebuilt(said.Verb, facts[0].Data); known {
		if digest, err := (Command{By: said.By, Body: content}).Digest(); err != nil || digest != said.Content {
			return refuse(KindDenied, "", "the statement of %s is over another command than this one", said.By)
		}
	}
	if by := actor(facts[0].Data); by != "" && by != said.By {
		return refuse(KindDenied, "", "%s is said to have done what %s signed", by, said.By)
	}
	return s.may(said, facts[0].Data, at)
}

func named(change string, digest events.Digest) string {
	if change == "" {
		return "no change"
	}
	return "change " + clip(change, 40) + " (" + digest.Short() + ")"
}

// actor is who a fact says acted; "" where it does not say.
func actor(fact any) string {
	switch f := fact.(type) {
	case *events.ChangeProposed:
		return f.Author
	case *events.ApprovalGiven:
		return f.By
	case *events.ChangeEnded:
		return f.By
	case *events.RolloutPaused:
		return f.By
	case *events.RollbackOrdered:
		return f.By
	case *events.BreakGlassUsed:
		return f.By
	case *events.BreakGlassReviewed:
		return f.By
	case *events.EnvironmentRetired:
		return f.By
	case *events.AgentRevoked:
		return f.By
	case *events.AlarmAcknowledged:
		return f.By
	case *events.AlarmsSilenced:
		return f.By
	case *events.SilenceEnded:
		return f.By
	}
	return ""
}

// rebuilt is the body of the command that a fact came of, where the fact says all of it: then the statement is over exactly that.
func rebuilt(verb string, fact any) (Body, bool) {
	switch f := fact.(type) {
	case *events.ChangeProposed:
		if f.Trust != nil {
			return ProposeTrust{Document: *f.Trust, Reason: f.Reason, Ticket: f.Ticket}, true
		}
	case *events.ApprovalGiven:
		return Approve{Change: f.Change, Digest: f.Digest, Comment: f.Comment, Roots: f.Roots}, true
	case *events.ChangeEnded:
		if verb == (Reject{}).name() {
			return Reject{Change: f.Change, Reason: f.Reason}, true
		}
		return Withdraw{Change: f.Change, Reason: f.Reason}, true
	case *events.RolloutPaused:
		if verb == (Pause{}).name() {
			return Pause{Change: f.Change, Reason: f.Reason}, true
		}
		return Resume{Change: f.Change}, true
	case *events.BreakGlassUsed:
		return BreakGlass{Change: f.Change, Digest: f.Digest, Reason: f.Reason}, true
	case *events.BreakGlassReviewed:
		return Review{Change: f.Change, Comment: f.Comment}, true
	case *events.EnvironmentAdded:
		return AddEnvironment{Name: f.Environment, Labels: f.Labels, Steward: f.Steward, Approvals: f.Approvals}, true
	case *events.EnvironmentUpdated:
		return UpdateEnvironment{Name: f.Environment, Labels: f.Labels, Steward: f.Steward, Approvals: f.Approvals}, true
	case *events.EnvironmentRetired:
		return RetireEnvironment{Name: f.Environment, Reason: f.Reason}, true
	case *events.AgentEnrolled:
		return EnrolAgent{Environment: f.Environment, Agent: f.Agent, Key: f.Key}, true
	case *events.AgentRevoked:
		return RevokeAgent{Environment: f.Environment, Agent: f.Agent, Reason: f.Reason}, true
	case *events.AlarmAcknowledged:
		return AcknowledgeAlarm{Alarm: f.Alarm, Environment: f.Environment, Reason: f.Reason}, true
	case *events.AlarmsSilenced:
		return SilenceAlarms{Environment: f.Environment, Rule: f.Rule, Until: f.Until, Reason: f.Reason}, true
	case *events.SilenceEnded:
		return EndSilence{Silence: f.Silence}, true
	}
	return nil, false
}

// may says whether the trust document lets somebody do what a fact says.
func (s *State) may(said *spoken, fact any, at time.Time) error {
	a := asking{s, said.By, at}
	switch f := fact.(type) {
	case *events.ChangeProposed:
		if f.Trust != nil {
			return a.somewhere(events.RoleAdministrator)
		}
		return a.everywhere(proposedIn(f), events.RoleAuthor)
	case *events.ApprovalGiven:
		return a.approve(said, s.Changes[f.Change])
	case *events.ChangeEnded:
		return a.end(said.Verb, s.Changes[f.Change])
	case *events.RolloutPaused:
		return a.everywhere(waitingIn(s.Changes[f.Change]), events.RoleReleaseManager, events.RoleApprover)
	case *events.RollbackOrdered:
		return a.everywhere(undoneIn(f), events.RoleReleaseManager, events.RoleApprover)
	case *events.BreakGlassUsed:
		return a.breakGlass(said, s.Changes[f.Change], f.Reason)
	case *events.BreakGlassReviewed:
		return a.review(s.Changes[f.Change])
	case *events.EnvironmentAdded:
		return a.everywhere([]string{f.Environment}, events.RoleOperator)
	case *events.EnvironmentUpdated:
		return a.everywhere([]string{f.Environment}, events.RoleOperator)
	case *events.EnvironmentRetired:
		return a.everywhere([]string{f.Environment}, events.RoleOperator)
	case *events.AgentEnrolled:
		return a.agents(f.Environment)
	case *events.AgentRevoked:
		return a.agents(f.Environment)
	case *events.AlarmAcknowledged:
		return a.acknowledge(f.Environment)
	case *events.AlarmsSilenced:
		return a.silence(f.Environment)
	case *events.SilenceEnded:
		return a.silence(s.silenced(f.Silence).Environment)
	}
	return refuse(KindDenied, "", "nobody may do this by signing it")
}

// asking is a person who asks whether they may, at a time.
type asking struct {
	*State
	by string
	at time.Time
}

// everywhere demands one of the roles in each of the environments.
func (a asking) everywhere(environments []string, roles ...events.Role) error {
	t := a.Trust()
	var lacking []string
	for _, e := range environments {
		if !slices.ContainsFunc(roles, func(r events.Role) bool { return t.May(a.by, r, e, a.at) }) {
			lacking = append(lacking, e)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return a.lacks(roles, "in "+some(lacking), lacking[0])
}

// somewhere demands a role in any environment.
func (a asking) somewhere(role events.Role) error {
	if a.Trust().MaySomewhere(a.by, role, a.at) {
		return nil
	}
	return a.lacks([]events.Role{role}, "anywhere", "")
}

// anywhere demands one of the roles, which may differ from environment to environment, in one of a change's environments at least.
func (a asking) anywhere(c *Change, roles func(Part) []events.Role) error {
	t := a.Trust()
	for _, part := range c.Parts {
		if slices.ContainsFunc(roles(part), func(r events.Role) bool { return t.May(a.by, r, part.Environment, a.at) }) {
			return nil
		}
	}
	var where []string
	for _, part := range c.Parts {
		where = append(where, part.Environment)
	}
	in := "in any of "
	if len(where) == 1 {
		in = "in "
	}
	return a.lacks(roles(c.Parts[0]), in+some(where), where[0])
}

// lacks says who lacks which role where, and what to do next.
func (a asking) lacks(roles []events.Role, where, environment string) error {
	var names []string
	for _, r := range roles {
		if !slices.Contains(names, string(r)) { // rules of several resources count the same ones
			names = append(names, string(r))
		}
	}
	t := a.Trust()
	next := "an administrator grants it with 'publisher trust add'"
	if environment != "" {
		next = "see who has it with 'publisher trust who-can " + environment + "'; " + next
		if others := holders(t, roles, environment, a.at); len(others) > 0 {
			next = "ask " + some(others) + ", or " + next
		}
	}
	return refuse(KindDenied, next, "%s has not the role %s %s (trust document %d)", a.by, strings.Join(names, " or "), where, t.Version)
}

// holders are the people who have one of some roles in an environment at a time, in the order of the trust document.
func holders(t *events.Trust, roles []events.Role, environment string, at time.Time) (out []string) {
	for _, p := range t.People {
		if slices.ContainsFunc(roles, func(r events.Role) bool { return t.May(p.Name, r, environment, at) }) {
			out = append(out, p.Name)
		}
	}
	return out
}

func (a asking) approve(said *spoken, c *Change) error {
	if c == nil {
		return refuse(KindNotFound, "", "there is no such change")
	}
	if c.Trust != nil {
		return a.somewhere(events.RoleAdministrator)
	}
	if err := a.Trust().Counts(said.Statement, a.at); err != nil {
		return refuse(KindDenied, "sign it again, with a time until which it counts", "this approval would not count: %s", events.MessageOf(err))
	}
	return a.approver(c)
}

// approver demands a role whose approval counts somewhere in a change.
func (a asking) approver(c *Change) error { return a.anywhere(c, a.counting) }

// end is a rejection or a withdrawal.
func (a asking) end(verb string, c *Change) error {
	switch {
	case c == nil:
		return refuse(KindNotFound, "", "there is no such change")
	case verb != Reject{}.name():
		if a.by != c.Author {
			return refuse(KindDenied, "", "change %s is %s's, and only its author withdraws it", c.ID, c.Author)
		}
		return nil
	case c.Trust != nil:
		return a.somewhere(events.RoleAdministrator)
	}
	return a.anywhere(c, a.counting)
}

// counting are the roles whose approvals count in a part of a change.
func (a asking) counting(part Part) []events.Role {
	var out []events.Role
	for _, rule := range a.Trust().Governing(part.Environment, part.Operations) {
		out = append(out, rule.Counting()...)
	}
	return append(out, events.RoleApprover)
}

func (a asking) breakGlass(said *spoken, c *Change, reason string) error {
	if c == nil {
		return refuse(KindNotFound, "", "there is no such change")
	}
	if err := a.Trust().Counts(said.Statement, a.at); err != nil {
		return refuse(KindDenied, "sign it again, with a time until which it counts", "this break-glass would not count: %s", events.MessageOf(err))
	}
	if said.Reason == "" || said.Reason != reason {
		return refuse(KindDenied, "sign it with the reason", "the statement does not say why the glass is broken, or says it otherwise")
	}
	return a.mayBreakGlass(c)
}

func (a asking) mayBreakGlass(c *Change) error {
	var where []string
	for _, part := range c.Parts {
		where = append(where, part.Environment)
	}
	return a.everywhere(where, events.RoleBreakGlass)
}

func (a asking) review(c *Change) error {
	if c == nil || c.BreakGlass == nil {
		return refuse(KindNotFound, "", "there is nothing to review")
	}
	return a.anywhere(c, func(Part) []events.Role { return []events.Role{events.RoleApprover} })
}

// agents are enrolled and revoked by an operator, or by the environment's steward.
func (a asking) agents(environment string) error {
	if e := a.Environments[environment]; e != nil && e.Steward != "" && samePerson(e.Steward, a.by) {
		return nil
	}
	return a.everywhere([]string{environment}, events.RoleOperator, events.RoleSteward)
}

func proposedIn(f *events.ChangeProposed) []string {
	out := make([]string, len(f.Environments))
	for i, e := range f.Environments {
		out[i] = e.Environment
	}
	return out
}

func waitingIn(c *Change) (out []string) {
	if c == nil {
		return nil
	}
	for _, part := range c.Parts {
		if part.Frozen != nil {
			out = append(out, part.Environment)
		}
	}
	return out
}

func undoneIn(f *events.RollbackOrdered) (out []string) {
	for _, u := range slices.Concat(f.Undone, f.SourcesOnly) {
		out = append(out, u.Environment)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
