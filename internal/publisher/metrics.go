package publisher

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Metrics are all that a publisher shows. Labels are bounded: environments, agents, phases, states, words and reasons; never changes or
// people.
var Metrics telemetry.Catalogue

var (
	metricBuild     = Metrics.Gauge("build_info", "1, with the version of the program.", "version")
	metricEntries   = Metrics.Gauge("ledger_entries", "Entries in the ledger.")
	metricWritable  = Metrics.Gauge("ledger_writable", "1 when the ledger is checked and open, 0 when it is read-only.")
	metricReadOnly  = Metrics.Gauge("ledger_read_only", "1, with the reason, while the ledger is read-only; absent while it is open.", "reason")
	metricVerified  = Metrics.Gauge("ledger_verified_timestamp_seconds", "When the ledger was last compared with what this publisher and the agents know of it, and nothing contradicted it; absent until then.")
	metricLease     = Metrics.Gauge("publisher_lease", "1 when this publisher sends, gathers and pulses, 0 when it stands by.")
	metricHead      = Metrics.Gauge("environment_head_revision", "Newest released revision, as the ledger says.", "environment")
	metricRevision  = Metrics.Gauge("environment_applied_revision", "Newest revision that every agent has applied and read back.", "environment")
	metricUnapplied = Metrics.Gauge("oldest_unapplied_timestamp_seconds", "Bus time of the ledger entry of the oldest release that not every agent has applied; absent when there is none.", "environment")
	metricState     = Metrics.Gauge("environment_state", "1 for the state that the environment is in, 0 for the others. Of a retired environment only this is shown.", "environment", "state")
	metricRollout   = Metrics.Gauge("rollout_state", "1 for what becomes of changes that are approved for the environment, 0 for the others: they are released (running), one waits for the end of a freeze (frozen), or is held back by somebody (paused).", "environment", "state")
	metricFields    = Metrics.Gauge("drift_fields", "Fields of the instances that differ from what was applied, by the severity that the manifest of their resource says. One that differs as a whole counts as one field. Absent while no agent that is heard has read its instance back.", "environment", "severity")
	metricScore     = Metrics.Gauge("drift_score", "Those fields as one number, from 0, which is no drift, to 100, of the worst agent: each field takes its part of what is left of 100: half where it is critical, a quarter where it is high, a tenth where it is medium or unknown, a twentieth where it is low. Absent while those are.", "environment")
	metricAgentRev  = Metrics.Gauge("agent_checkpoint_revision", "Newest revision that the agent has applied and read back, as it says.", "environment", "agent")
	metricLag       = Metrics.Gauge("consumer_lag_events", "Released revisions that the agent has not applied: head minus checkpoint.", "environment", "agent")
	metricSeen      = Metrics.Gauge("agent_last_seen_timestamp_seconds", "Bus time of the agent's newest beat or ack; absent until it is heard.", "environment", "agent")
	metricSkew      = Metrics.Gauge("agent_clock_skew_seconds", "The agent's clock minus the bus's, at its newest beat.", "environment", "agent")
	metricDropped   = Metrics.Counter("agent_dropped_messages_total", "Messages that the agent dropped since it started, because they are not validly the publisher's, as its newest beat says.", "environment", "agent")
	metricRollbacks = Metrics.Counter("rollbacks_total", "Releases that undid a change, by what ordered them: a person, so far.", "environment", "cause")
	metricGlass     = Metrics.Gauge("breakglass_open", "Changes whose break-glass is not reviewed yet.")
	metricRejected  = Metrics.Counter("signature_failures_total", "Acks and beats that were not validly an enrolled agent's, by reason.", "reason")
	metricRefused   = Metrics.Counter("http_refused_total", "Requests over HTTP that were refused for who asks or for how they are signed, by reason.", "reason")
	metricBarred    = Metrics.Counter("bus_refused_total", "What agents asked the bus for without having the right to it, where a publisher decides that: consumers of releases.")
	metricAcks      = Metrics.Counter("events_applied_total", "Statements of agents about releases that this publisher recorded, by their word.", "environment", "result")
	metricPhases    = Metrics.Histogram("propagation_lag_seconds", "Time of one agent's releases by phase. total: from the bus's stamp of the ledger entry to the bus's stamp of the ack; an ack that was sent again counts as at most that. "+
		"It is the sum of deliver (entry to agent), verify, apply, commit and ack (commit to bus), which the agent's clock divides, corrected by its skew. publish: from the decision to the release on the bus, by this publisher's clock; a part of deliver.", "environment", "phase")
)

// metrics are what Prometheus reads.
type metrics struct {
	publisher *Publisher
	phases    *prometheus.HistogramVec
	acks      *prometheus.CounterVec
	refused   *prometheus.CounterVec
	barred    *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, p *Publisher) *metrics {
	m := &metrics{publisher: p, phases: metricPhases.NewHistogram(), acks: metricAcks.NewCounter(), refused: metricRefused.NewCounter(), barred: metricBarred.NewCounter()}
	m.barred.WithLabelValues()
	for _, reason := range api.Refusals() { // what never happened is seen, and so is the first time
		m.refused.WithLabelValues(string(reason))
	}
	registry.MustRegister(m, m.phases, m.acks, m.refused, m.barred)
	return m
}

// observe counts what agents just were recorded to have said, and takes the phases of the newest release of each that applied some.
func (m *metrics) observe(b *book, recorded []gathered) {
	beats := m.publisher.reports.beats()
	b.read(func(state *ledger.State) {
		for _, g := range recorded {
			s, id := g.statement, fleet.AgentID{Environment: g.delivery.Environment, Agent: g.delivery.Agent}
			e := state.Environments[id.Environment]
			if g.delivery.Ack == nil || e == nil || s.Last == 0 || s.Last > e.Head() {
				continue
			}
			m.acks.WithLabelValues(e.Name, string(s.Word)).Inc()
			if s.Word != events.WordApplied {
				continue
			}
			release := e.Releases[s.Last-1]
			for phase, took := range fleet.PhasesOf(release, s.Delivery, beats[id].Skew()) {
				m.took(e.Name, phase, took, telemetry.TraceID(release.TraceParent))
			}
		}
	})
}

// refusedHTTP counts a request.
func (m *metrics) refusedHTTP(reason events.Reason) { m.refused.WithLabelValues(string(reason)).Inc() }

// refusedBus counts what an agent asked the bus for.
func (m *metrics) refusedBus() { m.barred.WithLabelValues().Inc() }

// published takes the time from a decision to one of its releases on the bus.
func (m *metrics) published(r ledger.Released, took time.Duration) {
	m.took(r.Environment, fleet.PhasePublish, took, telemetry.TraceID(r.TraceParent))
}

// took observes a phase, with the trace of the release as an exemplar where it is known.
func (m *metrics) took(environment string, phase fleet.Phase, long time.Duration, trace string) {
	observer := m.phases.WithLabelValues(environment, string(phase))
	if exemplars, ok := observer.(prometheus.ExemplarObserver); ok && trace != "" {
		exemplars.ObserveWithExemplar(long.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	observer.Observe(long.Seconds())
}

// Describe is unchecked: what Collect sends depends on the fleet.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect reads the fleet view.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	metricBuild.Send(out, 1, telemetry.Version())
	metricLease.Send(out, truth(m.publisher.leading.Load()))
	for reason, n := range m.publisher.reports.rejections() {
		metricRejected.Send(out, float64(n), string(reason))
	}
	standing := m.publisher.ledgerView()
	m.publisher.Read(func(s *ledger.State, r fleet.Reports, asOf time.Time) {
		view := fleet.Build(s, r, standing, asOf)
		m.collectLedger(out, view.Ledger)
		metricGlass.Send(out, float64(len(view.Reviews)))
		rollouts, severity := fleet.Rollouts(s), fleet.Severity(s)
		for _, e := range view.Environments {
			collectState(out, e)
			if e.Condition == fleet.Retired {
				m.forget(e.Name)
				continue
			}
			m.phases.WithLabelValues(e.Name, string(fleet.PhaseTotal)) // shows 0 before the first release: the first one is an increase
			collectEnvironment(out, asOf, e)
			metricRollbacks.Send(out, float64(fleet.Rollbacks(s.Environments[e.Name])), e.Name, "person")
			for _, state := range fleet.RolloutStates {
				metricRollout.Send(out, truth(state == cmp.Or(rollouts[e.Name], fleet.Running)), e.Name, string(state))
			}
			collectDrift(out, e.Name, fleet.DriftOf(e, severity, asOf))
		}
	})
}

// forget takes away what was counted of an environment.
func (m *metrics) forget(environment string) {
	of := prometheus.Labels{"environment": environment}
	m.phases.DeletePartialMatch(of)
	m.acks.DeletePartialMatch(of)
}

func (m *metrics) collectLedger(out chan<- prometheus.Metric, l fleet.LedgerView) {
	metricEntries.Send(out, float64(l.Tip.Number))
	metricWritable.Send(out, truth(l.Writable))
	if !l.Writable {
		metricReadOnly.Send(out, 1, string(l.Reason))
	}
	if verified := m.publisher.verified.Load(); verified != nil {
		metricVerified.Send(out, seconds(*verified))
	}
}

func collectEnvironment(out chan<- prometheus.Metric, asOf time.Time, e fleet.Environment) {
	metricHead.Send(out, float64(e.Head), e.Name)
	metricRevision.Send(out, float64(e.Revision), e.Name)
	if e.LagRevisions > 0 {
		metricUnapplied.Send(out, seconds(asOf)-e.LagSeconds, e.Name)
	}
	for _, a := range e.Agents {
		metricLag.Send(out, float64(e.Head-a.Revision), e.Name, a.Name)
		metricAgentRev.Send(out, float64(a.Revision), e.Name, a.Name)
		if !a.LastSeen.IsZero() {
			metricSeen.Send(out, seconds(a.LastSeen), e.Name, a.Name)
			metricSkew.Send(out, a.ClockSkew, e.Name, a.Name)
			metricDropped.Send(out, float64(a.Rejected), e.Name, a.Name)
		}
	}
}

func collectState(out chan<- prometheus.Metric, e fleet.Environment) {
	for _, state := range fleet.Conditions {
		metricState.Send(out, truth(state == e.Condition), e.Name, string(state))
	}
}

func collectDrift(out chan<- prometheus.Metric, environment string, drift *fleet.Drift) {
	if drift == nil {
		return
	}
	for _, severity := range fleet.Severities {
		metricFields.Send(out, float64(drift.Fields[severity]), environment, severity)
	}
	metricScore.Send(out, drift.Score, environment)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
