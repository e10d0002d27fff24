package main

import (
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func withdrawCommand(c *cli) *cobra.Command {
	var w writing
	var reason string
	cmd := &cobra.Command{
		Use:               "withdraw ID",
		Short:             "Withdraw a change of your own: an open one, or what waits for the end of a freeze",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("open", "expired", "released"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.ended(cmd, w, ledger.Withdraw{Change: args[0], Reason: reason}, "withdrew")
		},
	}
	cmd.Flags().StringVarP(&reason, "message", "m", "", "say `WHY`")
	w.register(cmd)
	return cmd
}
