package ledger_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// fleetBook is a book with n environments and one change to all of them that is open.
func fleetBook(b *testing.B, n int) *book {
	k := newBook(b)
	k.unwatched = true
	for i := range n {
		k.must("op", ledger.AddEnvironment{Name: fmt.Sprintf("environment-%04d", i), Approvals: 1})
	}
	k.must("anna", set("*", "flag/checkout-redesign", `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}`))
	return k
}

func BenchmarkDecideApproval(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("environments=%d", n), func(b *testing.B) {
			k := fleetBook(b, n)
			c := ledger.Command{ID: "approve", By: "ben", Body: k.approval("c1")}
			b.ReportAllocs()
			for b.Loop() {
				if d, err := k.state.Decide(c, k.now); err != nil || len(d.Result.Released) != n {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecideSignedApproval verifies the two approvals and the proposal once, however many environments the change is for.
func BenchmarkDecideSignedApproval(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("environments=%d", n), func(b *testing.B) {
			k := signedBook(b, func(d *events.Trust) { d.Rules[0].Approvals = 2 })
			k.unwatched = true
			for i := range n {
				k.must("otto", ledger.AddEnvironment{Name: fmt.Sprintf("environment-%04d", i)})
			}
			k.must("ann", set("*", "flag/checkout-redesign", `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}`))
			k.approve("bob", "c1")
			c, err := k.sign(ledger.Command{ID: "approve", By: "carol", Body: k.approval("c1")})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if d, err := k.state.Decide(c, k.now); err != nil || len(d.Result.Released) != n {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkApplyApproval(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("environments=%d", n), func(b *testing.B) {
			k := fleetBook(b, n)
			k.approve("ben", "c1")
			last := len(k.entries)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s := k.upTo(last)
				b.StartTimer()
				if _, _, err := s.Apply(k.entries[last-1], k.now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReplay is a start: a thousand changes for two environments with their deliveries, from scratch.
func BenchmarkReplay(b *testing.B) {
	k := environments(b, "dev", "prod")
	k.unwatched = true
	k.enrol("dev", "a")
	k.enrol("prod", "a")
	for i := range uint64(1000) {
		k.release(set("*", fmt.Sprintf("variable/v%d", i%100), fmt.Sprint(i)))
		k.recorded(k.ack("dev", "a", events.WordApplied, i+2, i+2), k.ack("prod", "a", events.WordApplied, i+2, i+2))
	}
	b.ReportAllocs()
	for b.Loop() {
		k.replay()
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(len(k.entries))/float64(time.Microsecond), "µs/entry")
}

// BenchmarkApprove is what a publisher does between an approval and its first release: decide, and apply what was decided.
func BenchmarkApprove(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("environments=%d", n), func(b *testing.B) {
			k := fleetBook(b, n)
			c := ledger.Command{ID: "approve", By: "ben", Body: k.approval("c1")}
			b.ReportAllocs()
			var used time.Duration
			for b.Loop() {
				b.StopTimer()
				s := k.upTo(len(k.entries) + 1)
				b.StartTimer()
				began := processorTime(b)
				d, err := s.Decide(c, k.now)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := s.Apply(d.Entry, k.now); err != nil {
					b.Fatal(err)
				}
				used += processorTime(b) - began
			}
			b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime is the process's: it does not notice who else is at work on the machine.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRecord is what a publisher does to record acks: decide, and apply what was decided.
func BenchmarkRecord(b *testing.B) {
	k := fleetBook(b, ledger.MaxDeliveries)
	var acks []events.Delivery
	for _, e := range k.state.EnvironmentList() {
		k.enrol(e.Name, "a")
	}
	for _, e := range k.state.EnvironmentList() {
		acks = append(acks, k.ack(e.Name, "a", events.WordApplied, 1, 1))
	}
	b.ReportAllocs()
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		s := k.upTo(len(k.entries) + 1)
		b.StartTimer()
		began := processorTime(b)
		d, err := s.Decide(ledger.Command{By: "publisher", Body: ledger.RecordDeliveries{Deliveries: acks}}, k.now)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := s.Apply(d.Entry, k.now); err != nil {
			b.Fatal(err)
		}
		used += processorTime(b) - began
	}
	b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
}
