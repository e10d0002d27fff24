package dashboard_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
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

// BenchmarkWatched lets 50 browsers watch while 1,000 environments apply and acknowledge a change at a time: each fetches the overview
// whenever it is told that something has changed. It says how long they waited for it.
func BenchmarkWatched(b *testing.B) {
	w := manyEnvironments(b, 1000)
	var all []string
	for name := range w.state.Environments {
		all = append(all, name)
	}
	server := servePaused(b, w, 500*time.Millisecond)
	var mu sync.Mutex
	var waited []time.Duration
	var watching sync.WaitGroup
	for range 50 {
		watching.Go(func() {
			answer, err := http.Get(server.URL + "/live")
			if err != nil {
				b.Error(err)
				return
			}
			defer answer.Body.Close()
			for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
				if !strings.HasPrefix(lines.Text(), "data:") {
					continue
				}
				began := time.Now()
				page, err := http.Get(server.URL + "/")
				if err != nil {
					return // the benchmark is over
				}
				_, _ = io.Copy(io.Discard, page.Body)
				page.Body.Close()
				mu.Lock()
				waited = append(waited, time.Since(began))
				mu.Unlock()
			}
		})
	}
	round := 0
	for b.Loop() {
		round++
		w.approve("ben", w.propose("anna", "because", "variable/order-limit", fmt.Sprint(round), "*"))
		w.apply(50*time.Millisecond, all...)
	}
	server.CloseClientConnections()
	watching.Wait()
	slices.Sort(waited)
	at := func(share float64) float64 { return waited[int(share*float64(len(waited)-1))].Seconds() * 1000 }
	b.ReportMetric(at(0.5), "page-p50-ms")
	b.ReportMetric(at(0.95), "page-p95-ms")
	b.ReportMetric(at(1), "page-max-ms")
	b.ReportMetric(float64(len(waited)), "pages")
}
