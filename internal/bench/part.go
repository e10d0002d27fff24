package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
)

// The parts of a measure that run in a process of their own: agents and browsers are on other machines, and neither share the
// publisher's memory nor wait in its scheduler.
const (
	partAgents   = "agents"   // of all enrolments below a directory
	partWatchers = "watchers" // of a publisher, on the pages that are named
)

// ready is what a part says when it has begun.
const ready = "ready\n"

// Part is a part until in ends. It is how a measure starts its own program again, and nothing else's business.
func Part(ctx context.Context, name string, args []string, in io.Reader, out io.Writer) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	go func() {
		_, _ = io.Copy(io.Discard, in) // it ends with whoever started this
		end()
	}()
	switch {
	case name == partAgents && len(args) == 1:
		return playAgents(ctx, args[0], out)
	case name == partWatchers && len(args) > 1:
		return playWatchers(ctx, args[0], args[1:], out)
	}
	return fmt.Errorf("there is no part %q of %d arguments: publisher bench starts its parts by itself", name, len(args))
}

// playAgents runs an agent for every enrolment in a directory of its own below dir.
func playAgents(ctx context.Context, dir string, out io.Writer) (err error) {
	enrolments, err := filepath.Glob(filepath.Join(dir, "*", enrolmentFile))
	if err != nil {
		return err
	}
	g := lifecycle.New(ctx)
	defer func() { err = errors.Join(err, g.Stop(context.WithoutCancel(ctx))) }()
	for _, path := range enrolments {
		e, err := keys.ReadEnrolment(path)
		if err != nil {
			return err
		}
		a, err := openAgent(g, e, filepath.Dir(path), false)
		if err != nil {
			return err
		}
		g.Go("agent of "+e.Environment, a.Run)
	}
	if _, err := io.WriteString(out, ready); err != nil {
		return err
	}
	<-g.Done()
	return nil
}

const enrolmentFile = "agent.enrolment"

// A child is a part as whoever started it sees it.
type child struct {
	cmd *exec.Cmd
	in  io.Closer
	out io.Reader
	log strings.Builder
}

// startPart starts a part and waits until it is ready.
func startPart(ctx context.Context, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, append([]string{"bench", "part"}, args...)...)}
	c.cmd.Stderr = &c.log
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	said := make([]byte, len(ready))
	if _, err := io.ReadFull(c.out, said); err != nil || string(said) != ready {
		return nil, errors.Join(fmt.Errorf("%s did not begin", args[0]), c.end(nil))
	}
	return c, nil
}

// end lets a part end, and reads what it says at its end where anything is expected.
func (c *child) end(result any) error {
	_ = c.in.Close() // one that has ended has told why
	var err error
	if result != nil {
		err = json.NewDecoder(c.out).Decode(result)
	}
	if ended := c.cmd.Wait(); ended != nil {
		err = errors.Join(err, fmt.Errorf("%s: %w: %s", strings.Join(c.cmd.Args[3:4], " "), ended, strings.TrimSpace(c.log.String())))
	}
	return err
}
