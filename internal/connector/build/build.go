// Package build opens the connectors that an agent's file lists, and routes resources to them. It is the one place that knows all
// kinds of connectors; a new kind is a field of Config and a line in open.
package build

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/exec"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Config is one item of "connectors" in the agent's file. Exactly one kind is given.
type Config struct {
	Name      string           `yaml:"name"`      // a name as environments have
	Resources []connector.Glob `yaml:"resources"` // what it takes; not for files, which say it themselves. Of several connectors the first counts
	Step      bool             `yaml:"step"`      // apply every revision by itself; default false: several are folded into one apply

	File *file.Config `yaml:"file"`
	Exec *exec.Config `yaml:"exec"`
}

// Validate names the connector and the field that cannot work. It opens nothing.
func Validate(list []Config) error {
	if len(list) == 0 {
		return errors.New("connectors: is empty: an agent needs at least one")
	}
	for i, c := range list {
		if err := c.validate(); err != nil {
			return fmt.Errorf("connectors[%d]: %w", i, err)
		}
		if j := slices.IndexFunc(list[:i], func(other Config) bool { return other.Name == c.Name }); j >= 0 {
			return fmt.Errorf("connectors[%d]: name: %s is connectors[%d] already", i, c.Name, j)
		}
	}
	return nil
}

func (c Config) validate() error {
	if err := events.CheckName(c.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	switch {
	case (c.File != nil) == (c.Exec != nil):
		return fmt.Errorf("%s: give one kind: file or exec", c.Name)
	case c.File != nil:
		if len(c.Resources) > 0 {
			return fmt.Errorf("%s: resources: belong to each of the files", c.Name)
		}
		if err := c.File.Validate(); err != nil {
			return fmt.Errorf("%s: file: %w", c.Name, err)
		}
		return nil
	}
	if len(c.Resources) == 0 {
		return fmt.Errorf("%s: resources: is empty: name what the connector takes, such as flag/*", c.Name)
	}
	for _, g := range c.Resources {
		if err := g.Validate(); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	if err := c.Exec.Validate(); err != nil {
		return fmt.Errorf("%s: exec: %w", c.Name, err)
	}
	return nil
}

// Look says what the connectors configure and is not there. It opens nothing and runs nothing.
func Look(list []Config, dir string) error {
	for i, c := range list {
		if c.File == nil {
			continue
		}
		if err := c.File.Look(dir); err != nil {
			return fmt.Errorf("connectors[%d]: %s: file: %w", i, c.Name, err)
		}
	}
	return nil
}

// Open opens all connectors or none. Relative paths and commands are below dir, the directory of the agent's file. The holder, such as
// "prod/agent-1", is the name that another agent on the same instance is refused with. The closer gives the instances free.
func Open(list []Config, dir, holder string) (*connector.Router, io.Closer, error) {
	if err := Validate(list); err != nil {
		return nil, nil, err
	}
	var opened closers
	var routes []connector.Route
	for _, c := range list {
		conn, err := c.open(dir, holder)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("connector %s: %w", c.Name, err), opened.Close())
		}
		if closer, ok := conn.(io.Closer); ok {
			opened = append(opened, closer)
		}
		resources := c.Resources
		if c.File != nil {
			resources = c.File.Resources()
		}
		routes = append(routes, connector.Route{Resources: resources, Connector: conn, Step: c.Step})
	}
	router, err := connector.NewRouter(routes)
	if err != nil {
		return nil, nil, errors.Join(err, opened.Close())
	}
	return router, opened, nil
}

func (c Config) open(dir, holder string) (connector.Connector, error) {
	if c.File != nil {
		return file.Open(c.Name, *c.File, dir, holder+", connector "+c.Name)
	}
	return exec.Open(c.Name, *c.Exec, dir)
}

type closers []io.Closer

// Close closes the last opened first.
func (list closers) Close() error {
	var failed []error
	for _, c := range slices.Backward(list) {
		failed = append(failed, c.Close())
	}
	return errors.Join(failed...)
}
