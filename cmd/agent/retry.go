package main

import "github.com/spf13/cobra"

func retryCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "retry",
		Short: "Let the running agent try again what failed",
		Long:  "Let the running agent try again what failed. Where the instance differs from the checkpoint, the checkpoint is applied again.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := c.client(cmd)
			if err != nil {
				return err
			}
			s, err := client.Retry(cmd.Context())
			if err != nil {
				return err
			}
			return c.show(s, func() { c.note("trying again; see 'agent status'") })
		},
	}
}
