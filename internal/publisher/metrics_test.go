package publisher_test

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/telemetry/telemetrytest"
	"github.com/lockstep-dev/lockstep/pkg/events"
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
		return gocmp.Equal([]string{"lockstep_ledger_read_only"}, telemetrytest.Missing(t, registry, &publisher.Metrics))
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
	request, err := http.NewRequestWithContext(bustest.Context(t), http.MethodGet, p.URL()+"/metrics", nil)
	must(t, err)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	text, err := io.ReadAll(answer.Body)
	must(t, errors.Join(err, answer.Body.Close()))
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/openmetrics-text") || !strings.Contains(string(text), `# {trace_id="`+trace+`"}`) {
		t.Errorf("no exemplar where OpenMetrics is asked for (%s)", answer.Header.Get("Content-Type"))
	}
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

// shown are the values of one environment's series of a metric, by the label that tells them apart.
func shown(t *testing.T, registry *prometheus.Registry, metric, environment, label string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	families, err := registry.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if (metric == "" || f.GetName() == metric) && labels["environment"] == environment {
				out[cmp.Or(labels[label], f.GetName())] = m.GetGauge().GetValue()
			}
		}
	}
	return out
}

func TestMetricsSayThatAChangeWaitsOrIsHeldBackAndForgetARetiredEnvironment(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	p := start(t, t.TempDir(), func(o *publisher.Options) { o.Registry = registry })
	addEnvironments(t, p, "prod")
	a := enrol(t, p, "prod", "one")
	rollout := func(want string) {
		t.Helper()
		all := map[string]float64{"running": 0, "frozen": 0, "paused": 0}
		all[want] = 1
		if diff := gocmp.Diff(all, shown(t, registry, "lockstep_rollout_state", "prod", "state")); diff != "" {
			t.Error(diff)
		}
	}
	rollout("running")
	do(t, p, "ben", approval(p, do(t, p, "anna", directory(true)).Change))
	rollout("running") // nothing waits
	waits := propose(t, p, "variable/b", 2, "prod")
	do(t, p, "ben", waits)
	rollout("frozen")
	do(t, p, "ben", ledger.Pause{Change: waits.Change, Reason: "the load test"})
	rollout("paused")
	do(t, p, "ben", ledger.Resume{Change: waits.Change})
	rollout("frozen")

	a.reaches(2)
	a.beat(func(b *events.Beat) {
		b.Condition, b.Drift = string(fleet.Differing), 2
		b.Differing = []events.DifferingResource{{Resource: "variable/a", Fields: []string{"/x", "/y"}}}
	})
	bustest.Eventually(t, "the drift that the agent tells is counted", func() bool {
		return shown(t, registry, "lockstep_drift_fields", "prod", "severity")["unknown"] == 3 && shown(t, registry, "lockstep_drift_score", "prod", "")["lockstep_drift_score"] > 27
	})

	a.beat(func(b *events.Beat) {
		b.Condition, b.Reason, b.Observed = string(fleet.Differing), "instance-unreadable", events.Digest{}
	})
	bustest.Eventually(t, "of an instance that cannot be read no drift is told, not even none", func() bool {
		return len(shown(t, registry, "lockstep_drift_fields", "prod", "severity"))+len(shown(t, registry, "lockstep_drift_score", "prod", "")) == 0
	})

	do(t, p, "op", ledger.RetireEnvironment{Name: "prod", Reason: "the instance is gone"})
	bustest.Eventually(t, "nothing is shown of it but that it is retired", func() bool {
		left := shown(t, registry, "", "prod", "state")
		return len(left) == len(fleet.Conditions) && left[string(fleet.Retired)] == 1
	})
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
