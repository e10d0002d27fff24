package dashboard_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/dashboard"
)

// TestAChangeNamesTheEntryOfEachDecision: who proposed, approved and rolled back, each with the entry of the ledger that holds it.
func TestAChangeNamesTheEntryOfEachDecision(t *testing.T) {
	_, _, page := read(t, everyState(t), "/changes/c19")
	_, decisions, found := strings.Cut(page, "What was decided about it")
	if !found || !regexp.MustCompile(`\d+ 2026-\S+ \S+ anna .*\d+ 2026-\S+ \S+ ben .*\d+ 2026-\S+ \S+ ben .*prod-us cannot reach the new provider`).MatchString(decisions) {
		t.Errorf("%s", page)
	}
}

// TestChangesAreListedFromPageToPage, each once, however many there are.
func TestChangesAreListedFromPageToPage(t *testing.T) {
	w := newWorld(t)
	w.add("dev", "dev", "")
	for i := range 120 {
		w.propose("anna", "because", "variable/x", strconv.Itoa(i), "dev")
	}
	handler := dashboard.New(dashboard.Options{Backend: w, Version: "v1"})
	found, older := regexp.MustCompile(`<a href="/changes/(c[0-9]+)">`), regexp.MustCompile(`<a href="(/changes[^"]+)">Older changes`)
	for _, address := range []string{"/changes", "/changes?status=open"} {
		first, listed, pages := address, map[string]bool{}, 0
		for ; address != ""; pages++ {
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, address, nil))
			body := answer.Body.String()
			for _, m := range found.FindAllStringSubmatch(body, -1) {
				if listed[m[1]] {
					t.Errorf("%s: %s is listed twice", first, m[1])
				}
				listed[m[1]] = true
			}
			address = ""
			if m := older.FindStringSubmatch(body); m != nil {
				address = html.UnescapeString(m[1])
			}
		}
		if len(listed) != 120 || pages != 3 {
			t.Errorf("%s: %d changes in %d pages", first, len(listed), pages)
		}
	}
}
