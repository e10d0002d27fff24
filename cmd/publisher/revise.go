package main

import (
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func reviseCommand(c *cli) *cobra.Command {
	var e edits
	var w writing
	cmd := &cobra.Command{
		Use:   "revise ID (-f FILE | -f DIR | --env PATTERN (--set KEY=VALUE | --delete KEY)...) -m WHY",
		Short: "Replace what an open change of your own proposes",
		Long: `Replace what an open or expired change of your own proposes: all of it, compiled against what the environments are now. Approvals
given before do not count for it.`,
		Example:           `  publisher revise c7 --env prod-eu --set variable/log-level=info -m "chase OPS-1, less noise"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("open", "expired"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := e.read(c, cmd)
			if err != nil {
				return err
			}
			return c.proposed(cmd, w, ledger.Revise{Change: args[0], Propose: p}, "revised")
		},
	}
	e.register(c, cmd)
	w.register(cmd)
	return cmd
}
