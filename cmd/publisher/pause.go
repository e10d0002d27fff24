package main

import (
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func pauseCommand(c *cli) *cobra.Command {
	var w writing
	var reason string
	cmd := &cobra.Command{
		Use:   "pause ID -m WHY",
		Short: "Hold back what of an approved change waits for the end of a freeze",
		Long: `Hold back what of an approved change waits for the end of a freeze: it is not released when that ends, until somebody lets it go on with
'publisher resume'. What was released already stays; undo it with 'publisher rollback'.`,
		Example:           `  publisher pause c7 -m "wait for the load test"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("released"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return console.Usage(cmd, "say why with -m")
			}
			return c.ended(cmd, w, ledger.Pause{Change: args[0], Reason: reason}, "paused")
		},
	}
	cmd.Flags().StringVarP(&reason, "message", "m", "", "say `WHY`")
	w.register(cmd)
	return cmd
}

func resumeCommand(c *cli) *cobra.Command {
	var w writing
	cmd := &cobra.Command{
		Use:               "resume ID",
		Short:             "Let a paused change go on",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("released"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.ended(cmd, w, ledger.Resume{Change: args[0]}, "resumed")
		},
	}
	w.register(cmd)
	return cmd
}
