package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"publisher": main,
	})
}

// Every script has a publisher of its own, with dev (one agent that applies), prod-eu (two, one of which cannot read back), prod-us
// (one that fails) and lab (one that does nothing).
func TestScripts(t *testing.T) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // where the tests run under nohup, what they start would ignore a hangup too
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			p := apitest.New(t)
			for _, name := range []string{"dev", "prod-eu", "prod-us", "lab"} {
				p.Must("op", ledger.AddEnvironment{Name: name, Approvals: 1, Labels: map[string]string{"stage": strings.Split(name, "-")[0]}})
			}
			p.Agent("dev", "a1", apitest.Applies)
			p.Agent("prod-eu", "a1", apitest.Applies)
			p.Agent("prod-eu", "a2", apitest.Blind)
			p.Agent("prod-us", "a1", apitest.Fails)
			p.Agent("lab", "a1", apitest.StaysOut)
			server := httptest.NewServer(api.New(api.Options{Backend: p}))
			env.Defer(server.Close)
			env.Values["publisher"] = p
			for name, value := range map[string]string{
				"LOCKSTEP_SERVER": server.URL, "PUBLISHER": server.URL, "LOCKSTEP_AS": "anna", "LOCKSTEP_KEYS": "", "XDG_CONFIG_HOME": env.WorkDir + "/config", "XDG_RUNTIME_DIR": env.WorkDir,
				"HOME": env.WorkDir, "TERM": "xterm", "NO_COLOR": "", "CI": "",
				"GORACE": "atexit_sleep_ms=0", // under the race detector every program sleeps a second at its end otherwise
			} {
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "world": world, "serving": serving, "hangup": hangup, "says": says, "lies": lies,
			"acknowledge": acknowledge,
		},
	})
}

// exits CODE COMMAND...: the command ends with the exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		_, after, found := strings.Cut(err.Error(), "exit status ")
		if !found {
			ts.Fatalf("%v", err)
		}
		got = after
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// serving: the publisher that the script has started answers, and is found without being named.
func serving(ts *testscript.TestScript, _ bool, _ []string) {
	path := filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "lockstep-"+strconv.Itoa(os.Getuid()), "server")
	deadline := time.After(2 * time.Minute)
	for {
		address, err := os.ReadFile(path)
		if err == nil {
			url, _, _ := strings.Cut(string(address), "\n")
			response, err := http.Get(url + "/readyz")
			if err == nil {
				response.Body.Close()
				if response.StatusCode == http.StatusOK {
					return
				}
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			ts.Fatalf("no publisher is ready: %v", err)
		}
	}
}

// lies FROM TO: from now on a publisher is called that answers one for the other, wherever it describes a change.
func lies(ts *testscript.TestScript, _ bool, args []string) {
	to, err := url.Parse(ts.Getenv("PUBLISHER"))
	ts.Check(err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	proxy.ModifyResponse = func(r *http.Response) error {
		defer r.Body.Close()
		said, err := io.ReadAll(r.Body)
		if strings.HasPrefix(r.Request.URL.Path, api.Prefix+"/changes/") {
			said = bytes.ReplaceAll(said, []byte(args[0]), []byte(args[1]))
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(said)), int64(len(said))
		r.Header.Set("Content-Length", strconv.Itoa(len(said)))
		return err
	}
	server := httptest.NewServer(proxy)
	ts.Defer(server.Close)
	ts.Setenv("LOCKSTEP_SERVER", server.URL)
}

// world EVENT: something happens to the publisher.
func world(ts *testscript.TestScript, _ bool, args []string) {
	p := ts.Value("publisher").(*apitest.Publisher)
	switch strings.Join(args, " ") {
	case "unwritable":
		p.Unwritable(&api.UnavailableError{Reason: events.ReasonBusDown, Message: "the bus is gone", Next: "look at it"})
	case "writable":
		p.Unwritable(nil)
	case "unproven":
		p.Unproven()
	case "undeliverable":
		p.Undeliverable()
	case "tampered":
		p.Tamper()
	case "ben proposes":
		p.Must("ben", ledger.Propose{Reason: "ben's", Edits: []ledger.Edit{{Environments: []string{"dev"}, Set: map[string]json.RawMessage{"variable/b": []byte(`1`)}}}})
	case "opens c2":
		p.Must("publisher", ledger.Open{Change: "c2"})
	default:
		ts.Fatalf("the world knows no %q", args)
	}
}

func TestAnInterruptedVerbSaysSoToItsShell(t *testing.T) {
	server := httptest.NewServer(api.New(api.Options{Backend: apitest.New(t)}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr strings.Builder
	code := make(chan int)
	go func() {
		code <- run(ctx, []string{"status", "--watch", "--server", server.URL}, strings.NewReader(""), &stdout, &stderr)
	}()
	cancel()
	if got := <-code; got != console.ExitInterrupted || stderr.String() != "interrupted\n" {
		t.Errorf("exit code %d, %s", got, stderr.String())
	}
}

// acknowledge WHY: dora acknowledges the oldest alarm by the beginning of its id.
func acknowledge(ts *testscript.TestScript, _ bool, args []string) {
	view, err := ts.Value("publisher").(*apitest.Publisher).Alarms()
	ts.Check(err)
	ts.Check(ts.Exec("publisher", "alarms", "acknowledge", view.Open[0].ID[:6], "-m", args[0], "--as", "dora"))
}

// hangup: the one command in the background loses its terminal.
func hangup(ts *testscript.TestScript, _ bool, _ []string) {
	running := ts.BackgroundCmds()
	if len(running) != 1 {
		ts.Fatalf("%d commands run in the background", len(running))
	}
	ts.Check(running[0].Process.Signal(syscall.SIGHUP))
}

// says VARIABLE FILE: the variable becomes what the file says, without the end of its line.
func says(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: says VARIABLE FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}
