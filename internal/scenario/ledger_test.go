package scenario

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// No single copy is trusted (guarantee 12): the ledger is damaged under a running publisher and agents, which is noticed, said on every
// screen, and repaired with the real command from what is left, and all go on.
var damages = []scenario{
	{"ledger with a flipped bit in the middle", 1, func(w *world) {
		w.damaged(events.ReasonLedgerTruncated, func() {
			w.offline(func() { w.bus.FlipBit(events.StreamLedger, numbered(w.state.Number/2)) })
		})
	}},
	{"ledger with a flipped bit at the end", 1, func(w *world) {
		w.damaged(events.ReasonLedgerTruncated, func() {
			w.offline(func() { w.bus.FlipBit(events.StreamLedger, numbered(w.state.Number)) })
		})
	}},
	{"ledger cut", 1, func(w *world) {
		w.damaged(events.ReasonLedgerTruncated, func() {
			w.offline(func() {
				block := w.blocks()[0]
				info, err := os.Stat(block)
				must(w.t, err)
				must(w.t, os.Truncate(block, info.Size()/2))
			})
		})
	}},
	{"ledger emptied through the stream's configuration", 1, func(w *world) {
		w.damaged(events.ReasonLedgerTruncated, func() { bustest.NewWire(w.t, w.bus.URL()).Shrink(events.StreamLedger) })
	}},
	{"ledger deleted", 1, func(w *world) {
		w.damaged(events.ReasonLedgerTruncated, func() { bustest.NewWire(w.t, w.bus.URL()).DropStream(events.StreamLedger) })
	}},
	{"ledger restored from an older backup of it alone", 1, func(w *world) {
		stream := filepath.Dir(filepath.Dir(w.blocks()[0]))
		backup := filepath.Join(shortDir(w.t), "backup")
		w.offline(func() { must(w.t, os.CopyFS(backup, os.DirFS(stream))) })
		w.release(set("*", "x", "newer than the backup"))
		w.whole()
		w.damaged(events.ReasonLedgerTruncated, func() {
			w.offline(func() {
				must(w.t, os.RemoveAll(stream))
				must(w.t, os.CopyFS(stream, os.DirFS(backup)))
			})
		})
	}},
	// Bus and copy agree with each other; only agents know better. A second publisher's copy has the rest.
	{"ledger restored from an older backup of everything", 2, func(w *world) {
		backup, p := shortDir(w.t), w.publishers[0]
		data, store := filepath.Join(backup, "data"), filepath.Join(backup, "store")
		p.kill()
		w.offline(func() {
			must(w.t, os.CopyFS(data, os.DirFS(p.settings.Data)))
			must(w.t, os.CopyFS(store, os.DirFS(w.bus.StoreDir())))
		})
		p.start()
		w.release(set("*", "x", "newer than the backup"))
		w.whole()
		served := w.serving()
		for _, p := range w.publishers {
			p.kill()
		}
		w.offline(func() {
			must(w.t, os.RemoveAll(p.settings.Data))
			must(w.t, os.CopyFS(p.settings.Data, os.DirFS(data)))
			must(w.t, os.Chmod(filepath.Join(p.settings.Data, "publisher.key"), 0o600))
			must(w.t, os.RemoveAll(w.bus.StoreDir()))
			must(w.t, os.CopyFS(w.bus.StoreDir(), os.DirFS(store)))
		})
		p.start()
		p.readOnly(events.ReasonLedgerTruncated)
		served()
		w.repair("--from", filepath.Join(w.publishers[1].settings.Data, "ledger.copy"))
		w.release(set("*", "x", "after the repair"))
	}},
	// The last change is on no copy; its releases lie on the bus, and the agents have them.
	{"entries of the ledger on no copy", 1, func(w *world) {
		w.whole()
		p, stream, backup := w.publishers[0], filepath.Dir(filepath.Dir(w.blocks()[0])), shortDir(w.t)
		own, copied := filepath.Join(p.settings.Data, "ledger.copy"), filepath.Join(backup, "ledger.copy")
		copyFile(w.t, own, copied)
		w.offline(func() { must(w.t, os.CopyFS(filepath.Join(backup, "stream"), os.DirFS(stream))) })
		w.release(set("*", "x", "lost"))
		w.whole()
		served := w.serving()
		p.kill()
		w.offline(func() {
			copyFile(w.t, copied, own)
			must(w.t, os.RemoveAll(stream))
			must(w.t, os.CopyFS(stream, os.DirFS(filepath.Join(backup, "stream"))))
		})
		p.start()
		p.readOnly(events.ReasonLedgerTruncated)
		p.kill()
		before := w.extent()
		said, code := run(w.t, "publisher", "ledger", "repair", "--yes", "--data", p.settings.Data, "--nats", w.bus.URL())
		if code == 0 || !strings.Contains(said, "--accept-loss") || w.extent() != before {
			w.t.Errorf("a repair without a person's word (%d): %s", code, said)
		}
		w.repair("--accept-loss", "--as", "olga", "-m", "both disks are gone")
		served()
		w.state = nil // what was lost is another entry now
		w.release(set("*", "x", "after the repair"))
	}},
}

// damaged damages the ledger: it is noticed before anything is appended, agents serve all the time, and after the repair all go on.
func (w *world) damaged(reason events.Reason, damage func()) {
	w.t.Helper()
	w.whole()
	p := w.publishers[0]
	served := w.serving()
	damage()
	var asked sync.WaitGroup
	asked.Go(func() { // somebody who does not wait
		ctx, cancel := w.context()
		defer cancel()
		c := w.command("anna", ledger.Propose{Reason: "at once", Edits: []ledger.Edit{set(env0, "z", "at once")}})
		out, err := p.calls().Do(ctx, c, false)
		if err == nil { // before it was noticed, so it is there for good
			w.mu.Lock()
			w.proposed["at once"] = out.Change
			w.mu.Unlock()
		}
		if err != nil && api.KindOf(err) != api.KindUnavailable {
			w.t.Errorf("a command right after the damage: %v", err)
		}
	})
	p.readOnly(reason)
	asked.Wait()
	served()
	w.repair()
	w.release(set("*", "x", "after the repair"))
}

// whole waits until nothing is under way and every publisher's copy holds the whole ledger.
func (w *world) whole() {
	w.t.Helper()
	w.settle()
	w.recorded()
	bustest.Eventually(w.t, "the ledger is copied", func() bool {
		w.read()
		for _, p := range w.publishers {
			b, err := os.ReadFile(filepath.Join(p.settings.Data, "ledger.copy"))
			if err != nil || uint64(bytes.Count(b, []byte("\n"))) != w.state.Number {
				return false
			}
		}
		return true
	})
}

// offline changes the bus's files while it does not run.
func (w *world) offline(change func()) {
	w.t.Helper()
	w.bus.Kill()
	change()
	w.bus.Restart()
	bustest.Eventually(w.t, "the bus is back", w.conn.Connected)
}

// blocks are the files that hold the ledger.
func (w *world) blocks() []string {
	w.t.Helper()
	blocks, err := filepath.Glob(filepath.Join(w.bus.StoreDir(), "jetstream", "*", "streams", events.StreamLedger, "msgs", "*.blk"))
	must(w.t, err)
	if len(blocks) == 0 {
		w.t.Fatal("the ledger has no blocks")
	}
	return blocks
}

// numbered is the text by which an entry is found in a file.
func numbered(entry uint64) string { return fmt.Sprintf(`"number":%d,`, entry) }
