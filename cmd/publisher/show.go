package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/policy"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func showCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show a change: who, why, what it changes where, and who applied it when",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges(),
		RunE: func(cmd *cobra.Command, args []string) error {
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			change, err := publisher.Change(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if view, err := publisher.Fleet(cmd.Context()); err == nil {
				c.banner(view)
			}
			return c.show(change, func() { c.showChange(change) })
		},
	}
}

func (c *cli) showChange(change fleet.Change) {
	c.line("%s  %s", c.paint(bold, change.ID), c.status(change.Status))
	field := func(name, text string) {
		if text != "" {
			c.line("  %-10s %s", name, strings.ReplaceAll(text, "\n", "\n             "))
		}
	}
	field("why", plain(strings.TrimSpace(change.Reason)))
	field("author", plain(change.Author)+", "+moment(change.Proposed)+revised(change.Revised))
	field("ticket", plain(change.Ticket))
	if change.Source != nil {
		field("source", provenance(change.Source))
	}
	field("digest", change.Digest.String())
	field("approvals", approvals(change))
	field("lacking", strings.Join(lackings(change.Demands), "\n"))
	if g := change.BreakGlass; g != nil {
		field("glass", "broken by "+plain(g.By)+", "+moment(g.At)+": "+plain(g.Reason)+reviews(*g))
	}
	if change.Paused != nil {
		field("paused", "by "+plain(change.Paused.By)+", "+moment(change.Paused.Since)+": "+plain(change.Paused.Reason))
	}
	if change.Trust != nil {
		field("trust", fmt.Sprintf("proposes trust document %d, signed by %s so far; see it with 'publisher trust show %s'", change.Trust.Version, plural(len(change.Roots), "root", "roots"), change.ID))
	}
	field("risk", change.Risk)
	field("policies", policies(change))
	if change.Recovered {
		field("lost", "its proposal, with the ledger's entry: source, window and what it meant elsewhere are not known any more")
	}
	if change.Within > 0 {
		field("window", c.window(change))
	}
	if change.EndedBy != "" {
		field(change.Status, "by "+plain(change.EndedBy)+because(change.EndReason))
	}
	if change.Status == string(ledger.StatusOpen) || change.Status == string(ledger.StatusExpired) {
		field("expires", change.Expires.UTC().Format("2006-01-02 15:04:05Z"))
	}
	shown := map[string]string{}
	moved := false
	for _, e := range change.Environments {
		c.showPart(e, shown)
		moved = moved || e.Moved != ""
	}
	if moved {
		c.note("its base has moved; its author compiles it anew with 'publisher rebase %s'", change.ID)
	}
}

func revised(times int) string {
	if times == 0 {
		return ""
	}
	return ", revised " + plural(times, "time", "times")
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + plain(reason)
}

// approvals say how many there are of how many, by whom, and what is missing.
func approvals(change fleet.Change) string {
	switch {
	case change.ByRule:
		return "none: a rule of the trust document approves it"
	case change.Trust != nil:
		return "by the signatures of roots"
	case signed(change):
		return signedApprovals(change)
	}
	out := fmt.Sprintf("%d of %d", len(change.Approvals), change.Demanded)
	separator := ": "
	for _, a := range change.Approvals {
		out += separator + plain(a.By) + " " + ago(a.At)
		separator = ", "
	}
	if missing := change.Demanded - len(change.Approvals); missing > 0 && change.Status == string(ledger.StatusOpen) {
		out += fmt.Sprintf("; %d more, not by %s", missing, plain(change.Author)) + demandedBy(change)
	}
	return out
}

// demandedBy says which policy demands as many approvals as the change needs; what environments demand is not said.
func demandedBy(change fleet.Change) string {
	for _, v := range change.Verdicts {
		if v.Approvals != change.Demanded {
			continue
		}
		out := fmt.Sprintf(", because policy %s (%s:%d) demands %d", v.Policy, v.File, v.Line, v.Approvals)
		if len(v.Roles) > 0 {
			out += " in the roles " + strings.Join(v.Roles, ", ") + " (roles are not checked while approvals are names)"
		}
		return plain(out)
	}
	return ""
}

// policies are what policies said of the change, but for those that had nothing to say.
func policies(change fleet.Change) string {
	var out []string
	for _, v := range change.Verdicts {
		if v.Action != events.VerdictAllow {
			out = append(out, plain(policy.Sentence(v)))
		}
	}
	return strings.Join(out, "\n")
}

// showPart shows what the change means for one environment. Shown are the differences that were written before, and where.
func (c *cli) showPart(e fleet.ChangeEnvironment, shown map[string]string) {
	head := "\n" + c.paint(bold, e.Environment) + "  " + c.outcome(e.Outcome)
	if e.Revision > 0 {
		head += fmt.Sprintf(", revision %d, released %s", e.Revision, moment(e.Released))
	}
	if e.Undone > 0 {
		head += fmt.Sprintf(", undone by revision %d", e.Undone)
	}
	c.line("%s", head)
	if e.Frozen != nil {
		c.line("  %s", plain(e.Frozen.String()))
	}
	if e.LeftOut != "" {
		c.line("  left out: %s", plain(e.LeftOut))
	}
	if e.Moved != "" {
		c.line("  base moved: %s", plain(e.Moved))
	}
	difference := changed(e.Operations)
	if first := shown[difference]; first != "" && len(e.Operations) > 1 {
		c.line("  the same %d changes as in %s", len(e.Operations), first)
	} else {
		shown[difference] = e.Environment
		c.line("%s", difference)
	}
	for _, a := range e.Agents {
		c.line("  %s", agentLine(a))
	}
}

// changed is what operations change; none are of a change that edits sources only.
func changed(operations []fleet.OperationView) string {
	if len(operations) == 0 {
		return "  its sources change, and no resource"
	}
	return trim(diff(operations, "  "))
}

func (c *cli) outcome(outcome string) string {
	switch outcome {
	case "applied":
		return c.paint(green, outcome)
	case "failed", "torn", "refused":
		return c.paint(red, outcome)
	case "waiting", "frozen", "retrying", "blocked", "no agent", "left out":
		return c.paint(yellow, outcome)
	}
	return outcome
}

// agentLine is what one agent said of a release.
func agentLine(a fleet.AgentDelivery) string {
	if a.Word == "" {
		return a.Agent + ": nothing heard yet"
	}
	if a.Past {
		return a.Agent + ": applied; when, and what it read back, is in the ledger ('publisher audit prove')"
	}
	said := string(a.Word)
	switch {
	case a.Failed != "":
		said = fmt.Sprintf("%s alone%s; passed over by revision %d, applied", a.Failed, unfit(a), a.With)
	case a.With > 0:
		said += fmt.Sprintf(" with revision %d", a.With)
	}
	out := a.Agent + ": " + said + " " + moment(a.Stamp)
	if a.Word != events.WordApplied {
		return out + unfit(a)
	}
	out += ", after " + took(a.Lag)
	if !a.ReadBack {
		return out + ", not read back"
	}
	return out + ", read back with digest " + a.Digest.Short()
}

// unfit says why an agent could not apply a release.
func unfit(a fleet.AgentDelivery) string {
	if a.Reason == "" {
		return because(a.Message)
	}
	return ", " + string(a.Reason) + because(a.Message)
}

func trim(s string) string { return strings.TrimSuffix(s, "\n") }
