package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func explainCommand(c *cli) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "explain ENV RESOURCE[.PATH]",
		Short: "Say where every value of a resource comes from: file, line, layer, change, and why",
		Long: `Say of every value of a released resource in an environment which file and line it comes from, through which layer (a template, the
default, an override, a quick edit), and which change set it last there: whose, and why. A path, with dots, asks for a part of it.

With -f DIR the directory is explained as it stands, without a publisher.`,
		Example: `  publisher explain prod-eu variable/log-level
  publisher explain prod-eu document/theme.colors.primary
  publisher explain prod-eu flag/checkout-redesign -f environments/`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completeEnvironmentThenResource,
		RunE: func(cmd *cobra.Command, args []string) error {
			find := c.explained(cmd.Context(), args[0])
			if path != "" {
				find = explainDirectory(path, args[0])
			}
			out, err := explainPath(find, args[1])
			if events.CheckKey(args[1]) != nil && err != nil {
				return console.Usage(cmd, "%v", events.CheckKey(args[1]))
			}
			if err != nil {
				return err
			}
			return c.show(out, func() { c.showExplanation(out) })
		},
	}
	fromDirectory(cmd, &path)
	return cmd
}

// explained asks the publisher.
func (c *cli) explained(ctx context.Context, environment string) func(key string) (api.Explanation, error) {
	c.name(environment)
	return func(key string) (api.Explanation, error) {
		publisher, _, err := c.connect()
		if err != nil {
			return api.Explanation{}, err
		}
		return publisher.Explain(ctx, environment, key)
	}
}

// explainDirectory renders a directory.
func explainDirectory(path, environment string) func(key string) (api.Explanation, error) {
	return func(key string) (api.Explanation, error) {
		out := api.Explanation{Environment: environment, Resource: key}
		rendering, err := renderDirectory(path, environment)
		if err != nil {
			return out, err
		}
		r, found := rendering.Get(key)
		if !found {
			return out, &ledger.Error{Kind: ledger.KindNotFound, Message: "the directory gives " + environment + " no resource " + key, Next: "list them with 'publisher render'"}
		}
		out.Value = r.Value.JSON
		for _, o := range r.Origins() {
			out.Origins = append(out.Origins, api.Origin{Origin: o})
		}
		return out, nil
	}
}

// explainPath explains what a resource, or with dots behind it a part of one, is named by: the longest name that is one.
func explainPath(find func(key string) (api.Explanation, error), name string) (api.Explanation, error) {
	out, first := find(name)
	for key, err := name, first; ; {
		if err == nil {
			return part(out, strings.TrimPrefix(name[len(key):], "."))
		}
		dot := strings.LastIndexByte(key, '.')
		if ledger.KindOf(err) != ledger.KindNotFound || dot < strings.IndexByte(key, '/') || dot < 0 {
			return out, first
		}
		key = key[:dot]
		out, err = find(key)
	}
}

// part leaves the origins at a path with dots, and below it.
func part(out api.Explanation, path string) (api.Explanation, error) {
	if path == "" {
		return out, nil
	}
	pointer := "/" + strings.ReplaceAll(path, ".", "/")
	out.Origins = slices.DeleteFunc(out.Origins, func(o api.Origin) bool { return o.Path != pointer && !strings.HasPrefix(o.Path, pointer+"/") })
	if len(out.Origins) == 0 {
		return out, &ledger.Error{Kind: ledger.KindNotFound, Message: fmt.Sprintf("%s in %s has no %s", out.Resource, out.Environment, path), Next: "leave the path out to see all of it"}
	}
	return out, nil
}

func (c *cli) showExplanation(out api.Explanation) {
	t := c.newTable("PATH", "VALUE", "FROM", "WHERE", "CHANGE", "BY", "SET", "WHY")
	for _, o := range out.Origins {
		where := "-"
		switch {
		case o.File != "":
			where = fmt.Sprintf("%s:%d", o.File, o.Line)
		case o.Change != "":
			where = "change " + o.Change
		}
		t.AppendRow([]any{dash(dotted(o.Path)), value(o.Value), layer(o), plain(where), dash(o.Change), dash(plain(o.By)), ago(o.At), dash(cell(o.Reason))})
	}
	c.print(t)
	if out.Note != "" {
		c.note("%s", out.Note)
	}
}

// layer is the layer of a value as people call it.
func layer(o api.Origin) string {
	if o.Layer == registry.OverrideDocument {
		return "quick edit"
	}
	return o.Layer
}
