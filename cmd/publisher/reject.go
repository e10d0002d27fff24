package main

import (
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func rejectCommand(c *cli) *cobra.Command {
	var w writing
	var reason string
	cmd := &cobra.Command{
		Use:               "reject ID -m WHY",
		Short:             "Reject an open change of somebody else",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("open", "expired"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return console.Usage(cmd, "say why with -m")
			}
			return c.ended(cmd, w, ledger.Reject{Change: args[0], Reason: reason}, "rejected")
		},
	}
	cmd.Flags().StringVarP(&reason, "message", "m", "", "say `WHY`")
	w.register(cmd)
	return cmd
}

// ended ends a change and says so.
func (c *cli) ended(cmd *cobra.Command, w writing, body ledger.Body, verb string) error {
	out, err := c.do(cmd.Context(), w, body)
	if err != nil {
		return err
	}
	return c.show(out, func() { c.done(w, "%s %s", verb, out.Change) })
}

// done says that something was done, or would be.
func (c *cli) done(w writing, format string, args ...any) {
	if w.dryRun {
		format = "dry run, not done: " + format
	}
	c.note(format, args...)
}
