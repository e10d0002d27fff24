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
	change := w.set("variable/a", `1`)
	start(t, o)
	expect := func(message string) {
		t.Helper()
		bustest.Eventually(t, "a line "+message, func() bool { return log.line(message, 2) != nil })
		line := log.line(message, 2)
		for field, want := range map[string]any{"trace": trace, "change": change.ID, "environment": env} {
			if line[field] != want {
				t.Errorf("%s: %s is %v, want %v", message, field, line[field], want)
			}
		}
	}
	expect("not applied; trying again")
	fault.set(connector.Permanent(connector.ReasonWriteFailed, "no"))
	expect("not applied")
	fault.set(nil)
	w.set("variable/b", `1`)
	w.applied(3)
	expect("applied")
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
	l.mu.Lock()
	defer l.mu.Unlock()
	for text := range strings.Lines(l.text.String()) {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["message"] == message && line["revision"] == revision {
			return line
		}
	}
	return nil
}
