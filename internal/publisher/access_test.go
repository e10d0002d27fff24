package publisher_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-dev/lockstep/internal/access"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// trustPeople proposes the next trust document and has a root approve it.
func trustPeople(t *testing.T, p *publisher.Publisher, edit func(*events.Trust)) {
	t.Helper()
	var before events.Trust
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { before = *s.Trust() })
	next := trusttest.Document(t, before.Ledger, before.Publishers...)
	next.Version, next.Signatures = before.Version+1, nil
	edit(&next)
	send := func(body ledger.Body) ledger.Outcome {
		t.Helper()
		out, err := doSigned(t, p, "ada", body)
		must(t, err)
		return out
	}
	change := send(ledger.ProposeTrust{Document: next, Reason: "who may read"}).Change
	var digest events.Digest
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { digest = s.Changes[change].Digest })
	send(ledger.Approve{Change: change, Digest: digest, Roots: []events.RootSignature{trusttest.Root(t, next, "root 1")}})
}

// doSigned gives a command, signed where the ledger wants that.
func doSigned(t *testing.T, p *publisher.Publisher, by string, body ledger.Body) (ledger.Outcome, error) {
	t.Helper()
	var trust events.Trust
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { trust = *s.Trust() })
	c := command(by, body)
	if trust.Approvals == events.ApprovalsAreSigned {
		would, err := p.Do(bustest.Context(t), c, true)
		if err != nil {
			return would, err
		}
		c, err = c.Signed(events.Statement{Ledger: trust.Ledger, At: time.Now(), Expires: time.Now().Add(time.Hour), Change: would.Change, Digest: would.Digest}, trusttest.Key(t, by))
		must(t, err)
	}
	return p.Do(bustest.Context(t), c, false)
}

// TestBeyondLoopbackWhoSignsReads goes all the way: a listener on all addresses, TLS, and a trust document that comes and changes.
func TestBeyondLoopbackWhoSignsReads(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t, "ours")
	cert, key := ours.issue("publisher")
	registry := prometheus.NewPedanticRegistry()
	p := start(t, t.TempDir(), func(o *publisher.Options) {
		o.Listen, o.TLS, o.Registry = "0.0.0.0:0", &publisher.TLS{Cert: cert, Key: key}, registry
	})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.URL(), "https://"))
	must(t, err)
	pem, err := os.ReadFile(ours.File)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	ask := func(method, path, token string, cookies ...*http.Cookie) (int, api.Problem, *http.Response) {
		t.Helper()
		r, err := http.NewRequestWithContext(bustest.Context(t), method, "https://127.0.0.1:"+port+path, nil)
		must(t, err)
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		for _, c := range cookies {
			r.AddCookie(c)
		}
		response, err := (&http.Client{Transport: transport}).Do(r)
		must(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		must(t, err)
		var problem api.Problem
		_ = json.Unmarshal(body, &problem) // of what is no problem nothing is asked
		if path == api.LinksPath {
			var link api.Link
			must(t, json.Unmarshal(body, &link))
			problem.Detail = link.Path
		}
		return response.StatusCode, problem, response
	}
	if status, problem, _ := ask(http.MethodGet, "/api/v1/fleet", ""); status != http.StatusForbidden || problem.Reason != api.ReasonCertificate {
		if status != http.StatusServiceUnavailable { // before the ledger has been read
			t.Errorf("while approvals are names: %d %+v", status, problem)
		}
	}
	addEnvironments(t, p, "dev")
	trustPeople(t, p, func(*events.Trust) {})
	var id string
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { id = s.ID })
	token := func(verb, by string) string {
		t.Helper()
		token, err := access.Mint(access.Use{Verb: verb, Host: "127.0.0.1"}, id, by, trusttest.Key(t, by), time.Now(), access.Brief)
		must(t, err)
		return token
	}
	for _, path := range []string{"/", "/healthz", "/metrics", "/api/v1/fleet", "/api/v1/audit/export"} {
		if status, problem, _ := ask(http.MethodGet, path, ""); status != http.StatusUnauthorized || problem.Reason != access.ReasonNoToken {
			t.Errorf("%s: %d %+v", path, status, problem)
		}
		if status, problem, _ := ask(http.MethodGet, path, token(access.Read, "bob")); status != http.StatusOK {
			t.Errorf("%s with a token: %d %+v", path, status, problem)
		}
	}
	status, link, _ := ask(http.MethodPost, api.LinksPath, token(access.Open, "bob"))
	if status != http.StatusOK {
		t.Fatalf("no link: %d", status)
	}
	_, _, opened := ask(http.MethodGet, link.Detail, "")
	if len(opened.Cookies()) != 1 {
		t.Fatalf("no session: %s", opened.Status)
	}
	session := opened.Cookies()[0]
	if status, _, _ := ask(http.MethodGet, "/", "", session); status != http.StatusOK {
		t.Errorf("with a session: %d", status)
	}
	trustPeople(t, p, trusttest.Remove("bob"))
	for what, status := range map[string]int{"token": first(ask(http.MethodGet, "/", token(access.Read, "bob"))), "session": first(ask(http.MethodGet, "/", "", session))} {
		if status != http.StatusUnauthorized {
			t.Errorf("the %s of who left is answered %d", what, status)
		}
	}
	counted := map[string]float64{}
	families, err := registry.Gather()
	must(t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "lockstep_http_refused_total" {
				counted[m.Label[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if counted[string(access.ReasonNoToken)] != 5 || counted[string(events.ReasonSignature)] != 2 || len(counted) != len(api.Refusals()) {
		t.Errorf("counted %v", counted)
	}
}

func first(status int, _ api.Problem, _ *http.Response) int { return status }
