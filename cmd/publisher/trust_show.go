package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func trustShowCommand(c *cli) *cobra.Command {
	var version int
	cmd := &cobra.Command{
		Use:   "show [ID]",
		Short: "Show the trust document: people, keys, roles, rules; or the one that change ID proposes, and what it changes",
		Example: `  publisher trust show
  publisher trust show --at 3
  publisher trust show c7`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeTrustChanges,
		RunE: func(cmd *cobra.Command, args []string) error {
			desk, _, err := c.connect()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if cmd.Flags().Changed("at") {
					return console.Usage(cmd, "name a change, or a version with --at")
				}
				proposal, err := c.proposal(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return c.show(proposal.Document, func() { c.showProposal(proposal) })
			}
			if cmd.Flags().Changed("at") && version < 1 {
				return console.Usage(cmd, "--at: documents are counted from 1")
			}
			document, err := desk.Trust(cmd.Context(), version)
			if err != nil {
				return err
			}
			return c.show(document, func() { c.showTrust(&document) })
		},
	}
	cmd.Flags().IntVar(&version, "at", 0, "the document with this `VERSION`, instead of the newest")
	return cmd
}

// completeTrustChanges gives the changes that propose trust documents.
func (c *cli) completeTrustChanges(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	desk, _, err := c.connect()
	if err != nil {
		return nil, noFiles
	}
	list, err := desk.Changes(cmd.Context(), "")
	if err != nil {
		return nil, noFiles
	}
	var words []string
	for _, change := range list {
		if change.Trust != nil {
			words = append(words, change.ID+"\t"+brief(change.Reason))
		}
	}
	return words, noFiles | cobra.ShellCompDirectiveKeepOrder
}

func (c *cli) showProposal(p *trust.Proposal) {
	c.line("%s proposes trust document %d, by %s: %s", c.paint(bold, p.Change), p.Document.Version, plain(p.By), brief(p.Reason))
	for _, line := range trust.Diff(p.Before, p.Document) {
		c.line("  %s", plain(line))
	}
	c.line("%s", lacking(p))
}

// lacking says how many roots must still sign a proposed document.
func lacking(p *trust.Proposal) string {
	n, of := trust.Lacking(p.Before, p.Document, p.Signed)
	if n == 0 {
		return "enough roots have signed it"
	}
	return fmt.Sprintf("%s of roots still missing, of %s", plural(n, "signature", "signatures"), strings.Join(of, ", "))
}

func (c *cli) showTrust(t *events.Trust) {
	digest, _ := t.Digest() // a document that came as JSON is written as such
	c.line("document    %d of ledger %s", t.Version, t.Ledger)
	c.line("digest      %s", digest)
	c.line("publishers  %s", strings.Join(t.Publishers, "\n            "))
	if t.Approvals != events.ApprovalsAreSigned {
		c.line("approvals   names: whoever reaches the publisher's API acts under any name; begin with 'publisher trust init'")
		return
	}
	c.line("approvals   signed")
	c.line("roots       %d of %d sign a trust document", t.Roots.Threshold, len(t.Roots.Keys))
	for _, key := range t.Roots.Keys {
		signed := ""
		if slices.ContainsFunc(t.Signatures, func(s events.RootSignature) bool { return s.Key == key }) {
			signed = ", signed this one"
		}
		c.line("            %s%s", key, signed)
	}
	c.line("")
	people := c.newTable("PERSON", "ROLE", "ENVIRONMENTS", "KEYS")
	for _, p := range t.People {
		name, keys := plain(p.Name), strings.Join(p.Keys, " ")
		for _, g := range p.Grants {
			people.AppendRow(table.Row{name, g.Role, plain(strings.Join(g.Environments, ", ")), keys})
			name, keys = "", ""
		}
		if len(p.Grants) == 0 {
			people.AppendRow(table.Row{name, "-", "-", keys})
		}
	}
	c.print(people)
	c.line("")
	rules := c.newTable("RULE", "ENVIRONMENTS", "RESOURCES", "A CHANGE NEEDS")
	for i, r := range t.Rules {
		rules.AppendRow(table.Row{i + 1, plain(strings.Join(r.Environments, ", ")), plain(resources(r.Resources)), trust.Approvals(r.Approvals, r.Counting())})
	}
	c.print(rules)
	if len(t.Delegations) > 0 {
		c.line("")
	}
	for _, d := range t.Delegations {
		c.line("%s", plain(trust.Delegation(d)))
	}
}

// resources are the globs of a rule; none are what no rule before is about.
func resources(globs []string) string {
	if len(globs) == 0 {
		return "all"
	}
	return strings.Join(globs, ", ")
}
