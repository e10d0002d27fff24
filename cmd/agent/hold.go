package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
)

func holdCommand(c *cli) *cobra.Command {
	var length time.Duration
	var reason string
	cmd := &cobra.Command{
		Use:     "hold --for DURATION -m WHY",
		Short:   "Let the running agent apply nothing for a while",
		Long:    "Let the running agent apply nothing for a while. It verifies and follows releases all the same, and everybody sees that it is held.",
		Example: `  agent hold --for 1h -m "release party"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case !cmd.Flags().Changed("for") || reason == "":
				return console.Usage(cmd, "say for how long with --for, and why with -m")
			case length <= 0:
				return console.Usage(cmd, "--for is %s: name a time above nothing, as in 30m", length)
			}
			client, _, err := c.client(cmd)
			if err != nil {
				return err
			}
			until := time.Now().Add(length)
			s, err := client.Hold(cmd.Context(), until, reason)
			if err != nil {
				return err
			}
			return c.show(s, func() { c.note("held until %s", until.UTC().Format("2006-01-02 15:04:05Z")) })
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "how long, as in 30m or 2h")
	cmd.Flags().StringVarP(&reason, "message", "m", "", "say `WHY`")
	return cmd
}
