package main

import "github.com/spf13/cobra"

func resumeCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "End a hold",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := c.client(cmd)
			if err != nil {
				return err
			}
			s, err := client.Resume(cmd.Context())
			if err != nil {
				return err
			}
			return c.show(s, func() { c.note("resumed") })
		},
	}
}
