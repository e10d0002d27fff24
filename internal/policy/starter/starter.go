// Package starter is a pack of policies to start from, each with a table of cases.
//
// It is what 'publisher policy starter' writes. A test holds that every policy is read, and that every case is as it says.
package starter

import (
	"embed"
	"io/fs"
)

//go:embed files
var files embed.FS

// Files are the policies and their tables.
func Files() fs.FS {
	below, err := fs.Sub(files, "files")
	if err != nil {
		panic(err) // the path is a constant, and valid
	}
	return below
}
