package audit_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/audit"
)

// BenchmarkVerify reads and verifies a whole ledger in which people sign: every statement, approval, release and acknowledgement, against
// its export in memory. Each change is proposed, approved, released to four environments and acknowledged by their agents.
func BenchmarkVerify(b *testing.B) {
	for _, releases := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint("releases=", releases), func(b *testing.B) {
			environments := []string{"env-1", "env-2", "env-3", "env-4"}
			book := newBook(b, nil, environments...)
			for i := range releases / len(environments) {
				book.release(fmt.Sprint("variable/v", i%100), fmt.Sprint(i), environments...)
			}
			exported, roots := book.export(), book.roots()
			book = nil // what it took to make the ledger is not what is measured
			runtime.GC()
			var v audit.Verification
			before := processorTime(b)
			for b.Loop() {
				var err error
				if v, err = audit.Verify(reader(b, exported), roots); err != nil || !v.OK {
					b.Fatalf("%+v, %v", v, err)
				}
			}
			b.ReportMetric((processorTime(b)-before).Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(float64(v.Tip.Number), "entries")
			b.ReportMetric(float64(len(exported))/(1<<20), "MiB")
		})
	}
}

// processorTime is what the process has used of all processors: on a busy machine the clock says something else.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
