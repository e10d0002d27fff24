package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/dashboard"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

func wants(t *testing.T, page string, words ...string) {
	t.Helper()
	for _, want := range words {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q: %s", want, page)
		}
	}
}

func TestAlarmsSaySoWhoTakesCareOfThemAndWhatNobodyTook(t *testing.T) {
	w := everyAlarm(t)
	_, _, page := read(t, w, "/alarms")
	wants(t, page, "alarms are open", "emil: restarting the desk by hand", "nobody", "silent of tenant-b*", "the provider moves this host, OPS-7", "Dead letters",
		"refused: answered 404 Not Found", "dial tcp: connection refused", "steward emil; no owner is set; proposed by anna", "publisher alarms acknowledge 25e40fd64372 -m WHY")
	w.mu.Lock()
	for _, a := range w.alarms.Open {
		a.Well = w.clock.Add(-20 * time.Second)
	}
	w.mu.Unlock()
	_, _, page = read(t, w, "/alarms")
	wants(t, page, "7m well for 20s")
	_, _, front := read(t, w, "/")
	wants(t, front, "alarms are open", "and nobody takes care of", "1 message", "could not be delivered")
	calm := small(t)
	_, _, front = read(t, calm, "/")
	if strings.Contains(front, "/alarms#") || strings.Contains(front, "alarms are open") {
		t.Error("the overview speaks of alarms where there are none")
	}
	_, _, page = read(t, calm, "/alarms")
	wants(t, page, "No alarm is open")
	untold := small(t)
	untold.untold = &ledger.Error{Kind: ledger.KindNotFound, Message: "nobody is told", Next: "start it with --notify FILE"}
	_, _, page = read(t, untold, "/alarms")
	wants(t, page, "Nobody is told of what is wrong", "--notify FILE")
}

// TestOnlyWhoHasASessionIsOfferedItsEnd: a page is rendered once for all who watch, and yet not the same for them.
func TestOnlyWhoHasASessionIsOfferedItsEnd(t *testing.T) {
	handler := dashboard.New(dashboard.Options{Backend: small(t), SignOut: func(r *http.Request) string { return r.Header.Get("X-Session") }})
	for _, session := range []string{"", "/logout", ""} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("X-Session", session)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if offered := strings.Contains(answer.Body.String(), `<a href="/logout">Sign out</a>`); offered != (session != "") {
			t.Errorf("with the session %q it is offered: %v", session, offered)
		}
	}
}
