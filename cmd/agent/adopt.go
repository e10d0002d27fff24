package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/agent"
)

func adoptCommand(c *cli) *cobra.Command {
	var file, reason string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "adopt [--enrolment FILE] -o CHANGE.yaml",
		Short: "Write a change that adopts what the instance holds",
		Long: `Write a change file with the instance's present values, where they differ from what the next apply would put there. Propose it
with 'publisher propose -f'. Secrets are left out: propose references for them.`,
		Example: "  agent adopt --enrolment a1.enrolment -o adopt.yaml && publisher propose -f adopt.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage(cmd, "name the file to write with -o")
			}
			p, err := c.plan(cmd, timeout)
			if err != nil {
				return err
			}
			return c.adopt(p, file, reason)
		},
	}
	c.needEnrolment(cmd)
	cmd.Flags().StringVarP(&file, "output", "o", "", "change `FILE` to write; - is standard output")
	cmd.Flags().StringVarP(&reason, "message", "m", "", "`REASON` of the change (default: Adopt what the environment has)")
	cmd.Flags().DurationVar(&timeout, "timeout", 15*time.Second, "how long to wait for the bus")
	return cmd
}

func (c *cli) adopt(p *agent.Plan, file, reason string) error {
	text, leftOut, err := changeFile(p, reason)
	if err != nil {
		return err
	}
	if text == nil {
		c.note("the instance holds nothing that differs: there is nothing to adopt")
		return nil
	}
	for _, key := range leftOut {
		c.note("left out: %s is a secret; propose a reference for it", key)
	}
	if file == "-" {
		_, err := c.stdout.Write(text)
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is a file %s already: name another with -o", file)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	c.note("wrote %s; propose it with 'publisher propose -f %s'", file, file)
	return nil
}

// changeFile is the text of a change that makes the environment what the instance is; nil when nothing differs.
func changeFile(p *agent.Plan, reason string) (text []byte, leftOut []string, err error) {
	set := yaml.MapSlice{}
	var deleted []string
	for _, change := range p.Changes {
		switch {
		case change.Key == "":
		case change.Secret:
			leftOut = append(leftOut, change.Key)
		case change.Before == nil:
			deleted = append(deleted, change.Key)
		default:
			var v any
			if err := json.Unmarshal(change.Before, &v); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", change.Key, err)
			}
			set = append(set, yaml.MapItem{Key: change.Key, Value: v})
		}
	}
	if len(set)+len(deleted) == 0 {
		return nil, leftOut, nil
	}
	if reason == "" {
		reason = "Adopt what " + p.Environment + " has"
	}
	edit := yaml.MapSlice{{Key: "environments", Value: []string{p.Environment}}}
	if len(set) > 0 {
		edit = append(edit, yaml.MapItem{Key: "set", Value: set})
	}
	if len(deleted) > 0 {
		edit = append(edit, yaml.MapItem{Key: "delete", Value: deleted})
	}
	text, err = yaml.Marshal(yaml.MapSlice{
		{Key: "apiVersion", Value: "lockstep/v1"}, {Key: "kind", Value: "Change"}, {Key: "reason", Value: reason}, {Key: "edits", Value: []yaml.MapSlice{edit}},
	})
	return text, leftOut, err
}
