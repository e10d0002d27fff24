package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/console"
)

func doctorCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything the publisher needs, and say what to do about what is wrong; exit 1 when anything is",
		RunE: func(cmd *cobra.Command, _ []string) error {
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			checks, err := publisher.Doctor(cmd.Context())
			if err != nil {
				return err
			}
			checks = append([]api.Check{{Name: "publisher", OK: true, Message: "answers at " + publisher.Server()}}, checks...)
			bad := 0
			for _, check := range checks {
				if !check.OK {
					bad++
				}
			}
			if err := c.show(checks, func() { c.listChecks(checks) }); err != nil || bad == 0 {
				return err
			}
			return console.Exit(console.ExitFailure, fmt.Sprintf("%d of %d checks found something wrong; what to do stands beside each", bad, len(checks)))
		},
	}
}

func (c *cli) listChecks(checks []api.Check) {
	t := c.newTable("CHECK", "", "FOUND")
	for _, check := range checks {
		word, found := c.paint(green, "ok"), plain(check.Message)
		if !check.OK {
			word = c.paint(red, "wrong")
			if check.Next != "" {
				found += "; " + plain(check.Next)
			}
		}
		t.AppendRow([]any{check.Name, word, found})
	}
	c.print(t)
}
