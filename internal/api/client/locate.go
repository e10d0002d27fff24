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
	TLS    TLS    `yaml:"tls"`
}

// TLS names the PEM files that a publisher beyond this machine demands; relative paths in the context file are relative to it.
type TLS struct {
	CA   string `yaml:"ca"`   // who signs the publisher's certificate; empty: whom the system trusts
	Cert string `yaml:"cert"` // the client's own
	Key  string `yaml:"key"`
}

// Locate fills in what was not said: from the LOCKSTEP_ variables, from the context file, from the publisher that
// advertises itself on this machine, and at last the default address and the name of the OS user.
func Locate(said Target) (Target, error) {
	var written Target
	path, err := contextPath()
	if err != nil {
		return said, err
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = config.Decode(path, data, &written)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return said, fmt.Errorf("read the context file: %w", err)
	}
	said.Server = first(said.Server, os.Getenv("LOCKSTEP_SERVER"), written.Server)
	said.As = first(said.As, os.Getenv("LOCKSTEP_AS"), written.As)
	said.TLS.CA = first(said.TLS.CA, os.Getenv("LOCKSTEP_TLS_CA"), beside(path, written.TLS.CA))
	said.TLS.Cert = first(said.TLS.Cert, os.Getenv("LOCKSTEP_TLS_CERT"), beside(path, written.TLS.Cert))
	said.TLS.Key = first(said.TLS.Key, os.Getenv("LOCKSTEP_TLS_KEY"), beside(path, written.TLS.Key))
	if said.Server == "" {
		said.Server = first(advertised(), DefaultServer)
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

func contextPath() (string, error) {
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "lockstep", "context.yaml"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the context file: %w: set XDG_CONFIG_HOME", err)
	}
	return filepath.Join(home, ".config", "lockstep", "context.yaml"), nil
}

// Advertise lets clients of the same user find the publisher at url, until remove is called. The newest one wins.
func Advertise(url string) (remove func(), err error) {
	path := advertisement()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("advertise the publisher: %w", err)
	}
	if err := private(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("advertise the publisher: %w", err)
	}
	if err := renameio.WriteFile(path, []byte(url+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("advertise the publisher: %w", err)
	}
	return func() {
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == url {
			_ = os.Remove(path) // what is left behind is only an address where nobody answers
		}
	}, nil
}

// advertised is the address of the publisher that advertises itself; "" where none does.
func advertised() string {
	path := advertisement()
	if private(filepath.Dir(path)) != nil {
		return ""
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
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
