package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/dashboard"
)

// BenchmarkPages renders pages of 1,000 environments, each from a snapshot of its own: what the first who asks waits for.
func BenchmarkPages(b *testing.B) {
	w := manyEnvironments(b, 1000)
	for _, page := range []string{"/", "/?filter=region%3Deu", "/propagation", "/flags", "/delivery", "/changes/c4", "/environments/prod-eu-003", "/audit"} {
		b.Run(page, func(b *testing.B) {
			size, began := 0, worked(b)
			for b.Loop() {
				answer := httptest.NewRecorder()
				dashboard.New(dashboard.Options{Backend: w}).ServeHTTP(answer, httptest.NewRequestWithContext(b.Context(), http.MethodGet, page, nil))
				size = answer.Body.Len()
			}
			b.ReportMetric((worked(b)-began).Seconds()*1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

// worked is how long this process has had a processor: on a machine that does other things too, that says more than the time that passes.
func worked(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
