package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

var statuses = []string{
	string(ledger.StatusOpen), string(ledger.StatusExpired), string(ledger.StatusReleased), string(ledger.StatusDelivered),
	string(ledger.StatusRejected), string(ledger.StatusWithdrawn), string(ledger.StatusRolledBack),
}

func changesCommand(c *cli) *cobra.Command {
	var status string
	cmd := &cobra.Command{
		Use:   "changes",
		Short: "List changes, newest first",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if status != "" && !slices.Contains(statuses, status) {
				if near := config.Nearest(status, statuses); near != "" {
					return console.Usage(cmd, "there is no status %q; did you mean %q?", status, near)
				}
				return console.Usage(cmd, "there is no status %q; the statuses are %s", status, strings.Join(statuses, ", "))
			}
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			list, err := publisher.Changes(cmd.Context(), status)
			if err != nil {
				return err
			}
			if view, err := publisher.Fleet(cmd.Context()); err == nil {
				c.banner(view)
			}
			return c.show(list, func() { c.listChanges(list) })
		},
	}
	cmd.Flags().StringVar(&status, "status", "", "only those that are `STATUS`: "+strings.Join(statuses, ", "))
	complete(cmd, "status", cobra.FixedCompletions(statuses, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) listChanges(list []fleet.Change) {
	if len(list) == 0 {
		c.note("there are no such changes; propose one with 'publisher propose'")
		return
	}
	t := c.newTable("CHANGE", "STATUS", "AUTHOR", "APPROVALS", "ENVIRONMENTS", "PROPOSED", "WINDOW", "WHY")
	for _, change := range list {
		t.AppendRow([]any{change.ID, c.status(change.Status), plain(change.Author), counted(change),
			reached(change), ago(change.Proposed), c.window(change), cell(change.Reason)})
	}
	c.print(t)
	for _, change := range list {
		for _, e := range change.Environments {
			if e.Frozen != nil {
				c.note("frozen: %s: %s", change.ID, plain(e.Frozen.String()))
			}
		}
	}
}

// reached is to how many of its environments a change has come.
func reached(change fleet.Change) string {
	applied := 0
	for _, e := range change.Environments {
		if e.Outcome == "applied" {
			applied++
		}
	}
	if change.Approved.IsZero() || change.Status == string(ledger.StatusRolledBack) {
		return fmt.Sprint(len(change.Environments))
	}
	return fmt.Sprintf("%d of %d", applied, len(change.Environments))
}

func (c *cli) status(status string) string {
	switch ledger.Status(status) {
	case ledger.StatusDelivered:
		return c.paint(green, status)
	case ledger.StatusOpen, ledger.StatusReleased:
		return c.paint(yellow, status)
	}
	return status
}

func (c *cli) window(change fleet.Change) string {
	if change.Within == 0 {
		return "-"
	}
	switch change.Window {
	case fleet.WindowMissed:
		return span(change.Within) + " " + c.paint(red, "missed")
	case "":
		return span(change.Within)
	}
	return span(change.Within) + " " + string(change.Window)
}

// counted says how many approvals a change has of how many, or what stands in their place.
func counted(change fleet.Change) string {
	switch {
	case change.Trust != nil:
		return "roots"
	case change.BreakGlass != nil:
		return "break-glass"
	}
	return fmt.Sprintf("%d of %d", len(change.Approvals), change.Demanded)
}
