package main

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/example"
)

func initCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Write a small, good directory of manifests to start from",
		Long: `Write a directory of manifests to start from: an order desk on a low-code platform, in five environments, with a base and a production
template, flags, variables, endpoints, a connection, secret references, a document, policies with their cases, a workflow for CI, and the schemas for editors.
A file that is there already is never overwritten: nothing is written then.`,
		Example: `  publisher init order-desk
  publisher check -f order-desk`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := example.Write(args[0])
			if there, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(err, fs.ErrExist) {
				return console.Exit(console.ExitFailure, there.Path+" is there already, and nothing was written; name an empty directory, or one that is not there")
			}
			if err != nil {
				return err
			}
			c.note("wrote %d files into %s; read %s, and look at them with 'publisher check -f %s'", n, args[0], filepath.Join(args[0], "README.md"), args[0])
			return nil
		},
	}
}
