package agent

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Metrics are all that an agent shows; each also has the labels environment and agent.
var Metrics telemetry.Catalogue

var (
	metricBuild     = Metrics.Gauge("build_info", "1, with the version of the program.", "version")
	metricApplied   = Metrics.Counter("events_applied_total", "What became of releases: applied, read back and committed (applied), or not verified (refused); and of tries to apply some: failed, to be tried again (retrying), or not even undone (torn).", "result")
	metricFailures  = Metrics.Counter("agent_apply_failures_total", "Tries to apply that failed, by reason.", "reason")
	metricDuration  = Metrics.Histogram("agent_apply_duration_seconds", "Time from plan to commit.")
	metricCorrected = Metrics.Counter("drift_corrections_total", "Resources of the instance that differed from what was applied, and were put back because the steward asked for it ('agent retry').")
	metricCondition = Metrics.Gauge("agent_condition", "1 for the agent's condition, 0 for the others.", "condition")
	metricStale     = Metrics.Gauge("agent_stale_since_timestamp_seconds", "Since when the agent is stale, whatever its condition; absent while it is not.")
	metricDiffering = Metrics.Gauge("agent_differing_resources", "Resources that differed when the instance was last compared with the checkpoint; absent while it cannot be read back.")
	metricRejected  = Metrics.Counter("signature_failures_total", "Messages dropped because they are not validly the publisher's, by reason.", "reason")
)

// conditions are the label values of lockstep_agent_condition.
var conditions = []string{Torn, Differing, Failing, Stale, Held, Behind, InStep}

// gauges are numbers of the status.
var gauges = map[*telemetry.Metric]func(Status) float64{
	Metrics.Gauge("checkpoint_revision", "Newest revision applied and read back."):                                                     func(s Status) float64 { return float64(s.Checkpoint.Revision) },
	Metrics.Gauge("consumer_lag_events", "Released revisions that are not applied, as far as the agent knows: head minus checkpoint."): func(s Status) float64 { return float64(max(s.Head, s.Checkpoint.Revision) - s.Checkpoint.Revision) },
	Metrics.Gauge("agent_followed_revision", "Newest revision verified."):                                                              func(s Status) float64 { return float64(s.Followed) },
	Metrics.Gauge("agent_head_revision", "Newest revision known to be released."):                                                      func(s Status) float64 { return float64(s.Head) },
	Metrics.Gauge("agent_outbox_acks", "Acks that the bus has not taken."):                                                             func(s Status) float64 { return float64(s.Outbox) },
	Metrics.Gauge("agent_bus_connected", "1 while the bus is reachable."):                                                              func(s Status) float64 { return truth(s.Connected) },
}

// moments are times of the status; one that never came is absent.
var moments = map[*telemetry.Metric]func(Status) time.Time{
	Metrics.Gauge("agent_checkpoint_timestamp_seconds", "When the checkpoint was written; absent before the first."):                  func(s Status) time.Time { return s.Checkpoint.At },
	Metrics.Gauge("agent_last_pulse_timestamp_seconds", "When the newest valid pulse of the publisher was heard; absent until then."): func(s Status) time.Time { return s.LastPulse },
	Metrics.Gauge("agent_last_head_check_timestamp_seconds", "When the head was last looked at; absent until then."):                  func(s Status) time.Time { return s.LastCheck },
	Metrics.Gauge("agent_condition_since_timestamp_seconds", "Since when the condition holds."):                                       func(s Status) time.Time { return s.Condition.Since },
}

// metrics are the agent's; gauges are read from its status when they are asked for.
type metrics struct {
	agent      *Agent
	registerer prometheus.Registerer
	applied    *prometheus.CounterVec
	failures   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	corrected  *prometheus.CounterVec
}

func newMetrics(a *Agent) (*metrics, error) {
	labels := prometheus.Labels{"environment": a.opts.Enrolment.Environment, "agent": a.opts.Enrolment.Agent}
	m := &metrics{
		agent: a, registerer: prometheus.WrapRegistererWith(labels, a.opts.Registry),
		applied: metricApplied.NewCounter(), failures: metricFailures.NewCounter(), duration: metricDuration.NewHistogram(),
		corrected: metricCorrected.NewCounter(),
	}
	m.corrected.WithLabelValues()
	for _, c := range m.collectors() {
		if err := m.registerer.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.applied, m.failures, m.duration, m.corrected, m}
}

// unregister lets the next agent of the same name use the registry.
func (m *metrics) unregister() {
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for g := range gauges {
		g.Describe(out)
	}
	for g := range moments {
		g.Describe(out)
	}
	for _, g := range []*telemetry.Metric{metricBuild, metricCondition, metricStale, metricDiffering, metricRejected} {
		g.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	s := m.agent.Status()
	metricBuild.Send(out, 1, s.Version)
	for g, value := range gauges {
		g.Send(out, value(s))
	}
	for g, moment := range moments {
		if at := moment(s); !at.IsZero() {
			g.Send(out, unix(at))
		}
	}
	for _, word := range conditions {
		metricCondition.Send(out, truth(s.Condition.Word == word), word)
	}
	if s.Stale != nil {
		metricStale.Send(out, unix(s.Stale.Since))
	}
	if !s.Checkpoint.Observed.IsZero() {
		metricDiffering.Send(out, float64(len(s.Differing)))
	}
	for why, n := range s.Rejected {
		metricRejected.Send(out, float64(n), why)
	}
}

// refused counts a release that does not verify.
func (m *metrics) refused() { m.applied.WithLabelValues(string(events.WordRefused)).Inc() }

// restored counts resources that were put back.
func (m *metrics) restored(resources int) { m.corrected.WithLabelValues().Add(float64(resources)) }

// advanced counts what one try of the chain did.
func (m *metrics) advanced(took time.Duration, releases uint64, err error) {
	switch {
	case err != nil:
		m.failures.WithLabelValues(string(reasonOf(err))).Inc()
		m.applied.WithLabelValues(string(resultOf(err))).Inc()
	case releases > 0:
		m.applied.WithLabelValues(string(events.WordApplied)).Add(float64(releases))
		m.duration.WithLabelValues().Observe(took.Seconds())
	}
}

// resultOf is the ack's word for a try that failed.
func resultOf(err error) events.Word {
	switch {
	case events.ReasonOf(err) == events.ReasonUndo:
		return events.WordTorn
	case connector.AsError(err).Permanent:
		return events.WordFailed
	}
	return events.WordRetrying
}

func unix(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
