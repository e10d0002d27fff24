package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// schema is the version of the file's layout; a file with a higher one was written by a newer program.
const schema = 2

// The file is mapped with room to grow: to map it anew copies everything that the transaction under way has touched. It grows by what
// some hundred releases need; each time costs an fsync.
const (
	mapped = 64 << 20
	growth = 64 << 10
)

// lockWait is how long Open waits for another process to let go of the file.
const lockWait = 500 * time.Millisecond

// Errors of Open and OpenReadOnly, matched with errors.Is.
var (
	// ErrLocked: another process, as a rule the running agent, has the file open.
	ErrLocked = errors.New("the store is open in another process")
	// ErrForeign: the file belongs to another agent, environment or ledger.
	ErrForeign = errors.New("the store belongs to somebody else")
	// ErrNewer: the file was written by a newer version of this program.
	ErrNewer = errors.New("the store was written by a newer version")
	// ErrCorrupt: the file is no store, or is damaged.
	ErrCorrupt = errors.New("the store is damaged")
)

// Identity is whose state a store holds.
type Identity struct {
	Ledger      string `json:"ledger"`
	Environment string `json:"environment"`
	Agent       string `json:"agent"`
}

// A Store is one agent's open file.
type Store struct {
	db   *bbolt.DB
	path string
	id   Identity
}

// Open opens or makes the store of an agent. A file that is another's, newer, damaged or in use is refused with an error that
// says how to recover.
func Open(path string, id Identity) (*Store, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path, id); err != nil {
			return nil, err
		}
	}
	s, err := openFilled(path, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return nil, err
	}
	if s.id != id {
		err := fmt.Errorf("%s: %w: it is of agent %s in %s (ledger %s), this is agent %s in %s (ledger %s); give this agent a state directory of its own, or move the file away to start again from revision 1",
			path, ErrForeign, s.id.Agent, s.id.Environment, s.id.Ledger, id.Agent, id.Environment, id.Ledger)
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openFilled opens a store that was made before. One that is empty was emptied: bbolt would begin a new one in it.
func openFilled(path string, options *bbolt.Options) (*Store, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if info.Size() == 0 {
		return nil, corrupt(path, errors.New("it is empty"))
	}
	s, err := open(path, options)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.identify(), s.whole()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// whole looks whether a piece of the file is missing at its end, which who only reads it may never come to.
func (s *Store) whole() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	return s.db.View(func(tx *bbolt.Tx) error {
		if missing := tx.Size() - info.Size(); missing > 0 {
			return corrupt(s.path, fmt.Errorf("%d bytes are missing at its end", missing))
		}
		return nil
	})
}

// create makes a new store under another name first: a crash half-way leaves none, and not one that is damaged. A link never takes the
// place of a store that was made meanwhile.
func create(path string, id Identity) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make store: %w", err)
		}
	}()
	left, err := filepath.Glob(path + ".new-*") // of a crash
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	if err := file.Close(); err != nil {
		return err
	}
	s, err := open(file.Name(), &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	if err := errors.Join(s.Update(func(tx *Tx) error { return tx.initialise(id) }), s.Close()); err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
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

// OpenReadOnly opens an existing store for inspection, whoever it belongs to.
func OpenReadOnly(path string) (*Store, error) {
	return openFilled(path, &bbolt.Options{Timeout: lockWait, ReadOnly: true})
}

// open turns everything that bbolt says or throws about a file into one of our errors.
func open(path string, options *bbolt.Options) (s *Store, err error) {
	options.InitialMmapSize = mapped
	var file *os.File
	options.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	opened := false
	defer func() {
		if !opened && file != nil {
			_ = file.Close() // bbolt forgets it when it panics; when it already closed it this changes nothing
		}
	}()
	err = guard(path, func() error {
		db, err := bbolt.Open(path, 0o600, options)
		switch {
		case errors.Is(err, berrors.ErrTimeout):
			return fmt.Errorf("%s: %w; ask the running agent (agent status), or stop it first", path, ErrLocked)
		case errors.As(err, new(*fs.PathError)):
			return fmt.Errorf("open store: %w", err)
		case err != nil:
			return corrupt(path, err)
		}
		db.AllocSize = growth
		s, opened = &Store{db: db, path: path}, true
		return nil
	})
	return s, err
}

func corrupt(path string, cause error) error {
	return fmt.Errorf("%s: %w (%w); move the file away and start again: the agent folds everything from revision 1", path, ErrCorrupt, cause)
}

// guard makes ErrCorrupt of what bbolt does with a damaged file: it panics, or reads past the end of the mapping.
func guard(path string, fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if thrown := recover(); thrown != nil {
			err = corrupt(path, fmt.Errorf("%v", thrown))
		}
	}()
	return fn()
}

// identify reads whose file this is; it looks at nothing that a newer schema could have changed before it knows the schema.
func (s *Store) identify() error {
	return s.View(func(tx *Tx) error { return guard(s.path, func() (err error) { s.id, err = tx.identity(); return err }) })
}

// Identity is whose state this is.
func (s *Store) Identity() Identity { return s.id }

// Path is the file's.
func (s *Store) Path() string { return s.path }

// Close lets go of the file.
func (s *Store) Close() error { return s.db.Close() }

// Update writes everything that fn does in one transaction: when it returns nil, all of it survives power loss; when it returns
// an error, nothing of it was done.
func (s *Store) Update(fn func(*Tx) error) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return fn(&Tx{tx}) })
}

// View reads one consistent state.
func (s *Store) View(fn func(*Tx) error) error {
	return s.db.View(func(tx *bbolt.Tx) error { return fn(&Tx{tx}) })
}
