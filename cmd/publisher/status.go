package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func statusCommand(c *cli) *cobra.Command {
	var watch, differences bool
	cmd := &cobra.Command{
		Use:   "status [ENV|PATTERN]",
		Short: "Show where every environment stands, worst first, one of them with its agents, or those that match a pattern",
		Long: `Show where every environment stands, worst first: the revision that all its agents have applied and read back, the newest one
released (the head), how long the oldest one that is missing has been waiting, and why.

The states, worst first: torn, differing, failing, silent, stale, held, behind, in step; and retired.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeEnvironments),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := notTogether(cmd, "watch", "exit-code"); err != nil {
				return err
			}
			if watch && c.format == "yaml" {
				return console.Usage(cmd, "--watch writes no YAML; ask for -o json, which writes a view a line")
			}
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			c.name(args...)
			if watch {
				return c.watch(cmd.Context(), publisher, args)
			}
			view, err := fleetOf(cmd.Context(), publisher, args)
			if err != nil {
				return err
			}
			c.banner(view)
			if err := c.showStatus(view, args); err != nil {
				return err
			}
			missed, err := missedWindows(cmd.Context(), publisher)
			if err != nil {
				return err
			}
			c.notes(missed)
			if differences && slices.ContainsFunc(view.Environments, outOfStep) {
				return console.Exit(console.ExitDifference, "")
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing; without a terminal a line for each environment that moves, with -o json a view a line")
	cmd.Flags().BoolVar(&differences, "exit-code", false, "exit 3 when an environment is not in step")
	return cmd
}

// isPattern says whether an argument is no name of an environment.
func isPattern(arg string) bool { return strings.Contains(arg, "*") }

// fleetOf is the fleet, or only the environment that is named, or those that a pattern matches.
func fleetOf(ctx context.Context, publisher *client.Client, args []string) (fleet.View, error) {
	view, err := publisher.Fleet(ctx)
	if err == nil && len(view.Environments) == 0 && view.Ledger.Reason == events.ReasonStartup {
		return view, &api.UnavailableError{Reason: events.ReasonStartup, Message: "the publisher has not read its ledger yet" + because(view.Ledger.Message), Next: "see 'publisher doctor'"}
	}
	if err != nil || len(args) == 0 {
		return view, err
	}
	view.Environments = slices.DeleteFunc(view.Environments, func(e fleet.Environment) bool { return !events.Glob(args[0], e.Name) })
	view.Totals = map[fleet.Condition]int{}
	for _, e := range view.Environments {
		view.Totals[e.Condition]++
	}
	if len(view.Environments) == 0 && isPattern(args[0]) {
		return view, &ledger.Error{Kind: ledger.KindNotFound, Message: "no environment matches " + plain(args[0]), Next: "list them with 'publisher env list'"}
	}
	if len(view.Environments) == 0 {
		return view, &ledger.Error{Kind: ledger.KindNotFound, Message: "there is no environment " + plain(args[0]), Next: "list them with 'publisher env list'"}
	}
	return view, nil
}

func outOfStep(e fleet.Environment) bool {
	return e.Condition != fleet.InStep && e.Condition != fleet.Retired
}

func (c *cli) showStatus(view fleet.View, args []string) error {
	if len(args) == 1 && !isPattern(args[0]) {
		return c.show(view.Environments[0], func() { c.oneStatus(view.Environments[0]) })
	}
	return c.show(view, func() { c.allStatus(view) })
}

// banner says what is wrong with the ledger, on every screen.
func (c *cli) banner(view fleet.View) { c.notes(warnings(view)) }

func (c *cli) notes(lines []string) {
	for _, line := range lines {
		c.note("%s", line)
	}
}

// warnings are what is wrong with the ledger, and what waits for a review.
func warnings(view fleet.View) (out []string) {
	l := view.Ledger
	if !l.Writable {
		since := ""
		if !l.Since.IsZero() {
			since = " since " + l.Since.UTC().Format(time.RFC3339)
		}
		out = append(out, "! the ledger cannot be written"+since+" ("+string(l.Reason)+")"+because(l.Message)+"; nothing can be proposed, approved or rolled back until it can")
	}
	if l.Durability != "proven" {
		out = append(out, "! durability is "+plain(l.Durability)+": what is called released may be lost with the power")
	}
	for _, r := range view.Reviews {
		out = append(out, "! "+plain(r.String())+"; look at it with 'publisher show "+r.Change+"', and sign it off with 'publisher review "+r.Change+" -m WHY'")
	}
	return out
}

// missedWindows says which released changes have not been applied everywhere within their window.
func missedWindows(ctx context.Context, publisher *client.Client) (out []string, err error) {
	released, err := publisher.Changes(ctx, string(ledger.StatusReleased))
	for _, change := range released {
		if change.Window == fleet.WindowMissed {
			out = append(out, fmt.Sprintf("! %s has missed its window of %s; see 'publisher show %s'", change.ID, span(change.Within), change.ID))
		}
	}
	return out, err
}

func (c *cli) allStatus(view fleet.View) {
	if len(view.Environments) == 0 {
		c.note("there are no environments; add one with 'publisher env add NAME'")
		return
	}
	c.line("%s", c.environmentTable(view.Environments))
	for _, l := range view.Ledger.Losses {
		c.note("ledger: %s", plain(l.String()))
	}
	c.frozen(view)
	for _, e := range view.Environments {
		if e.Lost {
			c.note("! how many approvals %s demands was lost with the ledger: nothing is approved before 'publisher env update %s'", e.Name, e.Name)
		}
	}
	c.note("%s", totals(view))
}

// environmentTable is a line for each environment, below one that says what stands where.
func (c *cli) environmentTable(environments []fleet.Environment) string {
	rows := make([]table.Row, len(environments))
	for i, e := range environments {
		rows[i] = table.Row{e.Name, e.Revision, e.Head, lag(e), c.condition(e.Condition), dash(e.LastChange), joined(why(string(e.Reason), e.Message), e.Clocks())}
	}
	return c.stateTable(table.Row{"ENVIRONMENT", "REVISION", "HEAD", "LAG", "STATE", "LAST CHANGE", "WHY"}, rows)
}

// frozen says which approved changes wait for the end of a freeze.
func (c *cli) frozen(view fleet.View) {
	for _, e := range view.Environments {
		for _, frozen := range e.Frozen {
			c.note("frozen: %s: %s", frozen.Change, plain(frozen.String()))
		}
	}
}

// totals is how many environments are in which state, the worst first, and how far the ledger goes.
func totals(view fleet.View) string {
	var parts []string
	for _, condition := range fleet.Conditions {
		if n := view.Totals[condition]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, condition))
		}
	}
	return fmt.Sprintf("%s: %s; ledger entry %d", plural(len(view.Environments), "environment", "environments"), strings.Join(parts, ", "), view.Ledger.Tip.Number)
}

// lag is how far an environment is behind: for how long, and how many revisions.
func lag(e fleet.Environment) string {
	if e.LagRevisions == 0 || e.Condition == fleet.Retired {
		return "-"
	}
	return plural(int(e.LagRevisions), "rev, ", "revs, ") + span(e.LagSeconds)
}

func why(reason, message string) string {
	switch {
	case message == "":
		return reason
	case reason == "":
		return brief(message)
	}
	return reason + ": " + brief(message)
}

// joined are two sayings, either of which may be empty.
func joined(one, other string) string {
	if one != "" && other != "" {
		return one + "; " + other
	}
	return one + other
}

func (c *cli) oneStatus(e fleet.Environment) {
	field := func(name, text string) {
		if text != "" {
			c.line("%-12s %s", name, text)
		}
	}
	field("environment", c.paint(bold, e.Name))
	field("state", c.condition(e.Condition)+since(e.Since))
	field("why", why(string(e.Reason), e.Message))
	field("revision", fmt.Sprintf("%d of %d", e.Revision, e.Head))
	if e.LagRevisions > 0 {
		field("lag", lag(e))
	}
	if e.Delivered != nil {
		field("last took", took(e.Delivered)+" from release to applied by the slowest agent")
	}
	field("last change", e.LastChange)
	for _, frozen := range e.Frozen {
		field("frozen", plain(frozen.Change+": "+frozen.String()))
	}
	field("labels", labels(e.Labels))
	field("steward", plain(e.Steward))
	field("approvals", demands(e, plural(e.Approvals, "person besides the author", "people besides the author")))
	field("digest", e.State.String())
	if len(e.Agents) == 0 {
		return
	}
	c.line("")
	rows := make([]table.Row, len(e.Agents))
	for i, a := range e.Agents {
		digest := a.State.Short()
		if !a.ReadBack {
			digest = "not read back"
		} else if a.Differs() {
			digest += " when applied"
		}
		rows[i] = table.Row{a.Name, a.Revision, c.condition(a.Condition) + until(a), ago(a.LastSeen), digest, dash(plain(a.Version)),
			dash(plain(strings.Join(a.Connectors, ","))), why(string(a.Reason), a.Message)}
	}
	c.line("%s", c.stateTable(table.Row{"AGENT", "REVISION", "STATE", "HEARD", "DIGEST", "VERSION", "CONNECTORS", "WHY"}, rows))
	for _, a := range e.Agents {
		for _, d := range a.Differing {
			c.line("%s differs in %s", a.Name, plain(d.String()))
		}
		if more := a.Drift - len(a.Differing); more > 0 {
			c.line("%s differs in %s", a.Name, plural(more, "more resource", "more resources"))
		}
		if skew := a.Skew(); skew != "" {
			c.note("! the clock of %s is off by %s; lag is not measured by it", a.Name, skew)
		}
	}
}

// demands is how many approvals an environment demands, unless that was lost with the ledger.
func demands(e fleet.Environment, approvals string) string {
	if e.Lost {
		return "unknown"
	}
	return approvals
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + moment(t)
}

func until(a fleet.Agent) string {
	if a.Until.IsZero() {
		return ""
	}
	return " until " + a.Until.UTC().Format("15:04Z")
}

func labels(m map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, name+"="+plain(m[name]))
	}
	return strings.Join(parts, ",")
}
