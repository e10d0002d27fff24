package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

func schemaCommand(c *cli) *cobra.Command {
	var into string
	kinds := append([]string{registry.AnyKind}, registry.Kinds...)
	cmd := &cobra.Command{
		Use:   "schema [KIND] [--into DIR]",
		Short: "Write the JSON Schema of manifests, which editors complete and check with",
		Long: `Write the JSON Schema (2020-12) of manifests of a kind, or of all kinds in one, to standard output. With --into, write it as KIND.json
into a directory, and without KIND those of every kind; manifest.json is for files of any kind.

Editors that use the YAML language server find it by the first line of a file:

  # yaml-language-server: $schema=../.schemas/manifest.json

A directory whose name begins with a dot is not read as manifests.`,
		Example: `  publisher schema flag
  publisher schema --into environments/.schemas`,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: kinds,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := notEmpty(cmd, "into"); err != nil {
				return err
			}
			if len(args) > 0 {
				kinds = []string{strings.ToLower(args[0])} // manifests write them with a capital
			}
			schema, err := registry.Schema(kinds[0])
			if err != nil {
				return console.Usage(cmd, "%v", err)
			}
			if into == "" {
				_, err = c.stdout.Write(schema)
				return err
			}
			for _, kind := range kinds {
				if err := writeSchema(into, kind); err != nil {
					return err
				}
			}
			c.note("wrote %s into %s; point editors there with '# yaml-language-server: $schema=…/%s.json' as the first line of a file", plural(len(kinds), "schema", "schemas"), into, kinds[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&into, "into", "", "write files into `DIR`")
	_ = cmd.MarkFlagDirname("into") // the flag is there
	return cmd
}

// writeSchema writes the schema of a kind into a directory, over one that is there.
func writeSchema(into, kind string) error {
	schema, err := registry.Schema(kind)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(into, kind+".json"), schema, 0o644)
}
