package agent_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/lockstep-dev/lockstep/internal/fault"
)

// A death is where a child kills itself: when it comes to a stage of a point for the nth time.
type death struct {
	Point string
	Stage fault.Stage
	Nth   int
}

func (d death) String() string { return fmt.Sprintf("%s %d %s", d.Point, d.Nth, d.Stage) }

// A killer lets a child die. Where a step has no middle that the child could come to, because the system or the library does it, it
// makes one: what the step left is brought into the state that a power loss in its middle could leave.
type killer struct {
	child
	bus    string // where it is
	nth    int
	armed  atomic.Bool       // the next ack is cut on its way to the bus
	before map[string][]byte // files as they were before the step
}

func newKiller(c child, bus string) (*killer, error) {
	k := &killer{child: c, bus: strings.TrimPrefix(bus, "nats://"), before: map[string][]byte{}}
	if c.Dies.Point == fault.DirectorySynced.Name {
		return k, k.snapshot(c.Root)
	}
	return k, nil
}

func die() error {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// tears are the points whose middle is made.
var tears = map[string]func(*killer) error{
	fault.StoreMade.Name:        (*killer).tearNewStore,
	fault.TrustReadAhead.Name:   (*killer).tearStore,
	fault.IntentDeclared.Name:   (*killer).tearStore,
	fault.CheckpointMoved.Name:  (*killer).tearStore,
	fault.AcksForgotten.Name:    (*killer).tearStore,
	fault.IntentWithdrawn.Name:  (*killer).tearStore,
	fault.FailureKept.Name:      (*killer).tearStore,
	fault.HoldKept.Name:         (*killer).tearStore,
	fault.PreImagesDropped.Name: (*killer).tearPreImages,
}

func (k *killer) hook(p fault.Point, s fault.Stage) error {
	d := k.Dies
	if p.Name != d.Point {
		return nil
	}
	tear := tears[p.Name]
	if d.Stage != fault.Torn {
		tear = nil
	}
	if s == fault.Before {
		k.nth++
	}
	switch {
	case k.nth != d.Nth:
	case s == d.Stage:
		return die()
	case d.Stage != fault.Torn:
	case s == fault.Before && p == fault.AckSent:
		k.armed.Store(true)
	case s == fault.Before && p == fault.DirectorySynced:
		if err := k.loseRename(); err != nil {
			return err
		}
		return die()
	case s == fault.Before && tear != nil:
		return k.snapshot(k.State)
	case s == fault.After && tear != nil:
		if err := tear(k); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return die()
	}
	return nil
}

func (k *killer) snapshot(dir string) error {
	return filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		k.before[path], err = os.ReadFile(path)
		return err
	})
}

func (k *killer) store() string { return filepath.Join(k.State, "agent.db") }

// tearNewStore leaves half of the file under its first name.
func (k *killer) tearNewStore() error {
	b, err := os.ReadFile(k.store())
	if err == nil {
		err = os.WriteFile(k.store()+".new-torn", b[:len(b)/2], 0o600)
	}
	if err == nil {
		err = os.Remove(k.store())
	}
	return err
}

// page is bbolt's: the system's.
var page = os.Getpagesize()

// tearStore takes half of the pages of a transaction back, and all but the beginning of the meta page that names the others.
func (k *killer) tearStore() error {
	after, err := os.ReadFile(k.store())
	if err != nil {
		return err
	}
	before := k.before[k.store()]
	torn, changed := bytes.Clone(after), 0
	for at := 0; at+page <= len(before); at += page {
		if bytes.Equal(before[at:at+page], after[at:at+page]) {
			continue
		}
		keep := 0
		if at < 2*page {
			keep = 16 + 40 // of the header and the meta behind it
		} else if changed++; changed%2 == 1 {
			keep = page
		}
		copy(torn[at+keep:at+page], before[at+keep:at+page])
	}
	f, err := os.OpenFile(k.store(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(torn, 0); err != nil {
		return err
	}
	return f.Close()
}

// tearPreImages leaves all pre-images but one.
func (k *killer) tearPreImages() error {
	left := 0
	for path, b := range k.before {
		if dir := filepath.Dir(path); filepath.Base(dir) == "pre-images" {
			if left++; left > 1 {
				continue
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				return err
			}
		}
	}
	if left == 0 {
		return fmt.Errorf("there were no pre-images to be dropped")
	}
	return nil
}

// loseRename puts one file of the instance back to what it was when the child started: its directory was not synced.
func (k *killer) loseRename() error {
	for path, b := range k.before {
		if strings.HasPrefix(path, k.Root) && !strings.HasPrefix(filepath.Base(path), ".") {
			return os.WriteFile(path, b, 0o600)
		}
	}
	return fmt.Errorf("no file of the instance was there before")
}

// InProcessConn connects to the bus; an ack that it is to be cut is sent by half.
func (k *killer) InProcessConn() (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(context.Background(), "tcp", k.bus)
	if err != nil {
		return nil, err
	}
	return &cutting{c, k}, nil
}

type cutting struct {
	net.Conn
	k *killer
}

func (c *cutting) Write(b []byte) (int, error) {
	if c.k.armed.Load() && bytes.Contains(b, []byte("lockstep.ack.")) {
		_, _ = c.Conn.Write(b[:len(b)/2])
		return 0, die()
	}
	return c.Conn.Write(b)
}
