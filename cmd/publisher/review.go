package main

import (
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func reviewCommand(c *cli) *cobra.Command {
	var w writing
	var comment string
	cmd := &cobra.Command{
		Use:   "review ID -m COMMENT",
		Short: "Sign a break-glass off that somebody else used; two people must",
		Long: `Sign a break-glass off that somebody else used, once you have looked at what it released and why: 'publisher show ID' says it. Two people
who may approve there must sign it off; until then every screen says that it was used.`,
		Example:           `  publisher review c7 -m "it was right; the runbook says so now"`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("released", "delivered", "rolled-back"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if comment == "" {
				return console.Usage(cmd, "say what you found with -m")
			}
			return c.ended(cmd, w, ledger.Review{Change: args[0], Comment: comment}, "signed off the break-glass of")
		},
	}
	cmd.Flags().StringVarP(&comment, "message", "m", "", "say what you `FOUND`")
	w.register(cmd)
	return cmd
}
