package telemetry

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// The types of metrics.
const (
	Counter   = "counter"
	Gauge     = "gauge"
	Histogram = "histogram"
)

// A Metric is what a program shows under one name.
type Metric struct {
	Name   string // with the prefix lockstep_ and its unit
	Type   string // counter, gauge or histogram
	Help   string
	Labels []string
	desc   *prometheus.Desc
}

// A Catalogue is all metrics of a program, as they were added: docs/metrics.md, the alert rules and the dashboards are held to it. It is
// filled while a package is initialised, and not changed after.
type Catalogue struct{ metrics []*Metric }

// All are the metrics, ordered by name.
func (c *Catalogue) All() []*Metric {
	return slices.SortedFunc(slices.Values(c.metrics), func(a, b *Metric) int { return strings.Compare(a.Name, b.Name) })
}

// Gauge adds a gauge; the name is without its prefix.
func (c *Catalogue) Gauge(name, help string, labels ...string) *Metric {
	return c.add(name, Gauge, help, labels)
}

// Counter adds a counter.
func (c *Catalogue) Counter(name, help string, labels ...string) *Metric {
	return c.add(name, Counter, help, labels)
}

// Histogram adds a histogram.
func (c *Catalogue) Histogram(name, help string, labels ...string) *Metric {
	return c.add(name, Histogram, help, labels)
}

func (c *Catalogue) add(name, kind, help string, labels []string) *Metric {
	m := &Metric{Name: "lockstep_" + name, Type: kind, Help: help, Labels: labels}
	m.desc = prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
	c.metrics = append(c.metrics, m)
	return m
}

// Describe hands over the description of a gauge or counter that is sent.
func (m *Metric) Describe(out chan<- *prometheus.Desc) { out <- m.desc }

// Send sends a value of a gauge or counter that is read when it is asked for.
func (m *Metric) Send(out chan<- prometheus.Metric, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if m.Type == Counter {
		kind = prometheus.CounterValue
	}
	out <- prometheus.MustNewConstMetric(m.desc, kind, value, labels...)
}

// NewCounter counts where things happen.
func (m *Metric) NewCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.Labels)
}

// seconds are the upper bounds of classic buckets: from what a release takes on one machine to an hour.
var seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}

// maxBuckets bounds the native histogram of each combination of labels.
const maxBuckets = 160

// NewHistogram is of seconds, with classic buckets and as a native histogram, whose buckets are at most a tenth wider than the one
// before.
func (m *Metric) NewHistogram() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: m.Name, Help: m.Help, Buckets: seconds, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: maxBuckets,
	}, m.Labels)
}
