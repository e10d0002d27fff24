package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// interruptible is a publisher in memory that can be away.
func interruptible(t *testing.T) (p *apitest.Publisher, url string, away *atomic.Bool) {
	t.Helper()
	p, away = apitest.New(t), &atomic.Bool{}
	p.Must("op", ledger.AddEnvironment{Name: "dev", Approvals: 1})
	handler := api.New(api.Options{Backend: p})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return p, server.URL, away
}

// begin runs the program until the test ends, and hands over the lines of its streams.
func begin(t *testing.T, args ...string) (stdout, stderr *bufio.Scanner) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, outEnd := io.Pipe()
	complaints, complaintsEnd := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer outEnd.Close()
		defer complaintsEnd.Close()
		run(ctx, args, strings.NewReader(""), outEnd, complaintsEnd)
	}()
	t.Cleanup(func() { cancel(); out.Close(); complaints.Close(); <-done })
	return bufio.NewScanner(out), bufio.NewScanner(complaints)
}

// expect reads on to a line.
func expect(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), want) {
			return
		}
	}
	t.Fatalf("%q is never written", want)
}

func TestAWatchGoesOnWhenThePublisherIsBack(t *testing.T) {
	_, url, away := interruptible(t)
	stdout, stderr := begin(t, "status", "--watch", "-o", "json", "--server", url)
	view := func() {
		t.Helper()
		var v fleet.View
		if !stdout.Scan() {
			t.Fatal("no view is written")
		}
		if err := json.Unmarshal(stdout.Bytes(), &v); err != nil || len(v.Environments) != 1 {
			t.Fatalf("%s is no view: %v", stdout.Text(), err)
		}
	}
	view()
	away.Store(true)
	expect(t, stderr, "! no publisher answers since ")
	away.Store(false)
	expect(t, stderr, "the publisher answers again")
	view()
}

func TestAWaitGoesOnWhenThePublisherIsBack(t *testing.T) {
	p, url, away := interruptible(t)
	p.Agent("dev", "a1", apitest.StaysOut)
	p.Must("anna", ledger.Propose{Reason: "why", Edits: []ledger.Edit{{Environments: []string{"dev"}, Set: map[string]json.RawMessage{"variable/x": []byte("1")}}}})
	stdout, stderr := begin(t, "approve", "c1", "--as", "ben", "--wait", "--timeout", "1h", "--server", url)
	go func() {
		for stdout.Scan() {
		}
	}()
	expect(t, stderr, "released c1")
	away.Store(true)
	expect(t, stderr, "! no publisher answers since ")
	away.Store(false)
	expect(t, stderr, "the publisher answers again")
}

func TestAnAgentInTroubleIsStuckOnceItHasBeatenAboutNothingElse(t *testing.T) {
	released := time.Now()
	for heard, want := range map[time.Duration]bool{-time.Minute: false, time.Second: false, fleet.BeatInterval + time.Second: true} {
		if got := stuck(fleet.Agent{LastSeen: released.Add(heard)}, released); got != want {
			t.Errorf("heard %s after the release: stuck is %t", heard, got)
		}
	}
}
