package scenario

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

var everyDeath = flag.Bool("scenario.deaths", false, "let publishers die at every stage of every point; otherwise at one of each")

// The points of the publisher, by what it does when it comes to them.
var (
	beginning = []fault.Point{fault.DataLocked, fault.KeyMade, fault.StreamsMade, fault.EntryAppended, fault.EntryCopied, fault.CopyMarked}
	deciding  = []fault.Point{fault.LeaseTaken, fault.ContentAppended, fault.EntryAppended, fault.ReleasesSent, fault.EntryCopied, fault.DeliveryRecorded, fault.ReleasesPurged}
	telling   = []fault.Point{fault.AlarmsKept}
	repairing = []fault.Point{fault.ReplacedKept, fault.CopyWritten, fault.LedgerMadeAnew, fault.EntriesRestored}
)

func TestPublishersDieAtEveryPoint(t *testing.T) {
	visited := slices.Concat(beginning, deciding, telling, repairing)
	for _, p := range fault.Of("publisher") {
		if !slices.Contains(visited, p) {
			t.Errorf("no publisher dies there: %s", p)
		}
	}
	for _, p := range visited {
		if !slices.Contains(fault.Of("publisher"), p) {
			t.Errorf("publishers are to die where there is no point: %s", p)
		}
	}
}

// deaths are those of some points: at every stage, or of every second point at a different one each.
func deaths(points []fault.Point) (list []*death) {
	for i, p := range points {
		stages := p.Stages()
		switch {
		case *everyDeath:
		case i%2 == 1:
			continue
		default:
			stages = stages[(i+1)%len(stages):][:1]
		}
		for _, s := range stages {
			list = append(list, &death{Point: p.Name, Stage: s})
		}
	}
	return list
}

// A publisher that is killed in any step of its first start begins as if nothing had been.
func TestAPublisherKilledInItsFirstStartBegins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 0, 0)
	p := &pub{w: w, settings: settings{Data: shortDir(t), NATS: w.bus.URL(), MonitorURL: w.bus.MonitorURL()}}
	w.publishers = append(w.publishers, p)
	for _, d := range deaths(beginning) {
		p.startDying(d, nil)()
	}
	p.start()
	w.populate(1)
	w.release(set("*", "x", "first"))
	w.holds()
	if left, err := filepath.Glob(filepath.Join(p.settings.Data, "*.new-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// A publisher that is killed in any step of a decision or of what follows from it goes on where it was, also when the bus was killed
// with it: what was asked is done once, and everything arrives.
func TestAPublisherKilledAnywhereGoesOn(t *testing.T) {
	for begin := range 2 {
		if begin > 0 && !*everyDeath {
			break
		}
		t.Run(fmt.Sprint(begin), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1, 2)
			w.release(set("*", "x", "first"))
			w.settle()
			p := w.publishers[0]
			for i, d := range deaths(deciding) {
				p.kill()
				died := p.startDying(d, nil)
				var asked sync.WaitGroup
				asked.Go(func() { w.ask(set("*", "x", fmt.Sprint(i), "y", d.String())) })
				if d.Point == fault.ReleasesPurged.Name {
					foreign := bustest.NewChain(t, env0).Grow(3, "foreign").Releases[2]
					bustest.NewWire(t, w.bus.URL()).Store(env0, foreign.Payload, foreign.Signature)
				}
				died()
				if i%2 == begin {
					w.offline(func() {})
				}
				p.start()
				asked.Wait()
				w.settle()
				w.released()
			}
			w.holds()
		})
	}
}

// ask proposes and approves, again and again with the same ids until each is answered. It is for a goroutine of its own.
func (w *world) ask(edit ledger.Edit) {
	a, err := w.propose(edit)
	if err == nil {
		_, err = w.try(w.command("ben", a))
	}
	if err != nil {
		w.t.Errorf("asked while the publisher died: %v", err)
	}
}

// A repair that is killed in any step is begun again and finds everything: the same ledger, with the same stamps.
func TestARepairKilledAnywhereIsBegunAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, 1)
	w.release(set("*", "x", "first"))
	p := w.publishers[0]
	for i, d := range deaths(repairing) {
		w.release(set("*", "x", fmt.Sprint(i)))
		w.whole()
		p.kill()
		own, backup := filepath.Join(p.settings.Data, "ledger.copy"), filepath.Join(shortDir(t), "ledger.copy")
		copyFile(t, own, backup)
		w.offline(func() { w.bus.FlipBit(events.StreamLedger, numbered(w.state.Number-1)) })
		info, err := os.Stat(own)
		must(t, err)
		must(t, os.Truncate(own, info.Size()-10)) // and the copy is torn
		p.startDying(d, []string{backup})()
		if said, code := run(t, "publisher", "ledger", "repair", "--yes", "--data", p.settings.Data, "--nats", w.bus.URL(), "--from", backup); code != 0 {
			t.Fatalf("repair (%d) after %s: %s", code, d, said)
		}
		p.start()
		w.settle()
		w.verified()
	}
	w.holds()
}
