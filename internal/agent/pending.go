package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const pendingFile = "pending"

// writePending writes the releases of an apply under way, as they came: payload and signature of each, every one behind its length.
// The file is written before the apply and not synced: it survives the death of the process, not of the machine, and is verified
// again when it is read.
func writePending(dir string, links []link, h fault.Hook) error {
	size := 0
	for _, l := range links {
		size += len(l.release.Payload) + len(l.release.Signature) + 2*binary.MaxVarintLen64
	}
	b := make([]byte, 0, size)
	for _, l := range links {
		b = append(binary.AppendUvarint(b, uint64(len(l.release.Payload))), l.release.Payload...)
		b = append(binary.AppendUvarint(b, uint64(len(l.release.Signature))), l.release.Signature...)
	}
	path := filepath.Join(dir, pendingFile)
	// Not emptied first: a file that was empty a moment ago is brought to the disk when it is closed.
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(h.Write(fault.PendingWritten, f, b), f.Truncate(int64(len(b))), f.Close()); err != nil {
		return err
	}
	return h.Step(fault.PendingNamed, func() error { return os.Rename(path+".new", path) })
}

// removePending leaves the file for the next run under its other name: to make a new one each time costs more than all else that is
// done with it.
func removePending(dir string) error {
	path := filepath.Join(dir, pendingFile)
	err := os.Rename(path, path+".new")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readPending returns the releases of the file that continue a position, if they are one chain and the publisher signed its end;
// otherwise none. An unreadable file is none: nothing can be proven by it.
func readPending(dir string, at bus.Position, verify func(chain events.Digest, signature string) error) (bus.Run, error) {
	b, err := os.ReadFile(filepath.Join(dir, pendingFile))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("pending: %w", err)
	}
	var run bus.Run
	for len(b) > 0 {
		var r bus.Stored
		if r, b, err = nextPending(b); err != nil {
			return nil, fmt.Errorf("pending: %w", err)
		}
		_, revision, previous, err := events.PeekRelease(r.Payload)
		if err != nil {
			return nil, fmt.Errorf("pending: %w", err)
		}
		if revision <= at.Revision {
			continue // committed before the file could be removed
		}
		if revision != at.Revision+1 || previous != at.Chain {
			return nil, fmt.Errorf("pending: revision %d does not continue revision %d", revision, at.Revision)
		}
		at.Revision, at.Chain = revision, events.Chain(previous, r.Payload)
		run = append(run, bus.Release{Revision: revision, Chain: at.Chain, Stored: r})
	}
	if len(run) == 0 {
		return nil, nil
	}
	if last := run[len(run)-1]; verify(last.Chain, last.Signature) != nil {
		return nil, errors.New("pending: it is not signed by the publisher")
	}
	return run, nil
}

// nextPending reads one release, and returns what comes after it.
func nextPending(b []byte) (r bus.Stored, rest []byte, err error) {
	payload, b, ok := nextBytes(b)
	signature, b, ok2 := nextBytes(b)
	if !ok || !ok2 {
		return r, nil, errors.New("it is torn")
	}
	return bus.Stored{Payload: payload, Signature: string(signature)}, b, nil
}

func nextBytes(b []byte) (found, rest []byte, ok bool) {
	length, n := binary.Uvarint(b)
	if n <= 0 || length > uint64(len(b)-n) {
		return nil, nil, false
	}
	end := n + int(length)
	return b[n:end], b[end:], true
}
