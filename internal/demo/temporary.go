package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

const directories = "lockstep-demo-"

// temporary makes a directory that ends with the demo, and removes those of demos that were killed: they hold private keys. A demo that
// lives has its directory locked, from before the directory has its name.
func (d *demo) temporary() error {
	removeDead(os.TempDir())
	unnamed, err := os.MkdirTemp("", "."+directories)
	if err != nil {
		return err
	}
	lock, err := lockDirectory(unnamed)
	if err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(unnamed), filepath.Base(unnamed)[1:])
	d.group.Defer("demo directory", func(context.Context) error { return errors.Join(os.RemoveAll(dir), lock.Close()) })
	d.Dir = dir
	return os.Rename(unnamed, dir)
}

// removeDead removes the directories of this user's demos that nobody has locked. One that cannot be removed is left.
func removeDead(parent string) {
	entries, _ := filepath.Glob(filepath.Join(parent, directories+"*"))
	for _, path := range entries {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		lock, err := lockDirectory(path)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(path)
		_ = lock.Close()
	}
}

// lockDirectory locks a directory, which nobody else may have locked, until the file is closed or the process ends.
func lockDirectory(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
