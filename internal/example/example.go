// Package example is a directory of manifests to start from: an order desk on a low-code platform, in five environments.
//
// It is what 'publisher init' writes, what the demo runs, and what the manual shows. Tests hold that it is clean.
package example

import (
	"embed"
	"io/fs"
)

//go:embed all:files
var files embed.FS

// Files are the example's files.
func Files() fs.FS {
	below, err := fs.Sub(files, "files")
	if err != nil {
		panic(err) // the path is a constant, and valid
	}
	return below
}
