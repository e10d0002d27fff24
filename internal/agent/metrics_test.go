package agent_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/telemetry/telemetrytest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestEveryMetricIsThereWithBoundedLabels(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`)
	o := w.options(picky{connectortest.NewFake("fake")})
	o.Registry = prometheus.NewPedanticRegistry()
	start(t, o)
	w.applied(2)
	w.set("variable/b", `"bad"`)
	w.word(events.WordFailed, 3)
	must(t, w.conn.PublishPulse([]byte("nobody's"), ""))
	bustest.Eventually(t, "every metric is there but since when it is stale", func() bool {
		w.pulse(1, "first")
		missing := telemetrytest.Missing(t, o.Registry, &agent.Metrics, "agent", "environment")
		return cmp.Equal(missing, []string{"lockstep_agent_stale_since_timestamp_seconds"})
	})
}
