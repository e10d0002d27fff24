package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/dashboard"
)

// BenchmarkPages renders pages of 1,000 environments, each from a snapshot of its own: what the first who asks waits for.
func BenchmarkPages(b *testing.B) {
	w := manyEnvironments(b, 1000)
	for _, page := range []string{"/", "/?filter=region%3Deu", "/propagation", "/flags", "/delivery", "/changes/c4", "/environments/prod-eu-003", "/audit"} {
		b.Run(page, func(b *testing.B) {
			size := 0
			for b.Loop() {
				answer := httptest.NewRecorder()
				dashboard.New(dashboard.Options{Backend: w}).ServeHTTP(answer, httptest.NewRequestWithContext(b.Context(), http.MethodGet, page, nil))
				size = answer.Body.Len()
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}
