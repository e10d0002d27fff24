package main

import (
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/console"
)

func ledgerCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "ledger", Short: "Verify and repair the record of every decision and delivery"}
	console.Group(cmd)
	cmd.AddCommand(&cobra.Command{
		Use:   "verify",
		Short: "Read the whole ledger again and derive every release again; exit 1 when anything is not as it was recorded",
		RunE: func(cmd *cobra.Command, _ []string) error {
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			v, err := publisher.Verify(cmd.Context())
			if err != nil {
				return err
			}
			if err := c.show(v, func() { c.verified(v) }); err != nil || v.OK {
				return err
			}
			text := v.Message
			if v.Next != "" {
				text += "; " + v.Next
			}
			return console.Exit(console.ExitFailure, text)
		},
	}, ledgerRepairCommand(c))
	return cmd
}

func (c *cli) verified(v api.Verification) {
	c.line("ledger    %s", v.Ledger)
	c.line("entries   %d", v.Tip.Number)
	c.line("hash      %s", v.Tip.Hash)
	c.line("releases  %d, derived again", v.Releases)
	for _, l := range v.Losses {
		c.line("%s      %s; entry %d of %s", c.paint(yellow, "lost"), plain(l.String()), l.Entry, moment(l.Time))
	}
	if v.OK {
		c.line("%s", c.paint(green, "ok")+"        "+plain(v.Message))
	} else {
		c.line("%s    from entry %d on", c.paint(red, "broken"), v.Tip.Number+1)
	}
}
