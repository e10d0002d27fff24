package main

import (
	"cmp"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

func runCommand(c *cli) *cobra.Command {
	var overwrite, step bool
	var maxStaleness time.Duration
	var logFormat, logLevel string
	cmd := &cobra.Command{
		Use:   "run --enrolment FILE",
		Short: "Run the agent until it is told to stop",
		Long: `Run the agent. What a crash left is resolved first, with or without the bus. An interrupt, SIGTERM or SIGHUP lets an apply under
way finish. Logs go to standard error.`,
		Example: "  agent run --enrolment a1.enrolment --config agent.yaml",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			log, err := telemetry.NewLogger(c.stderr, logFormat, logLevel)
			if err != nil {
				return console.Usage(cmd, "%v", err)
			}
			if cmd.Flags().Changed("max-staleness") && maxStaleness <= 0 {
				return console.Usage(cmd, "--max-staleness is %s: name a time above nothing, as in 2m", maxStaleness)
			}
			f, e, err := c.files(cmd)
			if err != nil {
				return err
			}
			router, closer, err := f.Open(e)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closer.Close()) }()
			o := f.Options(e, router)
			o.Log, o.Version = log, telemetry.Version()
			o.Overwrite, o.Step = o.Overwrite || overwrite, o.Step || step
			o.MaxStale = cmp.Or(maxStaleness, o.MaxStale)
			a, err := agent.New(o)
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	c.needEnrolment(cmd)
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "at first contact, overwrite values that differ; they are backed up in the state directory")
	cmd.Flags().BoolVar(&step, "step", false, "apply every revision by itself")
	cmd.Flags().DurationVar(&maxStaleness, "max-staleness", 0, "not ready when stale for longer than this `TIME` (default: maxStaleness of the agent's file)")
	cmd.Flags().StringVar(&logFormat, "log-format", "text", "`FORMAT` of the log: text or json")
	cmd.Flags().StringVar(&logLevel, "log-level", "info", "lowest `LEVEL` that is logged: debug, info, warn or error")
	_ = cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions(telemetry.LogFormats, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return cmd
}
