// Package tracing makes OpenTelemetry spans and exports them over OTLP/HTTP, where the environment of the process says to where.
//
// Guarantees: without OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) nothing is made and nothing is sent; spans that
// cannot be sent are dropped, and nothing waits for them but the end of the program, for a bounded time.
//
// It is for runtimes and programs; the domain knows traces as text. The agent does not link it: the exporter costs 3 MB of resident memory.
package tracing

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// The attributes of spans, beside those of OpenTelemetry's conventions.
const (
	Environment = attribute.Key("lockstep.environment")
	Revision    = attribute.Key("lockstep.revision")
	Change      = attribute.Key("lockstep.change")
	Agent       = attribute.Key("lockstep.agent")
	Verb        = attribute.Key("lockstep.verb")
	DryRun      = attribute.Key("lockstep.dry_run")
)

const scope = "github.com/lockstep-dev/lockstep"

// exportTimeout is how long the end of a program waits for its last spans to be taken.
const exportTimeout = 2 * time.Second

// None makes no spans.
func None() trace.Tracer { return noop.NewTracerProvider().Tracer(scope) }

// Made says whether a tracer makes spans.
func Made(t trace.Tracer) bool {
	_, none := t.(noop.Tracer)
	return !none
}

// Tracer makes the spans of one service, or none. stop sends what was not sent yet. What cannot be sent is told to failed, of which
// OpenTelemetry keeps one for the whole process: the newest.
func Tracer(ctx context.Context, service, version string, failed func(error)) (_ trace.Tracer, stop func(), err error) {
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return None(), func() {}, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("export of traces: %w; look at the OTEL_EXPORTER_OTLP_* variables", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("export of traces: %w; look at OTEL_RESOURCE_ATTRIBUTES", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(failed))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	stop = func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
		defer cancel()
		if err := provider.Shutdown(bounded); err != nil {
			failed(err)
		}
	}
	return provider.Tracer(scope, trace.WithInstrumentationVersion(version)), stop, nil
}

// Within is ctx inside the span that a W3C trace context names; ctx itself where it names none.
func Within(ctx context.Context, parent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
}

// Parent is the W3C trace context of the span of ctx; "" where there is none.
func Parent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// Link is a link to the span that a W3C trace context names.
func Link(parent string) trace.Link {
	return trace.LinkFromContext(Within(context.Background(), parent))
}

// Begin begins a part of the span of ctx. Where ctx has none nothing is made.
func Begin(ctx context.Context, name string) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(scope).Start(ctx, name)
}

// End ends a span with what came of it.
func End(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
