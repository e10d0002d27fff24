package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// TestEveryScreenSaysTheSame: command line, API, dashboard, metrics and alarms of one publisher say the same of every environment, whatever its
// agents said.
func TestEveryScreenSaysTheSame(t *testing.T) {
	t.Parallel()
	at := time.Duration(0)
	p, err := publisher.New(context.WithoutCancel(t.Context()), publisher.Options{
		Data: t.TempDir(), Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", Log: zerolog.Nop(), BeatWait: 100 * time.Millisecond, Recheck: 100 * time.Millisecond,
		Notify: &notify.Config{
			Targets: []notify.Target{{Name: "nobody", URL: "http://127.0.0.1:1/"}},
			Rules:   map[string]notify.Setting{string(notify.Silent): {After: &at}},
		},
	})
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	f := field{T: t, p: p, conn: bustest.Connect(t, p.BusURL(), func(o *bus.Options) { o.Name = "agents" }), dice: rand.New(rand.NewPCG(20, 26))}
	for i := range 12 {
		f.add(fmt.Sprintf("e%02d", i), i%3)
	}
	for i := range 4 {
		f.release(i)
	}
	f.do("op", ledger.RetireEnvironment{Name: "e11", Reason: "over"})
	f.speak()
	var wrong string
	defer func() {
		if t.Failed() {
			t.Log(wrong)
		}
	}()
	bustest.Eventually(t, "they say the same", func() bool {
		f.beat()
		wrong = f.disagreement()
		return wrong == ""
	})
	seen := map[fleet.Condition]bool{}
	for _, e := range p.Fleet().Environments {
		seen[e.Condition] = true
	}
	if len(seen) < 5 {
		t.Errorf("only %v were compared", seen)
	}
}

// A field is a publisher with agents that say anything.
type field struct {
	*testing.T
	p      *publisher.Publisher
	conn   *bus.Conn
	dice   *rand.Rand
	agents []fleet.AgentID
	beats  map[fleet.AgentID]events.Beat
	number uint64
}

func (f *field) do(by string, body ledger.Body) ledger.Outcome {
	f.Helper()
	f.number++
	out, err := f.p.Do(bustest.Context(f), ledger.Command{ID: fmt.Sprint("command ", f.number), By: by, Body: body}, false)
	if err != nil {
		f.Fatal(err)
	}
	return out
}

func (f *field) add(environment string, agents int) {
	f.Helper()
	f.do("op", ledger.AddEnvironment{Name: environment, Approvals: 1})
	for i := range agents {
		id := fleet.AgentID{Environment: environment, Agent: fmt.Sprint("a", i)}
		f.do("op", ledger.EnrolAgent{Environment: environment, Agent: id.Agent, Key: foldtest.Signer(f, environment+id.Agent).Public()})
		f.agents = append(f.agents, id)
	}
}

func (f *field) release(value int) {
	f.Helper()
	id := f.do("anna", ledger.Propose{Reason: "why", Edits: []ledger.Edit{{Environments: []string{"*"}, Set: map[string]json.RawMessage{"variable/x": json.RawMessage(fmt.Sprint(value))}}}}).Change
	var digest events.Digest
	f.p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { digest = s.Changes[id].Digest })
	f.do("ben", ledger.Approve{Change: id, Digest: digest})
}

// speak lets each agent say several things of what was released, and decides how it beats from now on.
func (f *field) speak() {
	f.Helper()
	f.beats = map[fleet.AgentID]events.Beat{}
	words := []events.Word{events.WordApplied, events.WordApplied, events.WordApplied, events.WordFailed, events.WordRetrying, events.WordTorn}
	conditions := []fleet.Condition{fleet.InStep, fleet.InStep, fleet.Held, fleet.Stale, fleet.Failing, fleet.Differing}
	f.p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		for i, id := range f.agents {
			if i%7 == 3 {
				continue // it is never heard
			}
			e := s.Environments[id.Environment]
			for n := range f.dice.IntN(3) {
				r := e.Releases[f.dice.IntN(len(e.Releases))]
				a := events.Ack{Environment: id.Environment, Agent: id.Agent, Ledger: s.ID, Number: uint64(n + 1), Word: words[f.dice.IntN(len(words))], First: 1, Last: r.Revision,
					Chain: r.Chain, Expected: r.State, Observed: r.State, ReadBack: true, Reason: events.ReasonConnector, Message: "said so"}
				payload, signature, err := events.EncodeAck(a, time.Now(), foldtest.Signer(f, id.Environment+id.Agent))
				if err == nil {
					err = f.conn.PublishAck(f.Context(), id.Environment, id.Agent, payload, signature)
				}
				if err != nil {
					f.Fatal(err)
				}
			}
			r := e.Releases[len(e.Releases)-1-f.dice.IntN(2)]
			f.beats[id] = events.Beat{Environment: id.Environment, Agent: id.Agent, Boot: "boot", Ledger: s.ID, Revision: r.Revision, Chain: r.Chain, State: r.State, Observed: r.State,
				Condition: string(conditions[f.dice.IntN(len(conditions))]), Version: "v1"}
		}
	})
}

// beat lets the agents beat that beat at all.
func (f *field) beat() {
	f.Helper()
	f.number++
	for id, b := range f.beats {
		b.Number, b.Clock = f.number, events.Stamp(time.Now())
		payload, signature, err := events.EncodeBeat(b, foldtest.Signer(f, id.Environment+id.Agent))
		if err == nil {
			err = f.conn.PublishBeat(id.Environment, id.Agent, payload, signature)
		}
		if err != nil {
			f.Fatal(err)
		}
	}
}

// stood is what a screen says of an environment.
type stood struct {
	Condition      fleet.Condition
	Revision, Head uint64
}

func standings(v fleet.View) map[string]stood {
	out := map[string]stood{}
	for _, e := range v.Environments {
		out[e.Name] = stood{e.Condition, e.Revision, e.Head}
	}
	return out
}

// disagreement is where a screen says something else than the fleet view, which has to be the same before and after it is asked.
func (f *field) disagreement() string {
	f.Helper()
	before := standings(f.p.Fleet())
	var said fleet.View
	if err := json.Unmarshal([]byte(f.get("/api/v1/fleet")), &said); err != nil {
		return fmt.Sprintf("the API: %v", err)
	}
	status, top, overview, metrics := f.cli("status", "-o", "json"), f.cli("top"), f.get("/"), f.get("/metrics")
	alarms, err := f.p.Alarms()
	if err != nil {
		f.Fatal(err)
	}
	var listed fleet.View
	if err := json.Unmarshal([]byte(status), &listed); err != nil {
		return fmt.Sprintf("status: %v", err)
	}
	alarmed := map[string]string{}
	for _, a := range alarms.Open {
		if a.Well.IsZero() && slices.Contains([]notify.Rule{notify.Failing, notify.Differing, notify.Silent}, a.Rule) {
			alarmed[a.Environment] = a.State
		}
	}
	if after := standings(f.p.Fleet()); fmt.Sprint(after) != fmt.Sprint(before) || len(before) == 0 {
		return "it changes"
	}
	if got := standings(said); fmt.Sprint(got) != fmt.Sprint(before) {
		return fmt.Sprintf("the API says %v, want %v", got, before)
	}
	if got := standings(listed); fmt.Sprint(got) != fmt.Sprint(before) {
		return fmt.Sprintf("status says %v, want %v", got, before)
	}
	for name, want := range before {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^%s +%d / %d .*\b%s\b`, name, want.Revision, want.Head, want.Condition))
		if !row.MatchString(top) {
			return fmt.Sprintf("top says of %s, which is %v:\n%s", name, want, top)
		}
		page := regexp.MustCompile(`id="[a-z]+-` + name + `">[^\n]*?(torn|differing|failing|silent|stale|held|behind|in step|retired)</span>[^\n]*?>(\d+) / (\d+)</td>`).FindStringSubmatch(overview)
		if page == nil || fmt.Sprint(page[1:]) != fmt.Sprint([]any{want.Condition, want.Revision, want.Head}) {
			return fmt.Sprintf("the dashboard says of %s, which is %v: %q", name, want, page)
		}
		lines := []string{fmt.Sprintf(`lockstep_environment_state{environment="%s",state="%s"} 1`, name, want.Condition)}
		if want.Condition != fleet.Retired {
			lines = append(lines, fmt.Sprintf(`lockstep_environment_applied_revision{environment="%s"} %d`, name, want.Revision),
				fmt.Sprintf(`lockstep_environment_head_revision{environment="%s"} %d`, name, want.Head))
		}
		for _, line := range lines {
			if !strings.Contains(metrics, line+"\n") {
				return "the metrics lack " + line
			}
		}
		wrong := slices.Contains([]fleet.Condition{fleet.Torn, fleet.Failing, fleet.Differing, fleet.Silent}, want.Condition)
		if got := alarmed[name]; wrong != (got != "") || wrong && got != string(want.Condition) {
			return fmt.Sprintf("the alarm of %s, which is %v, is %q", name, want, got)
		}
	}
	return ""
}

func (f *field) get(path string) string {
	f.Helper()
	response, err := http.Get(f.p.URL() + path)
	if err != nil {
		f.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		f.Fatalf("%s: %s %v", path, response.Status, err)
	}
	return string(b)
}

func (f *field) cli(args ...string) string {
	f.Helper()
	var out, wrong bytes.Buffer
	if code := run(f.Context(), append(args, "--server", f.p.URL()), strings.NewReader(""), &out, &wrong); code != 0 && code != 3 {
		f.Fatalf("%v: %d %s", args, code, cmp.Or(wrong.String(), out.String()))
	}
	return out.String()
}
