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
			if err := client.Resume(cmd.Context()); err != nil {
				return err
			}
			c.note("resumed")
			return nil
		},
	}
}
