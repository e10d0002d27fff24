package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	execconn "github.com/lockstep-dev/lockstep/internal/connector/exec"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

// childVariable holds a child as JSON: the test binary is then that agent and nothing else.
const childVariable = "LOCKSTEP_TEST_AGENT"

// A child is an agent in a process of its own that dies somewhere.
type child struct {
	Enrolment, State, Root, Kind string
	Dies                         death
	Held                         bool // its steward holds it at once
}

// survived is the exit code of a child that never came to its point.
const survived = 7

func runChild() int {
	if err := beChild(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return survived
}

func beChild() error {
	var c child
	if err := json.Unmarshal([]byte(os.Getenv(childVariable)), &c); err != nil {
		return err
	}
	e, err := keys.ReadEnrolment(c.Enrolment)
	if err != nil {
		return err
	}
	k, err := newKiller(c, e.Bus.URL)
	if err != nil {
		return err
	}
	router, closeAll, err := openKind(c, k.hook)
	if err != nil {
		return err
	}
	defer closeAll()
	a, err := agent.New(agent.Options{Enrolment: e, State: c.State, Router: router, Intervals: quick, Overwrite: true, InProcess: k, Fault: k.hook})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Deadline)
	go func() {
		if c.Held {
			_ = a.Hold(ctx, time.Now().Add(time.Hour), "a look first") // it dies in it
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if s := a.Status(); s.Checkpoint.Revision >= e.Head.Revision && s.Outbox == 0 {
				cancel()
				return
			}
		}
	}()
	return a.Run(ctx)
}

// run runs a child and says whether it died at its point.
func (c child) run(t testing.TB) (died bool) {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), childVariable+"="+jsonOf(t, c))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("child: %v\n%s", err, out)
	}
	status := exit.Sys().(syscall.WaitStatus)
	if !status.Signaled() && status.ExitStatus() != survived {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return status.Signaled()
}

// kinds are instances on disk: which files, changed by how many connectors.
const (
	oneFile       = "one file"
	severalFiles  = "several files"
	twoConnectors = "two connectors"
	aProgram      = "program"
	reloading     = "reloading" // several files, and an application that takes them
	refusing      = "refusing"  // and one that does not take a new value
)

// openKind opens the instance of a child.
func openKind(in child, h fault.Hook) (_ *connector.Router, closeAll func(), err error) {
	root := in.Root
	var opened []*file.Connector
	closeAll = func() {
		for _, c := range opened {
			_ = c.Close()
		}
	}
	open := func(name, dir string, files ...file.File) connector.Route {
		config := file.Config{Root: filepath.Join(root, dir), Files: files, Fault: h}
		switch in.Kind {
		case reloading:
			config.Reload = &file.Reload{Command: []string{"true"}}
		case refusing:
			config.Reload = &file.Reload{Command: []string{"sh", "-c", "! grep -q new variables.json"}}
		}
		c, openErr := file.Open(name, config, root, "test")
		if openErr != nil {
			err = errors.Join(err, openErr)
			return connector.Route{}
		}
		opened = append(opened, c)
		return connector.Route{Resources: file.Config{Files: files}.Resources(), Connector: c}
	}
	variables := file.File{Path: "variables.json", Resources: []connector.Glob{"variable/*"}}
	endpoints := file.File{Path: "endpoints.yaml", Resources: []connector.Glob{"endpoint/*"}}
	var routes []connector.Route
	switch in.Kind {
	case oneFile:
		both := file.File{Path: "all.json", Resources: []connector.Glob{"variable/*", "endpoint/*"}}
		routes = append(routes, open("all", "", both))
	case severalFiles, reloading, refusing:
		routes = append(routes, open("all", "", variables, endpoints))
	case twoConnectors:
		routes = append(routes, open("variables", "one", variables), open("endpoints", "two", endpoints))
	}
	if in.Kind == aProgram {
		script, absErr := filepath.Abs("../../examples/exec-connector/one-file-each.sh")
		half, absErr2 := filepath.Abs("testdata/half.sh")
		command := []string{script, root}
		if in.Dies.Point == fault.InstanceApplied.Name && in.Dies.Stage == fault.Torn {
			command = []string{half, script, root}
		}
		c, openErr := execconn.Open("program", execconn.Config{Command: command, Observes: true, Fault: h}, root)
		err = errors.Join(absErr, absErr2, openErr)
		routes = append(routes, connector.Route{Resources: []connector.Glob{"variable/*", "endpoint/*"}, Connector: c})
	}
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	router, err := connector.NewRouter(routes)
	return router, closeAll, err
}
