package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const pendingFile = "pending"

// pendingRun is what the pending file holds: the releases of an apply under way, as they came. It is written before the apply and
// not synced: it survives the death of the process, not of the machine, and is verified again when it is read.
type pendingRun struct {
	Releases []pendingRelease `json:"releases"`
}

type pendingRelease struct {
	Payload   []byte `json:"payload"`
	Signature string `json:"signature"`
}

func writePending(dir string, links []link) error {
	var run pendingRun
	for _, l := range links {
		run.Releases = append(run.Releases, pendingRelease{l.release.Payload, l.release.Signature})
	}
	b, err := json.Marshal(run)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, pendingFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func removePending(dir string) error {
	err := os.Remove(filepath.Join(dir, pendingFile))
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
	var file pendingRun
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("pending: %w", err)
	}
	var run bus.Run
	for _, r := range file.Releases {
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
		run = append(run, bus.Release{Revision: revision, Chain: at.Chain, Stored: bus.Stored{Payload: r.Payload, Signature: r.Signature}})
	}
	if len(run) == 0 {
		return nil, nil
	}
	if last := run[len(run)-1]; verify(last.Chain, last.Signature) != nil {
		return nil, errors.New("pending: it is not signed by the publisher")
	}
	return run, nil
}
