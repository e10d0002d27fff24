package publisher_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A listener holds the seals that it hears against each other, as agents do.
type listener struct {
	t    *testing.T
	conn *bus.Conn
	id   string
	keys []string
	asks int // of as many agents: each is answered once a second

	mu       sync.Mutex
	heard    seal.Head
	proven   int // pulses that brought the proof from the one before
	unproven int // that brought another one, or none
}

func listen(t *testing.T, conn *bus.Conn, p *publisher.Publisher) *listener {
	t.Helper()
	l := &listener{t: t, conn: conn}
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { l.id, l.keys = s.ID, s.Trust().Publishers })
	stop, err := conn.SubscribePulse(l.hear)
	must(t, err)
	t.Cleanup(stop)
	return l
}

func (l *listener) hear(payload []byte, signature string) {
	allowed := func(key string) bool { return key == l.keys[0] }
	p, err := events.DecodePulse(payload, signature, allowed)
	if err != nil {
		l.t.Errorf("a pulse: %v", err)
		return
	}
	if p.Seal == "" {
		return // the first entries were not read back yet
	}
	now, err := seal.Open(p.Seal, l.id, l.keys)
	if err != nil {
		l.t.Errorf("the seal of a pulse: %v", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard.Size > 0 && now.Size > l.heard.Size {
		if p.Before == l.heard.Size {
			l.proven++
			if err := now.Continues(l.heard, p.Proof); err != nil {
				l.t.Error(err)
			}
		} else {
			l.unproven++
		}
	}
	if now.Size >= l.heard.Size {
		l.heard = now
	}
}

func (l *listener) head() seal.Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard
}

// hears waits until what a publisher has is sealed.
func (l *listener) hears(p *publisher.Publisher) seal.Head {
	l.t.Helper()
	var number uint64
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { number = s.Number })
	bustest.Eventually(l.t, fmt.Sprintf("a seal over %d entries", number), func() bool { return l.head().Size >= number })
	return l.head()
}

// ask asks until it is answered.
func (l *listener) ask(before seal.Head) (a seal.Answer, sealed seal.Head, err error) {
	l.t.Helper()
	q := seal.Question{Head: before, Nonce: "n"}
	question, err := events.Encode(q)
	must(l.t, err)
	bustest.Eventually(l.t, "an answer", func() bool {
		l.asks++
		payload, signature, asked := l.conn.AskProof(bustest.Context(l.t), "dev", fmt.Sprint("agent", l.asks), question)
		if asked != nil {
			return false
		}
		a, sealed, err = seal.DecodeAnswer(payload, signature, q, l.keys)
		return true
	})
	return a, sealed, err
}

func oftenPulsing(o *publisher.Options) { o.PulseInterval = 300 * time.Millisecond }

func TestSealsContinueEachOtherWhoeverLeads(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	conn := bustest.Connect(t, process.URL())
	data, other := t.TempDir(), t.TempDir()
	p := start(t, data, on(process), oftenPulsing)
	addEnvironments(t, p, "dev")
	l := listen(t, conn, p)
	first := l.hears(p)
	release(t, p, "variable/a", "one", "dev")
	l.hears(p)
	l.mu.Lock()
	if l.proven == 0 || l.unproven > 0 {
		t.Errorf("%d seals came with their proof, %d without", l.proven, l.unproven)
	}
	l.mu.Unlock()

	key, err := os.ReadFile(filepath.Join(data, "publisher.key"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other, "publisher.key"), key, 0o600))
	q := start(t, other, on(process), oftenPulsing)
	eventuallyWritable(t, q)
	stop(t, p)
	release(t, q, "variable/a", "two", "dev")
	l.hears(q)
	if _, sealed, err := l.ask(first); err != nil || sealed.Size < first.Size {
		t.Errorf("the publisher that took over proves %+v: %v", sealed, err)
	}
	forked := first
	forked.Root[0] ^= 1
	if _, _, err := l.ask(forked); events.ReasonOf(err) != events.ReasonLedgerForked {
		t.Errorf("a seal of another ledger: %v", err)
	}
}

func TestALossThatWasAcceptedExplainsSeals(t *testing.T) {
	t.Parallel()
	r := newRuin(t)
	p := start(t, r.data, on(r.process), oftenPulsing)
	l := listen(t, r.conn, p)
	eventuallyWritable(t, p)
	before := l.hears(p)
	r.halt(t, p)
	r.heardAll()
	last := uint64(len(r.before))
	r.lose(t, func(n uint64) bool { return n != last/2 })
	repair, err := r.open(t, acceptLoss)
	must(t, err)
	must(t, repair.Run(bustest.Context(t), time.Now()))
	must(t, repair.Stop(t.Context()))

	p = start(t, r.data, on(r.process), oftenPulsing)
	eventuallyWritable(t, p)
	over := seal.Head{Ledger: l.id, Size: last / 2, Root: before.Root} // of a ledger that held the lost entry as its newest
	a, sealed, err := l.ask(over)
	if err != nil || a.Loss == nil || sealed.Size <= last {
		t.Fatalf("%+v, %+v, %v", a, sealed, err)
	}
	if said, err := a.Loss.Said(); err != nil || said.Reason != "both disks are gone" {
		t.Errorf("%+v, %v", said, err)
	}
	tree := &seal.Tree{}
	for _, e := range r.before[:last/2-1] {
		must(t, tree.Append(e.Payload))
	}
	root, err := tree.Root(tree.Size())
	must(t, err)
	if a, _, err := l.ask(seal.Head{Ledger: l.id, Size: tree.Size(), Root: root}); err != nil || a.Loss != nil {
		t.Errorf("a seal over entries before the loss: %+v, %v", a, err)
	}
}
