package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// proposal is what a change proposes, and the document that is compared with, with the signatures of roots that it has so far.
func (c *cli) proposal(ctx context.Context, id string) (*trust.Proposal, error) {
	desk, _, err := c.connect()
	if err != nil {
		return nil, err
	}
	change, err := desk.Change(ctx, id)
	if err != nil {
		return nil, err
	}
	if change.Trust == nil {
		return nil, &ledger.Error{Kind: ledger.KindInvalid, Message: "change " + change.ID + " proposes no trust document", Next: "look at it with 'publisher show " + change.ID + "'"}
	}
	before, err := desk.Trust(ctx, change.Trust.Version-1)
	return &trust.Proposal{
		Kind: trust.ProposalKind, Change: change.ID, By: change.Author, Reason: change.Reason, Before: &before, Document: change.Trust, Signed: append([]string{}, change.Roots...)}, err
}

func trustExportCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "export ID",
		Short: "Write a proposed trust document for a machine without network, where a root key signs it",
		Example: `  publisher trust export c7 > c7.trust
  publisher trust sign c7.trust --root-key root-1.key > c7.signature     # on the other machine
  publisher approve c7 --root-signature c7.signature`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeTrustChanges,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.proposal(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.encoded(p)
		},
	}
}

func trustSignCommand(c *cli) *cobra.Command {
	var root string
	var yes bool
	cmd := &cobra.Command{
		Use:   "sign FILE --root-key FILE",
		Short: "Sign a proposed trust document with a root key; needs no network and no publisher",
		Long: `Sign a proposed trust document, which 'publisher trust export' wrote, with a root key. What it changes is shown first. The signature goes
to standard output; bring it back with 'publisher approve ID --root-signature FILE'. It needs no network and no publisher.`,
		Example: `  publisher trust sign c7.trust --root-key root-1.key > c7.signature`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if root == "" {
				return console.Usage(cmd, "name the root key's file with --root-key")
			}
			name, b, err := c.readFile(args[0])
			if err != nil {
				return err
			}
			p, err := trust.ReadProposal(b)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			key, err := keys.ReadKey(root)
			if err != nil {
				return err
			}
			c.note("%s proposes, for ledger %s, by %s: %s", p.Change, p.Document.Ledger, plain(p.By), brief(p.Reason))
			c.differs(p.Before, p.Document, nil)
			c.note("compared with trust document %d as the file has it; you sign document %d as root %s", p.Before.Version, p.Document.Version, key.Public())
			if err := c.confirm(cmd, yes, "sign it?"); err != nil {
				return err
			}
			signature, err := p.Sign(key)
			if err != nil {
				return err
			}
			return c.encoded(signature)
		},
	}
	cmd.Flags().StringVar(&root, "root-key", "", "root key in `FILE`")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// encoded writes a value as one line of JSON, as it is read strictly.
func (c *cli) encoded(value any) error {
	b, err := events.Encode(value)
	if err != nil {
		return err
	}
	c.line("%s", b)
	return nil
}

// rootSignatures are the signatures of roots under a proposed document, made now with key files or before in signature files.
func (c *cli) rootSignatures(p *trust.Proposal, keyFiles, signatureFiles []string) ([]events.RootSignature, error) {
	var out []events.RootSignature
	roots, err := readRoots(keyFiles)
	if err != nil {
		return nil, err
	}
	for _, root := range roots {
		made, err := p.Sign(root)
		if err != nil {
			return nil, err
		}
		out = append(out, made.Root)
	}
	for _, file := range signatureFiles {
		name, b, err := c.readFile(file)
		if err != nil {
			return nil, err
		}
		sig, err := trust.ReadSignature(b, p.Document)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, sig)
	}
	return out, nil
}
