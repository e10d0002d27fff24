// Package telemetrytest holds what a program shows to the catalogue of its metrics.
//
// Guarantees: a metric that is not in the catalogue, or not as the catalogue says, fails the test. It is for tests only.
package telemetrytest

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

// Missing compares what a registry shows with a catalogue, and returns the metrics of the catalogue that are not shown at the moment.
// Constant are the labels that every metric has beside its own. Histograms must have classic and native buckets.
func Missing(t testing.TB, registry *prometheus.Registry, catalogue *telemetry.Catalogue, constant ...string) []string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]*telemetry.Metric{}
	for _, m := range catalogue.All() {
		missing[m.Name] = m
	}
	for _, f := range families {
		m := missing[f.GetName()]
		if m == nil {
			t.Errorf("%s is shown, and is not in the catalogue", f.GetName())
			continue
		}
		delete(missing, m.Name)
		if kind := strings.ToLower(f.GetType().String()); kind != m.Type || f.GetHelp() != m.Help {
			t.Errorf("%s is a %s, %q; want a %s, %q", m.Name, kind, f.GetHelp(), m.Type, m.Help)
		}
		want := slices.Sorted(slices.Values(slices.Concat(m.Labels, constant)))
		for _, one := range f.Metric {
			var labels []string
			for _, l := range one.Label {
				labels = append(labels, l.GetName())
				if l.GetValue() == "" {
					t.Errorf("%s: the label %s is empty", m.Name, l.GetName())
				}
			}
			if !slices.Equal(labels, want) {
				t.Errorf("%s has the labels %v, want %v", m.Name, labels, want)
			}
			if h := one.GetHistogram(); h != nil && (len(h.Bucket) == 0 || len(h.PositiveSpan)+len(h.NegativeSpan) == 0 && h.ZeroThreshold == nil) {
				t.Errorf("%s has not both kinds of buckets", m.Name)
			}
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	var names []string
	for name := range missing {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
