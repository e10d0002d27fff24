package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/internal/secretscan"
)

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// loadDirectory reads the manifest files of a directory, and nothing outside it.
func loadDirectory(path string) ([]registry.File, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return nil, console.Exit(console.ExitFailure, fmt.Sprintf("%s is no directory; name the one that holds all manifests with -f", path))
	}
	root, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, console.Exit(console.ExitFailure, fmt.Sprintf("there is no directory %s; name another with -f", path))
	}
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	defer root.Close()
	files, err := registry.Load(root.FS(), path)
	if err != nil {
		return nil, &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
	}
	return files, nil
}

// readDirectory reads the manifests of a directory.
func readDirectory(path string) (*registry.Sources, error) {
	files, err := loadDirectory(path)
	if err != nil {
		return nil, err
	}
	return (&ledger.Directory{Files: files}).Sources()
}

// toSend reads the manifests of a directory into what goes to the publisher: what looks like a secret must not even leave this machine.
func toSend(d *ledger.Directory, path string) (err error) {
	if d.Files, err = loadDirectory(path); err != nil {
		return err
	}
	s, err := d.Sources()
	if err != nil {
		return err
	}
	return noSecrets(s)
}

// noSecrets refuses manifests that hold what looks like a secret.
func noSecrets(s *registry.Sources) error {
	found := secretscan.Sources(s)
	if len(found) == 0 {
		return nil
	}
	more := ""
	if len(found) > 1 {
		more = fmt.Sprintf("; and %d more (all of them: 'publisher check -f DIR')", len(found)-1)
	}
	return &ledger.Error{Kind: ledger.KindInvalid, Message: found[0].Place.String() + ": " + found[0].String() + more, Next: secretscan.Remedy}
}

// fromDirectory registers -f for a verb that takes nothing but a directory.
func fromDirectory(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "file", "f", "", "directory of manifests, `DIR`")
	_ = cmd.MarkFlagDirname("file") // the flag is there
}

// named demands a flag that was not given.
func named(cmd *cobra.Command, name, value, as string) error {
	if value == "" {
		return console.Usage(cmd, "say which with %s", as)
	}
	return nil
}

// remarks says what people should know beside what they asked for.
func (c *cli) remarks(list []string) {
	for _, note := range list {
		c.note("note: %s", plain(note))
	}
}

// target is an environment that manifests declare.
func target(s *registry.Sources, name string) (registry.Target, error) {
	var names []string
	for _, t := range s.Targets() {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	next := "write a manifest of kind Environment for it"
	if len(names) > 0 {
		next = "it declares " + strings.Join(names, ", ")
	}
	return registry.Target{}, &ledger.Error{Kind: ledger.KindNotFound, Message: "the directory declares no environment " + name, Next: next}
}
