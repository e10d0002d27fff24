package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/agent"
)

func statusCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the agent is",
		Long:  "Show how the agent is. One that does not run is read from its state directory, and so is one that does not answer within five seconds (exit code 9).",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, dir, err := c.client(cmd)
			if err != nil {
				return err
			}
			s, err := client.Status(cmd.Context())
			if errors.Is(err, agent.ErrNotRunning) {
				s, err = agent.StatusStopped(dir)
			}
			if errors.Is(err, agent.ErrNoAnswer) {
				held, unread := agent.StatusSilent(dir, err)
				if unread != nil {
					return errors.Join(err, unread)
				}
				return errors.Join(c.show(held, func() { c.showStatus(held) }), err)
			}
			if err != nil {
				return err
			}
			return c.show(s, func() { c.showStatus(s) })
		},
	}
}

// mostDiffering is how many differing resources are shown; all of them are in the JSON.
const mostDiffering = 20

func (c *cli) showStatus(s *agent.Status) {
	condition := s.Condition.Word
	if s.Condition.Reason != "" {
		condition += " (" + string(s.Condition.Reason) + ")"
	}
	if !s.Condition.Since.IsZero() {
		condition += " since " + moment(s.Condition.Since)
	}
	rows := []string{"agent\t" + s.Agent + " in " + s.Environment, "condition\t" + condition}
	add := func(name, format string, args ...any) { rows = append(rows, name+"\t"+fmt.Sprintf(format, args...)) }
	if s.Condition.Message != "" {
		add("", "%s", s.Condition.Message)
	}
	if s.Stale != nil && s.Condition.Word != agent.Stale {
		add("stale", "(%s) since %s", s.Stale.Reason, moment(s.Stale.Since))
		add("", "%s", s.Stale.Message)
	}
	add("revision", "%d of %d, %s, applied %s", s.Checkpoint.Revision, s.Head, readBack(s.Checkpoint.ReadBack), moment(s.Checkpoint.At))
	add("state", "%s", s.Checkpoint.State.Short())
	if s.Retry != nil {
		add("retrying", "%d times since %s", s.Retry.Attempts, moment(s.Retry.Since))
	}
	if f := s.Failure; f != nil {
		add(string(f.Word), "revision %d (%s): %s", f.Revision, f.Reason, f.Message)
	}
	if s.Hold != nil {
		add("held", "until %s: %s", s.Hold.Until.UTC().Format("2006-01-02 15:04:05Z"), s.Hold.Reason)
	}
	for i, d := range s.Differing {
		if i == mostDiffering {
			add("", "and %d more resources", len(s.Differing)-i)
			break
		}
		add("differing", "%s", d)
	}
	if s.Unverified {
		add("instance", "unverified since start")
	}
	add("publisher", "last heard %s", moment(s.LastPulse))
	if s.Running {
		add("head", "last looked at %s", moment(s.LastCheck))
		if s.HTTP != "" {
			add("health", "http://%s/readyz, /metrics", s.HTTP)
		}
	}
	if s.Sealed > 0 {
		add("ledger", "sealed up to entry %d, as far as this agent verified it", s.Sealed)
	}
	if !s.Unproven.IsZero() {
		add("", "since %s nobody proved that newer seals continue that one", moment(s.Unproven))
	}
	add("outbox", "%d acks", s.Outbox)
	for _, conn := range s.Connectors {
		add("connector", "%s, %s, %s", conn.Name, conn.Atomicity, readBack(conn.ReadBack))
	}
	c.rows(rows...)
}
