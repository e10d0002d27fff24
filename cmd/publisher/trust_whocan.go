package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func trustWhoCanCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "who-can ENV",
		Short: "Say who may do what in an environment, and what a change there needs",
		Long: `Say who may do what in an environment, by the newest trust document, and what it and the environment demand of a change there. Policies
may demand more: 'publisher show ID' has all of it for a change.`,
		Example:           `  publisher trust who-can prod-eu`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeEnvironments),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args...)
			desk, _, err := c.connect()
			if err != nil {
				return err
			}
			environment, err := desk.Environment(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			document, err := desk.Trust(cmd.Context(), 0)
			if err != nil {
				return err
			}
			if document.Approvals != events.ApprovalsAreSigned {
				return console.Exit(console.ExitConflict, "approvals are names here: whoever reaches the publisher's API acts under any name; begin with 'publisher trust init'")
			}
			seats, needs := trust.Who(&document, args[0], time.Now())
			return c.show(struct {
				People    []trust.Seat `json:"people"`
				Needs     []trust.Need `json:"needs"`
				Approvals int          `json:"approvals"` // that the environment itself demands
			}{seats, needs, environment.Approvals}, func() {
				c.showWho(seats, needs)
				c.few(args[0], environment.Approvals, needs)
			})
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

// few says where the environment itself demands more approvals than a rule of the trust document, and whether so many people could give one.
func (c *cli) few(environment string, approvals int, needs []trust.Need) {
	i := slices.IndexFunc(needs, func(n trust.Need) bool { return n.Approvals < approvals })
	if i < 0 {
		return
	}
	c.note("%s itself demands %s of every change", environment, plural(approvals, "approval", "approvals"))
	if have := len(needs[i].People); have < approvals {
		c.note("! only %s can give one there: nothing can be released before somebody else has such a role", plural(have, "person", "people"))
	}
}
