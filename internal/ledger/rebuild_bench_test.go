package ledger_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// BenchmarkRebuild is what a publisher does at its start with the acknowledgements of its ledger, 100,000 of them: 10 environments with 100
// agents each, and 100 changes to all. Every signature in it is checked. It says how much memory the state holds for each of them.
func BenchmarkRebuild(b *testing.B) {
	k := newBook(b)
	k.unwatched = true
	const environments, agents, changes = 10, 100, 100
	for e := range environments {
		name := fmt.Sprintf("environment-%d", e)
		k.must("op", ledger.AddEnvironment{Name: name, Approvals: 1})
		for a := range agents {
			k.enrol(name, fmt.Sprintf("a%d", a))
		}
	}
	for c := range uint64(changes) {
		k.release(set("*", "variable/x", fmt.Sprint(c)))
		for e := range environments {
			var acks []events.Delivery
			for a := range agents {
				acks = append(acks, k.ack(fmt.Sprintf("environment-%d", e), fmt.Sprintf("a%d", a), events.WordApplied, c+2, c+2))
			}
			k.recorded(acks...)
		}
	}
	for name, rebuild := range map[string]func() *ledger.State{
		"every-signature": func() *ledger.State { return k.upTo(len(k.entries) + 1) },
		"checked-before":  k.again,
	} {
		b.Run(name, func(b *testing.B) { k.rebuild(b, rebuild, environments*agents*changes) })
	}
}

func (k *book) rebuild(b *testing.B, from func() *ledger.State, acks float64) {
	var before, after runtime.MemStats
	var used time.Duration
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := processorTime(b)
		s := from()
		used += processorTime(b) - began
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(s)
	}
	b.ReportMetric(float64(used)/float64(b.N)/acks/float64(time.Microsecond), "cpu-µs/ack")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/acks, "B/ack")
}
