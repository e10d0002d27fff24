package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/exchange"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func exportCommand(c *cli) *cobra.Command {
	var format, path, at string
	cmd := &cobra.Command{
		Use:   "export (ENV --format FORMAT [-f DIR] | [ENV...])",
		Short: "Write an environment's values as another tool's file, or a bundle of environments",
		Long: `Write what is released in an environment, or with -f what a directory of manifests comes to there, as another tool's file, to standard
output:

  flagd       a flagd file: the flags, and what document/flagd says beside them
  dotenv      the variables; a comment names those whose name or type a dotenv file cannot hold
  configmap   the variables as a Kubernetes ConfigMap; an annotation names those whose text is JSON
  tfvars      the variables for Terraform, each text on one line; references to secrets are left out
  json        everything, by resource

What a format has no place for is left out, and named on standard error. References to secrets stay references, in flat files as
secret+REF. 'publisher import' reads all of them but tfvars back as they were.

Without --format it is a bundle of the environments that are named, or of all: their manifests, what is released there, and the digests of
both, for 'publisher import' elsewhere.`,
		Example: `  publisher export > bundle.json
  publisher export prod-eu --format dotenv > prod-eu.env
  publisher export prod-eu --format flagd -f environments/ > flags.json
  publisher export prod-eu --format configmap | kubectl apply -f -`,
		ValidArgsFunction: c.completeEnvironmentThenResource,
		Args:              cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format == "" && path == "" && at == "" {
				return c.exportBundle(cmd, args)
			}
			if len(args) != 1 {
				return console.Usage(cmd, "name one environment, as in 'publisher export prod-eu --format dotenv'")
			}
			if err := oneOfFormats(cmd, "format", format, exchange.Exports); err != nil {
				return err
			}
			if err := notTogether(cmd, "file", "at"); err != nil {
				return err
			}
			values, err := c.valuesOf(cmd, args[0], path, at)
			if err != nil {
				return err
			}
			file, leftOut, err := exchange.Export(format, args[0], values)
			if err != nil {
				return &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
			}
			if _, err := c.stdout.Write(file); err != nil {
				return err
			}
			if len(leftOut) > 0 {
				c.note("left out, for %s has no place for them: %s", format, summary(format, leftOut))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "write `FORMAT`: "+strings.Join(exchange.Exports, ", "))
	cmd.Flags().StringVarP(&path, "file", "f", "", "what directory `DIR` of manifests comes to, without a publisher")
	cmd.Flags().StringVar(&at, "at", "", "`REVISION` or time")
	_ = cmd.MarkFlagDirname("file")                                                                                            // the flag is there
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(exchange.Exports, cobra.ShellCompDirectiveNoFileComp)) // so is this
	return cmd
}

// exportBundle writes a bundle of environments.
func (c *cli) exportBundle(cmd *cobra.Command, environments []string) error {
	publisher, _, err := c.connect()
	if err != nil {
		return err
	}
	c.name(environments...)
	bundle, err := publisher.Bundle(cmd.Context(), environments)
	if err != nil {
		return err
	}
	file, err := bundle.Encode()
	if err != nil {
		return err
	}
	if _, err := c.stdout.Write(file); err != nil {
		return err
	}
	c.note("%s with %s, as of entry %d of ledger %s", plural(len(bundle.Environments), "environment", "environments"), plural(len(bundle.Manifests), "manifest", "manifests"), bundle.Entry, bundle.Ledger)
	return nil
}

// summary names resources, those of a kind of which the format holds none by their number.
func summary(format string, keys []string) string {
	var named []string
	count := map[string]int{}
	for _, key := range keys {
		if exchange.Holds(format, key) {
			named = append(named, key)
			continue
		}
		kind, _, _ := strings.Cut(key, "/")
		count[kind]++
	}
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		named = append(named, fmt.Sprintf("%d of kind %s", count[kind], kind))
	}
	return strings.Join(named, ", ")
}

// oneOfFormats demands a flag that names a format.
func oneOfFormats(cmd *cobra.Command, flag, format string, formats []string) error {
	if !slices.Contains(formats, format) {
		return console.Usage(cmd, "say which format with --%s: %s", flag, strings.Join(formats, ", "))
	}
	return nil
}

// valuesOf are the values of an environment: those that a directory gives it, or those that are released.
func (c *cli) valuesOf(cmd *cobra.Command, environment, path, at string) (exchange.Values, error) {
	values := exchange.Values{}
	if path != "" {
		rendering, err := renderDirectory(path, environment)
		if err != nil {
			return nil, err
		}
		for _, r := range rendering.Resources {
			values[r.Key] = r.Value.JSON
		}
		return values, nil
	}
	place, err := parsePlace(at)
	if err != nil {
		return nil, console.Usage(cmd, "--at: %v", err)
	}
	publisher, _, err := c.connect()
	if err != nil {
		return nil, err
	}
	c.name(environment)
	list, err := publisher.Resources(cmd.Context(), environment, place)
	for _, r := range list {
		if !r.Deleted {
			values[r.Key] = r.Value
		}
	}
	return values, err
}
