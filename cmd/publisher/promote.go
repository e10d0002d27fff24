package main

import (
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/changefile"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func promoteCommand(c *cli) *cobra.Command {
	var p ledger.Promotion
	var said changefile.Said
	var w writing
	cmd := &cobra.Command{
		Use:   "promote --from ENV --to PATTERN [RESOURCE...] -m WHY",
		Short: "Propose that environments have what another one has",
		Long: `Propose that environments have what another one has released: its manifests, with all that they say for each environment, templates and
policies too, and the quick edits that were made there. With resources, or patterns of them, only those.

What is particular to an environment stays behind: its own manifest, and values that an override gives there. Each of these is said, with
where it comes from. It is a change as any other: somebody else approves it. Deleting needs --prune, and changing more than a fifth of an
environment's resources --confirm-many.`,
		Example: `  publisher promote --from staging --to 'prod-*' -m "staging was good for a week" --ticket OPS-7
  publisher promote --from staging --to prod-eu flag/quick-order -m "one page for everybody" --dry-run`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: c.completeResourcesAnywhere,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := named(cmd, "from", p.From, "--from ENV"); err != nil {
				return err
			}
			if len(p.To) == 0 {
				return console.Usage(cmd, "say where to with --to ENV")
			}
			c.name(append(p.To, p.From)...)
			p.Resources = args
			proposal, err := said.Complete(ledger.Propose{Edits: []ledger.Edit{}, Promotion: &p})
			if err != nil {
				return err
			}
			return c.proposed(cmd, w, proposal, "proposed")
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.From, "from", "", "environment `NAME` that has it")
	f.StringArrayVar(&p.To, "to", nil, "environment `NAME`, or a pattern such as 'prod-*' (repeatable)")
	f.StringVarP(&said.Reason, "message", "m", "", "say `WHY`")
	f.StringVar(&said.Ticket, "ticket", "", "it belongs to `TICKET`")
	f.DurationVar(&said.Within, "within", 0, "propagation window, as in 10m: how soon it must have been applied everywhere")
	f.BoolVar(&p.Prune, "prune", false, "delete resources that it does not have any more")
	f.IntVar(&p.ConfirmMany, "confirm-many", 0, "change or delete `N` resources, more than a fifth of an environment's")
	complete(cmd, "from", c.completeEnvironments)
	complete(cmd, "to", c.completeEnvironments)
	w.register(cmd)
	return cmd
}
