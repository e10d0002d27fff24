package dashboard_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/dashboard"
)

// total is a link that says how many environments are in a state.
var total = regexp.MustCompile(`<a class="state [^"]*" href="([^"]*)">.*?<b>(\d+)</b> ([a-z ]+)</a>`)

// TestEveryTotalLeadsToAsManyEnvironmentsAsItSays: those above all, and those of each stage and region.
func TestEveryTotalLeadsToAsManyEnvironmentsAsItSays(t *testing.T) {
	w := lostRegion(t, 60)
	for _, name := range names(60) {
		if name[2] == "us" {
			w.state.Environments[name[0]].Labels["region"] = "North America"
		}
	}
	handler := dashboard.New(dashboard.Options{Backend: w, Version: "v1"})
	page := func(address string) string {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, html.UnescapeString(address), nil))
		return answer.Body.String()
	}
	overview := page("/")
	totals := total.FindAllStringSubmatch(overview, -1)
	if len(totals) < 15 {
		t.Fatalf("only %d totals: %s", len(totals), words(overview))
	}
	for _, found := range totals {
		shown := total.FindAllStringSubmatch(page(found[1]), -1)
		if len(shown) == 0 || shown[0][2] != found[2] || shown[0][3] != found[3] {
			t.Errorf("%s %s leads to %v", found[2], found[3], shown)
		}
	}
}

// TestWhereManyAreNotInStepTheirGroupsComeFirst: what they have in common is read before what each of them says.
func TestWhereManyAreNotInStepTheirGroupsComeFirst(t *testing.T) {
	for want, w := range map[string]*world{"All, by stage and region Not in step, worst first": lostRegion(t, 60), "Not in step, worst first All, by stage and region": manyEnvironments(t, 60)} {
		answer := httptest.NewRecorder()
		dashboard.New(dashboard.Options{Backend: w, Version: "v1"}).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		var sections []string
		for _, h2 := range regexp.MustCompile(`<h2.*?</h2>`).FindAllString(answer.Body.String(), -1) {
			sections = append(sections, words(h2))
		}
		if got := strings.Join(sections, " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestAllThatHasNotArrivedIsCounted also beyond what is listed.
func TestAllThatHasNotArrivedIsCounted(t *testing.T) {
	w := newWorld(t)
	for _, name := range names(60) {
		w.add(name[0], name[1], name[2], "a1")
	}
	w.release("because", "variable/x", `1`, "*")
	headline, _, all := read(t, w, "/propagation")
	if headline != "60 releases have not arrived" || !strings.Contains(all, "10 more are not listed") {
		t.Errorf("%s: %s", headline, all)
	}
}
