package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/bench"
)

func benchCommand(c *cli) *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast changes propagate here, against the floor of this machine",
		Long: `Measure how fast changes propagate on this machine, and in the same run the floor: what any implementation would have to do, made of
bare parts. Product and floor alternate, round by round, and their medians are compared.

A whole run takes about twenty minutes; name some measures and fewer rounds for a quick look. Real agents do not share a disk:
give several of them a RAM disk with --agents-dir. A lone agent keeps its data on the disk of --dir.

Measures: ` + strings.Join(bench.Measures, ", "),
		Example: `  publisher bench --agents-dir /dev/shm
  publisher bench --measure propagation --agents 1,100 --rounds 5 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = c.note
			rows, err := bench.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return c.show(rows, func() { c.benchTable(rows) })
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Measures, "measure", nil, "measure `WHAT` (repeatable; default all)")
	f.IntSliceVar(&o.Agents, "agents", []int{1, 100, 1000}, "how many agents propagation is measured with, one after the other")
	f.IntVar(&o.Rounds, "rounds", 30, "rounds of each measure")
	f.IntVar(&o.Revisions, "revisions", 20_000, "revisions to catch up with, and to rebuild")
	f.StringVar(&o.Dir, "dir", "", "`DIRECTORY` where buses and a lone agent keep their data (default: the temporary directory)")
	f.StringVar(&o.AgentsDir, "agents-dir", "", "`DIRECTORY` where several agents keep theirs, as in /dev/shm (default: as --dir)")
	f.StringVar(&o.Agent, "agent", "", "`FILE` of the agent program, for idle-agent (default: beside this program)")
	f.DurationVar(&o.Idle, "idle", 0, "how long the idle agent is watched (default 30s)")
	cmd.AddCommand(&cobra.Command{
		Use: "part NAME WHERE...", Short: "Be a part of a measure, in a process of its own", Hidden: true, Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return bench.Part(cmd.Context(), args[0], args[1:], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	})
	complete(cmd, "measure", cobra.FixedCompletions(bench.Measures, noFiles))
	return cmd
}

func (c *cli) benchTable(rows []bench.Row) {
	t := c.newTable("MEASURE", "AGENTS", "P50", "P95", "P99", "MAX", "FLOOR P50", "RATIO", "GOAL", "MET")
	for _, r := range rows {
		value := milliseconds(r.P50)
		if r.Value != nil {
			value = number(*r.Value) + " " + r.Unit
		}
		ratio := "-"
		if r.Ratio > 0 {
			ratio = number(r.Ratio)
		}
		met := c.paint(green, "yes")
		if !r.Met {
			met = c.paint(red, "no")
		}
		t.AppendRow([]any{r.Measure, r.Agents, value, milliseconds(r.P95), milliseconds(r.P99), milliseconds(r.Max), milliseconds(r.Floor), ratio, r.Goal, met})
	}
	c.print(t)
}

func milliseconds(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", ms)
}

// number has as many digits as are measured.
func number(f float64) string { return strconv.FormatFloat(f, 'g', 3, 64) }
