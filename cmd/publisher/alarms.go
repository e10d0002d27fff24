package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func alarmsCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alarms",
		Short: "Show what is wrong and whom the publisher told, what waits to be told, and what nobody took",
		Long: `Show the alarms of a publisher that was started with --notify: those that are open, silences, what waits to be told, and dead letters,
which nobody took. An alarm has one id from the moment that something goes wrong until it is well, and is over when it has been well for a minute.`,
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
		t := c.newTable("ALARM", "RULE", "ABOUT", "OPEN FOR", "WHO ANSWERS", "TAKEN CARE OF", "WHY")
		for _, a := range view.Open {
			t.AppendRow(table.Row{a.ID, a.Rule, plain(strings.TrimSpace(a.Environment + " " + a.Change)), openFor(a.Alarm, time.Now()), plain(a.People()),
				c.care(a), cell(why(string(a.Reason), a.Message))})
		}
		c.print(t)
	}
	for _, q := range view.Silences {
		rule := "every rule"
		if q.Rule != "" {
			rule = string(q.Rule)
		}
		c.note("silence %s: %s of %s until %s, by %s: %s", q.ID, rule, plain(q.Environment), q.Until.UTC().Format(time.RFC3339), plain(q.By), cell(q.Reason))
	}
	for _, d := range view.Waiting {
		state := "waits"
		switch {
		case d.Held.After(time.Now()):
			state = "held by a silence until " + d.Held.UTC().Format(time.RFC3339)
		case d.Attempts > 0:
			state = plural(d.Attempts, "try", "tries") + " so far, " + plain(d.Error)
		}
		c.note("to %s: %s: %s", plain(d.Target), d.ID, state)
	}
	for _, d := range view.Dead {
		c.note("! dead letter to %s: %s of %s: %s", plain(d.Target), d.ID, d.Queued.UTC().Format(time.RFC3339), plain(d.Error))
	}
}

// openFor is how long an alarm has been open, and for how long what was wrong has been well.
func openFor(a notify.Alarm, now time.Time) string {
	lasted := func(since time.Time) string { return span(max(0, now.Sub(since).Round(time.Second)).Seconds()) }
	if a.Well.IsZero() {
		return lasted(a.Raised)
	}
	return lasted(a.Raised) + ", well for " + lasted(a.Well)
}

// care is who takes care of an alarm.
func (c *cli) care(a notify.ShownAlarm) string {
	switch {
	case a.Acknowledged != nil:
		return plain(a.Acknowledged.By) + ": " + cell(a.Acknowledged.Reason)
	case a.Silenced:
		return "silenced"
	}
	return "-"
}

func acknowledgeCommand(c *cli) *cobra.Command {
	var w writing
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
			view, err := publisher.Alarms(cmd.Context())
			if err != nil {
				return err
			}
			alarm, err := openAlarm(view, args[0])
			if err != nil {
				return err
			}
			out, err := c.do(cmd.Context(), w, ledger.AcknowledgeAlarm{Alarm: alarm.ID, Environment: alarm.Environment, Reason: reason})
			if err != nil {
				return err
			}
			return c.show(out, func() { c.done(w, "%s takes care of %s", plain(as), alarm.ID) })
		},
	}
	cmd.Flags().StringVarP(&reason, "message", "m", "", "`WHY`, or what is done")
	w.register(cmd)
	return cmd
}

// openAlarm finds an open alarm by its id, or by how that begins.
func openAlarm(view notify.Overview, id string) (found notify.ShownAlarm, err error) {
	matched := 0
	for _, a := range view.Open {
		if id != "" && strings.HasPrefix(a.ID, id) {
			found = a
			matched++
		}
	}
	switch matched {
	case 1:
		return found, nil
	case 0:
		return found, &console.ExitError{Code: console.ExitFailure, Message: "no open alarm has the id " + plain(id) + "; list alarms with 'publisher alarms'"}
	}
	return found, &console.ExitError{Code: console.ExitFailure, Message: plural(matched, "open alarm has an id", "open alarms have ids") + " that begins with " + plain(id) + "; write more of it"}
}

func silenceCommand(c *cli) *cobra.Command {
	var w writing
	var reason, environment, rule, lasts string
	cmd := &cobra.Command{
		Use:   "silence --env PATTERN --for TIME -m WHY",
		Short: "Keep alarms from being sent for a while; those that are open at its end are sent then",
		Long: `Keep alarms from being sent for a while; those that are open at its end are sent then. What is about no environment, as a change that waits
for approval, is silenced with --env '*'.`,
		Example: `  publisher alarms silence --env 'prod-*' --for 2h -m "the provider moves us, OPS-7"
  publisher alarms silence --env prod-eu --rule silent --for 30m -m "new host"`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case reason == "":
				return console.Usage(cmd, "say why with -m")
			case environment == "":
				return console.Usage(cmd, "name environments with --env, all of them with --env '*'")
			case lasts == "":
				return console.Usage(cmd, "say for how long with --for, as in --for 2h")
			}
			if rule != "" {
				if err := notify.CheckRule(rule); err != nil {
					return console.Usage(cmd, "--rule: %s", err)
				}
			}
			until, err := timeOf(lasts, time.Now())
			if err != nil {
				return console.Usage(cmd, "--for: %v", err)
			}
			out, err := c.do(cmd.Context(), w, ledger.SilenceAlarms{Environment: environment, Rule: rule, Until: until, Reason: reason})
			if err != nil {
				return err
			}
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			covered := func(e fleet.Environment) bool { return events.Glob(environment, e.Name) }
			if view, err := publisher.Fleet(cmd.Context()); err == nil && !slices.ContainsFunc(view.Environments, covered) { // one may be about to be added
				c.note("! no environment matches %s now; list them with 'publisher env list'", plain(environment))
			}
			return c.show(out, func() {
				if w.dryRun {
					c.done(w, "%s is silenced until %s", plain(environment), until.Format(time.RFC3339))
					return
				}
				id := ledger.Silence{Entry: out.Entry}.ID()
				c.line("%s", id)
				c.note("nothing is sent of %s until %s; end it with 'publisher alarms unsilence %s'", plain(environment), until.Format(time.RFC3339), id)
			})
		},
	}
	cmd.Flags().StringVarP(&reason, "message", "m", "", "say `WHY`")
	cmd.Flags().StringVar(&environment, "env", "", "environments that match a `PATTERN`")
	cmd.Flags().StringVar(&rule, "rule", "", "only alarms of this `RULE`: late, differing, failing, silent, approval, break-glass, ledger")
	cmd.Flags().StringVar(&lasts, "for", "", "for this `TIME`, as in 2h or 14d, at most 30d, or until 2026-12-24")
	w.register(cmd)
	return cmd
}

func unsilenceCommand(c *cli) *cobra.Command {
	var w writing
	cmd := &cobra.Command{
		Use:   "unsilence SILENCE",
		Short: "End a silence before its time",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			entry, err := strconv.ParseUint(strings.TrimPrefix(args[0], "s"), 10, 64)
			if err != nil {
				return console.Usage(cmd, "%s is no silence: they are called as s123; list them with 'publisher alarms'", plain(args[0]))
			}
			out, err := c.do(cmd.Context(), w, ledger.EndSilence{Silence: entry})
			if err != nil {
				return err
			}
			return c.show(out, func() { c.done(w, "ended %s", plain(args[0])) })
		},
	}
	w.register(cmd)
	return cmd
}
