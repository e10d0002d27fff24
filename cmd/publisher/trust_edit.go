package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// editing are the flags of a verb that edits the trust document.
type editing struct {
	writing
	reason, ticket string
	roots          []string
	yes            bool
}

func (e *editing) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&e.reason, "message", "m", "", "say `WHY`")
	f.StringVar(&e.ticket, "ticket", "", "it belongs to `TICKET`")
	f.StringArrayVar(&e.roots, "root-key", nil, "sign it at once with the root key in `FILE` (repeatable)")
	f.BoolVarP(&e.yes, "yes", "y", false, "do not ask before a root signs")
	e.writing.register(cmd)
}

// editTrust proposes the trust document that follows the newest one after some edits, and has it signed by the roots that are named.
func (c *cli) editTrust(cmd *cobra.Command, e editing, edits ...trust.Edit) error {
	if e.reason == "" {
		return console.Usage(cmd, "say why with -m")
	}
	roots, err := readRoots(e.roots)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	a, err := c.act(ctx)
	if err != nil {
		return err
	}
	next, err := c.edited(ctx, a, edits)
	if err != nil {
		return err
	}
	c.differs(&a.document, next, c.demanded(ctx))
	if len(roots) > 0 && !e.dryRun {
		if err := c.confirm(cmd, e.yes, "propose it, and sign it with "+plural(len(roots), "root key", "root keys")+"?"); err != nil {
			return err
		}
	}
	out, err := c.doAs(ctx, a, e.writing, ledger.ProposeTrust{Document: *next, Reason: e.reason, Ticket: e.ticket})
	if err != nil {
		return err
	}
	if len(roots) > 0 && !e.dryRun {
		return c.signTrust(ctx, a, out, next, roots)
	}
	return c.show(out, func() {
		if e.dryRun {
			c.note("dry run: nothing was proposed")
			return
		}
		c.line("%s", out.Change)
		c.note("proposed %s; it is in force once roots have signed it: %s", out.Change, lacking(&trust.Proposal{Before: &a.document, Document: next}))
		c.note("  publisher approve %s --root-key FILE", out.Change)
		c.note("or, where the root key is on a machine without network:")
		c.note("  publisher trust export %s > %s.trust                              # here", out.Change, out.Change)
		c.note("  publisher trust sign %s.trust --root-key FILE > %s.signature     # there", out.Change, out.Change)
		c.note("  publisher approve %s --root-signature %s.signature                # here again", out.Change, out.Change)
	})
}

// edited is the document that follows after some edits: without delegations that are over, and with the labels that it asks for as they
// are now.
func (c *cli) edited(ctx context.Context, a actor, edits []trust.Edit) (*events.Trust, error) {
	view, err := a.desk.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	labels := map[string]map[string]string{}
	for _, e := range view.Environments {
		if e.Condition != fleet.Retired {
			labels[e.Name] = e.Labels
		}
	}
	return trust.Next(&a.document, append(edits, trust.Expired(time.Now()), trust.Labelled(labels))...)
}

// differs says what another document changes, and where nothing could be approved under it.
func (c *cli) differs(before, after *events.Trust, environments map[string]int) {
	c.note("trust document %d → %d", before.Version, after.Version)
	for _, line := range trust.Diff(before, after) {
		c.note("  %s", plain(line))
	}
	for _, line := range trust.Stuck(after, environments, time.Now()) {
		c.note("! %s", plain(line))
	}
}

// signTrust signs a proposed document with root keys, and says what becomes of it.
func (c *cli) signTrust(ctx context.Context, a actor, proposed ledger.Outcome, document *events.Trust, roots []*events.Signer) error {
	digest, err := events.TrustChangeDigest(proposed.Change, document)
	if err != nil {
		return err
	}
	body := ledger.Approve{Change: proposed.Change, Digest: digest}
	for _, root := range roots {
		sig, err := document.SignRoot(root)
		if err != nil {
			return err
		}
		body.Roots = append(body.Roots, sig)
	}
	out, err := c.doAs(ctx, a, writing{}, body)
	if err != nil {
		return err
	}
	return c.show(out, func() {
		c.line("%s", out.Change)
		c.trustApproved(out, document.Version)
	})
}

// trustApproved says what became of a trust document that roots signed.
func (c *cli) trustApproved(out ledger.Outcome, version int) {
	c.remarks(out.Notes)
	switch {
	case out.DryRun:
		c.note("dry run: the signatures would count")
	case len(out.Notes) > 0:
		c.note("signed %s; more roots must sign it: 'publisher trust show %s' says which", out.Change, out.Change)
	default:
		c.note("trust document %d is in force, and on its way to %s", version, plural(len(out.Released), "environment", "environments"))
	}
}

// readRoots reads root keys.
func readRoots(files []string) ([]*events.Signer, error) {
	var out []*events.Signer
	for _, file := range files {
		signer, err := keys.ReadKey(file)
		if err != nil {
			return nil, err
		}
		out = append(out, signer)
	}
	return out, nil
}

func trustAddCommand(c *cli) *cobra.Command {
	var e editing
	var key string
	var said, environments []string
	cmd := &cobra.Command{
		Use:   "add NAME [--key U…] [--role ROLE --env SELECTOR]...",
		Short: "Add a person with their key and roles, or give one who is there another key or more roles",
		Long: `Add a person with their public key, which they read off 'publisher key new', and with roles in some environments; or give somebody who is
there another key, or more roles. Environments are selected by name, by a pattern such as 'prod-*', or by a label such as stage=prod.

It is a change of trust: it is proposed, and in force once the root keys that it needs have signed it. --root-key signs it at once.`,
		Example: `  publisher trust add ben --key UBK3… --role author --role approver --env 'prod-*' -m "Ben joins"
  publisher trust add ben --role break-glass --env prod-eu -m "Ben is on call" --root-key root-1.key`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completePeople),
		RunE: func(cmd *cobra.Command, args []string) error {
			given, err := roles(cmd, said)
			if err != nil {
				return err
			}
			if (len(given) == 0) != (len(environments) == 0) {
				return console.Usage(cmd, "say both which role with --role, and where with --env")
			}
			if key == "" && len(given) == 0 {
				return console.Usage(cmd, "say which key with --key, or which role with --role and --env")
			}
			return c.editTrust(cmd, e, trust.Add(args[0], key, given, environments))
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "their public key, `U…`")
	cmd.Flags().StringArrayVar(&environments, "env", nil, "in the environments of `SELECTOR`: a name, a pattern, or LABEL=VALUE (repeatable)")
	registerRoles(cmd, &said)
	complete(cmd, "env", c.completeEnvironments)
	e.register(cmd)
	return cmd
}

func trustRotateCommand(c *cli) *cobra.Command {
	var e editing
	var old, key string
	var root, publisher bool
	cmd := &cobra.Command{
		Use:   "rotate (NAME | --publisher | --root) --key U… [--old U…]",
		Short: "Put a new key in the place of a person's, a publisher's or a root's",
		Long: `Put a new key in the place of another. What the old key signed before does not count for what is released afterwards, unless it has been
released already. --old says which key goes, where there are several.

A publisher takes no more commands once its key is replaced: make the new one with 'publisher key new --file', rotate, and start the publisher
with it as publisher.key in its data directory.`,
		Example: `  publisher trust rotate ben --key UBK3… -m "Ben's laptop was stolen"
  publisher trust rotate --root --old UROO… --key UNEW… -m "yearly" --root-key old-root.key --root-key new-root.key`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeArgument(c.completePeople),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return console.Usage(cmd, "say the new public key with --key")
			}
			switch {
			case len(args) == 1 && !root && !publisher:
				return c.editTrust(cmd, e, trust.Rotate(args[0], old, key))
			case len(args) == 0 && root && !publisher:
				return c.editTrust(cmd, e, trust.RotateRoot(old, key))
			case len(args) == 0 && publisher && !root:
				return c.editTrust(cmd, e, trust.RotatePublisher(old, key))
			}
			return console.Usage(cmd, "name a person, or say --publisher or --root")
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the new public key, `U…`")
	cmd.Flags().StringVar(&old, "old", "", "the public key that goes, `U…`")
	cmd.Flags().BoolVar(&root, "root", false, "of a root")
	cmd.Flags().BoolVar(&publisher, "publisher", false, "of a publisher")
	e.register(cmd)
	return cmd
}

func trustDelegateCommand(c *cli) *cobra.Command {
	var e editing
	var to, until string
	var said []string
	cmd := &cobra.Command{
		Use:   "delegate FROM --to NAME --role ROLE --until TIME",
		Short: "Let somebody act for another in a role, wherever they have it, until a time",
		Example: `  publisher trust delegate ben --to carla --role approver --until 2026-12-24 -m "Ben is on holiday"
  publisher trust delegate ben --to carla --role approver --until 36h -m "Ben is at a conference"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completePeople),
		RunE: func(cmd *cobra.Command, args []string) error {
			given, err := roles(cmd, said)
			if err != nil {
				return err
			}
			if to == "" || len(given) != 1 || until == "" {
				return console.Usage(cmd, "say to whom with --to, one role with --role, and until when with --until")
			}
			end, err := timeOf(until, time.Now())
			if err != nil {
				return console.Usage(cmd, "--until: %v", err)
			}
			return c.editTrust(cmd, e, trust.Delegate(args[0], to, given[0], end))
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`NAME` of who acts")
	cmd.Flags().StringVar(&until, "until", "", "a `TIME`: 2026-12-24, 2026-12-24T18:00:00Z, or a length such as 36h or 14d")
	registerRoles(cmd, &said)
	complete(cmd, "to", c.completePeople)
	e.register(cmd)
	return cmd
}

func trustDemandCommand(c *cli) *cobra.Command {
	var e editing
	var rule events.ApprovalRule
	var said []string
	var drop int
	cmd := &cobra.Command{
		Use:   "demand (--env SELECTOR... [--resource PATTERN]... --approvals N [--role ROLE]... | --drop RULE)",
		Short: "Say how many people must approve what: a rule before the others, or one of them dropped",
		Long: `Say how many people other than the author must approve a change of some resources in some environments, and which roles count. Of the
rules the first that is about a resource decides; a new one comes first, in the place of one about the same environments and resources
if there is one. Policies may demand more, never less. With --approvals 0 a change is approved by the rule, once its author signed it.`,
		Example: `  publisher trust demand --env 'prod-*' --approvals 2 -m "two in production"
  publisher trust demand --env 'prod-*' --resource 'secret/*' --approvals 1 --role operator -m "operators look after secrets"
  publisher trust demand --drop 2 -m "it was for the migration"`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cmd.Flags().Changed("drop") {
				if len(rule.Environments)+len(rule.Resources)+len(said) > 0 || cmd.Flags().Changed("approvals") {
					return console.Usage(cmd, "--drop goes alone")
				}
				return c.editTrust(cmd, e, trust.Undemand(drop))
			}
			if len(rule.Environments) == 0 || !cmd.Flags().Changed("approvals") {
				return console.Usage(cmd, "say where with --env, and how many with --approvals")
			}
			if rule.Roles, err = roles(cmd, said); err != nil {
				return err
			}
			return c.editTrust(cmd, e, trust.Demand(rule))
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&rule.Environments, "env", nil, "in the environments of `SELECTOR`: a name, a pattern, or LABEL=VALUE (repeatable)")
	f.StringArrayVar(&rule.Resources, "resource", nil, "of resources that match `PATTERN`, such as 'secret/*' (repeatable; default all)")
	f.IntVar(&rule.Approvals, "approvals", 0, "how many people besides the author")
	f.IntVar(&drop, "drop", 0, "drop the rule with this `NUMBER`, which 'publisher trust show' says")
	registerRoles(cmd, &said)
	complete(cmd, "env", c.completeEnvironments)
	e.register(cmd)
	return cmd
}

// demanded are the environments that are not retired, with how many approvals each demands itself.
func (c *cli) demanded(ctx context.Context) map[string]int {
	out := map[string]int{}
	for _, e := range c.fleetOrNothing(ctx).Environments {
		if e.Condition != fleet.Retired {
			out[e.Name] = e.Approvals
		}
	}
	return out
}
