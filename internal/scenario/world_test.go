package scenario

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// instanceFiles are every instance's. They hold what they should and nothing else.
var instanceFiles = []file.File{
	{Path: "variables.json", Resources: []connector.Glob{"variable/*"}, Own: "file"},
	{Path: "endpoints.yaml", Resources: []connector.Glob{"endpoint/*"}, Own: "file"},
}

// patience is how long one question waits for its answer, which is asked again where there is none.
const patience = 10 * time.Second

// A world is a bus, the publishers on it, and an agent in each environment.
type world struct {
	t          testing.TB
	random     *rand.Rand // of the schedule; not of the load, which runs beside it
	bus        *bustest.Process
	conn       *bus.Conn // to look at what is stored
	publishers []*pub
	agents     []*inst
	wire       func(*inst) keys.Bus // joins an agent to the bus before its first start
	tls        client.TLS           // of calls to publishers
	signs      bool                 // every command is signed, with the key that follows from the person's name

	state *ledger.State // what the bus's ledger holds, read by this test itself

	mu       sync.Mutex
	commands int
	proposed map[string]string // reason → change, of proposals that were answered
}

// A pub is a publisher with its directory, running or not.
type pub struct {
	w        *world
	settings settings
	link     *link // nil: it has none that can be cut
	log      said

	mu      sync.Mutex
	process *process
	client  *client.Client
}

// An inst is an agent with its state and its instance, running or not.
type inst struct {
	w           *world
	environment string
	settings    settings
	link        *link
	log         said
	process     *process
	twin        *inst // the other agent of the environment; nil: there is none
}

// newWorld has publishers and environments env-0, env-1, … with an agent each; all of them are in step.
func newWorld(t testing.TB, seed uint64, publishers, environments int) *world {
	t.Helper()
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 1)), bus: bustest.StartProcess(t), proposed: map[string]string{}}
	t.Cleanup(w.told)
	w.conn = bustest.Connect(t, w.bus.URL())
	w.wire = func(a *inst) keys.Bus {
		a.link = newLink(t, w.bus.URL())
		return keys.Bus{URL: a.link.url()}
	}
	for range publishers {
		l := newLink(t, w.bus.URL())
		w.addPublisher(settings{NATS: l.url(), MonitorURL: w.bus.MonitorURL()}).link = l
	}
	w.populate(environments)
	return w
}

// addPublisher starts a publisher with the first one's key.
func (w *world) addPublisher(s settings) *pub {
	w.t.Helper()
	s.Data = cmp.Or(s.Data, shortDir(w.t))
	p := &pub{w: w, settings: s}
	if w.publishers = append(w.publishers, p); len(w.publishers) > 1 {
		copyFile(w.t, filepath.Join(w.publishers[0].settings.Data, "publisher.key"), filepath.Join(s.Data, "publisher.key"))
	}
	p.start()
	return p
}

// populate adds environments with an agent each.
func (w *world) populate(environments int) {
	w.t.Helper()
	for i := range environments {
		name := fmt.Sprintf("env-%d", i)
		w.do("op", ledger.AddEnvironment{Name: name, Approvals: 1})
		w.agents = append(w.agents, w.enrol(name))
	}
}

// told shows what the processes said when the test failed.
func (w *world) told() {
	if !w.t.Failed() {
		return
	}
	for i, p := range w.publishers {
		w.t.Logf("publisher %d said:\n%s", i, p.log.String())
	}
	for _, a := range w.agents {
		w.t.Logf("agent of %s said:\n%s", a.environment, a.log.String())
	}
}

// enrol enrols an environment's agent and starts it. Change may alter its settings before.
func (w *world) enrol(environment string, change ...func(*settings)) *inst {
	w.t.Helper()
	return w.enrolAs(environment, "one", change...)
}

func (w *world) enrolAs(environment, name string, change ...func(*settings)) *inst {
	w.t.Helper()
	dir := shortDir(w.t)
	a := &inst{w: w, environment: environment, settings: settings{
		Enrolment: filepath.Join(dir, "enrolment.yaml"), State: filepath.Join(dir, "state"), Root: filepath.Join(dir, "app"),
	}}
	for _, fn := range change {
		fn(&a.settings)
	}
	reached := w.wire(a)
	must(w.t, os.Mkdir(a.settings.Root, 0o755))
	seed, err := keys.NewSeed()
	must(w.t, err)
	signer, err := events.NewSigner(seed)
	must(w.t, err)
	w.do("op", ledger.EnrolAgent{Environment: environment, Agent: name, Key: signer.Public()})
	var pins api.Pins
	bustest.Eventually(w.t, "the first publisher knows "+environment, func() bool { // another one may have added it
		ctx, cancel := w.context()
		defer cancel()
		pins, err = w.publishers[0].calls().Pins(ctx, environment)
		return err == nil
	})
	e := keys.Enrolment{Environment: environment, Agent: name, Seed: string(seed), Ledger: pins.Ledger,
		Head: keys.Head{Revision: pins.Head.Revision, Chain: pins.Head.Chain}, Bus: reached}
	must(w.t, e.Pin(&pins.Document))
	if pins.Credentials {
		bustest.Eventually(w.t, "the first publisher knows the agent", func() bool {
			ctx, cancel := w.context()
			defer cancel()
			given, err := w.publishers[0].calls().Credentials(ctx, environment, name)
			e.Bus.JWT = given.JWT
			return err == nil
		})
	}
	must(w.t, e.Write(a.settings.Enrolment))
	a.start()
	return a
}

func (w *world) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(w.t.Context()), bustest.Deadline)
}

// start starts the publisher and returns when it serves.
func (p *pub) start() {
	t := p.w.t
	t.Helper()
	process := startProcess(t, p.settings, &p.log)
	t.Cleanup(process.kill)
	line, err := process.out.ReadString('\n')
	if err != nil {
		t.Fatalf("a publisher does not start: %v", err)
	}
	p.reach(process, strings.TrimSpace(line))
}

// reach lets calls go to a process.
func (p *pub) reach(process *process, url string) {
	c, err := client.New(client.Target{Server: url, TLS: p.w.tls})
	if err != nil {
		p.w.t.Error(err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.process, p.client = process, c
}

func (p *pub) kill() {
	p.mu.Lock()
	process := p.process
	p.mu.Unlock()
	process.kill()
}

func (p *pub) calls() *client.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client
}

// start starts the agent and does not wait for anything.
func (a *inst) start() {
	a.w.t.Helper()
	a.process = startProcess(a.w.t, a.settings, &a.log)
	a.w.t.Cleanup(a.process.kill)
}

func (a *inst) kill() { a.process.kill() }

// status is what the agent says of itself; nil while it does not answer.
func (a *inst) status() *agent.Status {
	ctx, cancel := context.WithTimeout(a.w.t.Context(), patience)
	defer cancel()
	s, err := agent.NewClient(a.settings.State).Status(ctx)
	if err != nil {
		return nil
	}
	return s
}

// known is what the agent says of itself, once it answers.
func (a *inst) known() (s *agent.Status) {
	a.w.t.Helper()
	bustest.Eventually(a.w.t, "the agent of "+a.environment+" answers", func() bool {
		s = a.status()
		return s != nil
	})
	return s
}

// says waits until the agent's status matches.
func (a *inst) says(what string, match func(*agent.Status) bool) {
	a.w.t.Helper()
	bustest.Eventually(a.w.t, "the agent of "+a.environment+" says "+what, func() bool {
		s := a.status()
		return s != nil && match(s)
	})
}

// startAlone starts the agent without the bus and returns when what a crash left is resolved.
func (a *inst) startAlone() {
	a.w.t.Helper()
	a.link.cut()
	a.start()
	a.says("whole", func(s *agent.Status) bool { return s.Whole })
}

// command numbers the commands of a world.
func (w *world) command(by string, body ledger.Body) ledger.Command {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands++
	return ledger.Command{ID: fmt.Sprintf("command-%d", w.commands), By: by, Body: body}
}

// do carries out a command, sent again with the same id, to one publisher or another, until it is answered.
func (w *world) do(by string, body ledger.Body) ledger.Outcome {
	w.t.Helper()
	out, err := w.try(w.command(by, body))
	if err != nil {
		w.t.Fatalf("%T: %v", body, err)
	}
	return out
}

// try is do for what may be refused; the error is the refusal.
func (w *world) try(c ledger.Command) (out ledger.Outcome, err error) {
	ctx, cancel := w.context()
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		p := w.publishers[i%len(w.publishers)]
		if w.signs {
			out, err = w.pen(c.By).Do(ctx, p.calls(), c)
		} else {
			out, err = p.calls().Do(ctx, c, false)
		}
		if err == nil || api.KindOf(err) != api.KindUnavailable {
			return out, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return out, fmt.Errorf("not answered within %s: %w", bustest.Deadline, err)
		}
	}
}

// propose proposes edits and returns what approves them. The reason is the only one of its kind.
func (w *world) propose(edits ...ledger.Edit) (ledger.Approve, error) {
	w.t.Helper()
	c := w.command("anna", nil)
	c.Body = ledger.Propose{Reason: "reason of " + c.ID, Edits: edits}
	out, err := w.try(c)
	if err != nil {
		return ledger.Approve{}, err
	}
	w.mu.Lock()
	w.proposed["reason of "+c.ID] = out.Change
	w.mu.Unlock()
	return ledger.Approve{Change: out.Change, Digest: w.digest(out.Change)}, nil
}

func (w *world) digest(change string) (digest events.Digest) {
	w.t.Helper()
	bustest.Eventually(w.t, "the change "+change+" is shown", func() bool {
		ctx, cancel := w.context()
		defer cancel()
		for _, p := range w.publishers {
			if view, err := p.calls().Change(ctx, change); err == nil {
				digest = view.Digest
				return true
			}
		}
		return false
	})
	return digest
}

// release proposes and approves.
func (w *world) release(edits ...ledger.Edit) string {
	w.t.Helper()
	a, err := w.propose(edits...)
	must(w.t, err)
	w.do("ben", a)
	return a.Change
}

// set is an edit of both files: keys and values in turn.
func set(environment string, pairs ...string) ledger.Edit {
	e := ledger.Edit{Environments: []string{environment}, Set: map[string]json.RawMessage{}}
	for i := 0; i < len(pairs); i += 2 {
		value, err := json.Marshal(pairs[i+1])
		if err != nil {
			panic(err)
		}
		e.Set["variable/"+pairs[i]], e.Set["endpoint/"+pairs[i]] = value, value
	}
	return e
}

// fleet is where a publisher says that everything stands; nil while none answers.
func (w *world) fleet() *fleet.View {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for _, p := range w.publishers {
		if v, err := p.calls().Fleet(ctx); err == nil {
			return &v
		}
	}
	return nil
}

// shortDir is a directory whose path fits a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lockstep")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o600))
}
