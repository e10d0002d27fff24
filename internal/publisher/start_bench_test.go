package publisher_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// BenchmarkStartWithAcks is a publisher's start with 100,000 acknowledgements in its ledger, and as many in the stream where agents leave
// them: 10 environments with 100 agents each, and 100 changes to all. It says how long it is until the fleet view stands and is served, and
// until all is compared with the bus, by the clock and by the processor: where the publisher has marked its copy as checked, and
// where it has not.
func BenchmarkStartWithAcks(b *testing.B) {
	data := b.TempDir()
	acks := aHistory(b, data, 10, 100, 100)
	for _, marked := range []bool{true, false} {
		b.Run(map[bool]string{true: "marked", false: "unmarked"}[marked], func(b *testing.B) {
			var shown, used, checked, usedUntilChecked time.Duration
			for b.Loop() {
				if !marked {
					must(b, os.Remove(filepath.Join(data, "ledger.copy.checked")))
				}
				began, before := time.Now(), processorTime(b)
				p, err := publisher.New(context.WithoutCancel(b.Context()), options(data, func(o *publisher.Options) { o.Recheck = 10 * time.Second }))
				must(b, err)
				must(b, p.Start())
				if v := p.Fleet(); len(v.Environments) != 10 || v.Environments[0].Revision != 101 {
					b.Fatalf("%+v", v)
				}
				shown, used = shown+time.Since(began), used+processorTime(b)-before
				eventuallyWritable(b, p)
				checked, usedUntilChecked = checked+time.Since(began), usedUntilChecked+processorTime(b)-before
				stop(b, p)
			}
			b.ReportMetric(shown.Seconds()/float64(b.N), "s/shown")
			b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s/shown")
			b.ReportMetric(checked.Seconds()/float64(b.N), "s/checked")
			b.ReportMetric(usedUntilChecked.Seconds()/float64(b.N), "cpu-s/checked")
			b.ReportMetric(float64(acks), "acks")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// aHistory lets a publisher read what another one decided and recorded of agents that acknowledge everything, and says how often they did.
func aHistory(b *testing.B, data string, environments, agents, changes int) (acks int) {
	p := start(b, data)
	eventuallyWritable(b, p)
	conn := bustest.Connect(b, p.BusURL(), func(o *bus.Options) { o.Name = "another publisher" })
	state := ledger.New(p.Fleet().Ledger.ID)
	must(b, conn.ReadLedger(b.Context(), 1, func(s bus.Stored) error { _, _, err := state.Apply(s.Payload, s.Stamp); return err }))
	do := func(by string, body ledger.Body) ledger.Result {
		for {
			now := time.Now()
			d, err := state.Decide(ledger.Command{ID: fmt.Sprint(by, state.Number), By: by, Body: body}, now)
			must(b, err)
			entries := d.Stores
			if d.Entry != nil {
				entries = [][]byte{d.Entry}
			}
			for _, e := range entries {
				_, err := conn.Append(b.Context(), e, state.Number)
				must(b, err)
				_, _, err = state.Apply(e, now)
				must(b, err)
			}
			if d.Entry != nil {
				return d.Result
			}
		}
	}
	signers := map[fleet.AgentID]*events.Signer{}
	for e := range environments {
		name := fmt.Sprintf("environment-%d", e)
		do("op", ledger.AddEnvironment{Name: name, Approvals: 1})
		for a := range agents {
			id := fleet.AgentID{Environment: name, Agent: fmt.Sprintf("a%d", a)}
			signers[id] = foldtest.Signer(b, name+id.Agent)
			do("op", ledger.EnrolAgent{Environment: name, Agent: id.Agent, Key: signers[id].Public()})
		}
	}
	for c := range changes {
		change := do("anna", set("variable/x", c, "*")).Change
		do("ben", ledger.Approve{Change: change, Digest: state.Changes[change].Digest})
		said := map[string][]events.Delivery{}
		for id, signer := range signers {
			r, now := state.Environments[id.Environment].Releases[c+1], events.Stamp(time.Now())
			payload, signature, err := events.EncodeAck(events.Ack{Environment: id.Environment, Agent: id.Agent, Ledger: state.ID, Number: uint64(c + 1), Word: events.WordApplied,
				First: r.Revision, Last: r.Revision, Chain: r.Chain, Expected: r.State, Observed: r.State, ReadBack: true,
				Phases: events.Phases{Received: now, Verified: now, Applied: now, Committed: now}}, now, signer)
			must(b, err)
			said[id.Environment] = append(said[id.Environment], events.Delivery{Environment: id.Environment, Agent: id.Agent, Stamp: now, Ack: payload, Signature: signature})
		}
		for _, deliveries := range said {
			do("publisher", ledger.RecordDeliveries{Deliveries: deliveries})
			for _, d := range deliveries { // behind their entry: this publisher has nothing to record
				must(b, conn.PublishAck(b.Context(), d.Environment, d.Agent, d.Ack, d.Signature))
				acks++
			}
		}
	}
	eventuallySent(b, p, conn)
	conn.Close()
	stop(b, p) // and the mark is of some time before
	p = start(b, data)
	eventuallyWritable(b, p)
	stop(b, p)
	return acks
}
