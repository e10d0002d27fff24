package publisher_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

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
