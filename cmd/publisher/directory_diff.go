package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/policy"
)

func diffCommand(c *cli) *cobra.Command {
	var path string
	var environments []string
	var drop []string
	var differences bool
	cmd := &cobra.Command{
		Use:   "diff -f DIR [--env PATTERN]",
		Short: "Show what a directory of manifests would change in each environment",
		Long: `Compile a directory of manifests against what is released, and show what it would change in each environment that it declares: + added,
- deleted, ~ changed. Environments in which the same would change stand together. What it would be refused for is said, as far as that
does not depend on who proposes it and why. Nothing is proposed.`,
		Example: `  publisher diff -f environments/
  publisher diff -f environments/ --env 'prod-*' --exit-code`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := named(cmd, "file", path, "-f DIR"); err != nil {
				return err
			}
			directory := ledger.Directory{Environments: environments, DropEdits: drop}
			if err := toSend(&directory, path); err != nil {
				return err
			}
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			c.name(environments...)
			out, err := publisher.Diff(cmd.Context(), &directory)
			if err != nil {
				return err
			}
			if err := c.show(out, func() { c.showDifference(out) }); err != nil {
				return err
			}
			if differences && len(out.Groups)+len(out.SourcesOnly) > 0 {
				return console.Exit(console.ExitDifference, "")
			}
			return nil
		},
	}
	fromDirectory(cmd, &path)
	cmd.Flags().StringArrayVar(&environments, "env", nil, "only environment `NAME`, or a pattern such as 'prod-*' (repeatable)")
	cmd.Flags().StringArrayVar(&drop, "drop-edits", nil, "as if quick edits of resource `KEY` were undone (repeatable)")
	cmd.Flags().BoolVar(&differences, "exit-code", false, "exit 3 when something would change")
	complete(cmd, "env", c.completeEnvironments)
	return cmd
}

func (c *cli) showDifference(out api.Difference) {
	for _, g := range out.Groups {
		var b strings.Builder
		for _, r := range g.Resources {
			writeDiff(&b, "  ", r.Key, r.Before, r.After)
		}
		c.line("%s\n%s", strings.Join(g.Environments, ", "), trim(b.String()))
	}
	for _, why := range out.Refused {
		c.note("would be refused: %s", plain(why))
	}
	c.remarks(append(policy.Notes(out.Verdicts), out.Notes...))
	if len(out.SourcesOnly) > 0 {
		c.note("only the sources would change, and no resource, in %s", strings.Join(out.SourcesOnly, ", "))
	} else if len(out.Groups) == 0 {
		c.note("nothing would change")
	}
}
