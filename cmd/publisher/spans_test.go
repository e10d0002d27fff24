package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
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

// A deployment is a publisher that runs as a process would, and an agent beside it.
type deployment struct {
	t    *testing.T
	url  string
	mu   sync.Mutex
	logs []string // lines of both, as JSON
}

func (d *deployment) log(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logs = append(d.logs, line)
}

// Write takes the agent's log, a line at a time.
func (d *deployment) Write(line []byte) (int, error) { d.log(string(line)); return len(line), nil }

// said are the lines so far.
func (d *deployment) said() (lines []map[string]any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, text := range d.logs {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil {
			lines = append(lines, line)
		}
	}
	return lines
}

// do carries out a verb.
func (d *deployment) do(line string) {
	d.t.Helper()
	var said strings.Builder
	if code := run(context.Background(), append(strings.Fields(line), "--server", d.url), strings.NewReader(""), io.Discard, &said); code != 0 {
		d.t.Fatalf("%s: exit code %d: %s", line, code, said.String())
	}
}

// deploy has one environment, dev, and its agent.
func deploy(t *testing.T) (*deployment, *connectortest.Fake) {
	t.Helper()
	dir, d := t.TempDir(), &deployment{t: t}
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	_, complaints := begin(t, "serve", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug")
	for d.url == "" && complaints.Scan() {
		d.log(complaints.Text())
		if _, rest, ok := strings.Cut(complaints.Text(), "serving at "); ok {
			d.url, _, _ = strings.Cut(rest, ",")
		}
	}
	go func() { // whoever writes must not wait for a reader
		for complaints.Scan() {
			d.log(complaints.Text())
		}
	}()
	bustest.Eventually(t, "the publisher is ready", func() bool { return ready(d.url) })
	d.do("env add dev --as op --approvals 1")
	enrolment := filepath.Join(dir, "one.enrolment")
	d.do("env enrol dev --agent one --as op -o " + enrolment)
	e, err := keys.ReadEnrolment(enrolment)
	if err != nil {
		t.Fatal(err)
	}
	fake := connectortest.NewFake("fake")
	router, err := connector.NewRouter([]connector.Route{{Resources: []connector.Glob{"variable/*"}, Connector: fake}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Options{Enrolment: e, State: filepath.Join(dir, "agent"), Router: router, Log: zerolog.New(d), Intervals: agent.Intervals{Check: time.Second}})
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
	return d, fake
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

// span waits for one of a service, within another where that is given.
func (r *receiver) span(t *testing.T, service, name string, within *received) *received {
	t.Helper()
	var found *received
	bustest.Eventually(t, "the span "+name+" of "+service, func() bool {
		found = r.find(func(s received) bool {
			return s.service == service && s.Name == name && (within == nil || string(s.ParentSpanId) == string(within.SpanId))
		})
		return found != nil
	})
	return found
}

func TestOneTraceLeadsFromTheProposalToEveryAgentsAckInSpansAndLogs(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	r := &receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	d, fake := deploy(t)
	t.Setenv("TRACEPARENT", "00-"+trace+"-"+parent+"-01")
	d.do("propose --as anna -m why --env dev --set variable/x=1 --idempotency-key one")
	d.do("approve c1 --as ben --wait --timeout 2m")

	propose, approve := r.span(t, "lockstep-command", "propose", nil), r.span(t, "lockstep-command", "approve", nil)
	spans := []*received{propose, approve}
	for _, s := range spans {
		if hex.EncodeToString(s.ParentSpanId) != parent {
			t.Errorf("%s is not within the job's span: %v", s.Name, s.Span)
		}
		command := r.span(t, "lockstep-publisher", "command", s)
		spans = append(spans, command, r.span(t, "lockstep-publisher", "decide", command), r.span(t, "lockstep-publisher", "append", command))
	}
	process := r.span(t, "lockstep-publisher", "process", approve)
	spans = append(spans, r.span(t, "lockstep-publisher", "send", approve), process)
	if n := len(process.Links); n == 0 || string(process.Links[n-1].SpanId) != string(approve.SpanId) {
		t.Errorf("the agent's span is not linked to the release: %v", process.Span)
	}
	before := process.StartTimeUnixNano
	for _, phase := range []string{"verify", "apply", "commit", "ack"} {
		s := r.span(t, "lockstep-publisher", phase, process)
		if s.StartTimeUnixNano < before || s.EndTimeUnixNano < s.StartTimeUnixNano || s.EndTimeUnixNano > process.EndTimeUnixNano {
			t.Errorf("%s is from %d to %d, within %d to %d", phase, s.StartTimeUnixNano, s.EndTimeUnixNano, process.StartTimeUnixNano, process.EndTimeUnixNano)
		}
		before = s.EndTimeUnixNano
		spans = append(spans, s)
	}
	for _, s := range spans {
		if hex.EncodeToString(s.TraceId) != trace {
			t.Errorf("%s is in another trace: %v", s.Name, s.Span)
		}
	}
	t.Run("two people", func(t *testing.T) { linksTwoPeople(t, d, r) })
	t.Run("logs", func(t *testing.T) { logsName(t, d, fake, trace) })
}

// linksTwoPeople lets two people propose and approve, in a trace each.
func linksTwoPeople(t *testing.T, d *deployment, r *receiver) {
	t.Setenv("TRACEPARENT", "")
	known := map[string]bool{}
	another := func(name string) (found *received) {
		bustest.Eventually(t, "another span "+name, func() bool {
			found = r.find(func(s received) bool {
				return s.service == "lockstep-command" && s.Name == name && len(s.ParentSpanId) == 0
			})
			return found != nil
		})
		known[string(found.TraceId)] = true
		return found
	}
	d.do("propose --as anna -m why --env dev --set variable/y=1 --idempotency-key two")
	d.do("approve c2 --as ben --wait --timeout 2m")
	propose, approve := another("propose"), another("approve")
	command := r.span(t, "lockstep-publisher", "command", approve)
	if len(known) != 2 || len(command.Links) != 1 || string(command.Links[0].SpanId) != string(propose.SpanId) {
		t.Errorf("%d traces, and the approval is not linked to the proposal: %v", len(known), command.Links)
	}
}

// logsName demands of every line of publisher and agent that is about the change, or a release of it, that it says which.
func logsName(t *testing.T, d *deployment, fake *connectortest.Fake, trace string) {
	fake.Instance().Set("variable/y", json.RawMessage(`2`))
	want := map[string]bool{}
	for _, message := range []string{"decided", "released", "applied", "recorded what an agent said", "the instance holds other values for variable/y"} {
		want[message] = true
	}
	bustest.Eventually(t, "every kind of line", func() bool {
		missing := maps.Clone(want)
		for _, line := range d.said() {
			if line["revision"] != nil || line["change"] == "c1" || line["change"] == "c2" {
				delete(missing, line["message"].(string))
			}
		}
		return len(missing) == 0
	})
	approved := map[any]any{} // change → trace of its approval, which may be logged after what follows from it
	for _, line := range d.said() {
		if line["message"] == "decided" && line["verb"] == "approve" {
			approved[line["change"]] = line["trace"]
		}
	}
	for _, line := range d.said() {
		revision, _ := line["revision"].(float64)
		if line["change"] == nil && revision < 2 { // the first is of the trust document
			if regexp.MustCompile(`\bc1\b`).MatchString(fmt.Sprint(line)) { // a trace may begin so
				t.Errorf("it speaks of c1 and does not say so: %v", line)
			}
			continue
		}
		released := revision == 2 && line["change"] == "c1" || revision == 3 && line["change"] == "c2"
		decided := line["message"] == "decided" && fmt.Sprint(line["environments"]) == "[dev]"
		inTrace := line["trace"] != nil && (line["change"] == "c1") == (line["trace"] == trace) && (!released || line["trace"] == approved[line["change"]])
		if !decided && (!released || line["environment"] != "dev") || !inTrace {
			t.Errorf("what it is about is not said: %v", line)
		}
	}
}

func TestTheDemoExportsItsSpans(t *testing.T) {
	r := &receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	var said strings.Builder
	if code := run(t.Context(), []string{"demo", "--once"}, strings.NewReader(""), io.Discard, &said); code != 0 {
		t.Fatal(said.String())
	}
	chapter := r.span(t, "lockstep-publisher", "chapter", nil)
	for _, name := range []string{"command", "send"} {
		r.span(t, "lockstep-publisher", name, chapter)
	}
}
