package telemetry_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-dev/lockstep/internal/leaktest"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "[::1]:0": true,
		"0.0.0.0:0": false, ":0": false, "[::]:0": false, "example.org:0": false, "127.0.0.1": false,
	} {
		l, err := telemetry.ListenLocal(address)
		if (err == nil) != ok && !strings.HasPrefix(address, "[::1]") { // a machine without IPv6 has no ::1
			t.Errorf("%s: %v", address, err)
		}
		if l != nil {
			l.Close()
		}
	}
}

func TestARequestForAnotherHostIsRefused(t *testing.T) {
	h := telemetry.LocalHostOnly(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for host, want := range map[string]int{
		"127.0.0.1:80": 200, "localhost": 200, "LocalHost:1": 200, "[::1]:9": 200, "127.9.9.9": 200,
		"evil.example": 403, "evil.example:80": 403, "localhost.evil.example": 403, "10.0.0.1": 403, "": 403,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestServeAnswersUntilItsContextEnds(t *testing.T) {
	l, err := telemetry.ListenLocal("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lockstep_test", Help: "x"}, func() float64 { return 7 }))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- telemetry.Serve(ctx, l, telemetry.LocalHostOnly(telemetry.Metrics(registry))) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || !strings.Contains(string(body), "lockstep_test 7") {
		t.Errorf("%v: %s", err, body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestLoggersWriteWhatTheyAreAskedFor(t *testing.T) {
	var out bytes.Buffer
	log, err := telemetry.NewLogger(&out, "json", "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info().Msg("quiet")
	log.Warn().Uint64("revision", 7).Msg("loud")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"revision":7`) {
		t.Error(got)
	}
	out.Reset()
	if log, err = telemetry.NewLogger(&out, "text", ""); err != nil {
		t.Fatal(err)
	}
	log.Info().Str("environment", "prod-eu").Uint64("revision", 7).Str("change", "c1").Str("trace", "4bf9").Msg("applied")
	for _, want := range []string{" applied ", "environment=prod-eu", "revision=7", "change=c1", "trace=4bf9"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s", want, out.String())
		}
	}
	for _, bad := range [][2]string{{"xml", ""}, {"json", "noisy"}} {
		if _, err := telemetry.NewLogger(&out, bad[0], bad[1]); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}
