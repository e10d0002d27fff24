package publisher_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A ruin is a scene whose agent lives on, and the ledger as it was.
type ruin struct {
	*scene
	one    *agent
	before []bus.Stored
}

func newRuin(t *testing.T) *ruin {
	t.Helper()
	r := &ruin{scene: newScene(t)}
	p := start(t, r.data, on(r.process))
	r.one = startAgent(t, p, "dev", "one")
	r.one.reaches(4)
	r.halt(t, p)
	return r
}

// halt stops a publisher whose own copy holds the whole ledger, which it remembers. What an agent said may be recorded while the
// publisher stops, and is copied by its next start then.
func (r *ruin) halt(t *testing.T, p *publisher.Publisher) {
	t.Helper()
	for {
		stop(t, p)
		r.remember(t)
		b, err := os.ReadFile(filepath.Join(r.data, "ledger.copy"))
		must(t, err)
		if bytes.Count(b, []byte("\n")) == len(r.before) {
			return
		}
		p = start(t, r.data, on(r.process))
		r.copied(t, p)
	}
}

// copied waits until the publisher's copy holds all that it knows.
func (r *ruin) copied(t *testing.T, p *publisher.Publisher) {
	t.Helper()
	bustest.Eventually(t, "the ledger is copied", func() bool {
		view := p.Fleet().Ledger
		b, err := os.ReadFile(filepath.Join(r.data, "ledger.copy"))
		return err == nil && view.Writable && uint64(bytes.Count(b, []byte("\n"))) == view.Tip.Number
	})
}

// remember reads the ledger as it is now.
func (r *ruin) remember(t *testing.T) {
	t.Helper()
	r.before = nil
	must(t, r.conn.ReadLedger(bustest.Context(t), 1, func(e bus.Stored) error {
		r.before = append(r.before, e)
		return nil
	}))
}

// offline changes the bus's files while it does not run.
func (r *ruin) offline(t *testing.T, change func()) {
	t.Helper()
	r.process.Kill()
	change()
	r.process.Restart()
	bustest.Eventually(t, "the bus is back", func() bool { return r.conn.Connected() && r.one.conn.Connected() })
}

// blocks are the files that hold the ledger.
func (r *ruin) blocks(t *testing.T) []string {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(r.process.StoreDir(), "jetstream", "*", "streams", events.StreamLedger, "msgs", "*.blk"))
	must(t, err)
	if len(blocks) == 0 {
		t.Fatal("the ledger has no blocks")
	}
	return blocks
}

func (r *ruin) open(t *testing.T, change ...func(*publisher.RepairOptions)) (*publisher.Repair, error) {
	t.Helper()
	o := publisher.RepairOptions{Options: options(r.data, on(r.process))}
	for _, fn := range change {
		fn(&o)
	}
	repair, err := publisher.OpenRepair(bustest.Context(t), o)
	if repair != nil {
		t.Cleanup(func() { must(t, repair.Stop(context.Background())) })
	}
	return repair, err
}

// found is what a repair found, as its report says it.
func found(r *publisher.Repair) string {
	b, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// repair repairs, and sees that the ledger holds the same bytes with the same stamps, opens, and brings a change to the agent.
func (r *ruin) repair(t *testing.T, change ...func(*publisher.RepairOptions)) *publisher.Repair {
	t.Helper()
	repair, err := r.open(t, change...)
	must(t, err)
	if !repair.Needed() {
		t.Fatalf("nothing to repair: %s", found(repair))
	}
	must(t, repair.Run(bustest.Context(t), time.Now()))
	must(t, repair.Stop(t.Context()))
	r.isAsItWas(t)
	again, err := r.open(t)
	must(t, err)
	if again.Needed() || len(again.Beyond) > 0 {
		t.Errorf("after the repair: %s", found(again))
	}
	must(t, again.Stop(t.Context()))
	p := start(t, r.data, on(r.process))
	eventuallyWritable(t, p)
	release(t, p, "variable/x", "after the repair", "dev")
	r.one.reaches(heads(p)["dev"])
	verify(t, p)
	stop(t, p)
	return repair
}

func (r *ruin) isAsItWas(t *testing.T) {
	t.Helper()
	n := 0
	must(t, r.conn.ReadLedger(bustest.Context(t), 1, func(e bus.Stored) error {
		if n < len(r.before) && (!bytes.Equal(e.Payload, r.before[n].Payload) || !e.Stamp.Equal(r.before[n].Stamp)) {
			t.Errorf("entry %d was %s %s, is %s %s", e.Sequence, r.before[n].Stamp, r.before[n].Payload, e.Stamp, e.Payload)
		}
		n++
		return nil
	}))
	if n != len(r.before) {
		t.Fatalf("%d entries, before %d", n, len(r.before))
	}
}

func number(n int) string { return fmt.Sprintf(`"number":%d,`, n) }

func TestADamagedLedgerIsNoticedAndRepaired(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(t *testing.T, r *ruin){
		"a bit flipped in the middle": func(t *testing.T, r *ruin) {
			r.offline(t, func() { r.process.FlipBit(events.StreamLedger, number(len(r.before)/2)) })
		},
		"a bit flipped at the end": func(t *testing.T, r *ruin) {
			r.offline(t, func() { r.process.FlipBit(events.StreamLedger, number(len(r.before))) })
		},
		"cut": func(t *testing.T, r *ruin) {
			r.offline(t, func() {
				block := r.blocks(t)[0]
				info, err := os.Stat(block)
				must(t, err)
				must(t, os.Truncate(block, info.Size()/2))
			})
		},
		"an older backup of the ledger": func(t *testing.T, r *ruin) {
			backup, dir := t.TempDir(), filepath.Dir(filepath.Dir(r.blocks(t)[0]))
			r.offline(t, func() { must(t, os.CopyFS(backup, os.DirFS(dir))) })
			p := start(t, r.data, on(r.process))
			release(t, p, "variable/x", "newer than the backup", "dev")
			r.one.reaches(5)
			r.halt(t, p)
			r.offline(t, func() {
				must(t, os.RemoveAll(dir))
				must(t, os.CopyFS(dir, os.DirFS(backup)))
			})
		},
		"emptied through its configuration": func(t *testing.T, r *ruin) { bustest.NewWire(t, r.process.URL()).Shrink(events.StreamLedger) },
		"deleted":                           func(t *testing.T, r *ruin) { bustest.NewWire(t, r.process.URL()).DropStream(events.StreamLedger) },
		"the whole store lost": func(t *testing.T, r *ruin) {
			r.offline(t, func() { must(t, os.RemoveAll(r.process.StoreDir())) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRuin(t)
			damage(t, r)
			p := start(t, r.data, on(r.process))
			refuses(t, p, r.conn, events.ReasonLedgerTruncated, "")
			named := false
			for _, c := range p.Doctor(bustest.Context(t)) {
				named = named || strings.Contains(c.Next, "publisher ledger repair --data "+r.data+" --nats "+r.process.URL())
			}
			if !named {
				t.Errorf("doctor does not name the repair: %+v", p.Doctor(bustest.Context(t)))
			}
			if _, err := r.open(t); err == nil || !strings.Contains(err.Error(), "another publisher runs on it") {
				t.Errorf("repaired under a running publisher: %v", err)
			}
			stop(t, p)
			repair := r.repair(t)
			if damaged := repair.Copies[0]; damaged.Verified >= uint64(len(r.before)) {
				t.Errorf("the bus's copy was said to be %+v", damaged)
			}
		})
	}
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o600))
}

// TestAnOlderBackupOfEverythingIsRepairedFromANewerCopy: nothing on the publisher's machine knows better, an agent does.
func TestAnOlderBackupOfEverythingIsRepairedFromANewerCopy(t *testing.T) {
	t.Parallel()
	r := newRuin(t)
	backup, data := t.TempDir(), t.TempDir()
	r.offline(t, func() {
		must(t, os.CopyFS(backup, os.DirFS(r.process.StoreDir())))
		must(t, os.CopyFS(data, os.DirFS(r.data)))
	})
	p := start(t, r.data, on(r.process))
	release(t, p, "variable/x", "newer than the backup", "dev")
	r.one.reaches(5)
	newer := filepath.Join(t.TempDir(), "newer")
	r.halt(t, p)
	copyTo(t, filepath.Join(r.data, "ledger.copy"), newer)
	r.offline(t, func() {
		must(t, os.RemoveAll(r.process.StoreDir()))
		must(t, os.CopyFS(r.process.StoreDir(), os.DirFS(backup)))
	})
	r.data = data
	must(t, os.Chmod(filepath.Join(data, "publisher.key"), 0o600))

	r.one.beatsOn(r.conn)
	p = start(t, r.data, on(r.process))
	refuses(t, p, r.conn, events.ReasonLedgerTruncated, "agent one of dev holds revision 5 of dev")
	stop(t, p)
	repair, err := r.open(t)
	must(t, err)
	if repair.Needed() || len(repair.Beyond) != 1 || !strings.Contains(repair.Beyond[0], "agent one of dev holds revision 5") {
		t.Errorf("without a newer copy: %s", found(repair))
	}
	must(t, repair.Stop(t.Context()))
	r.repair(t, func(o *publisher.RepairOptions) { o.From = []string{newer} })
}

// TestCopiesCompleteEachOther: neither copy holds everything, and a repair that was interrupted is begun again.
func TestCopiesCompleteEachOther(t *testing.T) {
	t.Parallel()
	r := newRuin(t)
	path := filepath.Join(r.data, "ledger.copy")
	b, err := os.ReadFile(path)
	must(t, err)
	lines := bytes.SplitAfter(b, []byte("\n"))
	third := len(r.before) / 3
	must(t, os.WriteFile(path, bytes.Join(lines[:2*third], nil), 0o600))
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	lines[third+1] = bytes.Replace(lines[third+1], []byte(`"number"`), []byte(`"nimber"`), 1)
	must(t, os.WriteFile(elsewhere, bytes.Join(lines[third:], nil), 0o600))
	bustest.NewWire(t, r.process.URL()).DropStream(events.StreamLedger)

	interrupted, err := r.open(t, func(o *publisher.RepairOptions) { o.From = []string{elsewhere} })
	must(t, err)
	if interrupted.Tip.Number != uint64(len(r.before)) {
		t.Fatal(found(interrupted))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := interrupted.Run(ctx, time.Now()); err == nil || !strings.Contains(err.Error(), "run the repair again") {
		t.Fatal(err)
	}
	must(t, interrupted.Stop(t.Context()))
	r.repair(t)
}

func TestAForkIsRefusedUntilOneSideIsChosen(t *testing.T) {
	t.Parallel()
	r := newRuin(t)
	// Another publisher with the same key and without the last entries goes on by itself.
	fork := r.entries[:len(r.entries)-3]
	kept := filepath.Join(r.data, "ledger.copy")
	other := t.TempDir()
	copyTo(t, filepath.Join(r.data, "publisher.key"), filepath.Join(other, "publisher.key"))
	second := bustest.StartProcess(t)
	conn := bustest.Connect(t, second.URL())
	must(t, conn.RestoreLedger(bustest.Context(t), bus.StreamOptions{LedgerID: r.id}, nil))
	for i, e := range fork {
		_, err := conn.Append(bustest.Context(t), e, uint64(i))
		must(t, err)
	}
	p := start(t, other, on(second))
	do(t, p, "op", ledger.AddEnvironment{Name: "elsewhere", Approvals: 1})
	var tip events.Digest
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { tip = s.Hash })
	bustest.Eventually(t, "it is copied", func() bool {
		b, err := os.ReadFile(filepath.Join(other, "ledger.copy"))
		return err == nil && bytes.Count(b, []byte("\n")) == len(fork)+1
	})
	stop(t, p)

	from := func(o *publisher.RepairOptions) { o.From = []string{filepath.Join(other, "ledger.copy")} }
	repair, err := r.open(t, from)
	if ledger.KindOf(err) != ledger.KindConflict || len(repair.Chains) != 2 || repair.Chains[1].Parts != uint64(len(fork)+1) || repair.Chains[1].Tip.Hash != tip {
		t.Fatalf("%s (%v)", found(repair), err)
	}
	must(t, repair.Stop(t.Context()))
	for _, choice := range []string{"0123", "0123456789ab"} {
		repair, err := r.open(t, from, func(o *publisher.RepairOptions) { o.Choose = choice })
		if err == nil {
			t.Errorf("%s was chosen", choice)
		}
		must(t, repair.Stop(t.Context()))
	}
	before, err := os.ReadFile(kept)
	must(t, err)
	repair, err = r.open(t, from, func(o *publisher.RepairOptions) { o.Choose = tip.String() })
	must(t, err)
	if len(repair.Beyond) == 0 {
		t.Error("nobody says what the other side had released")
	}
	must(t, repair.Run(bustest.Context(t), time.Now()))
	must(t, repair.Stop(t.Context()))
	if len(repair.Saved) != 2 {
		t.Fatalf("kept %v", repair.Saved)
	}
	for _, file := range repair.Saved {
		if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, before) {
			t.Errorf("%s is not what was there (%v)", file, err)
		}
	}
	// And back.
	r.repair(t, func(o *publisher.RepairOptions) { o.From, o.Choose = repair.Saved[:1], r.tipHash() })
}

func (r *ruin) tipHash() string { return events.Sum(r.before[len(r.before)-1].Payload).String() }

func TestACopyThatWasAlteredIsMendedFromTheBus(t *testing.T) {
	t.Parallel()
	r := newRuin(t)
	path := filepath.Join(r.data, "ledger.copy")
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, bytes.Replace(b, []byte(`"why"`), []byte(`"wry"`), 1), 0o600))
	repair := r.repair(t)
	if repair.Bus != "" || !repair.Copy || !strings.Contains(repair.Copies[1].Message, "was altered") {
		t.Error(found(repair))
	}
}

// TestAnotherPublisherWaitsForTheRepairAndGoesOn: it is read-only meanwhile, and appends nothing.
func TestAnotherPublisherWaitsForTheRepairAndGoesOn(t *testing.T) {
	t.Parallel()
	r := newRuin(t)
	other := t.TempDir()
	copyTo(t, filepath.Join(r.data, "publisher.key"), filepath.Join(other, "publisher.key"))
	p := start(t, other, on(r.process))
	eventuallyWritable(t, p)
	bustest.NewWire(t, r.process.URL()).Shrink(events.StreamLedger)
	bustest.Eventually(t, "it is noticed", func() bool { return p.Fleet().Ledger.Reason == events.ReasonLedgerTruncated })
	repair, err := r.open(t)
	must(t, err)
	must(t, repair.Run(bustest.Context(t), time.Now()))
	must(t, repair.Stop(t.Context()))
	r.isAsItWas(t)
	eventuallyWritable(t, p)
	release(t, p, "variable/x", "after the repair", "dev")
	r.one.reaches(heads(p)["dev"])
	verify(t, p)
}
