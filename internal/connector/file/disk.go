package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"golang.org/x/sys/unix"
)

const (
	maxFile    = 64 << 20
	tempSuffix = ".lockstep-tmp"
	lockName   = ownPrefix + "lock"
	markerName = ownPrefix + "reload"
)

// A disk is the directory that the connector keeps to.
type disk struct {
	root   *os.Root
	lock   *os.File
	mode   fs.FileMode
	holder string
	fault  fault.Hook
}

// An image is what a file holds.
type image struct {
	data   []byte
	exists bool
	info   fs.FileInfo
}

// digest is the image's digest in a Unit.
func (i image) digest() string {
	if !i.exists {
		return ""
	}
	return connector.Digest(i.data)
}

// openDisk opens the root and locks it for the holder.
func openDisk(dir string, mode fs.FileMode, holder string, h fault.Hook) (*disk, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	d := &disk{root: root, mode: mode, holder: holder, fault: h}
	if err := d.acquire(); err != nil {
		return nil, errors.Join(fmt.Errorf("root: %w", err), root.Close())
	}
	return d, nil
}

func (d *disk) acquire() error {
	f, err := d.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", lockName, err)
		}
		other, _ := io.ReadAll(io.LimitReader(f, 200))
		return fmt.Errorf("%s is configured by %s already: two agents on one instance would undo each other; stop that one or name another root",
			d.root.Name(), strings.Join(strings.Fields(string(other)), " "))
	}
	if err = f.Truncate(0); err == nil {
		err = d.fault.Write(fault.InstanceLocked, io.NewOffsetWriter(f, 0), fmt.Appendf(nil, "%s (process %d)\n", d.holder, os.Getpid()))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	d.lock = f
	return nil
}

// here says whether the root's path leads to the directory that is open; an error says what is there instead. While it is open, no other
// directory can have its number.
func (d *disk) here() error {
	there, err := os.Stat(d.root.Name())
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	opened, err := d.root.Stat(".")
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if !os.SameFile(there, opened) {
		return fmt.Errorf("root: %s is another directory than it was", d.root.Name())
	}
	return nil
}

// close gives the lock back by itself: a program that is just being started still holds the file.
func (d *disk) close() error {
	return errors.Join(unix.Flock(int(d.lock.Fd()), unix.LOCK_UN), d.lock.Close(), d.root.Close())
}

// load reads a file below the root. A symlink on the way is refused: a rename would replace it, and the file behind it may be another's.
func (d *disk) load(name string) (image, error) {
	for end := range len(name) + 1 {
		if end < len(name) && name[end] != '/' {
			continue
		}
		at := name[:end]
		info, err := d.root.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return image{}, connector.Failed(connector.ReasonUnreadable, err)
		case info.Mode()&fs.ModeSymlink != 0:
			return image{}, connector.Permanent(connector.ReasonPathEscapes, "%s is a symlink: configure the file that it points to", at)
		case at == name && !info.Mode().IsRegular():
			return image{}, connector.Permanent(connector.ReasonUnreadable, "%s is not a regular file", name)
		}
	}
	f, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return image{}, nil
	}
	if err != nil {
		return image{}, connector.Failed(connector.ReasonUnreadable, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return image{}, connector.Failed(connector.ReasonUnreadable, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return image{}, connector.Failed(connector.ReasonUnreadable, err)
	}
	if len(data) > maxFile {
		return image{}, connector.Permanent(connector.ReasonUnreadable, "%s is larger than %d bytes", name, maxFile)
	}
	return image{data, true, info}, nil
}

// tempName is the one name under which new contents of a file wait; a leftover of a crash is replaced by the next.
func tempName(name string) string {
	return path.Join(path.Dir(name), "."+path.Base(name)+tempSuffix)
}

// stage writes and syncs new contents beside the file, with the mode and owner of what is there now.
func (d *disk) stage(name string, data []byte, now image) error {
	if err := d.writeTemp(tempName(name), data, now); err != nil {
		d.discard(name)
		return connector.Failed(connector.ReasonWriteFailed, fmt.Errorf("stage %s: %w", name, err))
	}
	return nil
}

func (d *disk) writeTemp(temp string, data []byte, now image) error {
	const fresh = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := d.root.OpenFile(temp, fresh, 0o600)
	if errors.Is(err, fs.ErrExist) { // a crash left it
		if err = d.root.Remove(temp); err == nil {
			f, err = d.root.OpenFile(temp, fresh, 0o600)
		}
	}
	if err != nil {
		return err
	}
	defer f.Close() // a second Close after a good one does no harm
	if err := d.fault.Write(fault.FileStaged, f, data); err != nil {
		return err
	}
	mode := d.mode
	if now.exists {
		mode = now.info.Mode().Perm()
		if err := keepOwner(f, now.info); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func keepOwner(f *os.File, old fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	was, ok := old.Sys().(*syscall.Stat_t)
	is, ok2 := info.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || was.Uid == is.Uid && was.Gid == is.Gid {
		return nil
	}
	return f.Chown(int(was.Uid), int(was.Gid))
}

// discard removes what stage left.
func (d *disk) discard(name string) {
	_ = d.root.Remove(tempName(name)) // best effort: the next stage replaces it
}

// commit puts what was staged in the place of the files.
func (d *disk) commit(names ...string) error {
	err := fault.Parts(d.fault, fault.FilesReplaced, names, func(name string) error { return d.root.Rename(tempName(name), name) })
	if err != nil {
		return connector.Failed(connector.ReasonWriteFailed, fmt.Errorf("replace %s: %w", strings.Join(names, ", "), err))
	}
	return nil
}

// sync makes renames durable.
func (d *disk) sync(names []string) error {
	var dirs []string
	for _, name := range names {
		if dir := path.Dir(name); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := d.fault.Step(fault.DirectorySynced, func() error { return d.syncDir(dir) }); err != nil {
			return connector.Failed(connector.ReasonWriteFailed, fmt.Errorf("sync directory %s: %w", dir, err))
		}
	}
	return nil
}

func (d *disk) syncDir(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// restore puts an earlier image back, in one atomic step.
func (d *disk) restore(name string, before []byte, existed bool, now image) error {
	if !existed {
		if err := d.root.Remove(name); err != nil {
			return connector.Failed(connector.ReasonWriteFailed, fmt.Errorf("remove %s: %w", name, err))
		}
		return d.sync([]string{name})
	}
	if err := d.stage(name, before, now); err != nil {
		return err
	}
	if err := d.commit(name); err != nil {
		d.discard(name)
		return err
	}
	return d.sync([]string{name})
}
