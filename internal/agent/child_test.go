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
	"github.com/lockstep-dev/lockstep/internal/connector"
	execconn "github.com/lockstep-dev/lockstep/internal/connector/exec"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

// childVariable holds a child as JSON: the test binary is then that agent and nothing else.
const childVariable = "LOCKSTEP_TEST_AGENT"

// A child is an agent in a process of its own that kills itself when it comes to a named point for the nth time.
type child struct {
	Enrolment, State, Root, Kind, Point string
	Nth                                 int
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
	router, closeAll, err := openKind(c.Kind, c.Root)
	if err != nil {
		return err
	}
	defer closeAll()
	times := 0
	a, err := agent.New(agent.Options{Enrolment: e, State: c.State, Router: router, Intervals: quick, Fault: func(point string) error {
		if point == c.Point {
			if times++; times == c.Nth {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	go func() {
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
var kinds = []string{"one file", "several files", "two connectors", "program"}

// openKind opens an instance below root.
func openKind(kind, root string) (_ *connector.Router, closeAll func(), err error) {
	var opened []*file.Connector
	closeAll = func() {
		for _, c := range opened {
			_ = c.Close()
		}
	}
	open := func(name, dir string, files ...file.File) connector.Route {
		c, openErr := file.Open(name, file.Config{Root: filepath.Join(root, dir), Files: files}, root, "test")
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
	switch kind {
	case "one file":
		both := file.File{Path: "all.json", Resources: []connector.Glob{"variable/*", "endpoint/*"}}
		routes = append(routes, open("all", "", both))
	case "several files":
		routes = append(routes, open("all", "", variables, endpoints))
	case "two connectors":
		routes = append(routes, open("variables", "one", variables), open("endpoints", "two", endpoints))
	}
	if kind == "program" {
		script, absErr := filepath.Abs("../../examples/exec-connector/one-file-each.sh")
		c, openErr := execconn.Open("program", execconn.Config{Command: []string{script, root}, Observes: true}, root)
		err = errors.Join(absErr, openErr)
		routes = append(routes, connector.Route{Resources: []connector.Glob{"variable/*", "endpoint/*"}, Connector: c})
	}
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	router, err := connector.NewRouter(routes)
	return router, closeAll, err
}
