package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const historyLimit = 20

func historyCommand(c *cli) *cobra.Command {
	var environment string
	var limit int
	cmd := &cobra.Command{
		Use:   "history ENV | RESOURCE [--env ENV]",
		Short: "Show what was released to an environment, or what became of a resource, newest first",
		Example: `  publisher history prod-eu
  publisher history variable/log-level
  publisher history variable/log-level --env prod-eu`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeEnvironmentsAndResources),
		RunE: func(cmd *cobra.Command, args []string) error {
			resource := ""
			if strings.Contains(args[0], "/") {
				resource = args[0]
				if err := events.CheckKey(resource); err != nil {
					return console.Usage(cmd, "%v", err)
				}
			} else if environment != "" {
				return console.Usage(cmd, "--env goes with a resource")
			} else {
				environment = args[0]
			}
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			if environment != "" {
				c.name(environment)
			}
			list, err := publisher.History(cmd.Context(), environment, resource)
			if err != nil {
				return err
			}
			older := 0
			if limit > 0 && len(list) > limit {
				list, older = list[:limit], len(list)-limit
			}
			if err := c.show(list, func() { c.listHistory(list, resource) }); err != nil {
				return err
			}
			if older > 0 {
				c.note("%d older; all with --limit 0", older)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&environment, "env", "", "of a resource, only in environment `NAME`")
	cmd.Flags().IntVarP(&limit, "limit", "n", historyLimit, "at most so many; 0 is all")
	complete(cmd, "env", c.completeEnvironments)
	return cmd
}

func (c *cli) listHistory(list []fleet.HistoryItem, resource string) {
	if len(list) == 0 {
		c.note("nothing was ever released there")
		return
	}
	if resource != "" {
		c.resourceHistory(list)
		return
	}
	t := c.newTable("REVISION", "WHEN", "KIND", "CHANGE", "BY", "APPLIED", "RESOURCES", "WHY")
	for _, item := range list {
		t.AppendRow([]any{item.Revision, ago(item.Time), item.Kind, dash(item.Change), dash(plain(item.By)), yesNo(item.Applied), len(item.Operations), recovered(item) + cell(item.Reason)})
	}
	c.print(t)
}

func (c *cli) resourceHistory(list []fleet.HistoryItem) {
	for _, item := range list {
		c.line("%s  revision %d, %s %s by %s, %s%s", item.Environment, item.Revision, item.Kind, item.Change, plain(item.By), moment(item.Time), because(brief(item.Reason)))
		c.line("%s", trim(diff(item.Operations, "  ")))
	}
}

// recovered marks a release whose entry was lost.
func recovered(item fleet.HistoryItem) string {
	if item.Recovered {
		return "(recovered) "
	}
	return ""
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
