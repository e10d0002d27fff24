package publisher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/publisher"
)

// BenchmarkRelease measures from an approval to its answer, and to the last of its releases in the release stream.
func BenchmarkRelease(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := start(b, b.TempDir(), func(o *publisher.Options) { o.Recheck = 10 * time.Second })
			environments := names("env", n)
			addEnvironments(b, p, environments...)
			conn := bustest.Connect(b, p.BusURL())
			eventuallySent(b, p, conn)
			var answered, sent time.Duration
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				approve := propose(b, p, "variable/x", i, "*")
				b.StartTimer()
				began := time.Now()
				do(b, p, "ben", approve)
				answered += time.Since(began)
				for want := uint64(n * (i + 2)); ; {
					counts, _, err := conn.ReleaseCounts(b.Context())
					must(b, err)
					var have uint64
					for _, c := range counts {
						have += c
					}
					if have == want {
						break
					}
				}
				sent += time.Since(began)
			}
			b.ReportMetric(float64(answered.Milliseconds())/float64(b.N), "ms/answer")
			b.ReportMetric(float64(sent.Microseconds())/1000/float64(b.N), "ms/sent")
		})
	}
}

// BenchmarkStart measures a start with a history: reading, comparing, taking the lease, and finding that nothing is to be sent.
func BenchmarkStart(b *testing.B) {
	data := b.TempDir()
	p := start(b, data)
	addEnvironments(b, p, names("env", 1000)...)
	for i := range 5 {
		release(b, p, "variable/x", i, "*")
	}
	conn := bustest.Connect(b, p.BusURL())
	eventuallySent(b, p, conn)
	for b.Loop() {
		stop(b, p)
		p = start(b, data)
		eventuallyWritable(b, p)
		release(b, p, "variable/y", time.Now().String(), "env-000")
		conn := bustest.Connect(b, p.BusURL())
		eventuallySent(b, p, conn)
		conn.Close()
	}
}
