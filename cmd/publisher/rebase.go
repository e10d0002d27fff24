package main

import (
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func rebaseCommand(c *cli) *cobra.Command {
	var w writing
	cmd := &cobra.Command{
		Use:   "rebase ID",
		Short: "Compile a change whose base has moved anew, to be approved anew",
		Long: `Compile a change of your own, whose base has moved, against what the environments are now. That is done where nobody else edited the same
values since; otherwise it says what was edited, by whom, in which change. Approvals given before do not count for it.

Of a change that was released, and left out of environments in which its base had moved, those are proposed as a new change.`,
		Example:           `  publisher rebase c7`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("open", "expired", "released", "delivered"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.proposed(cmd, w, ledger.Rebase{Change: args[0]}, "rebased")
		},
	}
	w.register(cmd)
	return cmd
}
