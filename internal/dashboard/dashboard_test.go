package dashboard_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/dashboard"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// serve is a publisher in memory whose pages are served as the program serves them.
func serve(t *testing.T) (*apitest.Publisher, *httptest.Server) {
	t.Helper()
	p := apitest.New(t)
	server := httptest.NewServer(api.New(api.Options{Backend: p, Version: "v1", Pages: dashboard.New(dashboard.Options{Backend: p, Version: "v1", SignOut: api.SignOut})}))
	t.Cleanup(server.Close)
	return p, server
}

func get(t *testing.T, url string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body), answer.Header
}

func propose(p *apitest.Publisher, by, reason, key, value string, environments ...string) string {
	return p.Must(by, ledger.Propose{Reason: reason, Edits: []ledger.Edit{{Environments: environments, Set: map[string]json.RawMessage{key: json.RawMessage(value)}}}}).Change
}

func approve(p *apitest.Publisher, by, change string) {
	var digest events.Digest
	p.Read(func(s *ledger.State, _ reports, _ asOf) { digest = s.Changes[change].Digest })
	p.Must(by, ledger.Approve{Change: change, Digest: digest})
}

// pages are all pages of a site with an environment prod and a change c1.
var pages = []string{"/", "/environments/prod", "/propagation", "/approvals", "/alarms", "/flags", "/delivery", "/audit", "/changes", "/changes/c1", "/nowhere"}

func TestEveryPageIsServedWithAStrictPolicy(t *testing.T) {
	p, server := serve(t)
	p.Must("op", ledger.AddEnvironment{Name: "prod", Approvals: 1, Labels: map[string]string{"stage": "prod"}})
	p.Agent("prod", "a1", apitest.Applies)
	approve(p, "ben", propose(p, "anna", "why", "variable/log-level", `"debug"`, "prod"))
	for _, page := range pages {
		status, body, header := get(t, server.URL+page)
		want := http.StatusOK
		if page == "/nowhere" {
			want = http.StatusNotFound
		}
		if status != want {
			t.Errorf("%s: status %d: %s", page, status, body)
		}
		for name, value := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Content-Type": "text/html; charset=utf-8",
		} {
			if header.Get(name) != value {
				t.Errorf("%s: %s is %q", page, name, header.Get(name))
			}
		}
		if csp := header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", page, csp)
		}
		for _, inline := range []string{"<style", " style=", " onclick", "javascript:", "http://", "https://"} {
			if strings.Contains(body, inline) {
				t.Errorf("%s has %q", page, inline)
			}
		}
		if !strings.Contains(body, "As of <time") {
			t.Errorf("%s does not say as of when", page)
		}
	}
}

func TestAWindowThatIsNoneIsSaid(t *testing.T) {
	_, server := serve(t)
	if status, body, _ := get(t, server.URL+"/propagation?window=99h"); status != http.StatusBadRequest || !strings.Contains(body, "there is no window 99h") {
		t.Errorf("status %d: %s", status, body)
	}
	if status, _, _ := get(t, server.URL+"/propagation?window="); status != http.StatusOK {
		t.Errorf("status %d where none is chosen", status)
	}
}
