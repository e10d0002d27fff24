package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

func TestAHeldAgentFollowsAndAppliesNothingUntilItIsResumed(t *testing.T) {
	w := newWorld(t)
	fake := connectortest.NewFake("fake")
	o := w.options(fake)
	a := start(t, o)
	w.applied(1)
	w.pulse(1, "")
	until := time.Now().Add(time.Hour)
	must(t, a.Hold(t.Context(), until, "audit"))
	s := a.condition(agent.Held, events.ReasonHeldBySteward)
	if s.Condition.Message != "audit" || !s.Condition.Until.Equal(events.Stamp(until)) {
		t.Errorf("condition %+v", s.Condition)
	}
	w.beat("held", func(b events.Beat) bool { return b.Condition == agent.Held && b.Until.Equal(events.Stamp(until)) })
	w.set("variable/a", `1`)
	a.is("follows", func(s agent.Status) bool { return s.Followed == 2 && s.Checkpoint.Revision == 1 })
	a.stop()

	a = start(t, o) // a restart is no resume
	a.is("follows", func(s agent.Status) bool { return s.Followed == 2 && s.Hold != nil })
	holds(t, fake.Instance())
	must(t, a.Resume(t.Context()))
	w.applied(2)
	holds(t, fake.Instance(), "variable/a", `1`)
}

func TestAHoldEndsByItself(t *testing.T) {
	w := newWorld(t)
	a := start(t, w.options(connectortest.NewFake("fake")))
	w.applied(1)
	must(t, a.Hold(t.Context(), time.Now().Add(50*time.Millisecond), "a moment"))
	w.set("variable/a", `1`)
	w.applied(2)
}

func TestFirstContactRefusesToOverwriteUntilToldTo(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"ours"`, "variable/b", `"same"`, "variable/c", `"new"`)
	fake := connectortest.NewFake("fake")
	fake.Instance().Set("variable/a", []byte(`"theirs"`))
	fake.Instance().Set("variable/b", []byte(`"same"`))
	o := w.options(fake)
	a := start(t, o)
	if ack := w.word(events.WordFailed, 2); ack.Reason != events.ReasonFirstContact || !strings.Contains(ack.Message, "variable/a") || strings.Contains(ack.Message, "variable/b") {
		t.Errorf("ack %+v", ack)
	}
	plan, err := agent.NewClient(o.State).Plan(t.Context())
	must(t, err)
	if !plan.FirstContact || !slices.Equal(plan.Conflicts, []string{"variable/a"}) || len(plan.Changes) != 2 || string(plan.Changes[0].Before) != `"theirs"` {
		t.Errorf("plan %+v", plan)
	}
	holds(t, fake.Instance(), "variable/a", `"theirs"`, "variable/b", `"same"`)
	a.stop()
	stopped, err := agent.PlanStopped(t.Context(), o)
	must(t, err)
	if stopped.To != 2 || !slices.Equal(stopped.Conflicts, plan.Conflicts) || len(stopped.Changes) != 2 {
		t.Errorf("plan of the stopped agent %+v", stopped)
	}

	o.Overwrite = true
	start(t, o)
	w.applied(2)
	holds(t, fake.Instance(), "variable/a", `"ours"`, "variable/b", `"same"`, "variable/c", `"new"`)
	backups, err := filepath.Glob(filepath.Join(o.State, "backup-*", "*"))
	must(t, err)
	if len(backups) != 1 {
		t.Fatalf("backups %v", backups)
	}
	if b, err := os.ReadFile(backups[0]); err != nil || !bytes.Contains(b, []byte("theirs")) {
		t.Errorf("backup %s, %v", b, err)
	}
}

func TestFirstContactAdoptsWhatIsEqual(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"same"`)
	fake := connectortest.NewFake("fake")
	fake.Instance().Set("variable/a", []byte(`"same"`))
	fake.Instance().Set("variable/z", []byte(`"not managed"`))
	start(t, w.options(fake))
	w.applied(2)
	holds(t, fake.Instance(), "variable/a", `"same"`, "variable/z", `"not managed"`)
}

// locked is a buffer for logs.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestSecretsAreInTheInstanceAndNowhereElse(t *testing.T) {
	const secret = "hunter2-of-crm"
	w := newWorld(t)
	w.set("variable/plain", `1`, "secret/crm", `{"$secret":{"ref":"env://CRM_TOKEN"}}`, "variable/url", `{"host":"crm","auth":[{"$secret":{"ref":"env://CRM_TOKEN"}}]}`)
	fake := connectortest.NewFake("fake")
	o := w.options(fake)
	o.Secrets = agent.Secrets{Env: []string{"CRM_*"}}
	o.Listen = "127.0.0.1:0"
	var logs locked
	o.Log = zerolog.New(&logs)
	a := start(t, o)
	if ack := w.word(events.WordRetrying, 2); ack.Reason != events.ReasonSecret || !strings.Contains(ack.Message, "env://CRM_TOKEN") {
		t.Errorf("ack %+v", ack)
	}
	t.Setenv("CRM_TOKEN", secret)
	ack := w.applied(2)
	if ack.Observed != w.Environment(env).State.Digest() {
		t.Error("the digest does not cover the references")
	}
	holds(t, fake.Instance(), "variable/plain", `1`, "secret/crm", `"`+secret+`"`, "variable/url", `{"auth":["`+secret+`"],"host":"crm"}`)

	// The instance loses it by hand, and everything that can be said about it is asked for.
	fake.Instance().Set("variable/url", []byte(`"`+secret+`-edited"`))
	must(t, a.Hold(t.Context(), time.Now().Add(time.Hour), "look"))
	w.set("variable/plain", `2`, "secret/crm", `{"$secret":{"ref":"env://CRM_NEXT"}}`)
	t.Setenv("CRM_NEXT", secret+"-next")
	a.is("follows", func(s agent.Status) bool { return s.Followed == 3 })
	client := agent.NewClient(o.State)
	plan, err := client.Plan(t.Context())
	must(t, err)
	checkpoint, err := client.Checkpoint(t.Context())
	must(t, err)
	if len(plan.Changes) != 3 {
		t.Errorf("plan %+v", plan)
	}
	must(t, a.Resume(t.Context()))
	w.applied(3)
	a.stop()
	w.mu.Lock()
	said := []any{w.acks, w.beats, plan, checkpoint, a.Status(), logs.String()}
	w.mu.Unlock()
	for _, v := range said {
		if text := jsonOf(t, v); strings.Contains(text, secret) {
			t.Errorf("a secret in %s", text)
		}
	}
	must(t, filepath.WalkDir(o.State, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("a secret in %s", path)
		}
		return err
	}))
}

func TestASecretThatMayNotBeNamedFailsForGood(t *testing.T) {
	w := newWorld(t)
	w.set("secret/crm", `{"$secret":{"ref":"env://PATH"}}`)
	start(t, w.options(connectortest.NewFake("fake")))
	if ack := w.word(events.WordFailed, 2); ack.Reason != events.ReasonSecret {
		t.Errorf("ack %+v", ack)
	}
}

func TestTheSocketIsTheStewardsAlone(t *testing.T) {
	w := newWorld(t)
	o := w.options(connectortest.NewFake("fake"))
	a := start(t, o)
	w.applied(1)
	for path, want := range map[string]os.FileMode{o.State: 0o700, filepath.Join(o.State, "agent.sock"): 0o600, filepath.Join(o.State, "agent.db"): 0o600} {
		info, err := os.Stat(path)
		must(t, err)
		if got := info.Mode().Perm(); got&^want != 0 {
			t.Errorf("%s has mode %o", path, got)
		}
	}
	client := agent.NewClient(o.State)
	s, err := client.Status(t.Context())
	must(t, err)
	if s.Checkpoint.Revision != 1 || s.Environment != env || !s.Running {
		t.Errorf("status %+v", s)
	}
	held, err := client.Hold(t.Context(), time.Now().Add(time.Hour), "x")
	must(t, err)
	resumed, err := client.Resume(t.Context())
	must(t, err)
	if held.Hold == nil || held.Hold.Reason != "x" || resumed.Hold != nil {
		t.Errorf("the answers do not say what was done: %+v, %+v", held.Hold, resumed.Hold)
	}
	_, err = client.Retry(t.Context())
	must(t, err)
	a.stop()
	if _, err := client.Status(t.Context()); !errors.Is(err, agent.ErrNotRunning) {
		t.Errorf("a stopped agent: %v", err)
	}
	stopped, err := agent.StatusStopped(o.State)
	must(t, err)
	if stopped.Checkpoint.Revision != 1 || stopped.Running {
		t.Errorf("status %+v", stopped)
	}
}

func TestReadinessTellsWhoServesAnOldState(t *testing.T) {
	w := newWorld(t)
	o := w.options(connectortest.NewFake("fake"))
	o.Listen = "127.0.0.1:0"
	o.MaxStale = 100 * time.Millisecond
	o.Intervals.Pulse = 100 * time.Millisecond
	a := start(t, o)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path, host string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.Addr()+path, nil)
		must(t, err)
		r.Host = host
		answer, err := client.Do(r)
		must(t, err)
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		must(t, err)
		return answer.StatusCode, string(b)
	}
	w.applied(1)
	bustest.Eventually(t, "ready while pulses come", func() bool {
		w.pulse(1, "")
		status, _ := get("/readyz", "")
		return status == 200
	})
	bustest.Eventually(t, "not ready without pulses", func() bool {
		status, body := get("/readyz", "")
		return status == 503 && strings.Contains(body, `"stale":{"reason":"no-pulse"`) && strings.Contains(body, `"ageSeconds"`)
	})
	if status, _ := get("/healthz", ""); status != 200 {
		t.Error("not healthy")
	}
	_, metrics := get("/metrics", "")
	for _, want := range []string{`lockstep_checkpoint_revision{agent="one",environment="prod"} 1`, `lockstep_agent_condition{agent="one",condition="stale",environment="prod"} 1`,
		`lockstep_agent_last_pulse_timestamp_seconds`, `lockstep_agent_stale_since_timestamp_seconds`, `lockstep_events_applied_total{agent="one",environment="prod",result="applied"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%s is not in the metrics", want)
		}
	}
	for _, path := range []string{"/readyz", "/metrics", "/healthz"} {
		if status, _ := get(path, "evil.example"); status != 403 {
			t.Errorf("%s for another host: %d", path, status)
		}
	}
}

func TestADamagedOrForeignStoreIsRefused(t *testing.T) {
	w := newWorld(t)
	o := w.options(connectortest.NewFake("fake"))
	a := start(t, o)
	w.applied(1)
	if _, err := agent.New(o); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second agent: %v", err)
	}
	a.stop()
	foreign := o
	e := *o.Enrolment
	e.Agent = "two"
	foreign.Enrolment = &e
	if _, err := agent.New(foreign); !errors.Is(err, store.ErrForeign) {
		t.Errorf("another agent: %v", err)
	}
	forked := o
	f := *o.Enrolment
	f.Head.Chain = events.Sum(nil)
	forked.Enrolment = &f
	if _, err := agent.New(forked); events.ReasonOf(err) != events.ReasonLedgerForked {
		t.Errorf("another history: %v", err)
	}
	path := filepath.Join(o.State, "agent.db")
	whole, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(whole[:8192:8192], bytes.Repeat([]byte{0x5a}, len(whole)-8192)...), 0o600))
	if _, err := agent.New(o); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "move the file away") {
		t.Errorf("a damaged store: %v", err)
	}
	must(t, os.Remove(path))
	start(t, o) // it folds everything again
	w.said("again", func(a events.Ack) bool { return a.Word == events.WordApplied && a.Last == 1 && a.Number == 1 })
}

func TestSeveralAgentsRunInOneProcess(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `1`)
	shared := w.options(connectortest.NewFake("fake"))
	start(t, shared)
	second := shared
	e := *shared.Enrolment
	e.Agent = "two"
	second.Enrolment, second.State, second.InProcess = &e, shortDir(t), w.server
	fake := connectortest.NewFake("fake")
	second.Router = route(t, fake)
	e.Bus.URL = ""
	b, err := agent.New(second)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Run(ctx) }()
	bustest.Eventually(t, "the second is at 2", func() bool { return b.Status().Checkpoint.Revision == 2 })
	cancel()
	must(t, <-ended)
	w.applied(2)
}

func TestOptionsNameTheFieldThatIsWrong(t *testing.T) {
	w := newWorld(t)
	good := w.options(connectortest.NewFake("fake"))
	for field, change := range map[string]func(*agent.Options){
		"Enrolment": func(o *agent.Options) { o.Enrolment = nil },
		"State":     func(o *agent.Options) { o.State = "" },
		"Router":    func(o *agent.Options) { o.Router = nil },
		"MaxStale":  func(o *agent.Options) { o.MaxStale = -1 },
		"Secrets":   func(o *agent.Options) { o.Secrets.Files = []string{"relative"} },
	} {
		o := good
		change(&o)
		if _, err := agent.New(o); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	o := good
	o.Listen = "0.0.0.0:0"
	if _, err := agent.New(o); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("listen: %v", err)
	}
}

var _ connector.Connector = picky{}

// The store is locked by a process that is frozen, as here by one that runs.
func TestWhatIsOnTheDiskOfAnAgentThatDoesNotAnswerIsShown(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`)
	o := w.options(connectortest.NewFake("fake"))
	a := start(t, o)
	w.applied(2)
	a.is("at the checkpoint", func(s agent.Status) bool { return s.Checkpoint.Revision == 2 })
	s, err := agent.StatusSilent(o.State, agent.ErrNoAnswer)
	must(t, err)
	if s.Agent == "" || s.Checkpoint.Revision != 2 || !strings.Contains(s.Condition.Message, "stopped or stuck") || s.Running {
		t.Errorf("status %+v", s)
	}
}
