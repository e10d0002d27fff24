package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/console"
)

func checkpointCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "Show and verify what is durable at the agent",
	}
	console.Group(cmd)
	cmd.AddCommand(checkpointShowCommand(c), checkpointVerifyCommand(c))
	return cmd
}

func checkpointShowCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show the checkpoint's revision, and every resource with the change that set it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			view, err := c.checkpoint(cmd)
			if err != nil {
				return err
			}
			return c.show(view, func() {
				c.line("%s in %s: revision %d, state %s, %s, trust document %d", view.Agent, view.Environment, view.Checkpoint.Revision,
					view.Checkpoint.State.Short(), readBack(view.Checkpoint.ReadBack), view.Trust)
				var rows []string
				for _, r := range view.Resources {
					text := "(deleted)"
					if b, err := json.Marshal(r.Value); err == nil && !r.Deleted {
						text = value(b)
					}
					rows = append(rows, fmt.Sprintf("%s\t%s\t%s", r.Key, text, r.Change))
				}
				c.rows(rows...)
			})
		},
	}
}

func checkpointVerifyCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Hash the checkpoint's state again and compare it with what was recorded",
		RunE: func(cmd *cobra.Command, _ []string) error {
			view, err := c.checkpoint(cmd)
			if err != nil {
				return err
			}
			result := map[string]any{"revision": view.Checkpoint.Revision, "state": view.Checkpoint.State, "resources": len(view.Resources), "verified": true}
			return c.show(result, func() {
				c.line("revision %d is as it was recorded: %s, state %s", view.Checkpoint.Revision, counted(len(view.Resources)), view.Checkpoint.State.Short())
			})
		},
	}
}

// checkpoint asks the running agent, or reads the state directory; both verify it.
func (c *cli) checkpoint(cmd *cobra.Command) (*agent.CheckpointView, error) {
	client, dir, err := c.client(cmd)
	if err != nil {
		return nil, err
	}
	view, err := client.Checkpoint(cmd.Context())
	if errors.Is(err, agent.ErrNotRunning) {
		return agent.CheckpointStopped(dir)
	}
	return view, err
}
