package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func environmentCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "env", Aliases: []string{"environment"}, Short: "Add, change, list, compare and retire environments; enrol and revoke their agents"}
	console.Group(cmd)
	cmd.AddCommand(envAddCommand(c), envUpdateCommand(c), envListCommand(c), envShowCommand(c), envCompareCommand(c), envUpgradeCommand(c), envCloneCommand(c), envRetireCommand(c), envEnrolCommand(c), envRevokeCommand(c))
	return cmd
}

// about are the flags that describe an environment.
type about struct {
	labels    []string
	steward   string
	approvals int
}

func (a *about) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&a.labels, "label", nil, "`KEY=VALUE`, such as stage=prod; KEY- takes it away (repeatable)")
	cmd.Flags().StringVar(&a.steward, "steward", "", "`NAME` of who looks after it")
	cmd.Flags().IntVar(&a.approvals, "approvals", 1, "how many people must approve a change, not counting its author")
}

// relabelled are labels after what a flag says of them.
func relabelled(cmd *cobra.Command, labels map[string]string, flag string, said []string) (map[string]string, error) {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	for _, label := range said {
		name, text, set := strings.Cut(label, "=")
		if set {
			out[name] = text
			continue
		}
		name, remove := strings.CutSuffix(label, "-")
		if !remove {
			return nil, console.Usage(cmd, "--%s: %q is neither KEY=VALUE nor KEY-", flag, label)
		}
		delete(out, name)
	}
	return out, nil
}

func envAddCommand(c *cli) *cobra.Command {
	var a about
	var w writing
	cmd := &cobra.Command{
		Use:     "add NAME",
		Short:   "Add an environment",
		Example: `  publisher env add prod-eu --label stage=prod --label region=eu --steward ops@acme --approvals 2`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			labels, err := relabelled(cmd, nil, "label", a.labels)
			if err != nil {
				return err
			}
			out, err := c.do(cmd.Context(), w, ledger.AddEnvironment{Name: args[0], Labels: labels, Steward: a.steward, Approvals: a.approvals})
			if err != nil {
				return err
			}
			return c.show(out, func() {
				c.done(w, "added %s; enrol its agent with 'publisher env enrol %s --agent NAME -o FILE'", args[0], args[0])
			})
		},
	}
	a.register(cmd)
	w.register(cmd)
	return cmd
}

func envUpdateCommand(c *cli) *cobra.Command {
	var a about
	var w writing
	cmd := &cobra.Command{
		Use:               "update NAME",
		Short:             "Change an environment's labels, steward or approvals; what is not said stays",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeEnvironments),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args...)
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			now, err := publisher.Environment(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("steward") {
				a.steward = now.Steward
			}
			if !cmd.Flags().Changed("approvals") {
				if now.Lost {
					return console.Usage(cmd, "how many approvals %s demands was lost with its ledger; say it with --approvals", args[0])
				}
				a.approvals = now.Approvals
			}
			labels, err := relabelled(cmd, now.Labels, "label", a.labels)
			if err != nil {
				return err
			}
			out, err := c.do(cmd.Context(), w, ledger.UpdateEnvironment{Name: args[0], Labels: labels, Steward: a.steward, Approvals: a.approvals})
			if err != nil {
				return err
			}
			return c.show(out, func() { c.done(w, "updated %s", args[0]) })
		},
	}
	a.register(cmd)
	w.register(cmd)
	return cmd
}

func envListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List environments",
		RunE: func(cmd *cobra.Command, _ []string) error {
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			view, err := publisher.Fleet(cmd.Context())
			if err != nil {
				return err
			}
			list := view.Environments
			slices.SortFunc(list, func(a, b fleet.Environment) int { return strings.Compare(a.Name, b.Name) })
			return c.show(list, func() { c.listEnvironments(list) })
		},
	}
}

func (c *cli) listEnvironments(list []fleet.Environment) {
	if len(list) == 0 {
		c.note("there are no environments; add one with 'publisher env add NAME'")
		return
	}
	t := c.newTable("ENVIRONMENT", "STATE", "APPROVALS", "AGENTS", "STEWARD", "LABELS")
	for _, e := range list {
		var agents []string
		for _, a := range e.Agents {
			agents = append(agents, a.Name)
		}
		t.AppendRow([]any{e.Name, c.condition(e.Condition), demands(e, strconv.Itoa(e.Approvals)), dash(strings.Join(agents, ",")), dash(plain(e.Steward)), dash(labels(e.Labels))})
	}
	c.print(t)
}

func envShowCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:               "show NAME",
		Short:             "Show one environment with its agents",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeEnvironments),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args...)
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			e, err := publisher.Environment(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.show(e, func() { c.oneStatus(e) })
		},
	}
}

func envRetireCommand(c *cli) *cobra.Command {
	var w writing
	var yes bool
	var reason string
	cmd := &cobra.Command{
		Use:               "retire NAME -m WHY",
		Short:             "End an environment: nothing is released to it any more, and its name is never used again",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeEnvironments),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args...)
			return c.ending(cmd, w, yes, reason, "retire "+args[0]+" for ever?", ledger.RetireEnvironment{Name: args[0], Reason: reason}, "retired "+args[0])
		},
	}
	registerEnding(cmd, &w, &yes, &reason)
	return cmd
}

func envRevokeCommand(c *cli) *cobra.Command {
	var w writing
	var yes bool
	var reason string
	cmd := &cobra.Command{
		Use:               "revoke NAME AGENT -m WHY",
		Short:             "Take an agent's key away",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completeEnvironmentThenAgent,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args[0])
			return c.ending(cmd, w, yes, reason, "revoke the key of "+args[1]+" in "+args[0]+"?",
				ledger.RevokeAgent{Environment: args[0], Agent: args[1], Reason: reason}, "revoked "+args[1]+" in "+args[0])
		},
	}
	registerEnding(cmd, &w, &yes, &reason)
	return cmd
}

func registerEnding(cmd *cobra.Command, w *writing, yes *bool, reason *string) {
	cmd.Flags().StringVarP(reason, "message", "m", "", "say `WHY`")
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
	w.register(cmd)
}

// ending does what cannot be taken back, once it was confirmed.
func (c *cli) ending(cmd *cobra.Command, w writing, yes bool, reason, question string, body ledger.Body, done string) error {
	if reason == "" {
		return console.Usage(cmd, "say why with -m")
	}
	if !w.dryRun {
		if err := c.confirm(cmd, yes, question); err != nil {
			return err
		}
	}
	out, err := c.do(cmd.Context(), w, body)
	if err != nil {
		return err
	}
	return c.show(out, func() { c.done(w, "%s", done) })
}
