// Package example is a directory of manifests to start from: an order desk on a low-code platform, in five environments.
//
// It is what 'publisher init' writes, what the demo runs, and what the manual shows. Tests hold that it is clean.
package example

import (
	"embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

//go:embed all:files
var files embed.FS

// schema is where the example's files say that their schema is.
const schema = ".schemas/" + registry.AnyKind + ".json"

// Files are the example's files, without the schema.
func Files() fs.FS {
	below, err := fs.Sub(files, "files")
	if err != nil {
		panic(err) // the path is a constant, and valid
	}
	return below
}

// Write writes the example and its schema into a directory, and says how many files those are. Where one of them is there already it
// writes nothing: the error is fs.ErrExist then, and names it.
func Write(dir string) (int, error) {
	names := []string{schema}
	err := fs.WalkDir(Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return 0, &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	text, err := registry.Schema(registry.AnyKind)
	if err != nil {
		return 0, err
	}
	if err := os.CopyFS(dir, Files()); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(schema)), 0o755); err != nil {
		return 0, err
	}
	return len(names), os.WriteFile(filepath.Join(dir, schema), text, 0o644)
}
