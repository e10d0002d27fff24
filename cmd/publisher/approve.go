package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// approving are the flags of approve.
type approving struct {
	writing
	wait           waiting
	comment, seen  string
	valid          string
	roots, brought []string
	yes            bool
}

func approveCommand(c *cli) *cobra.Command {
	var f approving
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Approve a change; the last approval demanded releases it",
		Long: `Approve a change of somebody else. The last approval demanded releases it to all its environments at once.

What is approved is a digest. --digest pins the one that you looked at, whole or its first digits, so that a change revised since
is not approved; without it the change is approved as it is now, and what that is is shown.

Where approvals are signed, what you sign is shown, and you are asked first: the operations in every environment, what is demanded, the
digest, and until when the approval counts. The digest is computed here from the operations that are shown: a publisher that describes
another change than it has signed is refused. A change of trust is approved with the keys of roots, or with what 'publisher trust sign' made of
them on a machine without network.`,
		Example: `  publisher approve c7 --wait
  publisher approve c7 --digest 4f2c9d1a0b1c -m "looked at it with ops" --yes
  publisher approve c8 --root-key /media/offline/root-1.key`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("open"),
		RunE:              func(cmd *cobra.Command, args []string) error { return c.approve(cmd, f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.comment, "message", "m", "", "add a `COMMENT`")
	flags.StringVar(&f.seen, "digest", "", "approve only this `DIGEST` of the change")
	flags.StringVar(&f.valid, "valid", "7d", "where approvals are signed: it counts for this `TIME`, as in 36h or 14d, at most 30d, or until 2026-12-24")
	flags.StringArrayVar(&f.roots, "root-key", nil, "of a change of trust: sign it with the root key in `FILE` (repeatable)")
	flags.StringArrayVar(&f.brought, "root-signature", nil, "of a change of trust: the signature in `FILE` (repeatable)")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	f.writing.register(cmd)
	f.wait.register(cmd)
	return cmd
}

func (c *cli) approve(cmd *cobra.Command, f approving, id string) error {
	now := time.Now()
	until, err := timeOf(f.valid, now)
	if err == nil && until.Sub(now) > events.ApprovalLife {
		err = errors.New("an approval counts for at most 30 days")
	}
	if err != nil {
		return console.Usage(cmd, "--valid: %v", err)
	}
	act := c.act
	if f.dryRun {
		act = c.actUnsigned
	}
	a, err := act(cmd.Context())
	if err != nil {
		return err
	}
	change, err := a.desk.Change(cmd.Context(), id)
	if err != nil {
		return err
	}
	if err := sameDigest(change, f.seen); err != nil {
		return err
	}
	f.life = until.Sub(now)
	if change.Trust != nil {
		return c.approveTrust(cmd, f, a, change)
	}
	if len(f.roots)+len(f.brought) > 0 {
		return console.Usage(cmd, "%s is no change of trust: roots sign nothing else", change.ID)
	}
	if change, err = a.shown(cmd.Context(), change); err != nil {
		return err
	}
	body := ledger.Approve{Change: change.ID, Digest: change.Digest, Comment: f.comment}
	if a.signer != nil {
		asked, err := a.send(cmd.Context(), ledger.Command{ID: f.id(), Body: body}, true, 0) // whether it could be approved at all
		if err != nil {
			return err
		}
		if !asked.Again {
			c.toSign(change, a, body.Digest, "approve", until)
			if err := c.confirm(cmd, f.yes, "sign it?"); err != nil {
				return err
			}
		}
	}
	out, err := c.doAs(cmd.Context(), a, f.writing, body)
	if err != nil {
		return err
	}
	if err := c.show(out, func() { c.approved(change, out, a.signer != nil) }); err != nil || !f.wait.on || f.dryRun {
		return err
	}
	if len(out.Frozen) > 0 {
		return c.followToFreeze(cmd.Context(), f.wait, change.ID, out)
	}
	if len(out.Released) == 0 && len(out.SourcesOnly) > 0 {
		return nil // there is nothing to wait for
	}
	if len(out.Released) == 0 {
		return console.Exit(console.ExitWaiting, "approvals are missing, so nothing was released yet; see 'publisher show "+change.ID+"'")
	}
	return c.follow(cmd.Context(), f.wait, change.ID, out.Released)
}

// toSign shows what somebody is about to sign.
func (c *cli) toSign(change fleet.Change, a actor, digest events.Digest, verb string, until time.Time) {
	ticket := ""
	if change.Ticket != "" {
		ticket = " (" + plain(change.Ticket) + ")"
	}
	c.note("%s  %s%s, by %s", change.ID, brief(change.Reason), ticket, plain(change.Author))
	for _, e := range change.Environments {
		c.note("%s", e.Environment)
		c.note("%s", changed(e.Operations))
	}
	if said := policies(change); said != "" {
		c.note("policies: %s", strings.ReplaceAll(said, "\n", "\n          "))
	}
	for _, line := range lackings(change.Demands) {
		c.note("lacking: %s", line)
	}
	if a.signer != nil {
		c.note("you sign: %s %s, as %s with key %s", verb, change.ID, plain(a.name), a.signer.Public())
		c.note("  digest  %s", digest)
		c.note("  counts  until %s", until.UTC().Format("2006-01-02 15:04:05Z"))
	}
}

// approveTrust brings signatures of roots to a proposed trust document.
func (c *cli) approveTrust(cmd *cobra.Command, f approving, a actor, change fleet.Change) error {
	p, err := c.proposal(cmd.Context(), change.ID)
	if err != nil {
		return err
	}
	if len(f.roots)+len(f.brought) == 0 {
		return console.Exit(console.ExitUsage, "a change of trust is approved with root keys, and "+lacking(p)+": name a key with --root-key, or a signature that 'publisher trust sign' made with --root-signature")
	}
	if err := trust.Terms(ledger.Terms{Change: change.ID, Trust: p.Document}, change.ID, change.Digest); err != nil {
		return err
	}
	body := ledger.Approve{Change: change.ID, Digest: change.Digest, Comment: f.comment}
	if body.Roots, err = c.rootSignatures(p, f.roots, f.brought); err != nil {
		return err
	}
	c.note("%s  %s, by %s", change.ID, brief(change.Reason), plain(change.Author))
	c.differs(p.Before, p.Document, c.demanded(cmd.Context()))
	if !f.dryRun {
		for _, root := range body.Roots {
			c.note("signed by root %s", root.Key)
		}
		if err := c.confirm(cmd, f.yes, "send "+plural(len(body.Roots), "signature", "signatures")+"?"); err != nil {
			return err
		}
	}
	out, err := c.doAs(cmd.Context(), a, f.writing, body)
	if err != nil {
		return err
	}
	if err := c.show(out, func() { c.trustApproved(out, p.Document.Version) }); err != nil || !f.wait.on || f.dryRun || len(out.Released) == 0 {
		return err
	}
	return c.follow(cmd.Context(), f.wait, change.ID, out.Released)
}

// followToFreeze follows what was released, and says what waits for the end of a freeze.
func (c *cli) followToFreeze(ctx context.Context, wait waiting, id string, out ledger.Outcome) error {
	if len(out.Released) > 0 {
		if err := c.follow(ctx, wait, id, out.Released); err != nil {
			return err
		}
	}
	last := slices.MaxFunc(out.Frozen, func(a, b events.Frozen) int { return a.Until.Compare(b.Until) })
	return console.Exit(console.ExitWaiting, fmt.Sprintf("%s is approved, and frozen in %s: %s; see 'publisher show %s'", id, plural(len(out.Frozen), "environment", "environments"), plain(last.String()), id))
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

// approved says what an approval did. Shown says that what the change is has been shown before.
func (c *cli) approved(change fleet.Change, out ledger.Outcome, shown bool) {
	for _, e := range change.Environments {
		if !shown {
			c.note("%s", e.Environment)
			c.note("%s", changed(e.Operations))
		}
	}
	c.released(out)
	for _, frozen := range out.Frozen {
		c.note("frozen: %s", plain(frozen.String()))
	}
	missing := change.Demanded - len(change.Approvals) - 1
	if signed(change) {
		missing = 0 // 'publisher show' says who; one approval may count for one demand and not for another
	}
	switch {
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
	case signed(change):
		c.note("approved %s; more is demanded, and 'publisher show %s' says what", change.ID, change.ID)
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
