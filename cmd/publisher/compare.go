package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

func envCompareCommand(c *cli) *cobra.Command {
	var path string
	var differences bool
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Show what differs between two environments, and where each value comes from",
		Long: `Show every value that is released in one of two environments and is not, or is another, in the other one, and through which layer,
file and line it came there. With -f DIR a directory is compared as it stands, without a publisher.`,
		Example: `  publisher env compare staging prod-eu
  publisher env compare staging prod-eu -f environments/`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completeTwoEnvironments,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args...)
			compare := c.compareReleased
			if path != "" {
				compare = func(_ context.Context, a, b string) (api.Comparison, error) { return compareDirectory(path, a, b) }
			}
			out, err := compare(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if err := c.show(out, func() { c.showComparison(out) }); err != nil {
				return err
			}
			if differences && len(out.Resources) > 0 {
				return console.Exit(console.ExitDifference, "")
			}
			return nil
		},
	}
	fromDirectory(cmd, &path)
	cmd.Flags().BoolVar(&differences, "exit-code", false, "exit 3 when something differs")
	return cmd
}

func (c *cli) compareReleased(ctx context.Context, a, b string) (api.Comparison, error) {
	publisher, _, err := c.connect()
	if err != nil {
		return api.Comparison{}, err
	}
	return publisher.Compare(ctx, a, b)
}

// compareDirectory renders two environments that a directory declares.
func compareDirectory(path, a, b string) (api.Comparison, error) {
	out := api.Comparison{A: a, B: b, Resources: []api.Compared{}}
	left, err := renderDirectory(path, a)
	if err != nil {
		return out, err
	}
	right, err := renderDirectory(path, b)
	if err != nil {
		return out, err
	}
	for _, r := range left.Resources {
		var others []registry.Origin
		if other, both := right.Get(r.Key); both {
			others = other.Origins()
		}
		out.Add(r.Key, r.Origins(), others, untold)
	}
	for _, r := range right.Resources {
		if _, both := left.Get(r.Key); !both {
			out.Add(r.Key, nil, r.Origins(), untold)
		}
	}
	slices.SortFunc(out.Resources, func(a, b api.Compared) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// untold is an origin in a directory, which no change has set.
func untold(o registry.Origin) api.Origin { return api.Origin{Origin: o} }

func (c *cli) showComparison(out api.Comparison) {
	if len(out.Resources) > 0 {
		t := c.newTable("RESOURCE", "PATH", out.A, "FROM", out.B, "FROM")
		for _, r := range out.Resources {
			for _, p := range r.Paths {
				t.AppendRow([]any{r.Key, dash(dotted(p.Path)), valueOf(p.A), from(p.A), valueOf(p.B), from(p.B)})
			}
		}
		c.print(t)
	}
	c.note("%s and %s differ in %s; %s the same", out.A, out.B, plural(len(out.Resources), "resource", "resources"), plural(out.Same, "is", "are"))
}

// dotted is a JSON pointer as people write paths.
func dotted(pointer string) string {
	return strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
}

func valueOf(o *api.Origin) string {
	if o == nil {
		return "-"
	}
	return value(o.Value)
}

// from is the layer and the place that a value comes from.
func from(o *api.Origin) string {
	switch {
	case o == nil:
		return "-"
	case o.File != "":
		return plain(fmt.Sprintf("%s, %s:%d", layer(*o), o.File, o.Line))
	case o.Change != "":
		return layer(*o) + ", " + o.Change
	}
	return layer(*o)
}
