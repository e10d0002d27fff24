package agent_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
)

func TestEveryLineAboutAReleaseNamesItsTraceChangeEnvironmentAndRevision(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	w := newWorld(t)
	w.TraceParent = "00-" + trace + "-00f067aa0ba902b7-01"
	fake := connectortest.NewFake("fake")
	fault := &failing{op: "apply"}
	fault.set(connector.Transient(connector.ReasonWriteFailed, "not yet"))
	fake.Fault = fault.fault
	var log lockedLog
	o := w.options(fake)
	o.Log = zerolog.New(&log)
	expect := func(message string, revision float64) {
		t.Helper()
		bustest.Eventually(t, "a line "+message, func() bool { return log.line(message, revision) != nil })
	}
	w.set("variable/a", `1`)
	a := start(t, o)
	expect("not applied; trying again", 2)
	fault.set(connector.Permanent(connector.ReasonWriteFailed, "no"))
	expect("not applied", 2)
	fault.set(nil)
	w.set("variable/b", `1`)
	w.applied(3)
	expect("applied", 3)

	fake.Instance().Set("variable/b", json.RawMessage(`2`))
	expect("the instance holds other values for variable/b", 3)
	must(t, a.Retry(t.Context()))
	expect("the instance is as the checkpoint says again", 3)

	fault.set(connector.Transient(connector.ReasonWriteFailed, "not yet"))
	w.set("variable/c", `1`)
	expect("not applied; trying again", 4)
	a.stop()
	a = start(t, o) // what it says of the checkpoint, and of what it was about to apply, it has read
	expect("agent started", 3)
	expect("finishing what was under way", 4)
	a.stop()

	for _, line := range log.lines() {
		if revision, about := line["revision"].(float64); about && revision > 1 && (line["trace"] != trace || line["environment"] != env || line["change"] == nil) {
			t.Errorf("which release is not said: %v", line)
		}
	}
}

// A lockedLog may be written and read at once.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// line is the first with a message about a revision; nil while there is none.
func (l *lockedLog) line(message string, revision float64) map[string]any {
	for _, line := range l.lines() {
		if line["message"] == message && line["revision"] == revision {
			return line
		}
	}
	return nil
}

func (l *lockedLog) lines() (all []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for text := range strings.Lines(l.text.String()) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil {
			all = append(all, line)
		}
	}
	return all
}
