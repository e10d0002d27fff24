package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/lifecycle"
)

const (
	idleResources = 1000
	idleMemory    = 25  // MB of resident memory
	idleCPU       = 0.2 // percent of a core
	ticksPerCPU   = 100 // of /proc/<pid>/stat, on every Linux
	agentFile     = `connectors:
- name: app
  file:
    root: app
    files:
    - path: config.json
      resources: [variable/*]
`
)

// findAgent is the agent program.
func findAgent(named string) (string, error) {
	if named == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		named = filepath.Join(filepath.Dir(self), "agent")
	}
	path, err := exec.LookPath(named)
	if err != nil {
		return "", fmt.Errorf("the agent program is needed for %s: %w: build it with `task build` and name it with --agent, or choose other measures", Idle, err)
	}
	return filepath.Abs(path)
}

// idle watches a real agent process that has nothing to do.
func idle(ctx context.Context, o Options) (rows []Row, err error) {
	err = stage(ctx, o, 1, func(g *lifecycle.Group, dir, _ string) error {
		w, err := newWorld(ctx, g, dir, 1)
		if err != nil {
			return err
		}
		ctx, ended := context.WithCancelCause(ctx)
		defer ended(nil)
		process, err := startProcess(ctx, g, w, dir, o.Agent, ended)
		if err != nil {
			return err
		}
		approve, err := w.propose(ctx, first(idleResources))
		if err != nil {
			return err
		}
		if _, err := w.arrive(ctx, approve); err != nil {
			return err
		}
		o.Progress("%s: watching it for %s", Idle, o.Idle)
		before, err := process.cpu()
		if err != nil {
			return err
		}
		began := time.Now()
		select {
		case <-time.After(o.Idle):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		after, err := process.cpu()
		if err != nil {
			return err
		}
		memory, err := process.memory()
		percent := 100 * (after - before).Seconds() / time.Since(began).Seconds()
		rows = []Row{
			{Measure: Idle + "-memory", Agents: 1, Value: &memory, Unit: "MB", Goal: fmt.Sprintf("≤ %d MB", idleMemory), Met: memory <= idleMemory},
			{Measure: Idle + "-cpu", Agents: 1, Value: &percent, Unit: "% of a core in " + o.Idle.String(), Goal: fmt.Sprintf("≤ %g %%", idleCPU), Met: percent <= idleCPU},
		}
		return err
	})
	return rows, err
}

// A process is a running agent.
type process struct{ pid int }

// startProcess starts an agent, which ends with the group. When it ends before, ended is told why.
func startProcess(ctx context.Context, g *lifecycle.Group, w *world, dir, program string, ended func(error)) (*process, error) {
	e, err := w.enrol(ctx, environmentName(0))
	if err != nil {
		return nil, err
	}
	enrolment, config := filepath.Join(dir, "a1.enrolment"), filepath.Join(dir, "agent.yaml")
	if err := errors.Join(e.Write(enrolment), os.WriteFile(config, []byte(agentFile), 0o600), os.Mkdir(filepath.Join(dir, "app"), 0o700)); err != nil {
		return nil, err
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "run", "--enrolment", enrolment, "--config", config, "--log-level", "warn")
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		err := cmd.Wait()
		ended(errors.Join(fmt.Errorf("the agent process ended: %s", strings.TrimSpace(log.String())), err))
	}()
	g.Defer("agent process", func(context.Context) error {
		_ = cmd.Process.Signal(os.Interrupt) // one that has ended has told why
		<-gone
		return nil
	})
	return &process{cmd.Process.Pid}, nil
}

// cpu is the processor time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0, fmt.Errorf("the agent process: %w", err)
	}
	_, after, _ := strings.Cut(string(text), ") ") // the program's name may hold spaces
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name", p.pid, len(fields))
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / ticksPerCPU, errors.Join(err1, err2)
}

// memory is the process's resident memory in MB.
func (p *process) memory() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return 0, fmt.Errorf("the agent process: %w", err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0, fmt.Errorf("/proc/%d/status has no VmRSS", p.pid)
	}
	kilobytes, err := strconv.Atoi(fields[0])
	return float64(kilobytes) / 1024, err
}
