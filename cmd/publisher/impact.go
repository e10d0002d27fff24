package main

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func impactCommand(c *cli) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "impact RESOURCE",
		Short: "Show what a change of a resource reaches: what depends on it, and in which environments it is what",
		Long: `Show which value a resource has in which environments, and what depends on it there: resources that require it or refer to it with $ref,
through others too, templates that set, demand or lock it, environments that override it, and policies that judge it.

With -f DIR a directory is looked at as it stands, without a publisher.`,
		Example: `  publisher impact endpoint/payments
  publisher impact secret/crm-token -f environments/`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeResources,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := events.CheckKey(args[0]); err != nil {
				return console.Usage(cmd, "%v", err)
			}
			impact := c.impactReleased
			if path != "" {
				impact = func(_ context.Context, key string) (registry.Impact, error) { return impactOfDirectory(path, key) }
			}
			out, err := impact(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.show(out, func() { c.showImpact(out) })
		},
	}
	fromDirectory(cmd, &path)
	return cmd
}

func (c *cli) impactReleased(ctx context.Context, key string) (registry.Impact, error) {
	publisher, _, err := c.connect()
	if err != nil {
		return registry.Impact{}, err
	}
	return publisher.Impact(ctx, key)
}

// impactOfDirectory renders every environment that a directory declares.
func impactOfDirectory(path, key string) (registry.Impact, error) {
	s, err := readDirectory(path)
	if err != nil {
		return registry.Impact{}, err
	}
	if _, there := s.Manifest(key); !there {
		return registry.Impact{}, &ledger.Error{Kind: ledger.KindNotFound, Message: "the directory has no manifest of " + key, Next: "list them with 'publisher render'"}
	}
	var sites []registry.Site
	renderer := registry.NewRenderer()
	for _, t := range s.Targets() {
		rendering, err := renderer.Render(s, t)
		if err != nil {
			return registry.Impact{}, &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
		}
		sites = append(sites, registry.Site{Target: t, Sources: s, Value: func(key string) json.RawMessage {
			if r, found := rendering.Get(key); found {
				return r.Value.JSON
			}
			return nil
		}})
	}
	return registry.ImpactOf(key, sites), nil
}

func (c *cli) showImpact(out registry.Impact) {
	t := c.newTable("ENVIRONMENTS", "VALUE")
	for _, v := range out.Values {
		t.AppendRow([]any{strings.Join(v.Environments, ", "), dash(value(v.Value))})
	}
	c.print(t)
	if len(out.Dependents) == 0 {
		c.note("nothing depends on %s", out.Resource)
		return
	}
	c.line("")
	t = c.newTable("DEPENDENT", "HOW", "WHERE", "ENVIRONMENTS")
	for _, d := range out.Dependents {
		how := d.How
		if d.Via != "" {
			how += ", through " + d.Via
		}
		where := "-"
		if d.File != "" {
			where = d.Place.String()
		}
		t.AppendRow([]any{d.Manifest, plain(how), plain(where), strings.Join(d.Environments, ", ")})
	}
	c.print(t)
}
