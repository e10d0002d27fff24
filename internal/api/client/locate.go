package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// DefaultServer is where a publisher listens when nobody says otherwise.
const DefaultServer = "http://127.0.0.1:7070"

// A Target is which publisher to talk to, and as whom. The tags are the format of the context file, which a person may write once:
// ~/.config/lockstep/context.yaml.
type Target struct {
	Server string `yaml:"server"` // URL such as http://127.0.0.1:7070
	As     string `yaml:"as"`
	Keys   string `yaml:"keys"` // directory of people's key files; in the context file relative to it
	TLS    TLS    `yaml:"tls"`
}

// TLS names the PEM files that a publisher beyond this machine demands; relative paths in the context file are relative to it.
type TLS struct {
	CA   string `yaml:"ca"`   // who signs the publisher's certificate; empty: whom the system trusts
	Cert string `yaml:"cert"` // the client's own
	Key  string `yaml:"key"`
}

// Locate fills in what was not said: from the LOCKSTEP_ variables, from the context file, from the publisher that
// advertises itself on this machine, and at last the default address, the name of the OS user, and the directory keys beside the
// context file.
func Locate(said Target) (Target, error) {
	path := contextPath()
	written, err := readContext(path)
	if err != nil {
		return said, err
	}
	said.Server = first(said.Server, os.Getenv("LOCKSTEP_SERVER"), written.Server)
	said.As = first(said.As, os.Getenv("LOCKSTEP_AS"), written.As)
	said.TLS.CA = first(said.TLS.CA, os.Getenv("LOCKSTEP_TLS_CA"), beside(path, written.TLS.CA))
	said.TLS.Cert = first(said.TLS.Cert, os.Getenv("LOCKSTEP_TLS_CERT"), beside(path, written.TLS.Cert))
	said.TLS.Key = first(said.TLS.Key, os.Getenv("LOCKSTEP_TLS_KEY"), beside(path, written.TLS.Key))
	said.Keys = first(said.Keys, os.Getenv("LOCKSTEP_KEYS"), beside(path, written.Keys))
	if said.Server == "" {
		server, keys := advertised()
		said.Server, said.Keys = first(server, DefaultServer), first(said.Keys, keys)
	}
	if path != "" {
		said.Keys = first(said.Keys, beside(path, "keys"))
	}
	if said.As == "" {
		if u, err := user.Current(); err == nil {
			said.As = u.Username
		}
	}
	return said, nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// beside is a path that is relative to a file.
func beside(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// contextPath is where the context file is; "" for a user without a home, who has none.
func contextPath() string {
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "lockstep", "context.yaml")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".config", "lockstep", "context.yaml")
}

func readContext(path string) (written Target, err error) {
	if path == "" {
		return written, nil
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = config.Decode(path, data, &written)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return written, fmt.Errorf("read the context file: %w", err)
	}
	return written, nil
}

// ErrAdvertised says that another publisher of the user runs, and that it is the one that clients find.
var ErrAdvertised = errors.New("another publisher of this user is the one that is found without being named")

// Advertise lets clients of the same user find the publisher at url, until remove is called, and the directory of people's keys that goes
// with it; "" is none in particular. While another one does so the error is ErrAdvertised: a publisher that is started to try something
// must not draw away what is meant for the one that runs.
func Advertise(url, keys string) (remove func(), err error) {
	path := advertisement()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("advertise the publisher: %w", err)
	}
	if err := private(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("advertise the publisher: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(filepath.Dir(path), "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("advertise the publisher: %w", err)
	}
	if err := take(lock); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			other, _ := advertised()
			return nil, fmt.Errorf("%w, at %s: reach this one with --server %s", ErrAdvertised, first(other, "an address that is just being written"), url)
		}
		return nil, fmt.Errorf("advertise the publisher: %w", err)
	}
	unlock := func() {
		// Given back by itself: a process that is just being started elsewhere in this program still holds the file.
		_ = syscall.Flock(int(lock.Fd()), syscall.LOCK_UN)
		lock.Close()
	}
	if err := renameio.WriteFile(path, []byte(strings.TrimSpace(url+"\n"+keys)+"\n"), 0o600); err != nil {
		unlock()
		return nil, fmt.Errorf("advertise the publisher: %w", err)
	}
	return func() {
		_ = os.Remove(path) // what is left behind is not believed without the lock
		unlock()
	}, nil
}

// take locks a file, unless somebody has it for longer than it takes to ask with held.
func take(lock *os.File) (err error) {
	for range 10 {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// held says whether somebody has locked a file with take. To find out, it is locked for a moment.
func held(path string) bool {
	lock, err := os.Open(path)
	if err != nil {
		return false
	}
	defer lock.Close()
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil {
		_ = syscall.Flock(int(lock.Fd()), syscall.LOCK_UN)
	}
	return errors.Is(err, syscall.EWOULDBLOCK)
}

// advertised is the address of the publisher that advertises itself, and the directory of the keys that go with it; "" where none does.
// One that was killed has left its address behind, and not its lock.
func advertised() (server, keys string) {
	path := advertisement()
	if private(filepath.Dir(path)) != nil || !held(filepath.Join(filepath.Dir(path), "lock")) {
		return "", ""
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", ""
	}
	server, keys, _ = strings.Cut(strings.TrimSpace(string(b)), "\n")
	return server, keys
}

func advertisement() string {
	dir := first(os.Getenv("XDG_RUNTIME_DIR"), os.TempDir())
	return filepath.Join(dir, "lockstep-"+strconv.Itoa(os.Getuid()), "server")
}

// private says whether a directory is ours alone: anybody can make one in the temporary directory.
func private(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ok || int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("%s belongs to others, or others can enter it: remove it, or chmod 700 it", dir)
	}
	return nil
}
