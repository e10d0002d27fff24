package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/agent/agentfile"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

func checkConfigCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check-config [--enrolment FILE]",
		Short: "Check the agent's file, and say what was understood",
		Long: `Check the agent's file, and its enrolment if one is named, and say what was understood. The directories of the files that it
configures must be there. Nothing that they name is opened.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := agentfile.Read(c.config)
			if err != nil {
				return err
			}
			if c.state != "" {
				if err := f.KeepStateIn(c.state); err != nil {
					return err
				}
			}
			if err := f.Look(); err != nil {
				return err
			}
			understood := checked{File: f}
			for _, conn := range f.Connectors {
				understood.Connectors = append(understood.Connectors, conn.Name)
			}
			if c.enrolment != "" {
				e, err := keys.ReadEnrolment(c.enrolment)
				if err != nil {
					return err
				}
				understood.Environment, understood.Agent, understood.Bus = e.Environment, e.Agent, e.Bus.URL
			}
			return c.show(understood, func() { c.showChecked(understood) })
		},
	}
	c.needEnrolment(cmd)
	return cmd
}

// checked is what was understood.
type checked struct {
	*agentfile.File
	Connectors  []string `json:"connectors"`
	Environment string   `json:"environment,omitempty"`
	Agent       string   `json:"agent,omitempty"`
	Bus         string   `json:"bus,omitempty"`
}

func (c *cli) showChecked(u checked) {
	rows := []string{
		"state\t" + u.State, "health and metrics\t" + u.Listen, "not ready when stale for\t" + u.MaxStaleness.String(),
		"at first contact\t" + u.OnFirstContact, fmt.Sprintf("every revision by itself\t%v", u.Step),
	}
	if u.Agent != "" {
		rows = append(rows, "agent\t"+u.Agent+" in "+u.Environment, "bus\t"+u.Bus)
	}
	for _, conn := range u.File.Connectors {
		kind := "exec"
		if conn.File != nil {
			kind = "file"
		}
		rows = append(rows, "connector\t"+conn.Name+", "+kind)
	}
	c.rows(rows...)
	c.line("%s is good", c.config)
}
