package publisher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

// keptAlarms is what is known of alarms, and where it is kept.
type keptAlarms struct {
	keeper alarmKeeper
	turn   sync.Mutex // held from a change until it is kept; before mu

	// unkept is what came of sendings and could not be kept, oldest first; of turn. There are no more than were on their way at once:
	// nothing is sent until it is kept.
	unkept []func(*notify.State)

	mu    sync.Mutex // never held over I/O
	state notify.State
	kept  bool // by whoever keeps it, as it is here, and by nobody else since
}

// An alarmKeeper keeps what is known of alarms, as text.
type alarmKeeper interface {
	// read is what is kept; nothing where nothing was.
	read(ctx context.Context) ([]byte, error)
	// keep replaces what was read or kept last, whole or not at all. bus.ErrConflict says that somebody else replaced it.
	keep(ctx context.Context, text []byte) error
}

// read takes over what is kept. It is to be kept once again before anything is sent: only that shows that it is the newest.
func (k *keptAlarms) read(ctx context.Context) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	return k.readAgain(ctx)
}

// readAgain reads, and takes what is not kept yet on that: what a receiver took is not forgotten over it. turn is held.
func (k *keptAlarms) readAgain(ctx context.Context) error {
	text, err := k.keeper.read(ctx)
	if err != nil || len(text) == 0 {
		return err // what is known here is more than nothing
	}
	var state notify.State
	if err := json.Unmarshal(text, &state); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state, k.kept = state, false
	for _, fn := range k.unkept {
		fn(&k.state)
	}
	return nil
}

// change changes the state and keeps it. Where somebody else kept something in between, it is made anew on that.
func (k *keptAlarms) change(ctx context.Context, fn func(*notify.State) (changed bool)) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	return k.changeNow(ctx, fn)
}

// took takes what came of a sending, as change does. What cannot be kept is taken again on whatever is read, until it is kept: it cannot be
// found out anew.
func (k *keptAlarms) took(ctx context.Context, fn func(*notify.State)) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	err := k.changeNow(ctx, func(s *notify.State) bool { fn(s); return true })
	if err != nil {
		k.unkept = append(k.unkept, fn)
	}
	return err
}

// changeNow changes; turn is held.
func (k *keptAlarms) changeNow(ctx context.Context, fn func(*notify.State) (changed bool)) error {
	for {
		k.mu.Lock()
		changed := fn(&k.state)
		if !changed && k.kept {
			k.mu.Unlock()
			return nil
		}
		text, err := json.Marshal(&k.state)
		k.kept = false
		k.mu.Unlock()
		if err == nil {
			err = k.keeper.keep(ctx, text)
		}
		switch {
		case errors.Is(err, bus.ErrConflict):
			if err := k.readAgain(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			k.unkept = nil
			k.mu.Lock()
			k.kept = true
			k.mu.Unlock()
			return nil
		}
	}
}

// due is what is to be sent to a target now; nothing that is not kept.
func (k *keptAlarms) due(target string, said notify.Said, now time.Time) (notify.Delivery, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.kept {
		return notify.Delivery{}, false
	}
	return k.state.Due(target, said, now)
}

// An alarmFile keeps in a file.
type alarmFile struct {
	path  string
	fault fault.Hook
}

func (f *alarmFile) read(context.Context) ([]byte, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func (f *alarmFile) keep(_ context.Context, text []byte) error {
	file, err := os.OpenFile(f.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return f.fault.Step(fault.AlarmsKept, func() error { return os.Rename(file.Name(), f.path) })
}

// An alarmBucket keeps on the bus.
type alarmBucket struct {
	publisher *Publisher
	revision  uint64 // of what was read or kept last
}

func (b *alarmBucket) read(ctx context.Context) (text []byte, err error) {
	text, b.revision, err = b.publisher.conn.Alarms(ctx)
	return text, err
}

func (b *alarmBucket) keep(ctx context.Context, text []byte) error {
	return b.publisher.opts.Fault.Step(fault.AlarmsKept, func() error {
		revision, err := b.publisher.conn.KeepAlarms(ctx, text, b.revision)
		if err != nil {
			return fmt.Errorf("on the bus: %w", err)
		}
		b.revision = revision
		return nil
	})
}
