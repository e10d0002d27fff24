package main

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

func alarmsCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alarms",
		Short: "Show what is wrong and whom the publisher told, what waits to be told, and what nobody took",
		Long: `Show the alarms of a publisher that was started with --notify: those that are open, silences, what waits to be told, and dead letters,
which nobody took. An alarm has one id from the moment that something goes wrong until it is well.`,
	}
	console.Group(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		publisher, _, err := c.connect()
		if err != nil {
			return err
		}
		view, err := publisher.Alarms(cmd.Context())
		if err != nil {
			return err
		}
		return c.show(view, func() { c.showAlarms(view) })
	}
	cmd.AddCommand(acknowledgeCommand(c), silenceCommand(c), unsilenceCommand(c))
	return cmd
}

func (c *cli) showAlarms(view notify.Overview) {
	if len(view.Open) == 0 {
		c.line("no alarm is open")
	} else {
		t := c.newTable("ALARM", "RULE", "ABOUT", "SINCE", "WHO ANSWERS", "TAKEN CARE OF", "WHY")
		for _, a := range view.Open {
			t.AppendRow(table.Row{a.ID, a.Rule, plain(strings.TrimSpace(a.Environment + " " + a.Change)), ago(a.Raised), plain(a.People()),
				c.care(a), why(string(a.Reason), a.Message)})
		}
		c.print(t)
	}
	for _, q := range view.Silences {
		rule := "every rule"
		if q.Rule != "" {
			rule = string(q.Rule)
		}
		c.note("silence %s: %s of %s until %s, by %s: %s", q.ID, rule, plain(q.Environment), q.Until.UTC().Format(time.RFC3339), plain(q.By), brief(q.Reason))
	}
	for _, d := range view.Waiting {
		state := "waits"
		if d.Attempts > 0 {
			state = plural(d.Attempts, "try", "tries") + " so far, " + plain(d.Error)
		}
		c.note("to %s: %s: %s", plain(d.Target), d.ID, state)
	}
	for _, d := range view.Dead {
		c.note("! dead letter to %s: %s of %s: %s", plain(d.Target), d.ID, d.Queued.UTC().Format(time.RFC3339), plain(d.Error))
	}
}

// care is who takes care of an alarm.
func (c *cli) care(a notify.ShownAlarm) string {
	switch {
	case a.Acknowledged != nil:
		return plain(a.Acknowledged.By) + ": " + brief(a.Acknowledged.Reason)
	case a.Silenced:
		return "silenced"
	}
	return "-"
}

func acknowledgeCommand(c *cli) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "acknowledge ALARM -m WHY",
		Short:   "Say that you take care of an alarm",
		Example: `  publisher alarms acknowledge 3f2a91 -m "restarting the agent"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return console.Usage(cmd, "say why with -m")
			}
			publisher, as, err := c.connect()
			if err != nil {
				return err
			}
			alarm, err := publisher.AcknowledgeAlarm(cmd.Context(), args[0], api.Acknowledgement{By: as, Reason: reason})
			if err != nil {
				return err
			}
			return c.show(alarm, func() { c.line("%s takes care of %s", plain(as), alarm.ID) })
		},
	}
	cmd.Flags().StringVarP(&reason, "message", "m", "", "`WHY`, or what is done")
	return cmd
}

func silenceCommand(c *cli) *cobra.Command {
	var reason, environment, rule string
	var long time.Duration
	cmd := &cobra.Command{
		Use:   "silence --env PATTERN --for DURATION -m WHY",
		Short: "Keep alarms from being sent for a while; those that are open at its end are sent then",
		Example: `  publisher alarms silence --env 'prod-*' --for 2h -m "the provider moves us, OPS-7"
  publisher alarms silence --env prod-eu --rule silent --for 30m -m "new host"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case reason == "":
				return console.Usage(cmd, "say why with -m")
			case environment == "":
				return console.Usage(cmd, "name environments with --env, all of them with --env '*'")
			case long <= 0:
				return console.Usage(cmd, "say for how long with --for, as in --for 2h")
			}
			publisher, as, err := c.connect()
			if err != nil {
				return err
			}
			silence, err := publisher.SilenceAlarms(cmd.Context(), api.SilenceRequest{Environment: environment, Rule: notify.Rule(rule), Until: time.Now().Add(long),
				Acknowledgement: api.Acknowledgement{By: as, Reason: reason}})
			if err != nil {
				return err
			}
			covered := func(e fleet.Environment) bool { ok, _ := path.Match(environment, e.Name); return ok }
			if view, err := publisher.Fleet(cmd.Context()); err == nil && !slices.ContainsFunc(view.Environments, covered) { // one may be about to be added
				c.note("! no environment matches %s now; list them with 'publisher env list'", plain(environment))
			}
			return c.show(silence, func() {
				c.line("%s", silence.ID)
				c.note("nothing is sent of %s until %s; end it with 'publisher alarms unsilence %s'", plain(environment), silence.Until.UTC().Format(time.RFC3339), silence.ID)
			})
		},
	}
	cmd.Flags().StringVarP(&reason, "message", "m", "", "say `WHY`")
	cmd.Flags().StringVar(&environment, "env", "", "environments that match a `PATTERN`")
	cmd.Flags().StringVar(&rule, "rule", "", "only alarms of this `RULE`: late, differing, failing, silent")
	cmd.Flags().DurationVar(&long, "for", 0, "for how long, at most 720h")
	return cmd
}

func unsilenceCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "unsilence SILENCE",
		Short: "End a silence before its time",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			publisher, as, err := c.connect()
			if err != nil {
				return err
			}
			if err := publisher.EndSilence(cmd.Context(), args[0], as); err != nil {
				return err
			}
			c.note("ended %s", plain(args[0]))
			return nil
		},
	}
}
