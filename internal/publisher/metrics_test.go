package publisher_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/telemetry/telemetrytest"
)

func TestEveryMetricIsThereWithBoundedLabels(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	p := start(t, t.TempDir(), func(o *publisher.Options) { o.Registry = registry })
	addEnvironments(t, p, "dev", "prod")
	one := enrol(t, p, "dev", "one")
	one.beat()
	must(t, one.conn.PublishBeat("dev", "one", []byte("hello"), ""))
	recorded(t, p, release(t, p, "variable/x", 1, "*"))
	bustest.Eventually(t, "every metric is there but why the ledger is read-only", func() bool {
		return cmp.Equal([]string{"lockstep_ledger_read_only"}, telemetrytest.Missing(t, registry, &publisher.Metrics))
	})
	bustest.Eventually(t, "every phase of the release is measured", func() bool {
		measured := map[string]uint64{}
		families, err := registry.Gather()
		must(t, err)
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == "lockstep_propagation_lag_seconds" && m.Label[0].GetValue() == "dev" {
					measured[m.Label[1].GetValue()] = m.GetHistogram().GetSampleCount()
				}
			}
		}
		return measured[string(fleet.PhaseTotal)] > 0 && measured[string(fleet.PhasePublish)] > 0
	})
}

func TestTheTraceOfAReleaseIsAnExemplarOfItsLagAndInTheLogs(t *testing.T) {
	t.Parallel()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	var logged lockedBuffer
	registry := prometheus.NewRegistry()
	p := start(t, t.TempDir(), func(o *publisher.Options) { o.Registry, o.Log = registry, zerolog.New(&logged) })
	addEnvironments(t, p, "dev")
	enrol(t, p, "dev", "one")
	approve := command("ben", propose(t, p, "variable/x", 1, "dev"))
	approve.TraceParent = "00-" + trace + "-00f067aa0ba902b7-01"
	_, err := p.Do(bustest.Context(t), approve, false)
	must(t, err)
	bustest.Eventually(t, "the lag has the trace as an exemplar", func() bool {
		families, err := registry.Gather()
		must(t, err)
		for _, f := range families {
			for _, m := range f.Metric {
				for _, b := range m.GetHistogram().GetBucket() {
					for _, l := range b.GetExemplar().GetLabel() {
						if l.GetName() == "trace_id" && l.GetValue() == trace {
							return true
						}
					}
				}
			}
		}
		return false
	})
	for _, said := range []string{`"message":"released"`, `"message":"recorded what an agent said"`} {
		bustest.Eventually(t, "the log says "+said, func() bool {
			for line := range strings.Lines(logged.String()) {
				if strings.Contains(line, said) && strings.Contains(line, `"environment":"dev","revision":2,"change":"c1","trace":"`+trace+`"`) {
					return true
				}
			}
			return false
		})
	}
}

// A lockedBuffer may be written and read at once.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
