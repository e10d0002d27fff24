package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func trustCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "trust", Short: "Say who may change what: people, their keys and roles, and what a change needs"}
	console.Group(cmd)
	cmd.AddCommand(trustInitCommand(c), trustShowCommand(c), trustWhoCanCommand(c), trustAddCommand(c), trustRemoveCommand(c), trustRotateCommand(c),
		trustDelegateCommand(c), trustDemandCommand(c), trustExportCommand(c), trustSignCommand(c))
	return cmd
}

// roles are those that a flag names.
func roles(cmd *cobra.Command, said []string) ([]events.Role, error) {
	var out []events.Role
	for _, role := range said {
		if !slices.Contains(roleNames(), role) {
			return nil, console.Usage(cmd, "there is no role %q; the roles are %s", role, strings.Join(roleNames(), ", "))
		}
		out = append(out, events.Role(role))
	}
	return out, nil
}

func roleNames() []string {
	var out []string
	for _, role := range events.Roles {
		out = append(out, string(role))
	}
	return out
}

func registerRoles(cmd *cobra.Command, into *[]string) {
	cmd.Flags().StringArrayVar(into, "role", nil, "`ROLE`: "+strings.Join(roleNames(), ", ")+" (repeatable)")
	complete(cmd, "role", cobra.FixedCompletions(roleNames(), noFiles))
}

// completePeople gives the people of the trust document.
func (c *cli) completePeople(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	desk, _, err := c.connect()
	if err != nil {
		return nil, noFiles
	}
	pins, err := desk.Pins(cmd.Context(), "")
	if err != nil {
		return nil, noFiles
	}
	var names []string
	for _, p := range pins.Document.People {
		names = append(names, p.Name)
	}
	return names, noFiles
}
