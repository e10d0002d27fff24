package file

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"golang.org/x/sys/unix"
)

var signals = map[string]unix.Signal{"HUP": unix.SIGHUP, "USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2}

// A reloader tells the application that its files changed. A marker file says that this is due: it is there from before the first
// file changes until the reload succeeded, so that a crash between the two does not leave an application with old values for ever.
type reloader struct {
	Reload
	disk *disk
	dir  string // where a command runs
}

// due says whether files changed without a successful reload since.
func (r *reloader) due() (bool, error) {
	if r == nil {
		return false, nil
	}
	_, err := r.disk.root.Lstat(markerName)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, connector.Failed(connector.ReasonUnreadable, err)
	}
	return true, nil
}

// mark makes a reload due. It is not synced: after a power loss the application has started anew as well.
func (r *reloader) mark() error {
	if r == nil {
		return nil
	}
	err := r.disk.fault.Step(fault.ReloadMarked, func() error {
		f, err := r.disk.root.OpenFile(markerName, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		return connector.Failed(connector.ReasonWriteFailed, err)
	}
	return nil
}

// run reloads if that is due.
func (r *reloader) run(ctx context.Context) error {
	due, err := r.due()
	if err != nil || !due {
		return err
	}
	if r.Signal != "" {
		err = r.signal()
	} else {
		_, err = r.program(r.dir).Run(ctx, nil)
	}
	if err != nil {
		return err
	}
	if err := r.disk.fault.Step(fault.ReloadDone, func() error { return r.disk.root.Remove(markerName) }); err != nil {
		return connector.Failed(connector.ReasonWriteFailed, err)
	}
	return nil
}

// signal signals the process in the PID file. An application that does not run is a transient error: it may be starting.
func (r *reloader) signal() error {
	held, err := r.disk.load(r.PIDFile)
	if err != nil {
		return err
	}
	if !held.exists {
		return connector.Transient(connector.ReasonReloadFailed, "%s is not there: does the application run?", r.PIDFile)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(held.data)))
	if err != nil || pid <= 1 {
		return connector.Permanent(connector.ReasonReloadFailed, "%s does not hold a process id", r.PIDFile)
	}
	if err := unix.Kill(pid, signals[r.Signal]); err != nil {
		return connector.Transient(connector.ReasonReloadFailed, "signal %s to process %d: %w", r.Signal, pid, err)
	}
	return nil
}
