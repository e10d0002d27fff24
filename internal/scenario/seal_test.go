package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Everything that the publisher and the bus hold is put back to an older backup, and goes on with other entries than before, further than
// anybody has heard of: entry by entry nobody who was away can tell. The agent holds the seals against each other.
func TestAnAgentThatWasAwaySeesByItsSealThatTheLedgerIsAnotherOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, 1)
	w.release(set("*", "x", "first"))
	w.whole()
	p, a, backup := w.publishers[0], w.agents[0], shortDir(t)
	data, store := filepath.Join(backup, "data"), filepath.Join(backup, "store")
	p.kill()
	w.offline(func() {
		must(t, os.CopyFS(data, os.DirFS(p.settings.Data)))
		must(t, os.CopyFS(store, os.DirFS(w.bus.StoreDir())))
	})
	p.start()
	seen := w.do("op", ledger.AddEnvironment{Name: "known", Approvals: 1}).Entry
	a.says("that it verified it", func(s *agent.Status) bool { return s.Sealed >= seen && s.Condition.Word == agent.InStep })
	a.link.cut()

	p.kill()
	w.offline(func() {
		must(t, os.RemoveAll(p.settings.Data))
		must(t, os.CopyFS(p.settings.Data, os.DirFS(data)))
		must(t, os.Chmod(filepath.Join(p.settings.Data, "publisher.key"), 0o600))
		must(t, os.RemoveAll(w.bus.StoreDir()))
		must(t, os.CopyFS(w.bus.StoreDir(), os.DirFS(store)))
	})
	p.start()
	for i, entry := 0, uint64(0); entry <= seen+10; i++ {
		entry = w.do("op", ledger.AddEnvironment{Name: fmt.Sprint("other", i), Approvals: 1}).Entry
	}
	sealed := a.known().Sealed
	a.link.heal()
	a.says("forked", func(s *agent.Status) bool {
		return s.Condition.Reason == events.ReasonLedgerForked && strings.Contains(s.Condition.Message, "seal") && s.Sealed == sealed
	})
}
