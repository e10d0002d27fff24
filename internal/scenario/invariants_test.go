package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/store"
	"github.com/lockstep-dev/lockstep/pkg/store/storetest"
)

// A standing is where an environment is expected to be that is not in step at its head.
type standing struct {
	condition fleet.Condition
	reason    events.Reason
	revision  uint64
}

// holds waits until the fleet is in step and then checks every invariant.
func (w *world) holds() {
	w.t.Helper()
	w.settle()
	w.recorded()
	w.verified()
	w.released()
	w.onceEach()
	for _, a := range w.agents {
		a.kill()
		a.check()
		a.start()
	}
	w.settle()
}

// settle waits until a publisher shows the fleet in step, and compares every instance with the ledger then. Whatever it shows on the
// way, nothing may be called in step that is not.
func (w *world) settle() {
	w.t.Helper()
	deadline := time.Now().Add(bustest.Deadline)
	bustest.Eventually(w.t, "the fleet is in step", func() bool {
		short := w.short(nil)
		if short != nil && time.Now().After(deadline.Add(-time.Second)) {
			w.t.Fatalf("the fleet does not come to be in step: %v", short)
		}
		return short == nil
	})
	w.read()
	for _, a := range w.agents {
		if err := a.instanceAt(a.known().Checkpoint.Revision); err != nil {
			w.t.Fatalf("settled, and %v", err)
		}
	}
}

// short says what the fleet is short of: in step at its head, or where it is expected to stand, by environment.
func (w *world) short(expected map[string]standing) error {
	w.t.Helper()
	v := w.fleet()
	if v == nil {
		return errors.New("no publisher answers")
	}
	if !v.Ledger.Writable {
		return fmt.Errorf("the ledger is not writable: %s %s", v.Ledger.Reason, v.Ledger.Message)
	}
	for _, e := range v.Environments {
		a := w.agent(e.Name)
		status := a.status()
		if status == nil {
			return fmt.Errorf("the agent of %s does not answer", e.Name)
		}
		if lie := lie(e, status.Checkpoint.Revision, func() error { w.read(); return a.instanceAt(e.Revision) }); lie != nil {
			w.t.Fatal(lie)
		}
		want, named := expected[e.Name]
		if !named {
			want = standing{fleet.InStep, "", e.Head}
		}
		if is := (standing{e.Condition, e.Reason, e.Revision}); is != want {
			return fmt.Errorf("%s is %+v, want %+v: %s", e.Name, is, want, e.Message)
		}
		if status.Checkpoint.Revision != want.revision || status.Outbox > 0 {
			return fmt.Errorf("the agent of %s is at %d, %d acks wait", e.Name, status.Checkpoint.Revision, status.Outbox)
		}
	}
	return nil
}

// lie says where an environment is called in step and is not, or stands anywhere else without a word about it. At is its agent's
// checkpoint.
func lie(e fleet.Environment, at uint64, holds func() error) error {
	switch {
	case e.Condition == fleet.InStep && e.Revision != e.Head:
		return fmt.Errorf("%s is called in step at %d, its head is %d", e.Name, e.Revision, e.Head)
	case e.Condition == fleet.InStep && at < e.Revision && holds() != nil:
		// An agent whose state was taken away has yet to say so; its instance is in step all the same.
		return fmt.Errorf("%s is called in step at %d, and its agent is at %d: %w", e.Name, e.Revision, at, holds())
	case e.Condition != fleet.InStep && e.Reason == "" && e.Message == "":
		return fmt.Errorf("%s is %s, and nothing says why", e.Name, e.Condition)
	}
	return nil
}

func (w *world) agent(environment string) *inst {
	for _, a := range w.agents {
		if a.environment == environment {
			return a
		}
	}
	w.t.Fatalf("there is no agent of %s", environment)
	return nil
}

// read reads on in the bus's ledger, without a publisher: Apply refuses what is not chained or cannot be derived as recorded.
func (w *world) read() {
	w.t.Helper()
	bustest.Eventually(w.t, "the bus can be read", func() bool {
		err := w.readOn()
		if err != nil && !errors.Is(err, bus.ErrUnavailable) {
			w.t.Fatal(err)
		}
		return err == nil
	})
}

func (w *world) readOn() error {
	ctx, cancel := w.context()
	defer cancel()
	if w.state == nil {
		end, err := w.conn.LedgerEnd(ctx)
		if err != nil {
			return err
		}
		w.state = ledger.NewWhole(end.ID)
	}
	return w.conn.ReadLedger(ctx, w.state.Number+1, func(s bus.Stored) error {
		_, _, err := w.state.Apply(s.Payload, s.Stamp)
		return err
	})
}

// recorded waits until every delivery is in the ledger: every agent applied every release that it counts for.
func (w *world) recorded() {
	w.t.Helper()
	bustest.Eventually(w.t, "every delivery is in the ledger", func() bool {
		w.read()
		for _, e := range w.state.Environments {
			a := e.Agents["one"]
			if a.Position != e.Head() || a.Open != nil {
				return false
			}
			for _, r := range e.Releases {
				if a.Counts(r) && a.Applied(r.Revision) == nil {
					return false
				}
			}
		}
		return true
	})
}

// verified asks every publisher that runs to verify the ledger.
func (w *world) verified() {
	w.t.Helper()
	for i, p := range w.publishers {
		bustest.Eventually(w.t, "a publisher verifies the ledger", func() bool {
			ctx, cancel := w.context()
			defer cancel()
			v, err := p.calls().Verify(ctx)
			if err == nil && !v.OK {
				w.t.Fatalf("publisher %d: %+v", i, v)
			}
			return err == nil
		})
	}
}

// released waits until the release stream holds what the ledger released: each once, in order, signed.
func (w *world) released() {
	w.t.Helper()
	var short error
	bustest.Eventually(w.t, "the release stream holds what the ledger released", func() bool {
		w.read()
		ctx, cancel := w.context()
		defer cancel()
		next := map[string]uint64{}
		short = nil
		_, err := w.conn.ReadAllReleases(ctx, func(environment string, s bus.Stored) error {
			next[environment]++
			r := next[environment]
			want, err := w.state.Payload(environment, r)
			if err == nil && string(want) != string(s.Payload) {
				err = errors.New("it is another one")
			}
			if err == nil {
				err = events.VerifyWave(w.state.ID, w.state.Environments[environment].Releases[r-1].Chain, s.Signature, w.state.Trust().AllowsPublisher)
			}
			if err != nil {
				short = fmt.Errorf("message %d of %s: %w", r, environment, err)
			}
			return nil
		})
		for name, e := range w.state.Environments {
			if next[name] != e.Head() {
				short = fmt.Errorf("%s has %d messages, its head is %d", name, next[name], e.Head())
			}
		}
		return err == nil && short == nil
	})
}

// onceEach checks that what was answered is in the ledger, and nothing twice.
func (w *world) onceEach() {
	w.t.Helper()
	found := map[string]string{}
	for _, c := range w.state.ChangeList() {
		if other, twice := found[c.Reason]; twice {
			w.t.Errorf("one proposal became %s and %s", other, c.ID)
		}
		found[c.Reason] = c.ID
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for reason, change := range w.proposed {
		if found[reason] != change {
			w.t.Errorf("the answer was %s, the ledger says %q (%s)", change, found[reason], reason)
		}
	}
}

// check compares what a killed agent left with the ledger: its store is sound, its checkpoint and its whole history are the ledger's,
// and its files are those of its checkpoint.
func (a *inst) check() {
	t := a.w.t
	t.Helper()
	path := filepath.Join(a.settings.State, "agent.db")
	storetest.Check(t, path)
	view, err := agent.CheckpointStopped(a.settings.State)
	must(t, err)
	at := view.Checkpoint.Revision
	want, err := a.w.state.Folded(a.environment, at)
	must(t, err)
	if view.Checkpoint.Chain != want.Chain || view.Checkpoint.State != want.State.Digest() || view.Checkpoint.Observed != want.State.Digest() {
		t.Errorf("%s: the checkpoint at %d is not the ledger's fold: %+v", a.environment, at, view.Checkpoint)
	}
	s, err := store.OpenReadOnly(path)
	must(t, err)
	defer s.Close()
	must(t, s.View(func(tx *store.Tx) error {
		last := uint64(0)
		for r, err := range tx.History(0) {
			if err != nil {
				return err
			}
			last++
			if last > a.w.state.Environments[a.environment].Head() {
				t.Errorf("%s: the history has a revision %d, the ledger has none", a.environment, last)
				return nil
			}
			is := a.w.state.Environments[a.environment].Releases[last-1]
			if r.Revision != last || r.Chain != is.Chain || r.State != is.State || r.Entry != is.Entry || r.Change != is.Change {
				t.Errorf("%s: revision %d of the history is %+v, the ledger says %+v", a.environment, last, r, is)
			}
		}
		if last != at {
			t.Errorf("%s: the history ends at %d, the checkpoint is at %d", a.environment, last, at)
		}
		return nil
	}))
	if err := a.instanceAt(at); err != nil {
		t.Error(err)
	}
}

// instanceAt says where the instance's files do not hold exactly one revision.
func (a *inst) instanceAt(revision uint64) error {
	want, err := a.w.state.Folded(a.environment, revision)
	if err != nil {
		return err
	}
	return a.instanceIs(want)
}

func (a *inst) instanceIs(want *fold.Environment) error {
	for _, f := range instanceFiles {
		kind := strings.TrimSuffix(string(f.Resources[0]), "*")
		values := map[string]any{}
		for key, value := range want.State.Values() {
			if name, is := strings.CutPrefix(key, kind); is {
				var v any
				if err := json.Unmarshal(value, &v); err != nil {
					return err
				}
				values[name] = v
			}
		}
		held, err := a.held(f, kind)
		if err != nil {
			return err
		}
		if len(held)+len(values) > 0 && !reflect.DeepEqual(held, values) { // an absent file reads as no map
			return fmt.Errorf("%s of %s holds %v, at revision %d it should hold %v", f.Path, a.environment, held, want.Revision, values)
		}
	}
	return nil
}

// held are the values of one kind that the instance holds, in a file, or for an instance behind a program in one file each.
func (a *inst) held(f file.File, kind string) (map[string]any, error) {
	held := map[string]any{}
	if a.settings.program() {
		found, err := os.ReadDir(filepath.Join(a.settings.Root, kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, entry := range found {
			b, err := os.ReadFile(filepath.Join(a.settings.Root, kind, entry.Name()))
			if errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(entry.Name(), ".new") {
				continue // being replaced
			}
			var v any
			if err := errors.Join(err, json.Unmarshal(b, &v)); err != nil {
				return nil, err
			}
			held[entry.Name()] = v
		}
		return held, nil
	}
	b, err := os.ReadFile(filepath.Join(a.settings.Root, f.Path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return held, yaml.Unmarshal(b, &held) // JSON is YAML
}
