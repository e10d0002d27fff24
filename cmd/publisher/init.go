package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/example"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

func initCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Write a small, good directory of manifests to start from",
		Long: `Write a directory of manifests to start from: an order desk on a low-code platform, in five environments, with a base and a production
template, flags, variables, endpoints, a connection, secret references, a document, a workflow for CI, and the schemas for editors.
A file that is there already is never overwritten: nothing is written then.`,
		Example: `  publisher init order-desk
  publisher check -f order-desk`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := writeExample(args[0])
			if err != nil {
				return err
			}
			c.note("wrote %d files into %s; read %s, and look at them with 'publisher check -f %s'", n, args[0], filepath.Join(args[0], "README.md"), args[0])
			return nil
		},
	}
}

// writeExample writes the example into a directory in which none of its files is, and says how many those are.
func writeExample(dir string) (int, error) {
	var names []string
	err := fs.WalkDir(example.Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		names = append(names, name)
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				return &exitError{exitFailure, fmt.Sprintf("%s is there already, and nothing was written; name an empty directory, or one that is not there", path)}
			}
			return err
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := os.CopyFS(dir, example.Files()); err != nil {
		return 0, err
	}
	return len(names) + 1, writeSchema(filepath.Join(dir, ".schemas"), registry.AnyKind)
}
