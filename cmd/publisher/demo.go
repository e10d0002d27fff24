package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/demo"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

func demoCommand(c *cli) *cobra.Command {
	o := demo.Options{Out: c.stdout, Command: started(os.Args[0])}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run everything on this machine, and show one change on its way",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Log, err = telemetry.NewLogger(c.stderr, "text", "warn"); err != nil {
				return err
			}
			tracer, stop, err := spans(cmd.Context(), o.Log)
			if err != nil {
				return err
			}
			defer stop()
			o.Tracer = tracer
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Once, "once", false, "end when everything has arrived everywhere")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "`DIRECTORY` where data is kept (default: a temporary directory that is removed)")
	return cmd
}

// started is how the person started this program, for the commands that the demo shows.
func started(program string) string {
	if strings.Contains(program, "go-build") {
		return "go run ./cmd/publisher" // its binary is gone when it ends
	}
	return program
}
