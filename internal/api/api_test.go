package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

type (
	reports = fleet.Reports
	asOf    = time.Time
)

func serve(t *testing.T) (*apitest.Publisher, *httptest.Server) {
	t.Helper()
	p := apitest.New(t)
	p.Must("op", ledger.AddEnvironment{Name: "prod", Approvals: 1})
	p.Agent("prod", "a1", apitest.Applies)
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	server := httptest.NewServer(api.New(api.Options{Backend: p, Version: "v1", Hosts: []string{"lockstep.example.org"}, Health: ok, Ready: ok, Metrics: ok}))
	t.Cleanup(server.Close)
	return p, server
}

// TestABrowserRunsAndFramesNothingOfAnAnswer: whatever a value holds, and whoever links to it.
func TestABrowserRunsAndFramesNothingOfAnAnswer(t *testing.T) {
	_, server := serve(t)
	for _, tt := range []struct{ method, path, host string }{
		{"GET", "/api/v1/fleet", ""}, {"GET", "/api/v1/nothing", ""}, {"GET", "/nothing", ""}, {"GET", "/metrics", ""}, {"GET", "/healthz", ""}, {"GET", "/readyz", ""},
		{"GET", "/api/v1/openapi.json", ""}, {"POST", "/api/v1/changes", ""}, {"GET", "/api/v1/fleet", "evil.example"},
	} {
		header := map[string]string{}
		if tt.host != "" {
			header["Host"] = tt.host
		}
		_, _, got := do(t, tt.method, server.URL+tt.path, "", header)
		if got.Get("Content-Security-Policy") != "default-src 'none'; frame-ancestors 'none'" || got.Get("X-Frame-Options") != "DENY" || got.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%v: %v", tt, got)
		}
	}
}

const propose = `{"id":"one","by":"anna","command":{"reason":"why","edits":[{"environments":["prod"],"set":{"variable/log-level":"debug"}}]}}`

func do(t *testing.T, method, url, body string, header map[string]string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b), response.Header
}

func TestAWebPageCanNeitherReadNorApprove(t *testing.T) {
	_, server := serve(t)
	for name, c := range map[string]struct {
		method string
		header map[string]string
		want   int
	}{
		"rebound name":         {http.MethodGet, map[string]string{"Host": "evil.example.com"}, 403},
		"rebound name, write":  {http.MethodPost, map[string]string{"Host": "evil.example.com:7070"}, 403},
		"form":                 {http.MethodPost, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		"text, as forms can":   {http.MethodPost, map[string]string{"Content-Type": "text/plain"}, 415},
		"other origin":         {http.MethodPost, map[string]string{"Origin": "http://evil.example.com"}, 403},
		"other local port":     {http.MethodPost, map[string]string{"Origin": "http://127.0.0.1:1"}, 403},
		"cross-site":           {http.MethodPost, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"opaque origin":        {http.MethodPost, map[string]string{"Origin": "null"}, 403},
		"configured name":      {http.MethodGet, map[string]string{"Host": "Lockstep.example.org"}, 200},
		"localhost":            {http.MethodGet, map[string]string{"Host": "localhost:1234"}, 200},
		"IPv6 loopback":        {http.MethodGet, map[string]string{"Host": "[::1]:7070"}, 200},
		"no browser":           {http.MethodPost, nil, 200},
		"JSON with parameters": {http.MethodPost, map[string]string{"Content-Type": "application/json; charset=utf-8"}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			path := "/api/v1/fleet"
			if c.method == http.MethodPost {
				path = "/api/v1/commands/propose"
			}
			status, body, header := do(t, c.method, server.URL+path, propose, c.header)
			if status != c.want {
				t.Errorf("got %d %s", status, body)
			}
			for name := range header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s is sent", name)
				}
			}
		})
	}
}

func TestACommandSentAgainIsDoneOnceAndAnsweredTheSame(t *testing.T) {
	p, server := serve(t)
	_, first, _ := do(t, http.MethodPost, server.URL+"/api/v1/commands/propose", propose, nil)
	_, second, _ := do(t, http.MethodPost, server.URL+"/api/v1/commands/propose", propose, nil)
	var a, b ledger.Outcome
	for text, into := range map[string]*ledger.Outcome{first: &a, second: &b} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if a.Change != "c1" || a.Change != b.Change || a.Entry != b.Entry || a.Again || !b.Again {
		t.Errorf("first %s, then %s", first, second)
	}
	p.Read(func(s *ledger.State, _ reports, _ asOf) {
		if len(s.Changes) != 1 {
			t.Errorf("%d changes", len(s.Changes))
		}
	})
}

func TestADryRunAppendsNothing(t *testing.T) {
	p, server := serve(t)
	before := p.Fleet().Ledger.Tip
	status, body, _ := do(t, http.MethodPost, server.URL+"/api/v1/commands/propose", strings.Replace(propose, `"by"`, `"dryRun":true,"by"`, 1), nil)
	if status != 200 || !strings.Contains(body, `"after":"debug"`) || p.Fleet().Ledger.Tip != before {
		t.Errorf("%d %s", status, body)
	}
}

func TestEveryKindOfErrorHasItsStatusAndSaysWhatToDo(t *testing.T) {
	p, server := serve(t)
	p.Must("anna", ledger.Propose{Reason: "why", Edits: []ledger.Edit{{Environments: []string{"prod"}, Set: map[string]json.RawMessage{"variable/x": []byte(`1`)}}}})
	approve := func(by, change, digest string) string {
		return `{"id":"` + by + change + `","by":"` + by + `","command":{"change":"` + change + `","digest":"` + digest + `"}}`
	}
	var digest string
	p.Read(func(s *ledger.State, _ reports, _ asOf) { digest = s.Changes["c1"].Digest.String() })
	for name, c := range map[string]struct {
		verb, body string
		want       int
		kind       string
		next       string
	}{
		"not found":        {"approve", approve("ben", "c9", digest), 404, "not-found", "publisher changes"},
		"denied":           {"approve", approve("anna", "c1", digest), 403, "denied", "somebody else"},
		"conflict":         {"approve", approve("ben", "c1", events.Sum(nil).String()), 409, "conflict", "publisher show c1"},
		"invalid":          {"propose", `{"id":"x","by":"anna","command":{"reason":"","edits":[]}}`, 400, "invalid", ""},
		"unknown field":    {"propose", `{"id":"x","by":"anna","command":{"reason":"a","edits":[],"resaon":"b"}}`, 422, "invalid", ""},
		"no id":            {"propose", `{"by":"anna","command":{"reason":"a","edits":[]}}`, 422, "invalid", ""},
		"digest too short": {"approve", approve("ben", "c1", "abc"), 422, "invalid", ""},
		"no JSON":          {"approve", `{`, 400, "invalid", ""},
		"too large":        {"approve", `{"id":"` + strings.Repeat("x", 5<<20) + `"}`, 413, "invalid", ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, header := do(t, http.MethodPost, server.URL+"/api/v1/commands/"+c.verb, c.body, nil)
			var problem api.Problem
			if err := json.Unmarshal([]byte(body), &problem); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			if status != c.want || problem.Status != status || string(problem.Kind) != c.kind || !strings.Contains(problem.Next, c.next) || problem.Detail == "" {
				t.Errorf("got %d %s", status, body)
			}
			if header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("media type %s", header.Get("Content-Type"))
			}
		})
	}
	p.Unwritable(&api.UnavailableError{Reason: events.ReasonBusDown, Message: "the bus is gone", Next: "look at it"})
	status, body, _ := do(t, http.MethodPost, server.URL+"/api/v1/commands/propose", propose, nil)
	if status != 503 || !strings.Contains(body, `"reason":"bus-unreachable"`) || !strings.Contains(body, `"kind":"unavailable"`) {
		t.Errorf("unavailable: %d %s", status, body)
	}
}

// TestWhatIsNotThereIsAnsweredAsEverythingElse: a program that reads problems must not meet plain text where it misspelt a path.
func TestWhatIsNotThereIsAnsweredAsEverythingElse(t *testing.T) {
	_, server := serve(t)
	for _, c := range []struct {
		method, path string
		status       int
		next         string
	}{
		{http.MethodGet, "/api/v1/flet", 404, "openapi.json"},
		{http.MethodPost, "/api/v1/commands/aprove", 404, "openapi.json"},
		{http.MethodPost, "/api/v1/fleet", 405, "GET"},
		{http.MethodGet, "/api/v1/commands/approve", 405, "POST"},
	} {
		status, body, header := do(t, c.method, server.URL+c.path, "{}", nil)
		var problem api.Problem
		if err := json.Unmarshal([]byte(body), &problem); err != nil {
			t.Fatalf("%s %s: %s: %v", c.method, c.path, body, err)
		}
		if status != c.status || problem.Status != status || problem.Detail == "" || !strings.Contains(problem.Next, c.next) || header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %s, %s", c.method, c.path, status, header.Get("Content-Type"), body)
		}
	}
}

func TestOpenAPIListsEveryRoute(t *testing.T) {
	_, server := serve(t)
	status, body, _ := do(t, http.MethodGet, server.URL+"/api/v1/openapi.json", "", nil)
	var document struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(body), &document); status != 200 || err != nil {
		t.Fatalf("%d %v", status, err)
	}
	if !strings.HasPrefix(document.OpenAPI, "3.1") {
		t.Errorf("version %s", document.OpenAPI)
	}
	want := map[string]string{
		"/fleet": "get", "/environments/{name}": "get", "/changes": "get", "/changes/{id}": "get", "/changes/{id}/terms": "get", "/history": "get",
		"/environments/{name}/resources": "get", "/environments/{name}/resources/{kind}/{resource}": "get",
		"/environments/{name}/releases/{revision}": "get", "/ledger": "get", "/ledger/verify": "post", "/doctor": "get", "/trust": "get", "/trust/{version}": "get", "/environments/{name}/agents/{agent}/credentials": "get",
		"/diff": "post", "/environments/{name}/explain/{kind}/{resource}": "get",
		"/links": "post", "/compare": "get", "/bundle": "get", "/impact/{kind}/{resource}": "get",
		"/alarms": "get", "/audit/export": "get",
	}
	for _, verb := range []string{"add-environment", "update-environment", "retire-environment", "enrol-agent", "revoke-agent",
		"propose", "revise", "rebase", "approve", "reject", "withdraw", "rollback", "pause", "resume", "break-glass", "review", "propose-trust", "acknowledge-alarm", "silence-alarms", "end-silence"} {
		want["/commands/"+verb] = "post"
	}
	for path, method := range want {
		if document.Paths[api.Prefix+path][method] == nil {
			t.Errorf("%s %s is not described", method, path)
		}
	}
	if len(document.Paths) != len(want) {
		t.Errorf("%d paths are described, %d are known here", len(document.Paths), len(want))
	}
}

func TestReadsSayWhatTheLedgerSays(t *testing.T) {
	p, server := serve(t)
	p.Must("anna", ledger.Propose{Reason: "quiet <b>", Edits: []ledger.Edit{{Environments: []string{"prod"}, Set: map[string]json.RawMessage{"variable/log-level": []byte(`"debug"`)}}}})
	var digest events.Digest
	p.Read(func(s *ledger.State, _ reports, _ asOf) { digest = s.Changes["c1"].Digest })
	p.Must("ben", ledger.Approve{Change: "c1", Digest: digest})
	for path, want := range map[string]string{
		"/api/v1/fleet":                                                                  `"condition":"in step"`,
		"/api/v1/environments/prod":                                                      `"head":2`,
		"/api/v1/environments/prod/resources":                                            `"value":"debug"`,
		"/api/v1/environments/prod/resources?at=1":                                       `[]`,
		"/api/v1/environments/prod/resources/variable/log-level":                         `"reason":"quiet <b>"`,
		"/api/v1/environments/prod/resources/variable/log-level?at=9999-01-01T00:00:00Z": `"revision":2`,
		"/api/v1/environments/prod/resources/variable/log-level?at=2001-01-01T00:00:00Z": `did not exist`,
		"/api/v1/environments/prod/resources?at=yesterday":                               `neither a revision nor a time`,
		"/api/v1/environments/prod/resources?at=99":                                      `no revision 99`,
		"/api/v1/environments/prod/releases/2":                                           `"outcome":"applied"`,
		"/api/v1/environments/prod/releases/3":                                           `no revision 3`,
		"/api/v1/environments/nowhere":                                                   `there is no environment nowhere`,
		"/api/v1/changes":                                                                `"status":"delivered"`,
		"/api/v1/changes?status=open":                                                    `[]`,
		"/api/v1/changes?status=openn":                                                   `expected value to be one of`,
		"/api/v1/changes/c1":                                                             `"demanded":1`,
		"/api/v1/history?environment=prod":                                               `"kind":"trust"`,
		"/api/v1/history?resource=variable/log-level":                                    `"applied":true`,
		"/api/v1/history":                                                                `the history of what`,
		"/api/v1/ledger":                                                                 `"writable":true`,
		"/api/v1/doctor":                                                                 `"name":"bus"`,
		"/api/v1/bundle?env=prod":                                                        `"name":"prod"`,
		"/api/v1/bundle?env=prod&env=nobody":                                             `there is no environment nobody`,
		"/api/v1/trust/1":                                                                `"approvals":"names"`,
		"/api/v1/trust?environment=prod":                                                 `"revision":2`,
		"/healthz":                                                                       `ok`,
		"/readyz":                                                                        `ok`,
		"/metrics":                                                                       `ok`,
	} {
		if _, body, _ := do(t, http.MethodGet, server.URL+path, "", nil); !strings.Contains(body, want) {
			t.Errorf("%s: %s", path, body)
		}
	}
	if _, body, _ := do(t, http.MethodPost, server.URL+"/api/v1/ledger/verify", "", nil); !strings.Contains(body, `"ok":true`) {
		t.Errorf("verify: %s", body)
	}
}
