package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func connect(t *testing.T, handler http.Handler) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := client.New(client.Target{Server: server.URL + "/"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func propose(id string) ledger.Command {
	return ledger.Command{ID: id, By: "anna", Body: ledger.Propose{Reason: "why", Edits: []ledger.Edit{
		{Environments: []string{"prod"}, Set: map[string]json.RawMessage{"variable/log-level": json.RawMessage(`"<debug>"`)}},
	}}}
}

func TestErrorsAreTheOnesThatTheBackendReturned(t *testing.T) {
	p := apitest.New(t)
	c := connect(t, api.New(api.Options{Backend: p}))
	_, err := c.Do(t.Context(), propose("one"), false)
	want := &ledger.Error{Kind: ledger.KindNotFound, Message: `edit 1: there is no environment "prod"`, Next: "list them with 'publisher env list'"}
	if got, ok := errors.AsType[*ledger.Error](err); !ok || *got != *want {
		t.Errorf("got %#v", err)
	}
	gone := &api.UnavailableError{Reason: events.ReasonBusDown, Message: "the bus is gone", Next: "look at it"}
	p.Unwritable(gone)
	_, err = c.Do(t.Context(), propose("two"), false)
	if got, ok := errors.AsType[*api.UnavailableError](err); !ok || *got != *gone || api.ExitCode(err) != 9 {
		t.Errorf("got %#v", err)
	}
}

// cut answers the first n requests of the API by carrying them out and cutting the connection.
func cut(n int32, next http.Handler) http.Handler {
	var served atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) > n {
			next.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
}

func TestACommandWhoseAnswerIsLostIsDoneOnce(t *testing.T) {
	p := apitest.New(t)
	p.Must("op", ledger.AddEnvironment{Name: "prod", Approvals: 1})
	c := connect(t, cut(2, api.New(api.Options{Backend: p})))
	out, err := c.Do(t.Context(), propose("one"), false)
	if err != nil || out.Change != "c1" || !out.Again {
		t.Fatalf("%+v %v", out, err)
	}
	changes, err := c.Changes(t.Context(), "")
	if err != nil || len(changes) != 1 {
		t.Errorf("%d changes, %v", len(changes), err)
	}
}

func TestWhereEveryAnswerIsLostTheKeyToTryAgainIsNamed(t *testing.T) {
	p := apitest.New(t)
	p.Must("op", ledger.AddEnvironment{Name: "prod", Approvals: 1})
	c := connect(t, cut(3, api.New(api.Options{Backend: p})))
	_, err := c.Do(t.Context(), propose("one"), false)
	if api.KindOf(err) != api.KindUnavailable || !strings.Contains(err.Error(), "--idempotency-key one") {
		t.Errorf("got %v", err)
	}
}

func TestSomethingElseBehindTheAddressIsSaid(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"not found": http.NotFound,
		"a page":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
	} {
		c := connect(t, handler)
		if _, err := c.Fleet(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer of a publisher") {
			t.Errorf("%s: %v", name, err)
		}
	}
	server := httptest.NewServer(http.NotFoundHandler())
	c, err := client.New(client.Target{Server: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	if _, err := c.Fleet(t.Context()); api.ExitCode(err) != 9 || !strings.Contains(err.Error(), "publisher serve") {
		t.Errorf("nobody there: %v", err)
	}
	if c, err = client.New(client.Target{Server: "https://no..name:7070"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fleet(t.Context()); api.ExitCode(err) != 9 || !strings.Contains(err.Error(), "does not resolve on this machine") || strings.Contains(err.Error(), "publisher serve") {
		t.Errorf("its name is not known here: %v", err)
	}
	for _, bad := range []string{"", "127.0.0.1:7070", "ftp://x", "http://x/path", "http://"} {
		if _, err := client.New(client.Target{Server: bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAPublisherBeyondThisMachineIsShownACertificate(t *testing.T) {
	p := apitest.New(t)
	server := httptest.NewUnstartedServer(api.New(api.Options{Backend: p}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	certificate := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	files := client.TLS{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for path, block := range map[string]*pem.Block{
		files.CA:   {Type: "CERTIFICATE", Bytes: server.Certificate().Raw},
		files.Cert: {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]},
		files.Key:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fleet := func(files client.TLS) error {
		c, err := client.New(client.Target{Server: server.URL, TLS: files})
		if err != nil {
			return err
		}
		_, err = c.Fleet(t.Context())
		return err
	}
	if err := fleet(files); err != nil {
		t.Error(err)
	}
	for name, without := range map[string]client.TLS{"authority": {Cert: files.Cert, Key: files.Key}, "certificate": {CA: files.CA}, "key": {CA: files.CA, Cert: files.Cert}} {
		if err := fleet(without); err == nil || strings.Contains(err.Error(), "was lost") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	release := make(chan struct{})
	c := connect(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	if _, err := c.Do(ctx, propose("one"), false); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestACommandThatIsInterruptedMayHaveBeenCarriedOut(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	c := connect(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	t.Cleanup(func() { close(release) })
	cause := errors.New("interrupted")
	for dryRun, want := range map[bool]bool{false: true, true: false} {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-arrived
			cancel(cause)
		}()
		_, err := c.Do(ctx, propose("one"), dryRun)
		interrupted, ok := errors.AsType[*client.InterruptedError](err)
		if !errors.Is(err, cause) || ok != want || ok && !strings.Contains(interrupted.Error(), "--idempotency-key one") {
			t.Errorf("dry run %v: got %v", dryRun, err)
		}
	}
}

func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("LOCKSTEP_SERVER", "")
	t.Setenv("LOCKSTEP_AS", "")
	t.Setenv("LOCKSTEP_KEYS", "")
	return dir
}

func TestTheServerIsFoundInTheOrderThatIsPromised(t *testing.T) {
	dir := home(t)
	expect := func(said client.Target, server string) {
		t.Helper()
		got, err := client.Locate(said)
		if err != nil || got.Server != server || got.As == "" {
			t.Errorf("got %+v, %v; want %s", got, err, server)
		}
	}
	expect(client.Target{}, client.DefaultServer)
	remove, err := client.Advertise("http://127.0.0.1:1", "")
	if err != nil {
		t.Fatal(err)
	}
	expect(client.Target{}, "http://127.0.0.1:1")
	if err := os.MkdirAll(filepath.Join(dir, "config", "lockstep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config", "lockstep", "context.yaml"), []byte("server: http://127.0.0.1:2\nas: carla\ntls: {ca: ca.pem, cert: /etc/cert.pem, key: key.pem}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(client.Target{}, "http://127.0.0.1:2")
	t.Setenv("LOCKSTEP_SERVER", "http://127.0.0.1:3")
	expect(client.Target{}, "http://127.0.0.1:3")
	expect(client.Target{Server: "http://127.0.0.1:4"}, "http://127.0.0.1:4")
	got, err := client.Locate(client.Target{})
	if want := filepath.Join(dir, "config", "lockstep", "ca.pem"); err != nil || got.As != "carla" || got.TLS.CA != want || got.TLS.Cert != "/etc/cert.pem" {
		t.Errorf("got %+v %v", got, err)
	}
	remove()
	if _, err := os.Stat(filepath.Join(dir, "config")); err != nil {
		t.Error(err)
	}
}

func TestAnAdvertisementOfOthersIsNotBelieved(t *testing.T) {
	dir := home(t)
	remove, err := client.Advertise("http://127.0.0.1:1", "")
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	entries, err := filepath.Glob(filepath.Join(dir, "lockstep-*"))
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if err := os.Chmod(entries[0], 0o777); err != nil {
		t.Fatal(err)
	}
	if got, _ := client.Locate(client.Target{}); got.Server != client.DefaultServer {
		t.Errorf("believed %s", got.Server)
	}
	if _, err := client.Advertise("http://127.0.0.1:2", ""); err == nil {
		t.Error("advertised in a directory that others can write")
	}
}

func TestAnotherPublishersAdvertisementIsLeftAlone(t *testing.T) {
	home(t)
	remove, err := client.Advertise("http://127.0.0.1:1", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Advertise("http://127.0.0.1:2", ""); !errors.Is(err, client.ErrAdvertised) || !strings.Contains(err.Error(), "at http://127.0.0.1:1: reach this one with --server http://127.0.0.1:2") {
		t.Errorf("got %v", err)
	}
	if got, _ := client.Locate(client.Target{}); got.Server != "http://127.0.0.1:1" {
		t.Errorf("found %s", got.Server)
	}
	remove()
	if got, _ := client.Locate(client.Target{}); got.Server != client.DefaultServer {
		t.Errorf("found %s", got.Server)
	}
	remove, err = client.Advertise("http://127.0.0.1:2", "")
	if err != nil {
		t.Fatal(err)
	}
	remove()
}

func TestAKilledPublishersAdvertisementIsNotBelieved(t *testing.T) {
	dir := home(t)
	remove, err := client.Advertise("http://127.0.0.1:1", "/demo/keys")
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "lockstep-*", "server"))
	if err != nil || len(left) != 1 {
		t.Fatal(left, err)
	}
	text, err := os.ReadFile(left[0])
	if err != nil {
		t.Fatal(err)
	}
	remove()
	if err := os.WriteFile(left[0], text, 0o600); err != nil { // as if it had been killed
		t.Fatal(err)
	}
	if got, err := client.Locate(client.Target{}); err != nil || got.Server != client.DefaultServer || got.Keys != filepath.Join(dir, "config", "lockstep", "keys") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTheKeysAreFoundInTheOrderThatIsPromised(t *testing.T) {
	dir := home(t)
	expect := func(said client.Target, keys string) {
		t.Helper()
		if got, err := client.Locate(said); err != nil || got.Keys != keys {
			t.Errorf("got %+v, %v; want %s", got, err, keys)
		}
	}
	expect(client.Target{}, filepath.Join(dir, "config", "lockstep", "keys"))
	remove, err := client.Advertise("http://127.0.0.1:1", "/demo/keys")
	if err != nil {
		t.Fatal(err)
	}
	expect(client.Target{}, "/demo/keys")
	expect(client.Target{Server: "http://127.0.0.1:4"}, filepath.Join(dir, "config", "lockstep", "keys")) // they are of another publisher
	if err := os.MkdirAll(filepath.Join(dir, "config", "lockstep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config", "lockstep", "context.yaml"), []byte("keys: ours\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(client.Target{}, filepath.Join(dir, "config", "lockstep", "ours"))
	t.Setenv("LOCKSTEP_KEYS", "/mine")
	expect(client.Target{}, "/mine")
	expect(client.Target{Keys: "/said"}, "/said")
	remove()
}

func TestAUserWithoutAHomeHasNoContextFile(t *testing.T) {
	home(t)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "")
	said := client.Target{Server: "http://127.0.0.1:4", As: "anna", Keys: "keys"}
	if got, err := client.Locate(said); err != nil || got != said {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAMistakeInTheContextFileIsSaidWithItsPlace(t *testing.T) {
	dir := home(t)
	if err := os.MkdirAll(filepath.Join(dir, "config", "lockstep"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config", "lockstep", "context.yaml"), []byte("sever: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Locate(client.Target{}); err == nil || !strings.Contains(err.Error(), `context.yaml:1:1: unknown key "sever": did you mean "server"?`) {
		t.Errorf("got %v", err)
	}
}
