package agent

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Readiness is the answer of /readyz. An agent is ready when the instance holds a checkpoint whole, and the agent is not stale for
// longer than it may be, whatever else is wrong: failing and differing are alarms, not reasons to take a serving instance away.
type Readiness struct {
	Ready     bool          `json:"ready"`
	Condition string        `json:"condition"`
	Reason    events.Reason `json:"reason,omitempty"`
	Message   string        `json:"message,omitempty"`
	Since     time.Time     `json:"since"`
	Age       float64       `json:"ageSeconds"` // of the condition
	Revision  uint64        `json:"revision"`
	Stale     *staleFor     `json:"stale,omitempty"` // whatever the condition
}

// staleFor is a staleness and how long it lasts.
type staleFor struct {
	Staleness
	Age float64 `json:"ageSeconds"`
}

func readiness(s Status, now time.Time, maxStale time.Duration) Readiness {
	r := Readiness{Ready: true, Condition: s.Condition.Word, Reason: s.Condition.Reason, Message: s.Condition.Message,
		Since: s.Condition.Since, Age: now.Sub(s.Condition.Since).Seconds(), Revision: s.Checkpoint.Revision}
	if s.Stale != nil {
		r.Stale = &staleFor{*s.Stale, now.Sub(s.Stale.Since).Seconds()}
	}
	switch {
	case !s.Whole || s.Condition.Word == Torn:
		r.Ready = false
		if r.Message == "" {
			r.Message = "what was under way is not resolved yet"
		}
	case s.Checkpoint.Revision == 0:
		r.Ready, r.Message = false, "nothing was applied yet"
	case s.Stale != nil && now.Sub(s.Stale.Since) > maxStale:
		r.Ready = false
	}
	return r
}

// handler serves health and metrics, to loopback names only.
func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := readiness(a.Status(), time.Now(), a.opts.MaxStale)
		status := http.StatusOK
		if !r.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, r)
	})
	mux.Handle("GET /metrics", telemetry.Metrics(a.opts.Registry))
	return telemetry.LocalHostOnly(mux)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone; nobody is left to tell
}
