package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

func renderCommand(c *cli) *cobra.Command {
	var path, environment string
	cmd := &cobra.Command{
		Use:   "render -f DIR --env NAME",
		Short: "Show what a directory of manifests comes to in an environment, without a publisher",
		Long: `Render the resources that a directory of manifests gives an environment: template chain, then default, then overrides. One resource is
a line, or with -o json and -o yaml a member of one object. The same manifests give the same bytes. Quick edits, which are in the ledger,
are not among them; 'publisher get' shows what is released.`,
		Example: `  publisher render -f environments/ --env prod-eu
  publisher render -f environments/ --env prod-eu -o yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := named(cmd, "file", path, "-f DIR"); err != nil {
				return err
			}
			if err := named(cmd, "env", environment, "--env NAME"); err != nil {
				return err
			}
			rendering, err := renderDirectory(path, environment)
			if err != nil {
				return err
			}
			values := map[string]json.RawMessage{}
			for _, r := range rendering.Resources {
				values[r.Key] = r.Value.JSON
			}
			return c.show(values, func() {
				t := c.newTable("RESOURCE", "VALUE")
				for _, r := range rendering.Resources {
					t.AppendRow([]any{r.Key, value(r.Value.JSON)})
				}
				c.print(t)
			})
		},
	}
	fromDirectory(cmd, &path)
	cmd.Flags().StringVar(&environment, "env", "", "environment `NAME`, which the directory declares")
	return cmd
}

// renderDirectory renders an environment that a directory declares.
func renderDirectory(path, environment string) (*registry.Rendering, error) {
	s, err := readDirectory(path)
	if err != nil {
		return nil, err
	}
	t, err := target(s, environment)
	if err != nil {
		return nil, err
	}
	rendering, err := registry.NewRenderer().Render(s, t)
	if err != nil {
		return nil, &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
	}
	return rendering, nil
}
