package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func trustRemoveCommand(c *cli) *cobra.Command {
	var e editing
	var undo bool
	var said, environments []string
	cmd := &cobra.Command{
		Use:   "remove NAME [--role ROLE [--env SELECTOR]...]...",
		Short: "Remove a person, with what was delegated to them or by them; or take roles from them",
		Long: `Remove a person: their keys, roles and delegations. What they signed does not count for anything that is released afterwards. Then what
their approvals carried, and is still in force, is listed, and rolled back if you say so: --roll-back says it where nobody can be asked.

With --role only that role is taken, with --env only there, as 'publisher trust show' writes it.`,
		Example: `  publisher trust remove ben -m "Ben has left" --root-key root-1.key
  publisher trust remove ben --role break-glass -m "not on call any more"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completePeople),
		RunE: func(cmd *cobra.Command, args []string) error {
			taken, err := roles(cmd, said)
			if err != nil {
				return err
			}
			switch {
			case len(taken) == 0 && len(environments) > 0:
				return console.Usage(cmd, "say which role is taken there with --role")
			case len(taken) > 0 && undo:
				return console.Usage(cmd, "--roll-back is for removing a person")
			case len(taken) > 0:
				return c.editTrust(cmd, e, trust.Revoke(args[0], taken, environments))
			}
			if err := c.editTrust(cmd, e, trust.Remove(args[0])); err != nil {
				return err
			}
			return c.undoCarried(cmd, e, args[0], undo)
		},
	}
	cmd.Flags().StringArrayVar(&environments, "env", nil, "with --role: only in `SELECTOR`, as the trust document writes it (repeatable)")
	cmd.Flags().BoolVar(&undo, "roll-back", false, "roll back what their approvals carried, without asking")
	registerRoles(cmd, &said)
	e.register(cmd)
	return cmd
}

// undoCarried names what somebody proposed and nobody can approve any more, and offers to roll back what their approvals carried.
func (c *cli) undoCarried(cmd *cobra.Command, e editing, name string, undo bool) error {
	ctx := cmd.Context()
	desk, _, err := c.connect()
	if err != nil {
		return err
	}
	list, err := desk.Changes(ctx, "")
	if err != nil {
		return err
	}
	for _, change := range list {
		if change.Author == name && change.Status == string(ledger.StatusOpen) && change.Trust == nil {
			c.note("%s, by %s, is still open, and nobody can approve it any more: end it with 'publisher reject %s -m WHY'", change.ID, name, change.ID)
		}
	}
	carried := carriedBy(name, list)
	if len(carried) == 0 {
		return nil
	}
	c.note("\napproved by %s and still in force:", name)
	for _, change := range carried {
		c.note("  %-5s %s  in %s, by %s: %s", change.ID, change.Approved.UTC().Format("2006-01-02 15:04:05Z"), strings.Join(inForce(change), ", "), plain(change.Author), brief(change.Reason))
	}
	if e.dryRun {
		return nil
	}
	if !undo {
		if !isTerminal(c.stdin) {
			c.note("they stay; roll one back with 'publisher rollback ID -m WHY', or all of them with --roll-back")
			return nil
		}
		if c.confirm(cmd, false, "roll them back?") != nil {
			c.note("they stay; roll one back with 'publisher rollback ID -m WHY'")
			return nil
		}
	}
	failed := 0
	for _, change := range carried {
		out, err := c.do(ctx, writing{}, ledger.Rollback{Change: change.ID, Reason: e.reason})
		if err != nil {
			failed++
			c.note("%s is not rolled back: %s", change.ID, plain(err.Error()))
			continue
		}
		c.note("rolled back %s in %s", change.ID, plural(len(out.Released), "environment", "environments"))
	}
	if failed > 0 {
		return console.Exit(console.ExitConflict, plural(failed, "change was", "changes were")+" not rolled back; what stands above says why")
	}
	return nil
}

// carriedBy are the changes that somebody approved and that are in force somewhere, newest first: that is the order in which they can be
// rolled back.
func carriedBy(name string, list []fleet.Change) []fleet.Change {
	list = slices.DeleteFunc(list, func(change fleet.Change) bool {
		by := slices.ContainsFunc(change.Approvals, func(a events.Approval) bool { return a.By == name })
		return !by || change.Trust != nil || len(inForce(change)) == 0
	})
	slices.SortStableFunc(list, func(a, b fleet.Change) int { return b.Approved.Compare(a.Approved) })
	return list
}

// inForce are the environments in which a change was released and not undone.
func inForce(change fleet.Change) (out []string) {
	for _, e := range change.Environments {
		if e.Revision > 0 && e.Undone == 0 {
			out = append(out, e.Environment)
		}
	}
	return out
}
