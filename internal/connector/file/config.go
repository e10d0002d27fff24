// Package file is the connector for configuration files: JSON, YAML, TOML and dotenv below one directory.
//
// Guarantees: a file changes by an atomic replacement that is fsynced with its directory and keeps mode and owner (not hard links and
// access lists); several files are all staged before the first is replaced; nothing outside the root is read or written, and a symlink
// below it is refused. Where a file is owned by keys, only the keys that are wanted or deleted change: JSON, YAML and dotenv files keep
// every other byte, comments and order included, and each new text is read back and compared before it is written. TOML files are
// rendered anew: their other values stay, their comments and order do not.
//
// A file that cannot be parsed is never overwritten. The connector locks its root: a second agent is refused by name.
package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/program"
	"github.com/lockstep-dev/lockstep/internal/fault"
)

// Config is the configuration of one file connector, under the key "file" in the agent's file.
type Config struct {
	Root   string  `yaml:"root"`   // directory; relative to the agent's file; must exist
	Files  []File  `yaml:"files"`  // at least one
	Mode   string  `yaml:"mode"`   // octal mode of files it creates; default "0640"
	Reload *Reload `yaml:"reload"` // what to do after files changed; default nothing

	Fault fault.Hook `yaml:"-" json:"-"` // told of every durable step; for tests
}

// File is one file and the resources it holds.
type File struct {
	Path      string           `yaml:"path"`      // below the root, with forward slashes; its directory must exist
	Format    string           `yaml:"format"`    // json, yaml, toml or dotenv; default by the path's extension
	Resources []connector.Glob `yaml:"resources"` // at least one; no two files may take the same resource
	Own       string           `yaml:"own"`       // keys (default): leave what is not ours; file: remove everything else, below at
	At        string           `yaml:"at"`        // JSON pointer to the mapping that holds the resources; default the top
	Key       string           `yaml:"key"`       // name (default): the resource's name as it is; upper-snake: LOG_LEVEL for log-level
}

// Reload tells the application that its files changed: a command, or a signal.
type Reload struct {
	Command []string      `yaml:"command"` // program and arguments, never a shell; runs in the directory of the agent's file
	Timeout time.Duration `yaml:"timeout"` // of the command; default 10s
	Env     []string      `yaml:"env"`     // names of environment variables passed to it besides the usual ones
	Signal  string        `yaml:"signal"`  // HUP, USR1 or USR2
	PIDFile string        `yaml:"pidFile"` // below the root; holds the process to signal
}

const (
	ownKeys    = "keys"
	ownFile    = "file"
	keyName    = "name"
	upperSnake = "upper-snake"

	defaultMode   = fs.FileMode(0o640)
	defaultReload = 10 * time.Second

	// ownPrefix begins the names of the connector's own files, in the root.
	ownPrefix = ".lockstep."
)

// Validate names the field that cannot work.
func (c Config) Validate() error {
	if c.Root == "" {
		return errors.New("root: is missing: name the directory that holds the files")
	}
	if _, err := c.mode(); err != nil {
		return err
	}
	if len(c.Files) == 0 {
		return errors.New("files: is empty: name at least one file")
	}
	for i, f := range c.Files {
		if err := f.validate(); err != nil {
			return fmt.Errorf("files[%d]: %w", i, err)
		}
		for j, other := range c.Files[:i] {
			if f.Path == other.Path {
				return fmt.Errorf("files[%d]: path: %s is files[%d] already", i, f.Path, j)
			}
			if a, b, both := overlap(f.Resources, other.Resources); both {
				return fmt.Errorf("files[%d]: resources: %s and %s (files[%d]) take the same resources", i, a, b, j)
			}
		}
	}
	if c.Reload == nil {
		return nil
	}
	if err := c.Reload.validate(); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

// Resources are all globs of the files, for the connector's route.
func (c Config) Resources() []connector.Glob {
	var all []connector.Glob
	for _, f := range c.Files {
		all = append(all, f.Resources...)
	}
	return all
}

// Directory is the root's path for an agent's file in dir.
func (c Config) Directory(dir string) string {
	if filepath.IsAbs(c.Root) {
		return filepath.Clean(c.Root)
	}
	return filepath.Join(dir, c.Root)
}

// Look says which directory is missing that must be there: the root, or that of a file. It opens and locks nothing.
func (c Config) Look(dir string) error {
	root := c.Directory(dir)
	if err := isDirectory(root); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	for i, f := range c.Files {
		if err := isDirectory(filepath.Join(root, path.Dir(f.Path))); err != nil {
			return fmt.Errorf("files[%d]: path: %w", i, err)
		}
	}
	return nil
}

func isDirectory(name string) error {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the directory %s is not there: make it, or name another", name)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no directory: name the one that holds the files", name)
	}
	return nil
}

func (c Config) mode() (fs.FileMode, error) {
	if c.Mode == "" {
		return defaultMode, nil
	}
	m, err := strconv.ParseUint(c.Mode, 8, 32)
	if err != nil || m > 0o777 || m&0o600 != 0o600 {
		return 0, fmt.Errorf("mode: %q is not an octal mode from 0600 to 0777 that lets the owner read and write", c.Mode)
	}
	return fs.FileMode(m), nil
}

func (f File) validate() error {
	if err := checkPath(f.Path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	kind, err := f.format()
	if err != nil {
		return err
	}
	if len(f.Resources) == 0 {
		return errors.New("resources: is empty: name the resources that the file holds, such as flag/*")
	}
	for _, g := range f.Resources {
		if err := g.Validate(); err != nil {
			return err
		}
	}
	pointer, err := f.pointer()
	if err != nil {
		return err
	}
	if kind == dotenv && len(pointer) > 0 {
		return errors.New("at: a dotenv file has only a top")
	}
	if f.Own != "" && f.Own != ownKeys && f.Own != ownFile {
		return fmt.Errorf("own: %q is neither %s nor %s", f.Own, ownKeys, ownFile)
	}
	if f.Key != "" && f.Key != keyName && f.Key != upperSnake {
		return fmt.Errorf("key: %q is neither %s nor %s", f.Key, keyName, upperSnake)
	}
	return nil
}

// checkPath says whether p is a path that stays below the root.
func checkPath(p string) error {
	switch {
	case p == "":
		return errors.New("is missing")
	case !filepath.IsLocal(p) || path.Clean(p) != p || p == ".":
		return fmt.Errorf("%q does not stay below the root: write it relative to the root, without . and .. in it", p)
	case strings.HasPrefix(path.Base(p), ownPrefix) || strings.HasSuffix(p, tempSuffix):
		return fmt.Errorf("%q is a name that the connector uses itself", p)
	}
	return nil
}

// format is the file's format, from its name where it is not said.
func (f File) format() (*format, error) {
	name := f.Format
	if name == "" {
		base := path.Base(f.Path)
		switch ext := path.Ext(base); {
		case ext == ".yml":
			name = "yaml"
		case ext == ".env", strings.HasPrefix(base, ".env."):
			name = "dotenv"
		default:
			name = strings.TrimPrefix(ext, ".")
		}
	}
	if known := formats[name]; known != nil {
		return known, nil
	}
	if f.Format == "" {
		return nil, fmt.Errorf("format: cannot be told from %q: write json, yaml, toml or dotenv", f.Path)
	}
	return nil, fmt.Errorf("format: %q is not json, yaml, toml or dotenv", f.Format)
}

// pointer is At as names (RFC 6901).
func (f File) pointer() ([]string, error) {
	if f.At == "" {
		return nil, nil
	}
	rest, ok := strings.CutPrefix(f.At, "/")
	if !ok {
		return nil, fmt.Errorf("at: %q is not a JSON pointer: begin it with /", f.At)
	}
	names := strings.Split(rest, "/")
	for i, name := range names {
		if name == "" {
			return nil, fmt.Errorf("at: %q has an empty name", f.At)
		}
		names[i] = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
	}
	return names, nil
}

func (r Reload) validate() error {
	switch {
	case (len(r.Command) > 0) == (r.Signal != ""):
		return errors.New("give either a command or a signal")
	case r.Signal == "" && r.PIDFile != "":
		return errors.New("pidFile: is for a signal, not for a command")
	case r.Signal == "":
		return r.program("").Validate()
	case signals[r.Signal] == 0:
		return fmt.Errorf("signal: %q is not HUP, USR1 or USR2", r.Signal)
	}
	if err := checkPath(r.PIDFile); err != nil {
		return fmt.Errorf("pidFile: %w", err)
	}
	return nil
}

func (r Reload) program(dir string) program.Program {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = defaultReload
	}
	return program.Program{Command: r.Command, Dir: dir, Env: r.Env, Timeout: timeout, Reason: connector.ReasonReloadFailed}
}

func overlap(a, b []connector.Glob) (x, y connector.Glob, both bool) {
	for _, x := range a {
		for _, y := range b {
			if x.Overlaps(y) {
				return x, y, true
			}
		}
	}
	return "", "", false
}
