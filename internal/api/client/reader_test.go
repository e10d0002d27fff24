package client_test

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A far publisher is reached by other hosts, and knows anna. It notes what it was shown.
type far struct {
	server *httptest.Server
	anna   *events.Signer
	mu     sync.Mutex
	shown  []string // Authorization of each request
}

func newFar(t *testing.T, start func(*httptest.Server)) *far {
	t.Helper()
	seed, err := keys.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	f := &far{}
	if f.anna, err = events.NewSigner(seed); err != nil {
		t.Fatal(err)
	}
	p := apitest.New(t)
	p.Must("op", ledger.AddEnvironment{Name: "prod", Approvals: 1})
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		next := *s.Trust()
		next.Version, next.Approvals = 2, events.ApprovalsAreSigned
		next.People = []events.Person{{Name: "anna", Keys: []string{f.anna.Public()}, Grants: []events.Grant{{Role: events.RoleAuditor, Environments: []string{"*"}}}}}
		s.Trusts = append(s.Trusts, next)
	})
	served := api.New(api.Options{Backend: p, Beyond: true})
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.shown = append(f.shown, r.Header.Get("Authorization"))
		f.mu.Unlock()
		served.ServeHTTP(w, r)
	}))
	start(f.server)
	t.Cleanup(f.server.Close)
	return f
}

// connect is a client that trusts the publisher's certificate.
func (f *far) connect(t *testing.T) *client.Client {
	t.Helper()
	target := client.Target{Server: f.server.URL}
	if certificate := f.server.Certificate(); certificate != nil {
		target.TLS.CA = filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(target.TLS.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(target)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAFarPublisherIsShownATokenOfItsOwnForEachCall(t *testing.T) {
	f := newFar(t, (*httptest.Server).StartTLS)
	c := f.connect(t)
	if _, err := c.Fleet(t.Context()); ledger.KindOf(err) != ledger.KindDenied || !strings.Contains(err.Error(), "publisher open") {
		t.Errorf("without a key: %v", err)
	}
	read := 0
	c.Identify("anna", func() (*events.Signer, error) { read++; return f.anna, nil })
	for range 2 {
		if view, err := c.Fleet(t.Context()); err != nil || len(view.Environments) != 1 {
			t.Fatal(view, err)
		}
	}
	link, err := c.Link(t.Context())
	if err != nil || !strings.HasPrefix(link.Path, "/open/") {
		t.Errorf("%+v %v", link, err)
	}
	seen := map[string]bool{}
	for _, token := range f.shown {
		if token != "" && seen[token] {
			t.Error("one token twice")
		}
		seen[token] = true
	}
	if len(f.shown) != 5 || f.shown[0] != "" || f.shown[1] != "" || len(seen) != 4 || read != 3 {
		t.Errorf("%d requests, %d different tokens, the key read %d times: it is asked once whether one is needed", len(f.shown), len(seen)-1, read)
	}
}

func TestATokenThatDoesNotCountIsNotSentAgainAndAgain(t *testing.T) {
	f := newFar(t, (*httptest.Server).StartTLS)
	c := f.connect(t)
	c.Identify("ben", func() (*events.Signer, error) { return f.anna, nil })
	if _, err := c.Fleet(t.Context()); events.ReasonOf(err) != events.ReasonSignature || api.ExitCode(err) != 4 {
		t.Error(err)
	}
	if len(f.shown) != 2 {
		t.Errorf("%d requests", len(f.shown))
	}
	gone := errors.New("no key")
	c = f.connect(t)
	c.Identify("anna", func() (*events.Signer, error) { return nil, gone })
	if _, err := c.Fleet(t.Context()); !errors.Is(err, gone) {
		t.Error(err)
	}
}

func TestATokenLeavesByTLSOnlyAndNowhereElse(t *testing.T) {
	f := newFar(t, (*httptest.Server).Start)
	asks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a token came without TLS")
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="lockstep", ledger="0b7c5f0e"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(asks.Close)
	c, err := client.New(client.Target{Server: asks.URL})
	if err != nil {
		t.Fatal(err)
	}
	c.Identify("anna", func() (*events.Signer, error) { t.Error("the key is read"); return f.anna, nil })
	if _, err := c.Fleet(t.Context()); ledger.KindOf(err) != ledger.KindDenied || !strings.Contains(err.Error(), "https://") {
		t.Error(err)
	}
	moved := httptest.NewServer(http.RedirectHandler(f.server.URL, http.StatusTemporaryRedirect))
	t.Cleanup(moved.Close)
	if c, err = client.New(client.Target{Server: moved.URL}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fleet(t.Context()); err == nil || len(f.shown) > 0 {
		t.Errorf("%v, %d requests elsewhere", err, len(f.shown))
	}
}
