package tracing_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/tracing"
)

func TestSpansAreMadeAndSentOnlyWhereTheEnvironmentNamesAnEndpoint(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	var taken atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { taken.Add(1) }))
	defer server.Close()
	for endpoint, made := range map[string]bool{"": false, server.URL: true} {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
		taken.Store(0)
		tracer, stop, err := tracing.Tracer(t.Context(), "test", "1", func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		ctx, span := tracer.Start(tracing.Within(t.Context(), parent), "outer")
		_, inner := tracing.Begin(ctx, "inner")
		tracing.End(inner, nil)
		tracing.End(span, nil)
		stop()
		if tracing.Made(tracer) != made || (taken.Load() > 0) != made {
			t.Errorf("endpoint %q: made %v, exported %d times", endpoint, tracing.Made(tracer), taken.Load())
		}
		if same := tracing.Parent(ctx) == parent; same == made {
			t.Errorf("endpoint %q: the span is %s", endpoint, tracing.Parent(ctx))
		}
	}
	if tracing.Parent(t.Context()) != "" || tracing.Parent(tracing.Within(t.Context(), "nonsense")) != "" {
		t.Error("a span out of nothing")
	}
}
