package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func trustWhoCanCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "who-can ENV",
		Short: "Say who may do what in an environment, and what a change there needs",
		Long: `Say who may do what in an environment, by the newest trust document, and what it demands of a change there. Policies and the environment
itself may demand more: 'publisher show ID' has all of it for a change.`,
		Example:           `  publisher trust who-can prod-eu`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeEnvironments),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args...)
			desk, _, err := c.connect()
			if err != nil {
				return err
			}
			if _, err := desk.Environment(cmd.Context(), args[0]); err != nil {
				return err
			}
			document, err := desk.Trust(cmd.Context(), 0)
			if err != nil {
				return err
			}
			if document.Approvals != events.ApprovalsAreSigned {
				return &exitError{exitConflict, "approvals are names here: whoever reaches the publisher's API acts under any name; begin with 'publisher trust init'"}
			}
			seats, needs := trust.Who(&document, args[0], time.Now())
			return c.show(struct {
				People []trust.Seat `json:"people"`
				Needs  []trust.Need `json:"needs"`
			}{seats, needs}, func() { c.showWho(seats, needs) })
		},
	}
}

func (c *cli) showWho(seats []trust.Seat, needs []trust.Need) {
	people := c.newTable("PERSON", "MAY ACT AS")
	for _, s := range seats {
		var may []string
		for _, role := range s.Roles {
			may = append(may, string(role))
		}
		for _, d := range s.Delegated {
			may = append(may, fmt.Sprintf("%s for %s until %s", d.Role, d.From, d.Until.UTC().Format(time.RFC3339)))
		}
		people.AppendRow(table.Row{plain(s.Person), plain(strings.Join(may, ", "))})
	}
	c.print(people)
	c.line("")
	demands := c.newTable("RESOURCES", "A CHANGE NEEDS", "WHICH CAN COME FROM")
	for i, n := range needs {
		about := resources(n.Resources)
		if i > 0 && about == "all" {
			about = "all others"
		}
		demands.AppendRow(table.Row{plain(about), trust.Approvals(n.Approvals, n.Roles), plain(dash(strings.Join(n.People, ", ")))})
	}
	c.print(demands)
	if slices.ContainsFunc(needs, func(n trust.Need) bool { return n.Approvals > 0 }) {
		c.note("nobody approves their own change")
	}
}
