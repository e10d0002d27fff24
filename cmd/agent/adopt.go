package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/console"
)

func adoptCommand(c *cli) *cobra.Command {
	var file, reason string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "adopt [--enrolment FILE] -o CHANGE.yaml",
		Short: "Write a change that adopts what the instance holds",
		Long: `Write a change file with the instance's present values, where they differ from what the next apply would put there. Propose it
with 'publisher propose -f', which refuses values that look like secrets. What is released as a secret is left out: propose references for
such values.

Adopt knows only keys that are released. At first contact it takes the values that are there and differ, and deletes nothing: what
the instance lacks is still to come. Later it also deletes the keys that were taken out of the instance by hand.`,
		Example: "  agent adopt --enrolment a1.enrolment -o adopt.yaml && publisher propose -f adopt.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return console.Usage(cmd, "name the file to write with -o")
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
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for the bus")
	return cmd
}

func (c *cli) adopt(p *agent.Plan, file, reason string) error {
	text, leftOut, err := changeFile(p, reason)
	if err != nil {
		return err
	}
	for _, key := range leftOut {
		c.note("left out: %s is a secret; propose a reference for it", key)
	}
	if text == nil {
		c.note("there is nothing to adopt: adopt takes released keys that are no secrets, and the instance holds no other values for them; no file is written")
		return nil
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

// changeFile is the text of a change that makes the environment what the instance is; nil when there is nothing to adopt.
func changeFile(p *agent.Plan, reason string) (text []byte, leftOut []string, err error) {
	edit := adopted{Environments: []string{p.Environment}, Set: map[string]json.RawMessage{}}
	for _, change := range p.Changes {
		switch {
		case change.Key == "", p.FirstContact && change.Before == nil:
		case change.Secret:
			leftOut = append(leftOut, change.Key)
		case change.Before == nil:
			edit.Delete = append(edit.Delete, change.Key)
		default:
			edit.Set[change.Key] = change.Before
		}
	}
	if len(edit.Set)+len(edit.Delete) == 0 {
		return nil, leftOut, nil
	}
	if reason == "" {
		reason = "Adopt what " + p.Environment + " has"
	}
	change := struct {
		APIVersion string    `json:"apiVersion"`
		Kind       string    `json:"kind"`
		Reason     string    `json:"reason"`
		Edits      []adopted `json:"edits"`
	}{"lockstep/v1", "Change", reason, []adopted{edit}}
	if text, err = json.Marshal(change); err == nil {
		text, err = config.YAML(text)
	}
	return text, leftOut, err
}

// adopted is the edit of a change file.
type adopted struct {
	Environments []string                   `json:"environments"`
	Set          map[string]json.RawMessage `json:"set,omitempty"`
	Delete       []string                   `json:"delete,omitempty"`
}
