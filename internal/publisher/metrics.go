package publisher

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// metrics are what Prometheus reads. Labels are bounded: environments, agents, phases, states and reasons; never changes or people.
type metrics struct {
	publisher *Publisher
	lag       *prometheus.HistogramVec
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lockstep_"+name, help, labels, nil)
}

var (
	descHead      = describe("environment_head_revision", "Newest released revision, as the ledger says.", "environment")
	descRevision  = describe("environment_applied_revision", "Newest revision that every agent has applied and read back.", "environment")
	descUnapplied = describe("environment_oldest_unapplied_timestamp_seconds", "Bus time of the ledger entry of the oldest release that not every agent has applied; absent when there is none.", "environment")
	descState     = describe("environment_state", "1 for the state that the environment is in, 0 for the others.", "environment", "state")
	descAgentRev  = describe("agent_checkpoint_revision", "Newest revision that the agent has applied and read back, as its acks and beats say.", "environment", "agent")
	descSeen      = describe("agent_last_seen_timestamp_seconds", "Bus time of the agent's newest beat or ack.", "environment", "agent")
	descSkew      = describe("agent_clock_skew_seconds", "The agent's clock minus the bus's, at its newest beat.", "environment", "agent")
	descEntries   = describe("ledger_entries", "Entries in the ledger.")
	descWritable  = describe("ledger_writable", "1 when the ledger is checked and open, 0 when it is read-only.")
	descReadOnly  = describe("ledger_read_only", "1, with the reason, while the ledger is read-only; absent while it is open.", "reason")
	descLease     = describe("publisher_lease", "1 when this publisher sends, gathers and pulses, 0 when it stands by.")
	descRejected  = describe("statements_rejected_total", "Acks and beats that were not valid.", "reason")
	descBuild     = describe("build_info", "1, with the version of the program.", "version")
)

func newMetrics(registry prometheus.Registerer, p *Publisher) *metrics {
	m := &metrics{publisher: p, lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "lockstep_propagation_lag_seconds",
		Help: "Time of one agent's releases by phase: total is the bus's stamp of the ack minus the bus's stamp of the ledger entry; transit is what of it passed outside the agent; " +
			"verify, apply and commit are by the agent's clock.",
		Buckets:                     []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600},
		NativeHistogramBucketFactor: 1.1,
	}, []string{"environment", "phase"})}
	registry.MustRegister(m, m.lag)
	return m
}

// observe takes the lag of what agents just were recorded to have applied: of the newest release of each ack.
func (m *metrics) observe(b *book, recorded []gathered) {
	for _, g := range recorded {
		if g.delivery.Ack != nil && g.statement.Word == events.WordApplied {
			m.observeOne(b, g.delivery.Environment, g.statement)
		}
	}
}

func (m *metrics) observeOne(b *book, environment string, s ledger.Statement) {
	var released time.Time
	b.read(func(state *ledger.State) {
		if e := state.Environments[environment]; e != nil && s.Last <= e.Head() {
			released = e.Releases[s.Last-1].Stamp
		}
	})
	if total := s.Stamp.Sub(released); !released.IsZero() {
		m.lag.WithLabelValues(environment, "total").Observe(max(0, total.Seconds()))
		if !s.Phases.Received.IsZero() && !s.Phases.Committed.IsZero() {
			transit := total - s.Phases.Committed.Sub(s.Phases.Received)
			m.lag.WithLabelValues(environment, "transit").Observe(max(0, transit.Seconds()))
		}
	}
	for phase, span := range map[string][2]time.Time{
		"verify": {s.Phases.Received, s.Phases.Verified}, "apply": {s.Phases.Verified, s.Phases.Applied}, "commit": {s.Phases.Applied, s.Phases.Committed},
	} {
		if !span[0].IsZero() && !span[1].IsZero() {
			m.lag.WithLabelValues(environment, phase).Observe(max(0, span[1].Sub(span[0]).Seconds()))
		}
	}
}

// Describe is unchecked: what Collect sends depends on the fleet.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the fleet view.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	view := m.publisher.Fleet()
	gauge(descBuild, 1, telemetry.Version())
	gauge(descEntries, float64(view.Ledger.Tip.Number))
	gauge(descWritable, truth(view.Ledger.Writable))
	if !view.Ledger.Writable {
		gauge(descReadOnly, 1, string(view.Ledger.Reason))
	}
	gauge(descLease, truth(m.publisher.leading.Load()))
	for reason, n := range m.publisher.reports.rejections() {
		out <- prometheus.MustNewConstMetric(descRejected, prometheus.CounterValue, float64(n), string(reason))
	}
	for _, e := range view.Environments {
		gauge(descHead, float64(e.Head), e.Name)
		gauge(descRevision, float64(e.Revision), e.Name)
		if e.LagRevisions > 0 {
			gauge(descUnapplied, seconds(view.AsOf)-e.LagSeconds, e.Name)
		}
		for _, state := range fleet.Conditions {
			gauge(descState, truth(state == e.Condition), e.Name, string(state))
		}
		for _, a := range e.Agents {
			gauge(descAgentRev, float64(a.Revision), e.Name, a.Name)
			if !a.LastSeen.IsZero() {
				gauge(descSeen, seconds(a.LastSeen), e.Name, a.Name)
				gauge(descSkew, a.ClockSkew, e.Name, a.Name)
			}
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
