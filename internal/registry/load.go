package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ErrNoManifests: a directory holds no file of manifests.
var ErrNoManifests = errors.New("there are no manifests there, no *.yaml, *.yml or *.json file: name another directory, or begin one with 'publisher init'")

// Load reads the manifest files of a directory: *.yaml, *.yml and *.json, at any depth, but nothing whose name begins with a dot, and
// no tables of cases. A
// symbolic link is read where it leads to a file of the directory, and refused where it leads elsewhere. Names get the prefix, so
// that messages name files as the reader does.
func Load(fsys fs.FS, prefix string) ([]File, error) {
	var files []File
	total := int64(0)
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir() || !isManifest(name) && entry.Type()&fs.ModeSymlink == 0:
			return nil
		}
		shown := path.Join(prefix, name)
		info, err := fs.Stat(fsys, name) // follows a link
		switch {
		case entry.Type()&fs.ModeSymlink != 0 && err != nil:
			return fmt.Errorf("%s: the symbolic link leaves the directory or leads nowhere; put the file itself there", shown)
		case err != nil:
			return err
		case info.IsDir():
			return fmt.Errorf("%s: a symbolic link to a directory is not followed; put the files themselves there", shown)
		case !isManifest(name):
			return nil
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s: this is no regular file", shown)
		case info.Size() > MaxFile:
			return fmt.Errorf("%s: the file has %d bytes; at most %d are read: split it", shown, info.Size(), MaxFile)
		case len(files) == MaxFiles:
			return fmt.Errorf("there are more than %d manifest files: put several manifests into one file, with --- between them", MaxFiles)
		}
		if total += info.Size(); total > MaxTotal {
			return fmt.Errorf("%s: up to here the manifests have more than %d bytes together: split the directory", shown, MaxTotal)
		}
		text, err := fs.ReadFile(fsys, name)
		files = append(files, File{shown, string(text)})
		return err
	})
	if err == nil && len(files) == 0 {
		err = ErrNoManifests
	}
	return files, err
}

func isManifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(path.Ext(name))) && !IsTest(name)
}

// IsTest says whether a file holds cases that test policies, and no manifests.
func IsTest(name string) bool { return strings.HasSuffix(name, "_test.yaml") }
