package publisher

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/internal/tracing"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// linksMost are how many releases the span of a fold is linked to, the newest: as many as OpenTelemetry keeps.
const linksMost = 128

// onBus are the attributes of a span about a release on its way.
func onBus(environment string, r ledger.Release) trace.SpanStartEventOption {
	return trace.WithAttributes(attribute.String("messaging.system", "nats"), attribute.String("messaging.destination.name", events.ReleaseSubject(environment)),
		tracing.Environment.String(environment), tracing.Revision.Int64(int64(r.Revision)), tracing.Change.String(r.Change))
}

// traceSent makes the span of a release that was brought onto the bus, within the command that led to it.
func traceSent(tracer trace.Tracer, r ledger.Released, began time.Time) {
	_, span := tracer.Start(tracing.Within(context.Background(), r.TraceParent), "send", trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithTimestamp(began), onBus(r.Environment, r.Release))
	span.End()
}

// traceRecorded makes the spans of what agents said that they did, so that agents need no exporter, and no way to a collector.
func (p *Publisher) traceRecorded(recorded []gathered) {
	if !tracing.Made(p.opts.Tracer) {
		return
	}
	beats := p.reports.beats()
	p.book.read(func(state *ledger.State) {
		for _, g := range recorded {
			e := state.Environments[g.delivery.Environment]
			if s := g.statement; g.delivery.Ack != nil && e != nil && s.Last > 0 && s.Last <= e.Head() && !s.Phases.Received.IsZero() {
				id := fleet.AgentID{Environment: e.Name, Agent: g.delivery.Agent}
				traceProcessed(p.opts.Tracer, e, id.Agent, s.Delivery, beats[id].Skew())
			}
		}
	})
}

// linkProposal links the span of a command about a change to that of its proposal, which often is another person's, in another trace.
func (p *Publisher) linkProposal(span trace.Span, change, within string) {
	if change == "" || !span.IsRecording() {
		return
	}
	p.book.read(func(s *ledger.State) {
		if c := s.Changes[change]; c != nil && c.TraceParent != within && telemetry.TraceID(c.TraceParent) != "" {
			span.AddLink(tracing.Link(c.TraceParent))
		}
	})
}

// traceProcessed makes the span of what an agent did with one or more releases, and of its phases. It is linked to the releases, and in
// their trace where that is one. Times are the agent's, corrected by its skew; the end is the bus's.
func traceProcessed(tracer trace.Tracer, e *ledger.Environment, agent string, d ledger.Delivery, skew time.Duration) {
	var parents []string
	for _, r := range e.Releases[max(d.First, 1, d.Last-min(d.Last, linksMost-1))-1 : d.Last] {
		parents = append(parents, r.TraceParent)
	}
	var links []trace.Link
	parents = slices.Compact(parents)
	for _, parent := range parents {
		links = append(links, tracing.Link(parent))
	}
	at, ctx := d.Phases.Received.Add(-skew), context.Background()
	if len(links) == 1 {
		ctx = tracing.Within(ctx, parents[0])
	}
	ctx, span := tracer.Start(ctx, "process", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(at),
		trace.WithLinks(links...), onBus(e.Name, e.Releases[d.Last-1]), trace.WithAttributes(tracing.Agent.String(agent)))
	part := func(name string, until time.Time) {
		_, part := tracer.Start(ctx, name, trace.WithTimestamp(at))
		if until.After(at) {
			at = until
		}
		part.End(trace.WithTimestamp(at))
	}
	for _, phase := range []struct {
		name  string
		until time.Time
	}{{"verify", d.Phases.Verified}, {"apply", d.Phases.Applied}, {"commit", d.Phases.Committed}} {
		if !phase.until.IsZero() {
			part(phase.name, phase.until.Add(-skew))
		}
	}
	part("ack", d.Stamp)
	if d.Reason != "" {
		span.SetStatus(codes.Error, string(d.Word)+": "+string(d.Reason))
	}
	span.End(trace.WithTimestamp(at))
}
