package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"agent": main})
}

const agentYAML = `connectors:
- name: app
  file:
    root: app
    files:
    - path: app.yaml
      resources: [variable/*, secret/*]
secrets:
  env: [CRM_*]
`

// A publishing is a script's publisher.
type publishing struct {
	*foldtest.Publisher
	conn   *bus.Conn
	pulses uint64
}

func (p *publishing) send(t testing.TB, releases []foldtest.Release) {
	t.Helper()
	for _, r := range releases {
		head, err := p.conn.Head(bustest.Context(t), r.Environment)
		if err != nil {
			t.Fatal(err)
		}
		result := p.conn.Send(bustest.Context(t), []bus.Outgoing{{Environment: r.Environment, Payload: r.Payload, Signature: r.Header, ExpectedLast: head.Sequence}})
		if result[0].Err != nil {
			t.Fatal(result[0].Err)
		}
	}
}

// Every script has a bus and a publisher of its own, an environment dev, the enrolment of its agent a1, an agent.yaml, and the
// directory of an application beside it.
func TestScripts(t *testing.T) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // where the tests run under nohup, what they start would ignore a hangup too
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			server, conn := bustest.Ready(t)
			p := &publishing{Publisher: foldtest.New(t), conn: conn}
			p.send(t, p.Trust("dev"))
			env.Values["publisher"] = p
			env.Setenv("GORACE", "atexit_sleep_ms=0") // under the race detector every program sleeps a second at its end otherwise
			dev := p.Environment("dev")
			trust, err := dev.Trust.Digest()
			if err != nil {
				return err
			}
			e := keys.Enrolment{Environment: "dev", Agent: "a1", Seed: string(foldtest.Seed(t, "a1")), Ledger: p.Ledger, Publishers: dev.Trust.Publishers,
				Trust: trust, Head: keys.Head{Revision: 1, Chain: dev.Chain}, Bus: keys.Bus{URL: server.ClientURL()}}
			if err := e.Write(filepath.Join(env.WorkDir, "a1.enrolment")); err != nil {
				return err
			}
			if err := os.Mkdir(filepath.Join(env.WorkDir, "app"), 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "agent.yaml"), []byte(agentYAML), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"release": func(ts *testscript.TestScript, _ bool, args []string) { release(t, ts, args) },
			"pulse":   func(ts *testscript.TestScript, _ bool, _ []string) { pulse(ts) },
			"agentis": agentIs,
			"hangup":  hangup,
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

// release KEY=VALUE...: one change; an empty value deletes.
func release(t *testing.T, ts *testscript.TestScript, args []string) {
	p := ts.Value("publisher").(*publishing)
	var edits []foldtest.Edit
	for _, arg := range args {
		key, text, _ := strings.Cut(arg, "=")
		if text == "" {
			edits = append(edits, foldtest.Delete("dev", key))
		} else {
			edits = append(edits, foldtest.Set("dev", key, text))
		}
	}
	p.send(t, p.Change(edits...).Releases)
}

// pulse: the publisher is heard.
func pulse(ts *testscript.TestScript) {
	p := ts.Value("publisher").(*publishing)
	p.pulses++
	payload, signature, err := events.EncodePulse(events.Pulse{Ledger: p.Ledger, Counter: p.pulses, Clock: time.Now()}, p.Signer)
	ts.Check(err)
	ts.Check(p.conn.PublishPulse(payload, signature))
}

// agentis REVISION [CONDITION]: waits until the running agent is at the revision, and in the condition.
func agentIs(ts *testscript.TestScript, _ bool, args []string) {
	revision, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	client := agent.NewClient(ts.MkAbs("lockstep-agent"))
	deadline := time.After(bustest.Deadline)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last *agent.Status
	for {
		s, err := client.Status(context.Background())
		if err == nil && s.Checkpoint.Revision == revision && (len(args) == 1 || s.Condition.Word == args[1]) {
			return
		}
		last = s
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("the agent is not at %v: %+v, %v", args, last, err)
		}
	}
}

// hangup: the one command in the background loses its terminal.
func hangup(ts *testscript.TestScript, _ bool, _ []string) {
	running := ts.BackgroundCmds()
	if len(running) != 1 {
		ts.Fatalf("%d commands run in the background", len(running))
	}
	ts.Check(running[0].Process.Signal(syscall.SIGHUP))
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAnswersThatCannotBeWrittenAreNoSuccess(t *testing.T) {
	var stderr strings.Builder
	if code := run(t.Context(), []string{"version"}, full{}, &stderr); code != console.ExitFailure || !strings.Contains(stderr.String(), "no space left") {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
}
