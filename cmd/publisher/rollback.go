package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func rollbackCommand(c *cli) *cobra.Command {
	var w writing
	var wait waiting
	var yes bool
	var reason string
	var environments []string
	var revision uint64
	cmd := &cobra.Command{
		Use:   "rollback (ID [--env PATTERN]... | --env NAME --to-revision N) -m WHY",
		Short: "Undo a change, or bring an environment back to a revision",
		Long: `Undo a change wherever it was released, or only in some environments; or bring one environment back to what it was at a revision.
A rollback is a new release that brings the values before back: history is never rewound. It needs no approvals. What it will
restore is shown first.`,
		Example: `  publisher rollback c7 -m "checkout is slow" --wait
  publisher rollback c7 --env 'prod-*' -m "checkout is slow" --yes
  publisher rollback --env prod-eu --to-revision 12 -m "back to before the sale"`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeChanges("released", "delivered"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := ledger.Rollback{Reason: reason}
			c.name(environments...)
			switch {
			case reason == "":
				return console.Usage(cmd, "say why with -m")
			case len(args) == 1 && revision == 0:
				body.Change, body.Environments = args[0], environments
			case len(args) == 0 && revision > 0 && len(environments) == 1:
				body.Environment, body.ToRevision = environments[0], revision
			default:
				return console.Usage(cmd, "name either a change, or one environment with --env and a revision with --to-revision")
			}
			if err := c.restores(cmd.Context(), w, body); err != nil {
				return err
			}
			if !w.dryRun {
				if err := c.confirm(cmd, yes, "roll back?"); err != nil {
					return err
				}
			}
			return c.rollBack(cmd.Context(), w, wait, body)
		},
	}
	cmd.Flags().StringArrayVar(&environments, "env", nil, "only in environment `NAME`, or in those of a pattern (repeatable)")
	cmd.Flags().Uint64Var(&revision, "to-revision", 0, "bring the environment back to what it was at revision `N`")
	cmd.Flags().StringVarP(&reason, "message", "m", "", "say `WHY`")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	complete(cmd, "env", c.completeEnvironments)
	w.register(cmd)
	wait.register(cmd)
	return cmd
}

// restores shows what a rollback would bring back.
func (c *cli) restores(ctx context.Context, w writing, body ledger.Rollback) error {
	out, err := c.do(ctx, writing{dryRun: true, key: w.key}, body)
	if err == nil && !out.Again {
		c.note("this restores:\n%s", trim(effects(out.Effect)))
	}
	return err
}

func (c *cli) rollBack(ctx context.Context, w writing, wait waiting, body ledger.Rollback) error {
	out, err := c.do(ctx, w, body)
	if err != nil {
		return err
	}
	what := out.Change
	if body.Change == "" {
		what = body.Environment
	}
	err = c.show(out, func() {
		c.released(out)
		c.done(w, "rolled back %s", what)
	})
	if err != nil || !wait.on || w.dryRun || len(out.Released) == 0 {
		return err
	}
	return c.follow(ctx, wait, "the rollback", out.Released)
}
