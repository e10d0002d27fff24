// Package program runs one program for a connector: an argument array and never a shell, bounded in time and output, with an
// environment of allowed names only.
//
// Guarantees: when Run returns, the program's whole process group has ended or was killed. Errors are connector errors; they carry the
// last line of what the program wrote to stderr, never what it was given or wrote to stdout. Unix only, as process groups are.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
	"unicode"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"golang.org/x/sys/unix"
)

const (
	// MaxOutput is the largest stdout in bytes.
	MaxOutput = 16 << 20
	maxLine   = 300 // of stderr's last line, in bytes
	grace     = 2 * time.Second
)

// Passed are the names of environment variables that every program gets, where they are set.
var Passed = []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"}

// A Program is what to run.
type Program struct {
	Command []string      // the program and its arguments; a relative path with a slash is below Dir
	Dir     string        // working directory
	Env     []string      // names of further environment variables that are passed
	Timeout time.Duration // must be positive
	Reason  events.Reason // of its failures, such as connector.ReasonExecFailed
}

// Validate names the field that cannot work.
func (p Program) Validate() error {
	if len(p.Command) == 0 || p.Command[0] == "" {
		return errors.New("command: is empty: write the program and its arguments as a list")
	}
	if p.Timeout <= 0 {
		return errors.New("timeout: must be longer than 0s")
	}
	for _, name := range p.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("env: %q is not the name of an environment variable", name)
		}
	}
	return nil
}

// Run gives the program stdin and returns its stdout. The exit code says what a failure is: 1 and every other code a transient error, 2
// a permanent one. A program that cannot be started is permanent; a timeout is transient, with connector.ReasonTimeout.
func (p Program) Run(ctx context.Context, stdin []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Command[0], p.Command[1:]...)
	cmd.Dir = p.Dir
	cmd.Env = p.environment()
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = grace
	stdout, stderr := &bounded{max: MaxOutput}, &lastLine{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return nil, p.gaveUp(ctx, stderr)
		}
		return nil, connector.Permanent(p.Reason, "%s cannot be started: %w", p.Command[0], err)
	}
	err := cmd.Wait()
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // children it left behind; most often there is no such group any more
	switch exit, failed := errors.AsType[*exec.ExitError](err); {
	case ctx.Err() != nil:
		return nil, p.gaveUp(ctx, stderr)
	case stdout.over:
		return nil, connector.Permanent(p.Reason, "%s wrote more than %d bytes to stdout", p.Command[0], MaxOutput)
	case failed && exit.ExitCode() == 2:
		return nil, connector.Permanent(p.Reason, "%s: %v%s", p.Command[0], exit, stderr)
	case failed:
		return nil, connector.Transient(p.Reason, "%s: %v%s", p.Command[0], exit, stderr)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return nil, connector.Transient(p.Reason, "%s: %w", p.Command[0], err)
	}
	return stdout.kept, nil
}

func (p Program) gaveUp(ctx context.Context, stderr *lastLine) error {
	return connector.Transient(connector.ReasonTimeout, "%s did not end within %v: %w%s", p.Command[0], p.Timeout, ctx.Err(), stderr)
}

func (p Program) environment() []string {
	env := []string{} // not nil: nil would pass everything
	for _, names := range [][]string{Passed, p.Env} {
		for _, name := range names {
			if value, set := os.LookupEnv(name); set {
				env = append(env, name+"="+value)
			}
		}
	}
	return env
}

// bounded keeps the first max bytes. It takes the rest without an error: an error would end the copying and leave the program hanging.
type bounded struct {
	kept []byte
	max  int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := min(b.max-len(b.kept), len(p))
	b.over = b.over || room < len(p)
	b.kept = append(b.kept, p[:room]...)
	return len(p), nil
}

// lastLine keeps the last line that is not blank, clipped.
type lastLine struct{ done, open []byte }

func (l *lastLine) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if room := maxLine - len(l.open); room > 0 {
			l.open = append(l.open, line[:min(room, len(line))]...)
		}
		if line[len(line)-1] == '\n' {
			if len(bytes.TrimSpace(l.open)) > 0 {
				l.done = l.open
			}
			l.open = nil
		}
	}
	return len(p), nil
}

// String is ": line", or nothing.
func (l *lastLine) String() string {
	line := l.open
	if len(bytes.TrimSpace(line)) == 0 {
		line = l.done
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, strings.TrimSpace(string(line)))
	if text == "" {
		return ""
	}
	return ": " + text
}
