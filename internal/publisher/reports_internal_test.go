package publisher

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

func TestAcksOfUnknownAgentsWaitNeitherForEverNorInAnyNumber(t *testing.T) {
	entries, err := openCopy(filepath.Join(t.TempDir(), "ledger.copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer entries.file.Close()
	b, err := newBook(entries)
	if err != nil {
		t.Fatal(err)
	}
	r := newReports(b)
	const more = 5
	for i := range unfitMost + more {
		if err := r.ack(bus.Report{Environment: "dev", Agent: fmt.Sprint(i), Stored: bus.Stored{Payload: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.rejections()[events.ReasonSignature]; n != more {
		t.Errorf("%d are rejected at once, want %d", n, more)
	}
	if due := r.due(time.Now()); len(due) != 0 || r.all != unfitMost {
		t.Errorf("%d are due, %d wait", len(due), r.all)
	}
	if due := r.due(time.Now().Add(unfitLife + time.Second)); len(due) != 0 || len(r.waiting) != 0 {
		t.Errorf("%d are due, %d wait", len(due), r.all)
	}
	if n := r.rejections()[events.ReasonSignature]; n != unfitMost+more {
		t.Errorf("%d are rejected, want %d", n, unfitMost+more)
	}
}

func TestACommandNeverAppendsToALedgerThatIsInDoubt(t *testing.T) {
	b := &book{changed: make(chan struct{}), state: ledger.New("x"), standing: standing{checking: true}}
	before := b.doubted()
	b.checkAgain(events.ReasonStartup, "something happened meanwhile")
	if b.open(before) {
		t.Error("opened by a check that began before the doubt")
	}
	if !b.open(b.doubted()) {
		t.Error("not opened")
	}
	b.commit.Lock() // another command is under way, and its outcome will not be known
	tried := make(chan error, 1)
	go func() {
		_, err := b.attempt(t.Context(), ledger.Command{}, false)
		tried <- err
	}()
	_ = b.lost(bus.ErrUnavailable)
	b.commit.Unlock()
	if err := <-tried; err != errMoved {
		t.Errorf("got %v", err)
	}
}

// TestAgentsOfAnOldBackupAreWaitedFor: in a bus that was put back, everybody was last heard long ago, and is the one who knows better.
func TestAgentsOfAnOldBackupAreWaitedFor(t *testing.T) {
	b := &book{changed: make(chan struct{}), state: ledger.New("x")}
	r := newReports(b)
	now := time.Now()
	agents := map[string]*ledger.Agent{}
	b.state.Environments["dev"] = &ledger.Environment{Name: "dev", Agents: agents}
	for name, heard := range map[string]time.Duration{"alive-then": 72 * time.Hour, "dead-then": 73 * time.Hour} {
		agents[name] = &ledger.Agent{Name: name}
		r.newest[fleet.AgentID{Environment: "dev", Agent: name}] = beatReport{Beat: fleet.Beat{Stamp: now.Add(-heard)}}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	missing := r.awaitBeats(over, now)
	if len(missing) != 1 || missing[0].Agent != "alive-then" {
		t.Errorf("waited for %v", missing)
	}
	delete(agents, "dead-then")
	r.newest[missing[0]] = beatReport{Beat: fleet.Beat{Stamp: now.Add(time.Second)}}
	if missing := r.awaitBeats(over, now); len(missing) != 0 {
		t.Errorf("waits for %v, who answered", missing)
	}
}

// TestTwoProcessesWithOneEnrolmentAreNeverInStep: the one that is not seen may be failing. A restart is no second process, though a
// beat of the start before comes late, or is said again.
func TestTwoProcessesWithOneEnrolmentAreNeverInStep(t *testing.T) {
	signer, id := foldtest.Signer(t, "one"), fleet.AgentID{Environment: "dev", Agent: "one"}
	now := foldtest.Epoch
	beat := func(boot string, number uint64) func(*reports) {
		return func(r *reports) {
			now = now.Add(fleet.BeatInterval / 2)
			payload, signature, err := events.EncodeBeat(events.Beat{Environment: id.Environment, Agent: id.Agent, Ledger: "x", Boot: boot, Number: number,
				Clock: events.Stamp(now), Condition: string(fleet.InStep)}, signer)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.beat(bus.Report{Environment: id.Environment, Agent: id.Agent, Stored: bus.Stored{Payload: payload, Signature: signature, Stamp: now}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	pass := func(*reports) { now = now.Add(fleet.SilentAfter) }
	for name, c := range map[string]struct {
		heard  []func(*reports)
		reason events.Reason
	}{
		"one":                              {[]func(*reports){beat("a", 1), beat("a", 2), beat("a", 3)}, ""},
		"a restart":                        {[]func(*reports){beat("a", 1), beat("a", 2), beat("b", 1), beat("b", 2), beat("c", 1), beat("c", 2)}, ""},
		"a late beat of the start before":  {[]func(*reports){beat("a", 1), beat("b", 1), beat("a", 2), beat("b", 2), beat("b", 3)}, ""},
		"beats said again":                 {[]func(*reports){beat("a", 1), beat("a", 2), beat("b", 1), beat("a", 1), beat("b", 2), beat("a", 2), beat("b", 3), beat("a", 2)}, ""},
		"two":                              {[]func(*reports){beat("a", 1), beat("b", 1), beat("a", 2), beat("b", 2), beat("a", 3)}, events.ReasonDoubled},
		"two, and one started again":       {[]func(*reports){beat("a", 1), beat("b", 1), beat("a", 2), beat("b", 2), beat("a", 3), beat("c", 1), beat("a", 4)}, events.ReasonDoubled},
		"two, one beats more than another": {[]func(*reports){beat("a", 1), beat("b", 1), beat("b", 2), beat("a", 2), beat("a", 3), beat("b", 3), beat("a", 4), beat("b", 4)}, events.ReasonDoubled},
		"two, one of which was stopped":    {[]func(*reports){beat("a", 1), beat("b", 1), beat("a", 2), beat("b", 2), beat("a", 3), pass, beat("b", 3)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := &book{changed: make(chan struct{}), state: ledger.New("x")}
			b.state.Environments["dev"] = &ledger.Environment{Name: "dev", Agents: map[string]*ledger.Agent{"one": {Name: "one", Key: signer.Public()}}}
			r := newReports(b)
			for _, hear := range c.heard {
				hear(r)
			}
			got := fleet.Build(b.state, r.view(), fleet.LedgerView{}, now).Environments[0]
			if got.Reason != c.reason || (got.Condition == fleet.InStep) != (c.reason == "") {
				t.Errorf("%s (%s): %s", got.Condition, got.Reason, got.Message)
			}
		})
	}
}

// TestADeadPublishersLeaseIsNotOK: nobody sends while it runs out.
func TestADeadPublishersLeaseIsNotOK(t *testing.T) {
	renewed := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	held := bus.Lease{Holder: "publisher-one", Renewed: renewed, TTL: 6 * time.Second}
	for name, c := range map[string]struct {
		lease bus.Lease
		now   time.Time
		ok    bool
		says  string
	}{
		"alive":            {held, renewed.Add(2 * time.Second), true, "publisher-one sends, gathers and pulses, last heard at 2026-03-01T12:00:00Z, 2s ago; this one stands by"},
		"late":             {held, renewed.Add(4 * time.Second), true, "4s ago"},
		"dead":             {held, renewed.Add(4*time.Second + time.Millisecond), false, "still that of publisher-one, last heard at 2026-03-01T12:00:00Z, 4s ago"},
		"the clock is off": {held, renewed.Add(-time.Hour), true, "0s ago"},
		"nobody's":         {bus.Lease{TTL: 6 * time.Second}, renewed, true, "it is free"},
	} {
		if got := standby(c.lease, c.now); got.OK != c.ok || !strings.Contains(got.Message, c.says) || got.OK == strings.Contains(got.Next, "takes over by itself") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestAcksWaitOnceAndTheRestStaysInTheStream: an agent that says more than can be recorded fills neither the memory nor the room of others, an
// ack that comes twice waits once, and what there was no room for is read again.
func TestAcksWaitOnceAndTheRestStaysInTheStream(t *testing.T) {
	entries := aLedger(t)
	path := filepath.Join(t.TempDir(), "ledger.copy")
	if err := writeCopy(path, entries, nil, fault.CopyWritten); err != nil {
		t.Fatal(err)
	}
	c, err := openCopy(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.file.Close()
	b, err := newBook(c)
	if err != nil {
		t.Fatal(err)
	}
	r := newReports(b)
	release := b.state.Environments["dev"].Releases[0]
	const more = 40
	var stream []bus.Report
	for i := range waitingMost + more {
		payload, signature, err := events.EncodeAck(events.Ack{Environment: "dev", Agent: "one", Ledger: b.state.ID, Number: uint64(i + 1), Word: events.WordRetrying, First: 1, Last: 1,
			Chain: release.Chain, Reason: events.ReasonConnector}, b.state.Time, foldtest.Signer(t, "one"))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			stream = append(stream, bus.Report{Environment: "dev", Agent: "one", Stored: bus.Stored{
				Sequence: uint64(len(stream) + 1), Stamp: b.state.Time.Add(time.Duration(i) * time.Second), Payload: payload, Signature: signature}})
		}
	}
	var begun []uint64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read := make(chan struct{}, 2)
	followed := make(chan error, 2)
	follow := func() {
		followed <- r.follow(ctx, func(ctx context.Context, from uint64, fn func(bus.Report) error) error {
			begun = append(begun, from)
			for _, report := range stream[max(from, 1)-1:] {
				if err := fn(report); err != nil {
					return err
				}
			}
			read <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
	}
	recorded := map[uint64]bool{}
	record := func(due []gathered) {
		var deliveries []events.Delivery
		for _, g := range due {
			if recorded[g.statement.Number] {
				t.Errorf("ack %d is due twice", g.statement.Number)
			}
			recorded[g.statement.Number] = true
			deliveries = append(deliveries, g.delivery)
		}
		for len(deliveries) > 0 {
			d, err := b.decide(ledger.Command{By: "publisher", Body: ledger.RecordDeliveries{Deliveries: deliveries}})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.apply(d.Entry, b.state.Time); err != nil {
				t.Fatal(err)
			}
			deliveries = deliveries[len(deliveries):]
		}
	}
	go follow()
	<-read
	due := r.due(time.Now())
	if len(due) != waitingMost || r.all != waitingMost {
		t.Fatalf("%d are due, %d wait", len(due), r.all)
	}
	record(due)
	if due := r.due(time.Now()); len(due) != 0 {
		t.Fatalf("%d are due that are recorded", len(due))
	}
	if err := <-followed; err != nil || ctx.Err() != nil {
		t.Fatal(err)
	}
	go follow()
	<-read
	record(r.due(time.Now()))
	if want := uint64(2*waitingMost + 1); len(begun) != 2 || begun[1] != want || len(recorded) != waitingMost+more {
		t.Errorf("read from %v, want %d; %d are recorded", begun, want, len(recorded))
	}
	stop()
	if err := <-followed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
