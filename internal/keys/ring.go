package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Ring is a directory of people's key files, NAME.key each. It need not be there.
type Ring string

// ErrNoKey: there is no key file for a name.
var ErrNoKey = errors.New("there is no key for this name here")

const keySuffix = ".key"

// A PersonKey is a key file of a Ring.
type PersonKey struct {
	Name   string         `json:"name"`
	Key    string         `json:"key,omitempty"` // public nkey; empty where the file cannot be used
	File   string         `json:"file"`
	Wrong  string         `json:"wrong,omitempty"` // why it cannot be used
	Signer *events.Signer `json:"-"`
}

// New makes a key for a person, in a new file that only its owner can read. A key that is there is never overwritten: the error is
// fs.ErrExist then.
func (r Ring) New(name string) (PersonKey, error) {
	path, err := r.path(name)
	if err != nil {
		return PersonKey{}, err
	}
	if err := os.MkdirAll(string(r), 0o700); err != nil {
		return PersonKey{}, fmt.Errorf("directory of keys: %w", err)
	}
	seed, err := NewSeed()
	if err != nil {
		return PersonKey{}, err
	}
	if err := WriteKey(path, seed, nil); err != nil {
		return PersonKey{}, err
	}
	return r.Read(name)
}

// Open reads a person's key, and makes it where there is none.
func (r Ring) Open(name string) (PersonKey, error) {
	k, err := r.Read(name)
	if errors.Is(err, ErrNoKey) {
		return r.New(name)
	}
	return k, err
}

// Read reads a person's key. Where there is none the error is ErrNoKey, where others can read the file ErrExposed.
func (r Ring) Read(name string) (PersonKey, error) {
	path, err := r.path(name)
	if err != nil {
		return PersonKey{}, err
	}
	out := PersonKey{Name: name, File: path}
	out.Signer, err = ReadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return out, fmt.Errorf("%w: %s is not in %s", ErrNoKey, filepath.Base(path), r)
	}
	if err != nil {
		return out, err
	}
	out.Key = out.Signer.Public()
	return out, nil
}

// List are the keys by name, with those that cannot be used.
func (r Ring) List() ([]PersonKey, error) {
	entries, err := os.ReadDir(string(r))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("directory of keys: %w", err)
	}
	out := []PersonKey{}
	for _, entry := range entries {
		name, isKey := strings.CutSuffix(entry.Name(), keySuffix)
		if !isKey || checkPerson(name) != nil {
			continue
		}
		k, err := r.Read(name)
		if err != nil {
			k.Wrong = err.Error()
		}
		out = append(out, k)
	}
	return out, nil
}

func (r Ring) path(name string) (string, error) {
	if err := checkPerson(name); err != nil {
		return "", err
	}
	return filepath.Join(string(r), name+keySuffix), nil
}

const maxPerson = 128 // characters, as in a trust document

// checkPerson says whether a name may be that of a person in a trust document, and of a file on every system.
func checkPerson(name string) error {
	odd := func(c rune) bool { return c < ' ' || c > '~' || strings.ContainsRune(`/\:*?"<>|`, c) }
	if name == "" || len(name) > maxPerson || strings.TrimSpace(name) != name || strings.HasPrefix(name, ".") || strings.IndexFunc(name, odd) >= 0 {
		return fmt.Errorf(`%q cannot name a key: names are printable ASCII without / \ : * ? " < > |, begin with no dot, and have at most %d characters`, name, maxPerson)
	}
	return nil
}
