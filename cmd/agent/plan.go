package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/console"
)

func planCommand(c *cli) *cobra.Command {
	var differences bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "plan [--enrolment FILE]",
		Short: "Show what the next apply would change in the instance",
		Long: `Show what the next apply would change. A running agent is asked; where none runs, the releases are followed up to the newest one
with the enrolment, and nothing is written. Secrets are shown as references.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := c.plan(cmd, timeout)
			if err != nil {
				return err
			}
			if err := c.show(p, func() { c.showPlan(p) }); err != nil {
				return err
			}
			if differences && len(p.Changes) > 0 {
				return console.Exit(console.ExitDifference, "")
			}
			return nil
		},
	}
	c.needEnrolment(cmd)
	cmd.Flags().BoolVar(&differences, "exit-code", false, "end with 3 when there is something to change")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the bus")
	return cmd
}

// plan asks the running agent, or does itself what it would do.
func (c *cli) plan(cmd *cobra.Command, timeout time.Duration) (*agent.Plan, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	client, dir, err := c.client(cmd)
	if err != nil {
		return nil, err
	}
	p, err := client.Plan(ctx)
	if !errors.Is(err, agent.ErrNotRunning) {
		return p, err
	}
	if c.enrolment == "" {
		return nil, fmt.Errorf("%w in %s: start it, or name its enrolment with --enrolment", agent.ErrNotRunning, dir)
	}
	f, e, err := c.files(cmd)
	if err != nil {
		return nil, err
	}
	router, closer, err := f.Open(e)
	if err != nil {
		return nil, err
	}
	p, err = agent.PlanStopped(ctx, f.Options(e, router))
	return p, errors.Join(err, closer.Close())
}

func (c *cli) showPlan(p *agent.Plan) {
	switch {
	case p.To > p.From:
		c.line("%s: from revision %d to %d", p.Environment, p.From, p.To)
	default:
		c.line("%s: at revision %d, nothing newer is released", p.Environment, p.From)
	}
	if len(p.Changes) == 0 {
		c.line("Nothing in the instance would change.")
	}
	lines := make([]string, 0, len(p.Changes))
	for _, change := range p.Changes {
		sign, what := "~", fmt.Sprintf("%s → %s", value(change.Before), value(change.After))
		switch {
		case change.Key == "":
			sign, what = "-", "not named by any resource"
		case change.Before == nil:
			sign, what = "+", value(change.After)
		case change.After == nil:
			sign, what = "-", value(change.Before)
		}
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%s", sign, change.Key, what, change.Place))
	}
	c.rows(lines...)
	if len(p.Conflicts) > 0 {
		c.line("First contact: the instance holds other values for %s.", strings.Join(p.Conflicts, ", "))
		c.note("They are not overwritten: propose them with 'agent adopt', or start with 'agent run --overwrite'.")
	}
	if len(p.NotReadBack) > 0 {
		c.line("Not read back: %s.", strings.Join(p.NotReadBack, ", "))
	}
}
