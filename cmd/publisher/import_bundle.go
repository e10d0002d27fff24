package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/exchange"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

// importBundle takes a bundle over: as a directory, or as a report of what is different here.
func (c *cli) importBundle(cmd *cobra.Command, i importing, path string) error {
	name, data, err := c.readImport(path)
	if err != nil {
		return err
	}
	bundle, err := exchange.ReadBundle(data)
	if err != nil {
		return invalid(fmt.Errorf("%s: %w", name, err))
	}
	environments := bundle.Names()
	if i.environment != "" {
		if environments = []string{i.environment}; !slices.Contains(bundle.Names(), i.environment) {
			return &ledger.Error{Kind: ledger.KindNotFound, Message: "the bundle has no environment " + i.environment, Next: "it has " + strings.Join(bundle.Names(), ", ")}
		}
	}
	for _, name := range environments {
		e, _ := bundle.Environment(name)
		if err := c.noSecretValues(&registry.Sources{}, e.Values, false); err != nil {
			return err
		}
	}
	if i.dryRun {
		return c.compareBundle(cmd, bundle, environments)
	}
	return c.unpack(i.into, bundle, environments)
}

func invalid(err error) error {
	return &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
}

// unpack writes a bundle's manifests into a directory that has none.
func (c *cli) unpack(into string, bundle *exchange.Bundle, environments []string) error {
	files, err := bundle.Directory(environments)
	if err != nil {
		return invalid(err)
	}
	s, err := (&ledger.Directory{Files: files}).Sources()
	if err == nil {
		err = noSecrets(s)
	}
	if err != nil {
		return err
	}
	if there, err := os.ReadDir(into); err == nil && len(there) > 0 {
		return console.Exit(console.ExitFailure, into+" is not empty, and nothing was written; name an empty directory, or one that is not there")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(into, f.Name), []byte(f.Text), 0o644); err != nil {
			return err
		}
	}
	for _, name := range environments {
		behind, err := bundle.Behind(files, name)
		if err != nil {
			c.note("%s cannot be rendered as it is: %v", name, plain(err.Error()))
		} else if len(behind) > 0 {
			c.note("quick edits stay behind: write %s into the manifests where %s shall have them", strings.Join(behind, ", "), name)
		}
	}
	c.note("wrote %s for %s into %s; see 'publisher check -f %s' and 'publisher diff -f %s'", plural(len(s.Manifests()), "manifest", "manifests"), strings.Join(environments, ", "), into, into, into)
	return nil
}

// An environmentImport is how an environment of a bundle compares with the one of that name here.
type environmentImport struct {
	Environment string     `json:"environment"`
	Missing     bool       `json:"missing,omitempty"` // there is none here
	Resources   []imported `json:"resources"`
	Only        []string   `json:"only,omitempty"` // resources that are released here alone
}

// compareBundle says what of a bundle is new, the same, and released here with another value.
func (c *cli) compareBundle(cmd *cobra.Command, bundle *exchange.Bundle, environments []string) error {
	known := c.environmentNames(cmd.Context())
	var out []environmentImport
	var said []string
	for _, name := range environments {
		e, _ := bundle.Environment(name)
		report := environmentImport{Environment: name, Missing: !slices.Contains(known, name)}
		released := exchange.Values{}
		if !report.Missing {
			var err error
			if released, err = c.valuesOf(cmd, name, "", ""); err != nil {
				return err
			}
		}
		list, count := compared(released, e.Values)
		report.Resources = list
		for _, key := range slices.Sorted(maps.Keys(released)) {
			if e.Values[key] == nil {
				report.Only = append(report.Only, key)
			}
		}
		out = append(out, report)
		line := fmt.Sprintf("%s: %d new, %d the same, %s, %d only here", name, count["new"], count["same"], plural(count["conflict"], "conflict", "conflicts"), len(report.Only))
		if report.Missing {
			line += fmt.Sprintf("; there is no such environment here: add it with 'publisher env add %s%s'", name, labelFlags(e.Labels))
		}
		said = append(said, line)
	}
	return c.show(out, func() {
		for _, report := range out {
			if slices.ContainsFunc(report.Resources, func(one imported) bool { return one.Result != "same" }) {
				c.line("%s", report.Environment)
				c.showImported(report.Resources)
			}
		}
		for _, line := range said {
			c.note("%s", plain(line))
		}
		c.note("nothing was written")
	})
}

// labelFlags are labels as the command line takes them.
func labelFlags(labels map[string]string) string {
	out := ""
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		out += " --label " + name + "=" + labels[name]
	}
	return out
}
