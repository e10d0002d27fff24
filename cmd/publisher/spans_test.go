package main

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

// A receiver takes spans as an OpenTelemetry collector does.
type receiver struct {
	mu    sync.Mutex
	spans []received
}

type received struct {
	*otlp.Span
	service string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var export collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(body, &export) != nil {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range export.ResourceSpans {
		service := ""
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				r.spans = append(r.spans, received{s, service})
			}
		}
	}
}

// find is the first span that is wanted; nil while there is none.
func (r *receiver) find(want func(received) bool) *received {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if want(s) {
			return &s
		}
	}
	return nil
}

// deploy runs a publisher as a process would be, an agent beside it, and a change from its proposal to the ack.
func deploy(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	_, complaints := begin(t, "serve", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0")
	url := ""
	for url == "" && complaints.Scan() {
		if _, rest, ok := strings.Cut(complaints.Text(), "serving at "); ok {
			url, _, _ = strings.Cut(rest, ",")
		}
	}
	go func() { // whoever writes must not wait for a reader
		for complaints.Scan() {
		}
	}()
	do := func(line string) {
		t.Helper()
		var said strings.Builder
		if code := run(context.Background(), append(strings.Fields(line), "--server", url), strings.NewReader(""), io.Discard, &said); code != 0 {
			t.Fatalf("%s: exit code %d: %s", line, code, said.String())
		}
	}
	bustest.Eventually(t, "the publisher is ready", func() bool { return ready(url) })
	do("env add dev --as op --approvals 1")
	enrolment := filepath.Join(dir, "one.enrolment")
	do("env enrol dev --agent one --as op -o " + enrolment)
	e, err := keys.ReadEnrolment(enrolment)
	if err != nil {
		t.Fatal(err)
	}
	router, err := connector.NewRouter([]connector.Route{{Resources: []connector.Glob{"variable/*"}, Connector: connectortest.NewFake("fake")}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Options{Enrolment: e, State: filepath.Join(dir, "agent"), Router: router})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bustest.Deadline)
		defer cancel()
		if err := a.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	do("propose --as anna -m why --env dev --set variable/x=1 --idempotency-key one")
	do("approve c1 --as ben --wait --timeout 2m")
}

// ready says whether a publisher takes commands.
func ready(url string) bool {
	answer, err := http.Get(url + "/readyz")
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

func TestSpansLeadFromTheCommandToEveryAgentsAck(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	r := &receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	t.Setenv("TRACEPARENT", "00-"+trace+"-"+parent+"-01")
	deploy(t)

	span := func(service, name string, within []byte) *received {
		t.Helper()
		var found *received
		bustest.Eventually(t, "the span "+name+" of "+service, func() bool {
			found = r.find(func(s received) bool {
				return s.service == service && s.Name == name && (within == nil || string(s.ParentSpanId) == string(within))
			})
			return found != nil
		})
		return found
	}
	propose, approve := span("lockstep-command", "propose", nil), span("lockstep-command", "approve", nil)
	for _, s := range []*received{propose, approve} {
		if hex.EncodeToString(s.TraceId) != trace || hex.EncodeToString(s.ParentSpanId) != parent {
			t.Errorf("%s is not within the job's span: %v", s.Name, s.Span)
		}
		command := span("lockstep-publisher", "command", s.SpanId)
		span("lockstep-publisher", "decide", command.SpanId)
		span("lockstep-publisher", "append", command.SpanId)
	}
	send := span("lockstep-publisher", "send", approve.SpanId)
	if hex.EncodeToString(send.TraceId) != trace {
		t.Errorf("send is in another trace: %v", send.Span)
	}
	var process *received
	bustest.Eventually(t, "a span of the agent that is linked to the release", func() bool {
		process = r.find(func(s received) bool {
			return s.Name == "process" && len(s.Links) > 0 && string(s.Links[len(s.Links)-1].SpanId) == string(approve.SpanId)
		})
		return process != nil
	})
	if hex.EncodeToString(process.TraceId) == trace || len(process.ParentSpanId) > 0 {
		t.Errorf("the agent's span is a child: %v", process.Span)
	}
	before := process.StartTimeUnixNano
	for _, phase := range []string{"verify", "apply", "commit", "ack"} {
		s := span("lockstep-publisher", phase, process.SpanId)
		if s.StartTimeUnixNano < before || s.EndTimeUnixNano < s.StartTimeUnixNano || s.EndTimeUnixNano > process.EndTimeUnixNano {
			t.Errorf("%s is from %d to %d, within %d to %d", phase, s.StartTimeUnixNano, s.EndTimeUnixNano, process.StartTimeUnixNano, process.EndTimeUnixNano)
		}
		before = s.EndTimeUnixNano
	}
}
