package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func approveCommand(c *cli) *cobra.Command {
	var w writing
	var wait waiting
	var comment, seen string
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Approve a change; the last approval demanded releases it",
		Long: `Approve a change of somebody else. The last approval demanded releases it to all its environments at once.

What is approved is a digest. --digest pins the one that you looked at, whole or its first digits, so that a change revised since
is not approved; without it the change is approved as it is now, and what that is is shown.`,
		Example: `  publisher approve c7 --wait
  publisher approve c7 --digest 4f2c9d1a0b1c -m "looked at it with ops"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("open"),
		RunE: func(cmd *cobra.Command, args []string) error {
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			change, err := publisher.Change(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := sameDigest(change, seen); err != nil {
				return err
			}
			out, err := c.do(cmd.Context(), w, ledger.Approve{Change: change.ID, Digest: change.Digest, Comment: comment})
			if err != nil {
				return err
			}
			if err := c.show(out, func() { c.approved(change, out) }); err != nil || !wait.on || w.dryRun {
				return err
			}
			if len(out.Frozen) > 0 {
				return c.followToFreeze(cmd.Context(), wait, change.ID, out)
			}
			if len(out.Released) == 0 && len(out.SourcesOnly) > 0 {
				return nil // there is nothing to wait for
			}
			if len(out.Released) == 0 {
				return &exitError{exitWaiting, "approvals are missing, so nothing was released yet; see 'publisher show " + change.ID + "'"}
			}
			return c.follow(cmd.Context(), wait, change.ID, out.Released)
		},
	}
	cmd.Flags().StringVarP(&comment, "message", "m", "", "add a `COMMENT`")
	cmd.Flags().StringVar(&seen, "digest", "", "approve only this `DIGEST` of the change")
	w.register(cmd)
	wait.register(cmd)
	return cmd
}

// followToFreeze follows what was released, and says what waits for the end of a freeze.
func (c *cli) followToFreeze(ctx context.Context, wait waiting, id string, out ledger.Outcome) error {
	if len(out.Released) > 0 {
		if err := c.follow(ctx, wait, id, out.Released); err != nil {
			return err
		}
	}
	last := slices.MaxFunc(out.Frozen, func(a, b events.Frozen) int { return a.Until.Compare(b.Until) })
	return &exitError{exitWaiting, fmt.Sprintf("%s is approved, and frozen in %s: %s; see 'publisher show %s'", id, plural(len(out.Frozen), "environment", "environments"), plain(last.String()), id)}
}

const minDigest = 8

func sameDigest(change fleet.Change, seen string) error {
	switch {
	case seen == "":
		return nil
	case len(seen) < minDigest:
		return &ledger.Error{Kind: ledger.KindInvalid, Message: "--digest has fewer than 8 digits", Next: "copy it from 'publisher show " + change.ID + "'"}
	case !strings.HasPrefix(change.Digest.String(), strings.ToLower(seen)):
		return &ledger.Error{Kind: ledger.KindConflict, Message: "change " + change.ID + " has the digest " + change.Digest.Short() + " now, not " + plain(seen),
			Next: "look at it again with 'publisher show " + change.ID + "'"}
	}
	return nil
}

func (c *cli) approved(change fleet.Change, out ledger.Outcome) {
	for _, e := range change.Environments {
		c.note("%s", e.Environment)
		c.note("%s", changed(e.Operations))
	}
	c.released(out)
	for _, frozen := range out.Frozen {
		c.note("frozen: %s", plain(frozen.String()))
	}
	switch missing := change.Demanded - len(change.Approvals) - 1; {
	case len(out.Released) > 0 && out.DryRun:
		c.note("dry run: your approval would release %s", change.ID)
	case len(out.Released) > 0:
		c.note("approved and released %s; follow it with 'publisher show %s'", change.ID, change.ID)
	case len(out.SourcesOnly) > 0 && !out.DryRun:
		c.note("approved %s; it changes sources only, so nothing is released", change.ID)
	case len(out.Frozen) > 0 && out.DryRun:
		c.note("dry run: your approval would count, and %s would wait", change.ID)
	case len(out.Frozen) > 0:
		c.note("approved %s; it is released when the freeze is over, and 'publisher withdraw %s' takes it back until then", change.ID, change.ID)
	case out.DryRun:
		c.note("dry run: your approval would count")
	case missing > 0:
		c.note("approved %s; %s still missing%s", change.ID, plural(missing, "approval is", "approvals are"), demandedBy(change))
	default:
		c.note("approved %s", change.ID)
	}
}

// released lists what a command released, and where it could not.
func (c *cli) released(out ledger.Outcome) {
	if len(out.Released) > 0 {
		t := c.newTable("ENVIRONMENT", "REVISION")
		for _, r := range out.Released {
			t.AppendRow([]any{r.Environment, r.Revision})
		}
		c.print(t)
	}
	if len(out.SourcesOnly) > 0 {
		c.note("only the sources change, and no resource, in %s", strings.Join(out.SourcesOnly, ", "))
	}
	for _, left := range out.LeftOut {
		c.note("left out: %s", leftOut(left))
	}
}

func leftOut(left events.LeftOut) string {
	return left.Environment + ", " + string(left.Reason) + because(left.Detail)
}
