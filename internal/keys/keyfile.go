package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// ErrExposed: others than its owner can read or write the file.
var ErrExposed = errors.New("others can read or write the file")

const private fs.FileMode = 0o600

// NewSeed makes a new Ed25519 user nkey seed ("SU…").
func NewSeed() ([]byte, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return pair.Seed()
}

// WriteKey writes a seed to a new file that only its owner can read; an existing file is never overwritten. When it returns nil the
// key survives power loss; a crash leaves the whole key or none.
func WriteKey(path string, seed []byte, h fault.Hook) error {
	if err := writeKey(path, append(bytes.TrimSpace(seed), '\n'), h); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

func writeKey(path string, line []byte, h fault.Hook) error {
	left, _ := filepath.Glob(path + ".new-*") // of a crash
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // readable by its owner only
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // the key has its other name then
	if err := errors.Join(h.Write(fault.KeyMade, f, line), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory lets a new name survive power loss.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// OpenKey reads a key file as a signer, and makes the key where there is no file.
func OpenKey(path string, h fault.Hook) (*events.Signer, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		seed, err := NewSeed()
		if err != nil {
			return nil, err
		}
		if err := WriteKey(path, seed, h); err != nil {
			return nil, err
		}
	}
	return ReadKey(path)
}

// ReadKey reads a key file as a signer. A file that others can read or write is ErrExposed.
func ReadKey(path string) (*events.Signer, error) {
	b, err := ReadPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	signer, err := events.NewSigner(bytes.TrimSpace(b))
	if err != nil {
		return nil, fmt.Errorf("read key: %s: %w", path, err)
	}
	return signer, nil
}

// ReadPrivate reads a file that nobody but its owner may read or write; one that others can is ErrExposed.
func ReadPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: %w (mode %04o): chmod 600 %s", path, ErrExposed, mode, path)
	}
	return io.ReadAll(f)
}

// WritePrivate writes a file that only its owner can read, whole or not at all, over one that is there.
func WritePrivate(path string, b []byte) error {
	if err := renameio.WriteFile(path, b, private, renameio.IgnoreUmask()); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}
