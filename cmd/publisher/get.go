package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func getCommand(c *cli) *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "get ENV [RESOURCE]",
		Short: "Show an environment's resources, or the value of one of them, now or at a revision or time",
		Long: `Show an environment's resources as released: at its head, or at a revision or time. The value of one resource goes to standard
output as JSON, and who set it to standard error. Secrets are shown as references: nobody here knows more of them.`,
		Example: `  publisher get prod-eu
  publisher get prod-eu variable/log-level
  publisher get prod-eu variable/log-level --at 12
  publisher get prod-eu --at 2026-11-21T09:30:00Z
  publisher get prod-eu --at '2026-11-21 09:30'      # local time`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: c.completeEnvironmentThenResource,
		RunE: func(cmd *cobra.Command, args []string) error {
			place, err := parsePlace(at)
			if err != nil {
				return console.Usage(cmd, "--at: %v", err)
			}
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			c.name(args[0])
			if len(args) == 2 {
				return c.getOne(cmd, publisher, args[0], args[1], place)
			}
			return c.getAll(cmd.Context(), publisher, args[0], place)
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "`REVISION` or time")
	return cmd
}

// parsePlace is a revision or a time as the API takes it.
func parsePlace(at string) (string, error) {
	if at == "" {
		return "", nil
	}
	if _, err := strconv.ParseUint(at, 10, 64); err == nil {
		return at, nil
	}
	if t, err := time.Parse(time.RFC3339, at); err == nil {
		return t.UTC().Format(time.RFC3339Nano), nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, at, time.Local); err == nil {
			return t.UTC().Format(time.RFC3339Nano), nil
		}
	}
	return "", fmt.Errorf("%q is neither a revision nor a time such as 2026-11-21T09:30:00Z or '2026-11-21 09:30'", at)
}

func (c *cli) getOne(cmd *cobra.Command, publisher *client.Client, environment, key, at string) error {
	if err := events.CheckKey(key); err != nil {
		return console.Usage(cmd, "%v", err)
	}
	r, err := publisher.Resource(cmd.Context(), environment, key, at)
	if err != nil {
		return err
	}
	if r.Deleted && c.format.People() {
		return &ledger.Error{Kind: ledger.KindNotFound, Message: fmt.Sprintf("%s was deleted in %s by change %s of %s", key, environment, r.Change, plain(r.By)),
			Next: "see 'publisher history " + key + " --env " + environment + "'"}
	}
	return c.show(r, func() {
		var pretty bytes.Buffer
		if json.Indent(&pretty, r.Value, "", "  ") != nil {
			pretty.Reset()
			pretty.Write(r.Value)
		}
		c.line("%s", plain(pretty.String()))
		c.note("set by change %s of %s, %s%s; this is revision %d", r.Change, plain(r.By), moment(r.Set), because(brief(r.Reason)), r.Revision)
	})
}

func (c *cli) getAll(ctx context.Context, publisher *client.Client, environment, at string) error {
	list, err := publisher.Resources(ctx, environment, at)
	if err != nil {
		return err
	}
	return c.show(list, func() { c.listResources(list, environment) })
}

const maxShownValue = 40

func (c *cli) listResources(list []fleet.ResourceView, environment string) {
	if len(list) == 0 {
		c.note("nothing is set in %s there; propose something with 'publisher propose --env %s --set KEY=VALUE -m WHY'", environment, environment)
		return
	}
	t := c.newTable("RESOURCE", "VALUE", "CHANGE", "BY", "SET", "WHY")
	for _, r := range list {
		shown := []rune(value(r.Value))
		if len(shown) > maxShownValue {
			shown = append(shown[:maxShownValue-1], '…')
		}
		t.AppendRow([]any{r.Key, string(shown), r.Change, plain(r.By), ago(r.Set), cell(r.Reason)})
	}
	c.print(t)
}
