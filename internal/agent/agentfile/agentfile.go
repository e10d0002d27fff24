// Package agentfile reads an agent's file, agent.yaml: where it keeps its state, what it configures, and what it may do.
//
// Guarantees: it is read strictly, every error names file, line or field, and nothing is opened before all of it makes sense. Who
// the agent is stands elsewhere, in its enrolment (internal/keys): the file holds no secret.
package agentfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/build"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

// DefaultState is where the state is kept beside the file.
const DefaultState = "lockstep-agent"

// NoListen says that health and metrics are not served.
const NoListen = "none"

// What an agent does with values that it finds at first contact and that differ.
const (
	Refuse    = "refuse"
	Overwrite = "overwrite"
)

// A File is an agent's file.
type File struct {
	State          string         `yaml:"state" json:"state"`                   // directory, relative to the file; default lockstep-agent
	Listen         string         `yaml:"listen" json:"listen,omitempty"`       // loopback address of health and metrics, or none; default 127.0.0.1:0
	MaxStaleness   time.Duration  `yaml:"maxStaleness" json:"maxStaleness"`     // not ready when stale for longer; default 2m
	Step           bool           `yaml:"step" json:"step"`                     // apply every revision by itself; default false
	OnFirstContact string         `yaml:"onFirstContact" json:"onFirstContact"` // refuse (default) or overwrite
	Secrets        Secrets        `yaml:"secrets" json:"secrets"`               // what secret references may name; default nothing
	Connectors     []build.Config `yaml:"connectors" json:"-"`                  // what the agent configures; at least one

	path, dir string // of the file
}

// Secrets are what secret references may name.
type Secrets struct {
	Env   []string `yaml:"env" json:"env,omitempty"`     // environment variables; * stands for any characters, as in CRM_*
	Files []string `yaml:"files" json:"files,omitempty"` // directories, absolute
}

// Read reads and checks a file. It opens nothing that the file names.
func Read(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the agent's file %s: %w: go where it is, name it with --config, or write one", path, errors.Unwrap(err))
	}
	if err != nil {
		return nil, fmt.Errorf("the agent's file: %w", err)
	}
	f := &File{path: path}
	if err := config.Decode(path, text, f); err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("the agent's file: %w", err)
	}
	f.dir = filepath.Dir(absolute)
	f.State = cmp.Or(f.State, DefaultState)
	if !filepath.IsAbs(f.State) {
		f.State = filepath.Join(f.dir, f.State)
	}
	f.MaxStaleness = cmp.Or(f.MaxStaleness, 2*time.Minute)
	f.OnFirstContact = cmp.Or(f.OnFirstContact, Refuse)
	f.Listen = cmp.Or(f.Listen, "127.0.0.1:0")
	if err := f.check(); err != nil {
		return nil, f.wrong(err)
	}
	return f, nil
}

// KeepStateIn names another directory for the state, relative to the working directory.
func (f *File) KeepStateIn(dir string) error {
	f.State = dir // as it is said: the path of a socket in it must be short
	return f.wrong(f.checkState())
}

// Look says what the file's connectors configure and is not there. It opens nothing.
func (f *File) Look() error { return f.wrong(build.Look(f.Connectors, f.dir)) }

// wrong is an error about the file as a whole.
func (f *File) wrong(err error) error {
	if err == nil {
		return nil
	}
	return &config.Error{File: f.path, Line: 1, Column: 1, Message: err.Error()}
}

func (f *File) check() error {
	if !slices.Contains([]string{Refuse, Overwrite}, f.OnFirstContact) {
		return fmt.Errorf("onFirstContact: want %s or %s, have %q", Refuse, Overwrite, f.OnFirstContact)
	}
	if f.MaxStaleness < 0 {
		return fmt.Errorf("maxStaleness: %s is less than nothing", f.MaxStaleness)
	}
	if err := agent.Secrets(f.Secrets).Validate(); err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	if err := build.Validate(f.Connectors); err != nil {
		return err
	}
	return f.checkState()
}

// checkState keeps the agent's own state apart from what it configures.
func (f *File) checkState() error {
	state, err := filepath.Abs(f.State)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	for i, c := range f.Connectors {
		if c.File != nil && c.File.Directory(f.dir) == state {
			return fmt.Errorf("state: %s is the root of connectors[%d], %s: name a directory of its own", state, i, c.Name)
		}
	}
	return nil
}

// Open opens the connectors for the agent of an enrolment; the closer gives the instance free.
func (f *File) Open(e *keys.Enrolment) (*connector.Router, io.Closer, error) {
	return build.Open(f.Connectors, f.dir, e.Environment+"/"+e.Agent)
}

// Options are the options of the agent of an enrolment, as far as the file says them.
func (f *File) Options(e *keys.Enrolment, router *connector.Router) agent.Options {
	o := agent.Options{
		Enrolment: e, State: f.State, Router: router, Secrets: agent.Secrets(f.Secrets), Step: f.Step,
		Overwrite: f.OnFirstContact == Overwrite, Listen: f.Listen, MaxStale: f.MaxStaleness,
	}
	if o.Listen == NoListen {
		o.Listen = ""
	}
	return o
}
