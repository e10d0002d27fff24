package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-dev/lockstep/internal/access"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// A house is a publisher that other hosts reach, under a trust document that knows anna.
type house struct {
	t         *testing.T
	publisher *apitest.Publisher
	handler   http.Handler
	anna      *events.Signer
	ledger    string

	mu      sync.Mutex
	refused map[events.Reason]int
}

func newHouse(t *testing.T, change ...func(*api.Options)) *house {
	h := &house{t: t, publisher: apitest.New(t), anna: signer(t), refused: map[events.Reason]int{}}
	h.publisher.Must("op", ledger.AddEnvironment{Name: "prod", Approvals: 1})
	h.believe(events.Person{Name: "anna", Keys: []string{h.anna.Public()}, Grants: []events.Grant{{Role: events.RoleAuditor, Environments: []string{"*"}}}})
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") })
	o := api.Options{Backend: h.publisher, Version: "v1", Hosts: []string{"lockstep.example.org"}, Beyond: true, Health: ok, Ready: ok, Metrics: ok, Pages: ok,
		Refused: func(reason events.Reason) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.refused[reason]++
		}}
	for _, fn := range change {
		fn(&o)
	}
	h.handler = api.New(o)
	return h
}

func signer(t *testing.T) *events.Signer {
	t.Helper()
	seed, err := keys.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	s, err := events.NewSigner(seed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// believe makes a document that knows these people the newest.
func (h *house) believe(people ...events.Person) {
	h.publisher.Read(func(s *ledger.State, _ reports, _ asOf) {
		h.ledger = s.ID
		next := trusttest.Document(h.t, s.ID, s.Trust().Publishers...)
		next.Version, next.People = s.Trust().Version+1, people
		s.Trusts = append(s.Trusts, trusttest.Signed(h.t, next, "root 1"))
	})
}

func (h *house) token(verb string) string {
	return h.mint(access.Use{Verb: verb, Host: "127.0.0.1"}, h.ledger, "anna", h.anna, time.Now(), access.Brief)
}

func (h *house) mint(use access.Use, id, by string, s *events.Signer, at time.Time, life time.Duration) string {
	h.t.Helper()
	token, err := access.Mint(use, id, by, s, at, life)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// ask sends a request as from another host, over TLS.
func (h *house) ask(method, path string, change ...func(*http.Request)) *http.Response {
	h.t.Helper()
	r := httptest.NewRequestWithContext(h.t.Context(), method, "https://127.0.0.1:7070"+path, nil)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, fn := range change {
		fn(r)
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w.Result()
}

func with(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}
func bearer(token string) func(*http.Request) { return with("Authorization", "Bearer "+token) }

// refusal is what a refused request is told.
func (h *house) refusal(r *http.Response) (p api.Problem) {
	h.t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &p); err != nil || p.Status != r.StatusCode || p.Detail == "" || p.Kind == "" {
		h.t.Fatalf("%d %s: %v", r.StatusCode, b, err)
	}
	return p
}

func TestFromOtherHostsNothingIsReadWithoutAToken(t *testing.T) {
	h := newHouse(t)
	var described struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.NewDecoder(h.ask(http.MethodGet, "/api/v1/openapi.json", bearer(h.token(access.Read))).Body).Decode(&described); err != nil || len(described.Paths) < 20 {
		t.Fatal(err, len(described.Paths))
	}
	paths := map[string][]string{http.MethodGet: {"/", "/live", "/assets/style.css", "/environments/prod", "/healthz", "/readyz", "/metrics", "/nothing", "/open", "/open/", "/open/a/b", "/open/../api/v1/fleet", "/logout/", "/api/v1/openapi.json"},
		http.MethodHead: {"/", "/open/x"}, http.MethodPost: {"/", "/open/x"}, http.MethodDelete: {"/api/v1/fleet"}}
	for path, methods := range described.Paths {
		for method := range methods {
			method = strings.ToUpper(method)
			paths[method] = append(paths[method], strings.NewReplacer("{name}", "prod", "{id}", "c1", "{kind}", "flag", "{resource}", "x", "{revision}", "1").Replace(path))
		}
	}
	asked := 0
	for method, list := range paths {
		for _, path := range list {
			r := h.ask(method, path, with("Content-Type", "application/json"))
			if path == "/open/" { // a link without a secret
				if p := h.refusal(r); p.Reason != access.ReasonLink || r.StatusCode != http.StatusForbidden {
					t.Errorf("%s: %+v", path, p)
				}
				continue
			}
			asked++
			challenge := r.Header.Get("WWW-Authenticate")
			if p := h.refusal(r); r.StatusCode != http.StatusUnauthorized || p.Reason != access.ReasonNoToken || !strings.Contains(p.Next, "publisher open") || api.Challenged(challenge) != h.ledger {
				t.Errorf("%s %s: %d %+v %s", method, path, r.StatusCode, p, challenge)
			}
			if path == "/api/v1/links" {
				continue
			}
			if r := h.ask(method, path, bearer(h.token(access.Read))); r.StatusCode == http.StatusUnauthorized || r.StatusCode == http.StatusForbidden {
				t.Errorf("%s %s with a token: %d", method, path, r.StatusCode)
			}
		}
	}
	if h.refused[access.ReasonNoToken] != asked {
		t.Errorf("%d were refused and %v counted", asked, h.refused)
	}
}

func TestTokensThatDoNotCountAreRefusedAndNotRepeated(t *testing.T) {
	h := newHouse(t)
	read, now := access.Use{Verb: access.Read, Host: "127.0.0.1"}, time.Now()
	good := h.token(access.Read)
	removed := signer(t)
	for name, c := range map[string]struct {
		header []string
		reason events.Reason
		status int
	}{
		"another scheme":           {[]string{"Basic " + good}, access.ReasonNoToken, 401},
		"no scheme":                {[]string{good}, access.ReasonNoToken, 401},
		"two":                      {[]string{"Bearer " + good, "Bearer " + good}, access.ReasonNoToken, 401},
		"two in one":               {[]string{"Bearer " + good + ", Bearer " + good}, events.ReasonMalformed, 401},
		"empty":                    {[]string{"Bearer "}, events.ReasonMalformed, 401},
		"a password":               {[]string{"Bearer hunter2-hunter2-hunter2"}, events.ReasonMalformed, 401},
		"cut":                      {[]string{"Bearer " + good[:len(good)-1]}, events.ReasonMalformed, 401},
		"of who left":              {[]string{"Bearer " + h.mint(read, h.ledger, "anna", removed, now, access.Brief)}, events.ReasonSignature, 401},
		"expired":                  {[]string{"Bearer " + h.mint(read, h.ledger, "anna", h.anna, now.Add(-time.Hour), access.Brief)}, access.ReasonExpired, 401},
		"another ledger":           {[]string{"Bearer " + h.mint(read, "another", "anna", h.anna, now, access.Brief)}, events.ReasonWrongLedger, 401},
		"another host":             {[]string{"Bearer " + h.mint(access.Use{Verb: access.Read, Host: "evil.example.org"}, h.ledger, "anna", h.anna, now, access.Brief)}, access.ReasonOtherUse, 401},
		"to open":                  {[]string{"Bearer " + h.token(access.Open)}, access.ReasonOtherUse, 401},
		"a bad one, and a session": {[]string{"Bearer x"}, events.ReasonMalformed, 401},
	} {
		t.Run(name, func(t *testing.T) {
			before := h.refused[c.reason]
			r := h.ask(http.MethodGet, "/api/v1/fleet", func(r *http.Request) {
				r.Header["Authorization"] = c.header
				r.AddCookie(&http.Cookie{Name: "__Host-lockstep-session", Value: "x"})
			})
			challenge := r.Header.Get("WWW-Authenticate")
			b, _ := json.Marshal(h.refusal(r))
			if r.StatusCode != c.status || !strings.Contains(string(b), string(c.reason)) || !strings.Contains(challenge, `error="invalid_token"`) || h.refused[c.reason] != before+1 {
				t.Errorf("%d %s %s %v", r.StatusCode, b, challenge, h.refused)
			}
			for _, header := range c.header {
				if token := strings.TrimPrefix(header, "Bearer "); len(token) > 20 && strings.Contains(string(b)+challenge, token[:20]) {
					t.Errorf("the answer repeats what came: %s", b)
				}
			}
		})
	}
	if r := h.ask(http.MethodGet, "/api/v1/fleet", with("Authorization", "bEARER "+good)); r.StatusCode != http.StatusOK {
		t.Errorf("a scheme in other letters: %d", r.StatusCode)
	}
	h.believe(events.Person{Name: "anna", Keys: []string{h.anna.Public()}})
	if p := h.refusal(h.ask(http.MethodGet, "/api/v1/fleet", bearer(good))); p.Status != http.StatusForbidden || p.Reason != access.ReasonNoRole {
		t.Errorf("without a role: %+v", p)
	}
	h.believe()
	if p := h.refusal(h.ask(http.MethodGet, "/api/v1/fleet", bearer(good))); p.Status != http.StatusUnauthorized || p.Reason != events.ReasonSignature {
		t.Errorf("after anna left: %+v", p)
	}
	for reason := range h.refused {
		if !slices.Contains(api.Refusals(), reason) {
			t.Errorf("%s is counted and not among the reasons that are known", reason)
		}
	}
}

func TestWhileApprovalsAreNamesOtherHostsShowACertificate(t *testing.T) {
	h := newHouse(t)
	h.publisher.Read(func(s *ledger.State, _ reports, _ asOf) { s.Trusts = s.Trusts[:1] })
	if p := h.refusal(h.ask(http.MethodGet, "/api/v1/fleet", bearer("x"))); p.Status != http.StatusForbidden || p.Reason != api.ReasonCertificate || !strings.Contains(p.Next, "--tls-client-ca") {
		t.Errorf("%+v", p)
	}
	shown := func(r *http.Request) {
		r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	}
	if r := h.ask(http.MethodGet, "/api/v1/fleet", shown); r.StatusCode != http.StatusOK {
		t.Errorf("with a certificate: %d", r.StatusCode)
	}
	h.publisher.Read(func(s *ledger.State, _ reports, _ asOf) { s.Trusts = nil })
	if p := h.refusal(h.ask(http.MethodGet, "/api/v1/fleet", shown)); p.Status != http.StatusServiceUnavailable {
		t.Errorf("before the ledger has been read: %+v", p)
	}
	h.believeNothingKnown()
	if p := h.refusal(h.ask(http.MethodGet, "/api/v1/fleet", shown)); p.Status != http.StatusUnauthorized {
		t.Errorf("under a document of another program: %+v", p)
	}
}

// believeNothingKnown makes a document the newest whose way of approving is not known.
func (h *house) believeNothingKnown() {
	h.publisher.Read(func(s *ledger.State, _ reports, _ asOf) {
		s.Trusts = append(s.Trusts, events.Trust{Version: 1, Ledger: s.ID, Approvals: "by dice"})
	})
}

func TestOnlyWhatComesFromThisMachineIsLetInUnasked(t *testing.T) {
	h := newHouse(t, func(o *api.Options) { o.Beyond = false })
	plain := func(r *http.Request) { r.TLS = nil }
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for name, c := range map[string]struct {
		change []func(*http.Request)
		want   int
		reason events.Reason
	}{
		"loopback":                      {nil, 200, ""},
		"by its name":                   {[]func(*http.Request){host("lockstep.example.org")}, 403, api.ReasonNoTLS},
		"by its name, over TLS":         {[]func(*http.Request){host("lockstep.example.org"), with("X-Forwarded-Proto", "https")}, 401, access.ReasonNoToken},
		"through a proxy":               {[]func(*http.Request){with("X-Forwarded-For", "192.0.2.7")}, 403, api.ReasonNoTLS},
		"through a proxy, over TLS":     {[]func(*http.Request){with("Forwarded", "for=192.0.2.7"), with("X-Forwarded-Proto", "https")}, 401, access.ReasonNoToken},
		"through a proxy, with a token": {[]func(*http.Request){with("Via", "1.1 proxy"), with("X-Forwarded-Proto", "https"), bearer(h.token(access.Read))}, 200, ""},
		"by a name that is not ours":    {[]func(*http.Request){host("evil.example.org"), bearer(h.token(access.Read))}, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := h.ask(http.MethodGet, "/api/v1/fleet", append([]func(*http.Request){plain}, c.change...)...)
			if r.StatusCode != c.want {
				t.Errorf("got %d", r.StatusCode)
			}
			if c.want != 200 && h.refusal(r).Reason != c.reason {
				t.Errorf("another reason than %s", c.reason)
			}
		})
	}
	var link api.Link
	if err := json.NewDecoder(h.ask(http.MethodPost, "/api/v1/links", plain).Body).Decode(&link); err != nil || link.Path != "/" || !link.Expires.IsZero() {
		t.Errorf("%+v, %v: no session is needed here", link, err)
	}
}

// link asks for a link.
func (h *house) link() string {
	h.t.Helper()
	r := h.ask(http.MethodPost, "/api/v1/links", bearer(h.token(access.Open)))
	var link api.Link
	if err := json.NewDecoder(r.Body).Decode(&link); err != nil || r.StatusCode != http.StatusOK || !strings.HasPrefix(link.Path, "/open/") || time.Until(link.Expires) > access.LinkLife {
		h.t.Fatalf("%d %+v %v", r.StatusCode, link, err)
	}
	return link.Path
}

// follow opens a session by a link.
func (h *house) follow(link string, change ...func(*http.Request)) *http.Cookie {
	h.t.Helper()
	r := h.ask(http.MethodGet, link, change...)
	if r.StatusCode != http.StatusOK || len(r.Cookies()) != 1 {
		h.t.Fatalf("%d %v", r.StatusCode, r.Cookies())
	}
	return r.Cookies()[0]
}

func carrying(c *http.Cookie) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value}) }
}

func TestALinkOpensASessionThatReads(t *testing.T) {
	h := newHouse(t)
	link := h.link()
	if r := h.ask(http.MethodHead, link); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a look at a link: %d", r.StatusCode)
	}
	page := h.ask(http.MethodGet, link)
	raw := page.Header.Get("Set-Cookie")
	for _, attribute := range []string{"__Host-lockstep-session=", "; Path=/;", "; Max-Age=43200;", "; HttpOnly", "; Secure", "; SameSite=Strict"} {
		if !strings.Contains(raw, attribute) {
			t.Errorf("%s lacks %s", raw, attribute)
		}
	}
	if strings.Contains(raw, "Domain") || page.Header.Get("Cache-Control") != "no-store" || page.Header.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(page.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%v", page.Header)
	}
	body, _ := io.ReadAll(page.Body)
	session := page.Cookies()[0]
	if strings.Contains(string(body), session.Value) || strings.Contains(link, session.Value) {
		t.Errorf("the page shows the session: %s", body)
	}
	for _, path := range []string{"/", "/live", "/api/v1/fleet", "/metrics"} {
		if r := h.ask(http.MethodGet, path, carrying(session)); r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
	for _, path := range []string{"/api/v1/diff", "/api/v1/links", "/api/v1/commands/propose", "/api/v1/ledger/verify"} {
		if p := h.refusal(h.ask(http.MethodPost, path, carrying(session))); p.Status != http.StatusForbidden || p.Reason != api.ReasonReadsOnly {
			t.Errorf("%s: %+v", path, p)
		}
	}
	if r := h.ask(http.MethodGet, link); h.refusal(r).Reason != access.ReasonLink || len(r.Cookies()) > 0 {
		t.Error("a link serves twice")
	}
	again := newHouse(t) // started again
	if p := again.refusal(again.ask(http.MethodGet, h.link())); p.Reason != access.ReasonLink {
		t.Errorf("%+v", p)
	}
	if p := h.refusal(h.ask(http.MethodPost, "/api/v1/links", bearer(h.token(access.Read)))); p.Reason != access.ReasonOtherUse {
		t.Errorf("a token that reads opens a session: %+v", p)
	}
}

func TestASessionIsNotChosenByOthersAndEnds(t *testing.T) {
	h := newHouse(t)
	fixed := &http.Cookie{Name: "__Host-lockstep-session", Value: "CHOSENBYSOMEBODYELSE"}
	first := h.follow(h.link(), carrying(fixed))
	if first.Value == fixed.Value || len(first.Value) < 26 {
		t.Errorf("session %q", first.Value)
	}
	over := func(why string, want events.Reason, c ...*http.Cookie) {
		t.Helper()
		if p := h.refusal(h.ask(http.MethodGet, "/", func(r *http.Request) {
			for _, c := range c {
				carrying(c)(r)
			}
		})); p.Status != http.StatusUnauthorized || p.Reason != want {
			t.Errorf("%s: %+v", why, p)
		}
	}
	over("chosen by somebody else", access.ReasonSession, fixed)
	over("one of two", access.ReasonNoToken, first, fixed)
	second := h.follow(h.link(), carrying(first))
	over("replaced", access.ReasonSession, first)

	if r := h.ask(http.MethodGet, "/logout", carrying(second)); r.StatusCode != http.StatusOK || len(r.Cookies()) > 0 {
		t.Errorf("the button that ends a session: %d %v", r.StatusCode, r.Cookies())
	}
	if r := h.ask(http.MethodGet, "/", carrying(second)); r.StatusCode != http.StatusOK {
		t.Errorf("a look at the button ends a session: %d", r.StatusCode)
	}
	form := func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }
	if r := h.ask(http.MethodPost, "/logout", form, carrying(second), with("Sec-Fetch-Site", "cross-site")); r.StatusCode != http.StatusForbidden {
		t.Errorf("another site ends a session: %d", r.StatusCode)
	}
	out := h.ask(http.MethodPost, "/logout", form, carrying(second), with("Sec-Fetch-Site", "same-origin"))
	if out.StatusCode != http.StatusOK || len(out.Cookies()) != 1 || out.Cookies()[0].MaxAge >= 0 {
		t.Errorf("%d %v", out.StatusCode, out.Cookies())
	}
	over("logged out", access.ReasonSession, second)

	third, pending := h.follow(h.link()), h.link()
	h.believe(events.Person{Name: "ben", Keys: []string{signer(t).Public()}})
	over("of who left", events.ReasonSignature, third)
	if p := h.refusal(h.ask(http.MethodGet, pending)); p.Reason != events.ReasonSignature {
		t.Errorf("a link of who left: %+v", p)
	}
	h.believe(events.Person{Name: "anna", Keys: []string{h.anna.Public()}, Grants: []events.Grant{{Role: events.RoleAuthor, Environments: []string{"prod"}}}})
	over("of who left, and came back", access.ReasonSession, third)
}

// TestAStreamEndsWithTheRightToReadIt: who reads without end is asked again.
func TestAStreamEndsWithTheRightToReadIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Time, 3)
		h := newHouse(t, func(o *api.Options) {
			o.Pages = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				ended <- time.Now()
			})
		})
		ben := signer(t)
		anna := events.Person{Name: "anna", Keys: []string{h.anna.Public()}, Grants: []events.Grant{{Role: events.RoleAuditor, Environments: []string{"*"}}}}
		h.believe(anna, events.Person{Name: "ben", Keys: []string{ben.Public()}, Grants: anna.Grants})
		session := h.follow(h.link())
		began := time.Now()
		read := access.Use{Verb: access.Read, Host: "127.0.0.1"}
		for _, who := range []func(*http.Request){carrying(session), bearer(h.mint(read, h.ledger, "anna", h.anna, began, access.Brief)), bearer(h.mint(read, h.ledger, "ben", ben, began, access.MaxRead))} {
			go h.ask(http.MethodGet, "/live", who)
		}
		if at := <-ended; at.Sub(began) < access.Brief || at.Sub(began) > access.Brief+time.Minute {
			t.Errorf("anna's token ended after %s", at.Sub(began))
		}
		left := time.Now()
		h.believe(anna)
		if at := <-ended; at.Sub(left) > time.Minute {
			t.Errorf("ben went on for %s", at.Sub(left))
		}
		h.believe()
		if at := <-ended; at.Sub(left) > 2*time.Minute {
			t.Errorf("anna's session went on for %s", at.Sub(left))
		}
	})
}

func TestTheDescriptionSaysHowToAsk(t *testing.T) {
	_, server := serve(t)
	_, body, _ := do(t, http.MethodGet, server.URL+"/api/v1/openapi.json", "", nil)
	var described struct {
		Components struct {
			SecuritySchemes map[string]struct{ Type, Scheme, In, Name string } `json:"securitySchemes"`
		} `json:"components"`
		Security []map[string][]string `json:"security"`
	}
	if err := json.Unmarshal([]byte(body), &described); err != nil {
		t.Fatal(err)
	}
	schemes := described.Components.SecuritySchemes
	if schemes["token"].Scheme != "bearer" || schemes["session"].Name != "__Host-lockstep-session" || schemes["certificate"].Type != "mutualTLS" || len(described.Security) != 4 {
		t.Errorf("%v %v", slices.Collect(maps.Keys(schemes)), described.Security)
	}
}
