package publisher_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A thousand proposals and approvals of a few resources race over two publishers, one of them a process of its own: the ledger verifies,
// every answered command is in it once, every refused author is told who changed what, and what each resource holds at the end, and
// held all along, is what the accepted approvals set, each on top of the one that it was compiled against.
func TestRacingAuthorsOverwriteNothing(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	data := t.TempDir()
	p := start(t, data, on(process))
	addEnvironments(t, p, "dev")
	other := t.TempDir()
	key, err := os.ReadFile(filepath.Join(data, "publisher.key"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other, "publisher.key"), key, 0o600))
	q := startChild(t, childSettings{Data: other, NATS: process.URL(), MonitorURL: process.MonitorURL()})

	const authors, each, keys = 25, 20, 5 // each proposes and approves: 1,000 commands
	var (
		mu       sync.Mutex
		answered = map[string]uint64{} // entry by command
		accepted = map[string]bool{}   // changes that were released
		told     int
	)
	send := func(to doer, c ledger.Command) (ledger.Outcome, error) {
		out, err := to.Do(bustest.Context(t), c, false)
		if err == nil {
			mu.Lock()
			answered[c.ID] = out.Entry
			mu.Unlock()
		}
		return out, err
	}
	var racing sync.WaitGroup
	for author := range authors {
		racing.Go(func() {
			name, backends := fmt.Sprintf("author-%d", author), []doer{p, q}
			for i := range each {
				key := fmt.Sprintf("variable/k%d", (author+i)%keys)
				out, err := send(backends[(author+i)%2], command(name, set(key, fmt.Sprintf("%s.%d", name, i), "dev")))
				if err != nil {
					t.Errorf("a proposal: %v", err)
					return
				}
				_, err = send(backends[i%2], command("ben", known(t, p, out.Change)))
				mu.Lock()
				switch {
				case err == nil:
					accepted[out.Change] = true
				case ledger.KindOf(err) != ledger.KindConflict, !strings.Contains(err.Error(), key), !strings.Contains(err.Error(), `in dev is "author-`),
					!strings.Contains(err.Error(), " by author-"), !strings.Contains(err.Error(), " by change "):
					t.Errorf("the second author is told: %v", err)
				default:
					told++
				}
				mu.Unlock()
			}
		})
	}
	racing.Wait()
	if len(accepted)+told != authors*each || len(accepted) < keys || told == 0 {
		t.Errorf("%d accepted, %d told", len(accepted), told)
	}
	conn := bustest.Connect(t, process.URL())
	eventuallySent(t, p, conn)
	verify(t, p)
	explained(t, conn, answered, accepted)
}

// known waits until a publisher knows a change that another one may have taken, and returns what approves it.
func known(t testing.TB, p *publisher.Publisher, change string) (a ledger.Approve) {
	bustest.Eventually(t, "the change is known", func() (ok bool) {
		p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
			if c := s.Changes[change]; c != nil {
				a, ok = ledger.Approve{Change: change, Digest: c.Digest}, true
			}
		})
		return ok
	})
	return a
}

// explained reads the ledger from the bus and holds it against what was answered.
func explained(t testing.TB, conn *bus.Conn, answered map[string]uint64, accepted map[string]bool) {
	t.Helper()
	end, err := conn.LedgerEnd(bustest.Context(t))
	must(t, err)
	state, commands := ledger.New(end.ID), map[string]uint64{}
	must(t, conn.ReadLedger(bustest.Context(t), 1, func(s bus.Stored) error {
		e, err := events.DecodeEntry(s.Payload)
		if err != nil {
			return err
		}
		if e.Events[0].Type != events.TypeContentStored {
			if first, twice := commands[e.Command.ID]; twice {
				return fmt.Errorf("command %s is in entries %d and %d", e.Command.ID, first, e.Number)
			}
			commands[e.Command.ID] = e.Number
		}
		_, _, err = state.Apply(s.Payload, s.Stamp)
		return err
	}))
	for id, entry := range answered {
		if commands[id] != entry {
			t.Errorf("command %s was answered with entry %d, the ledger has it in %d", id, entry, commands[id])
		}
	}
	dev, setter := state.Environments["dev"], map[string]events.Digest{}
	released := 0
	for _, r := range dev.Releases {
		if r.Change == "" {
			continue
		}
		released++
		c := state.Changes[r.Change]
		if c == nil || !accepted[c.ID] {
			t.Errorf("revision %d releases %s, whose approval was not accepted", r.Revision, r.Change)
			continue
		}
		for _, o := range c.Parts[0].Operations {
			if o.Base != setter[o.Key] {
				t.Errorf("revision %d sets %s over %s, and %s had set it", r.Revision, o.Key, o.Base.Short(), setter[o.Key].Short())
			}
			setter[o.Key] = c.Digest
		}
	}
	if released != len(accepted) {
		t.Errorf("%d changes were released, %d accepted", released, len(accepted))
	}
}
