package publisher_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/publisher"
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
	bounded := map[string]string{ // labels, by metric
		"lockstep_environment_head_revision": "environment", "lockstep_environment_applied_revision": "environment",
		"lockstep_environment_oldest_unapplied_timestamp_seconds": "environment", "lockstep_environment_state": "environment,state",
		"lockstep_agent_checkpoint_revision": "agent,environment", "lockstep_agent_last_seen_timestamp_seconds": "agent,environment",
		"lockstep_agent_clock_skew_seconds": "agent,environment", "lockstep_propagation_lag_seconds": "environment,phase",
		"lockstep_ledger_entries": "", "lockstep_ledger_writable": "", "lockstep_publisher_lease": "",
		"lockstep_statements_rejected_total": "reason", "lockstep_build_info": "version",
	}
	bustest.Eventually(t, "every metric is there", func() bool {
		found := map[string]string{}
		families, err := registry.Gather()
		must(t, err)
		for _, f := range families {
			labels := map[string]bool{}
			for _, m := range f.Metric {
				for _, l := range m.Label {
					labels[l.GetName()] = true
					if l.GetValue() == "" {
						t.Errorf("%s: the label %s is empty", f.GetName(), l.GetName())
					}
				}
			}
			found[f.GetName()] = strings.Join(slices.Sorted(maps.Keys(labels)), ",")
		}
		return cmp.Equal(bounded, found)
	})
	families, err := registry.Gather()
	must(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	must(t, err)
	if len(problems) > 0 {
		t.Error(problems)
	}
}
