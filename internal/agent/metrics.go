package agent

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// conditions are the label values of lockstep_agent_condition.
var conditions = []string{Torn, Differing, Failing, Stale, Held, Behind, InStep}

// metrics are the agent's; gauges are read from its status when they are asked for.
type metrics struct {
	agent      *Agent
	registerer prometheus.Registerer
	applied    prometheus.Counter
	failures   *prometheus.CounterVec
	duration   prometheus.Histogram
	gauges     []gauge
	condition  *prometheus.Desc
	stale      *prometheus.Desc
	rejected   *prometheus.Desc
}

type gauge struct {
	desc  *prometheus.Desc
	value func(Status) float64
}

func newMetrics(a *Agent) (*metrics, error) {
	labels := prometheus.Labels{"environment": a.opts.Enrolment.Environment, "agent": a.opts.Enrolment.Agent}
	m := &metrics{agent: a, registerer: prometheus.WrapRegistererWith(labels, a.opts.Registry)}
	m.applied = prometheus.NewCounter(prometheus.CounterOpts{Name: "lockstep_agent_applied_releases_total", Help: "Releases applied, read back and committed."})
	m.failures = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockstep_agent_apply_failures_total", Help: "Applies that failed, by reason."}, []string{"reason"})
	m.duration = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lockstep_agent_apply_duration_seconds", Help: "Time from plan to commit.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}})
	m.condition = prometheus.NewDesc("lockstep_agent_condition", "1 for the agent's condition, 0 for the others.", []string{"condition"}, nil)
	m.stale = prometheus.NewDesc("lockstep_agent_stale_since_timestamp_seconds", "Since when the agent is stale, whatever its condition; absent while it is not.", nil, nil)
	m.rejected = prometheus.NewDesc("lockstep_agent_rejected_messages_total", "Messages dropped because they are not the publisher's, by reason.", []string{"reason"}, nil)
	add := func(name, help string, value func(Status) float64) {
		m.gauges = append(m.gauges, gauge{prometheus.NewDesc("lockstep_agent_"+name, help, nil, nil), value})
	}
	add("checkpoint_revision", "Newest revision applied and read back.", func(s Status) float64 { return float64(s.Checkpoint.Revision) })
	add("followed_revision", "Newest revision verified.", func(s Status) float64 { return float64(s.Followed) })
	add("head_revision", "Newest revision known to be released.", func(s Status) float64 { return float64(s.Head) })
	add("checkpoint_timestamp_seconds", "When the checkpoint was written.", func(s Status) float64 { return unix(s.Checkpoint.At) })
	add("last_pulse_timestamp_seconds", "When the newest valid pulse of the publisher was heard.", func(s Status) float64 { return unix(s.LastPulse) })
	add("last_head_check_timestamp_seconds", "When the head was last looked at.", func(s Status) float64 { return unix(s.LastCheck) })
	add("condition_since_timestamp_seconds", "Since when the condition holds.", func(s Status) float64 { return unix(s.Condition.Since) })
	add("outbox_acks", "Acks that the bus has not taken.", func(s Status) float64 { return float64(s.Outbox) })
	add("bus_connected", "1 while the bus is reachable.", func(s Status) float64 { return truth(s.Connected) })
	add("differing_resources", "Resources that differed at the last read-back.", func(s Status) float64 { return float64(len(s.Differing)) })
	for _, c := range []prometheus.Collector{m.applied, m.failures, m.duration, m} {
		if err := m.registerer.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

// unregister lets the next agent of the same name use the registry.
func (m *metrics) unregister() {
	for _, c := range []prometheus.Collector{m.applied, m.failures, m.duration, m} {
		m.registerer.Unregister(c)
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, g := range m.gauges {
		out <- g.desc
	}
	out <- m.condition
	out <- m.stale
	out <- m.rejected
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	s := m.agent.Status()
	for _, g := range m.gauges {
		out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(s))
	}
	for _, word := range conditions {
		out <- prometheus.MustNewConstMetric(m.condition, prometheus.GaugeValue, truth(s.Condition.Word == word), word)
	}
	if s.Stale != nil {
		out <- prometheus.MustNewConstMetric(m.stale, prometheus.GaugeValue, unix(s.Stale.Since))
	}
	for why, n := range s.Rejected {
		out <- prometheus.MustNewConstMetric(m.rejected, prometheus.CounterValue, float64(n), why)
	}
}

// advanced counts what one try of the chain did.
func (m *metrics) advanced(took time.Duration, releases uint64, err error) {
	switch {
	case err != nil:
		m.failures.WithLabelValues(string(reasonOf(err))).Inc()
	case releases > 0:
		m.applied.Add(float64(releases))
		m.duration.Observe(took.Seconds())
	}
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
