package main

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

func versionCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		RunE: func(*cobra.Command, []string) error {
			about := map[string]string{"version": telemetry.Version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return c.show(about, func() { c.line("agent %s (%s, %s)", about["version"], about["go"], about["platform"]) })
		},
	}
}
