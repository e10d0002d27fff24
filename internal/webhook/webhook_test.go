package webhook_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/leaktest"
	"github.com/lockstep-dev/lockstep/internal/webhook"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func post(t *testing.T, address string, secret string) error {
	t.Helper()
	s := webhook.New()
	defer s.Close()
	return s.Post(t.Context(), address, "application/json", []byte(`{"a":1}`), []byte(secret), noon)
}

func TestAReceiverCanVerifyWhoSent(t *testing.T) {
	var header, body string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		header, body = r.Header.Get(webhook.SignatureHeader), string(b)
	}))
	defer server.Close()
	if err := post(t, server.URL, "s3cret"); err != nil {
		t.Fatal(err)
	}
	// printf '1795262400.{"a":1}' | openssl dgst -sha256 -hmac s3cret
	if want := "t=1795262400,v1=c4f52210027800a3702223924f2cececf1e3a9145c0ab54609612ad3faf86a49"; header != want || body != `{"a":1}` {
		t.Errorf("%s %s, want %s", header, body, want)
	}
	if err := post(t, server.URL, ""); err != nil || header != "" {
		t.Errorf("%v, signed without a secret: %q", err, header)
	}
}

func TestAnswersSayWhetherAnotherTryHelps(t *testing.T) {
	for code, want := range map[int]string{200: "taken", 202: "taken", 204: "taken", 301: "refused", 302: "refused", 400: "refused", 401: "refused", 404: "refused", 410: "refused",
		408: "again", 425: "again", 429: "again", 500: "again", 503: "again"} {
		followed := false
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			followed = followed || r.URL.Path == "/elsewhere"
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
		}))
		err := post(t, server.URL, "")
		server.Close()
		got := "again"
		if err == nil {
			got = "taken"
		} else if errors.Is(err, webhook.ErrRefused) {
			got = "refused"
		}
		if got != want || followed {
			t.Errorf("%d: %s (%v), want %s; followed elsewhere: %t", code, got, err, want, followed)
		}
	}
}

func TestAReceiverSaysForHowLongItIsToBeLeftAlone(t *testing.T) {
	for header, want := range map[string]time.Duration{"": 0, "120": 2 * time.Minute, "0": 0, "-5": 0, "soon": 0, noon.Add(time.Minute).Format(http.TimeFormat): time.Minute,
		noon.Add(-time.Minute).Format(http.TimeFormat): 0, "99999999999999999999": 0} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		err := post(t, server.URL, "")
		server.Close()
		if got := webhook.After(err); got != want || err == nil || errors.Is(err, webhook.ErrRefused) || err.Error() != "answered 429 Too Many Requests" {
			t.Errorf("%q: %s, want %s: %v", header, got, want, err)
		}
	}
}

func TestAnErrorDoesNotTellTheAddress(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "your token t0ken is wrong", http.StatusForbidden)
	}))
	answered := server.URL + "/t0ken"
	if err := post(t, answered, ""); err == nil || strings.Contains(err.Error(), "t0ken") {
		t.Error(err)
	}
	server.Close()
	for _, address := range []string{answered, "https://t0ken\x7f", "http://127.0.0.1:1/t0ken"} {
		if err := post(t, address, ""); err == nil || strings.Contains(err.Error(), "t0ken") {
			t.Errorf("%v", err)
		}
	}
}
