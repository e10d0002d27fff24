package publisher_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// delivery is what the change view says of one agent.
func delivery(t testing.TB, p *publisher.Publisher, change string) (d fleet.AgentDelivery) {
	t.Helper()
	p.Read(func(s *ledger.State, r fleet.Reports, asOf time.Time) {
		c, err := fleet.ChangeOf(s, r, change, asOf)
		must(t, err)
		if agents := c.Environments[0].Agents; len(agents) > 0 {
			d = agents[0]
		}
	})
	return d
}

// recorded waits until an agent's delivery of a change is in the ledger.
func recorded(t testing.TB, p *publisher.Publisher, change string) (d fleet.AgentDelivery) {
	t.Helper()
	bustest.Eventually(t, "the delivery of "+change+" is recorded", func() bool {
		d = delivery(t, p, change)
		return d.Recorded > 0
	})
	return d
}

// rejected reads a counter of statements that were not valid.
func rejected(t testing.TB, r *prometheus.Registry, reason events.Reason) float64 {
	t.Helper()
	families, err := r.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() != "lockstep_signature_failures_total" {
			continue
		}
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == string(reason) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestADeliveryIsRecordedAndOutlivesTheAck(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, data)
	addEnvironments(t, p, "dev")
	one := enrol(t, p, "dev", "one")
	one.beat()
	change := release(t, p, "variable/x", 1, "dev")
	d := recorded(t, p, change)
	var entry time.Time
	conn := bustest.Connect(t, p.BusURL())
	bustest.Eventually(t, "the entry is on the bus", func() bool {
		must(t, conn.ReadLedger(bustest.Context(t), d.Recorded, func(s bus.Stored) error { entry = s.Stamp; return nil }))
		return !entry.IsZero()
	})
	if entry.Before(d.Stamp) {
		t.Errorf("recorded at %s, before the ack at %s", entry, d.Stamp)
	}
	if d.Word != events.WordApplied || !d.ReadBack || d.Lag == nil || d.Lag.AtMost || d.Lag.Seconds < 0 || d.Lag.Seconds > bustest.Deadline.Seconds() || d.Digest != one.fold.State.Digest() {
		t.Errorf("%+v", d)
	}
	var status ledger.Status
	p.Read(func(s *ledger.State, _ fleet.Reports, asOf time.Time) { status = s.Changes[change].Status(asOf) })
	if status != ledger.StatusDelivered {
		t.Errorf("the change is %s", status)
	}

	bustest.NewWire(t, p.BusURL()).DropStream(events.StreamAcks)
	later := again(t, p, command("anna", set("variable/x", 2, "dev"))).Change // read-only while the stream is looked at and not there
	again(t, p, command("ben", approval(p, later)))
	recorded(t, p, later) // the stream is there again
	if again := delivery(t, p, change); again.Recorded != d.Recorded || !again.Stamp.Equal(d.Stamp) || again.Digest != d.Digest {
		t.Errorf("%+v, was %+v", again, d)
	}
	one.stop()
	stop(t, p)
	p = start(t, data)
	eventuallyWritable(t, p)
	if again := delivery(t, p, change); again.Recorded != d.Recorded || !again.Stamp.Equal(d.Stamp) {
		t.Errorf("after a restart: %+v, was %+v", again, d)
	}
}

func TestABeatStandsForALostAck(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	addEnvironments(t, p, "dev")
	one := enrol(t, p, "dev", "one")
	one.reaches(1)
	one.mu.Lock()
	one.silent = true
	one.mu.Unlock()
	change := release(t, p, "variable/x", 1, "dev")
	one.reaches(2)
	ended := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() { // an agent that beats more often than a beat waits for its ack
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			one.beat()
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	})
	d := recorded(t, p, change)
	close(ended)
	beating.Wait()
	if d.Word != events.WordApplied || d.Lag == nil || !d.Lag.AtMost {
		t.Errorf("%+v", d)
	}
}

func TestStatementsOfNobodyAreCountedAndChangeNothing(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	p := start(t, t.TempDir(), func(o *publisher.Options) { o.Registry = registry })
	addEnvironments(t, p, "dev")
	one := enrol(t, p, "dev", "one")
	change := release(t, p, "variable/x", 1, "dev")
	d := recorded(t, p, change)
	one.beat()
	heard := func() (seen time.Time) { return p.Fleet().Environments[0].Agents[0].LastSeen }
	bustest.Eventually(t, "the beat is heard", func() bool { return heard().After(d.Stamp) })
	seen, tip := heard(), p.Fleet().Ledger.Tip
	ctx := bustest.Context(t)

	// Acks: another's key, altered, not compact, for another ledger, too long.
	thief := &agent{t: t, id: one.id, ledger: one.ledger, signer: foldtest.Signer(t, "thief")}
	good := events.Ack{Word: events.WordApplied, Number: 99, First: 1, Last: 2, Chain: one.fold.Chain, Expected: d.Digest, Observed: d.Digest, ReadBack: true}
	forged, signature := thief.ack(good)
	must(t, one.conn.PublishAck(ctx, "dev", "one", forged, signature))
	payload, signature := one.ack(good)
	must(t, one.conn.PublishAck(ctx, "dev", "one", bytes.Replace(payload, []byte(`"readBack":true`), []byte(`"readBack":false`), 1), signature))
	must(t, one.conn.PublishAck(ctx, "dev", "one", append(payload, ' '), signature))
	must(t, one.conn.PublishAck(ctx, "dev", "one", []byte("hello"), ""))
	bustest.Eventually(t, "forged acks are counted", func() bool { return rejected(t, registry, events.ReasonSignature) == 4 })
	stranger := &agent{t: t, id: one.id, ledger: "another", signer: one.signer}
	payload, signature = stranger.ack(good)
	must(t, one.conn.PublishAck(ctx, "dev", "one", payload, signature))
	bustest.Eventually(t, "the ack for another ledger is counted", func() bool { return rejected(t, registry, events.ReasonWrongLedger) == 1 })

	// Beats: forged, for another ledger, one sent again, of an agent that nobody enrolled.
	must(t, one.conn.PublishBeat("dev", "one", []byte("hello"), ""))
	must(t, one.conn.PublishBeat("dev", "nobody", []byte("hello"), ""))
	bustest.Eventually(t, "forged beats are counted", func() bool { return rejected(t, registry, events.ReasonSignature) == 6 })
	one.beat(func(b *events.Beat) { b.Number = 1 }) // a replay
	one.beat(func(b *events.Beat) { b.Boot, b.Clock = "an older one", b.Clock.Add(-time.Minute) })
	one.beat(func(b *events.Beat) { b.Ledger = "another" })
	bustest.Eventually(t, "the beat for another ledger is counted", func() bool { return rejected(t, registry, events.ReasonWrongLedger) == 2 })
	if !heard().Equal(seen) {
		t.Errorf("last seen %s, was %s", heard(), seen)
	}
	if now := p.Fleet().Ledger.Tip; now != tip {
		t.Errorf("entry %d was appended", now.Number)
	}
	one.beat(func(b *events.Beat) { b.Boot, b.Number = "a newer one", 1 })
	bustest.Eventually(t, "an agent that was restarted is heard", func() bool { return heard().After(seen) })
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAFirstCheckWaitsForAgentsThatWereAliveAndSaysWhoDidNotAnswer(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	data := t.TempDir()
	p := start(t, data, on(process), func(o *publisher.Options) { o.BeatWait = time.Hour }) // nobody is there to wait for
	addEnvironments(t, p, "dev")
	agents := map[string]*agent{}
	for _, name := range []string{"answers", "dies", "is-revoked"} {
		agents[name] = enrol(t, p, "dev", name)
		agents[name].reaches(1)
		agents[name].beat()
	}
	bustest.Eventually(t, "all are heard", func() bool {
		for _, a := range p.Fleet().Environments[0].Agents {
			if a.LastSeen.IsZero() || a.Condition != fleet.InStep {
				return false
			}
		}
		return true
	})
	do(t, p, "op", ledger.RevokeAgent{Environment: "dev", Agent: "is-revoked", Reason: "gone"})
	stop(t, p)

	const beatWait = 5 * time.Second // time enough for the one that answers
	log := &lines{}
	p = start(t, data, on(process), func(o *publisher.Options) { o.BeatWait, o.Log = beatWait, zerolog.New(log) })
	began := time.Now()
	bustest.Eventually(t, "the check waits", func() bool { return len(p.Fleet().Environments) > 0 && !p.Fleet().Ledger.Writable })
	bustest.Eventually(t, "the publisher is writable", func() bool {
		agents["answers"].beat() // as an agent does, again and again: what is said before the check listens is not an answer
		return p.Fleet().Ledger.Writable
	})
	if waited := time.Since(began); waited < beatWait*9/10 {
		t.Errorf("waited %s", waited)
	}
	said := map[string]bool{}
	for line := range strings.Lines(log.String()) {
		for name := range agents {
			if strings.Contains(line, "did not beat") && strings.Contains(line, `"agent":"`+name+`"`) {
				said[name] = true
			}
		}
	}
	if names := slices.Sorted(maps.Keys(said)); !slices.Equal(names, []string{"dies"}) {
		t.Errorf("said that %v did not answer\n%s", names, log)
	}
	stop(t, p)

	p = start(t, data, on(process), func(o *publisher.Options) { o.BeatWait = time.Hour })
	bustest.Eventually(t, "all who are alive have answered", func() bool {
		agents["answers"].beat()
		agents["dies"].beat()
		return p.Fleet().Ledger.Writable
	})
}
