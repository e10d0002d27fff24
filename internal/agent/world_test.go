package agent_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/leaktest"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
	"github.com/lockstep-dev/lockstep/pkg/store/storetest"
)

const (
	env  = "prod"
	name = "one"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(runChild())
	}
	leaktest.Main(m, append(bustest.LeftBehind(), goleak.IgnoreTopFunction("github.com/nats-io/nats.go.(*Conn).waitForMsgs"))...)
}

// A world is a bus, a publisher, and what agents said.
type world struct {
	*foldtest.Publisher
	t      testing.TB
	server *embedded.Server
	conn   *bus.Conn

	mu     sync.Mutex
	acks   []events.Ack
	beats  []events.Beat
	pulses uint64
}

// newWorld has an environment with its trust document at revision 1.
func newWorld(t testing.TB) *world { return newWorldOf(t, foldtest.New(t)) }

func newWorldOf(t testing.TB, p *foldtest.Publisher) *world {
	t.Helper()
	w := &world{Publisher: p, t: t}
	w.server, w.conn = bustest.Ready(t)
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	key := foldtest.Signer(t, name).Public()
	listening.Go(func() {
		_ = w.conn.FollowAcks(ctx, 1, func(r bus.Report) error {
			a, err := events.DecodeAck(r.Payload, r.Signature, r.Environment, r.Agent, key)
			if err != nil {
				t.Errorf("ack: %v", err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.acks = append(w.acks, a)
			return nil
		})
	})
	listening.Go(func() {
		_ = w.conn.FollowBeats(ctx, func(r bus.Report) error {
			b, err := events.DecodeBeat(r.Payload, r.Signature, r.Environment, r.Agent, key)
			if err != nil {
				t.Errorf("beat: %v", err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.beats = append(w.beats, b)
			return nil
		})
	})
	t.Cleanup(func() { cancel(); listening.Wait() })
	w.send(w.Trust(env)...)
	return w
}

// send puts releases on the bus.
func (w *world) send(releases ...foldtest.Release) {
	w.t.Helper()
	for _, r := range releases {
		head, err := w.conn.Head(bustest.Context(w.t), r.Environment)
		must(w.t, err)
		result := w.conn.Send(bustest.Context(w.t), []bus.Outgoing{{Environment: r.Environment, Payload: r.Payload, Signature: r.Header, ExpectedLast: head.Sequence}})
		must(w.t, result[0].Err)
	}
}

// set releases one change of some variables of the environment, key and value in turn; an empty value deletes.
func (w *world) set(pairs ...string) foldtest.Change {
	w.t.Helper()
	c := w.change(pairs...)
	w.send(c.Releases...)
	return c
}

// change publishes a change and does not send it.
func (w *world) change(pairs ...string) foldtest.Change {
	w.t.Helper()
	var edits []foldtest.Edit
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			edits = append(edits, foldtest.Delete(env, pairs[i]))
		} else {
			edits = append(edits, foldtest.Set(env, pairs[i], pairs[i+1]))
		}
	}
	return w.Change(edits...)
}

func (w *world) pulse(number uint64, text string) {
	w.t.Helper()
	w.pulses++
	payload, signature, err := events.EncodePulse(events.Pulse{Ledger: w.Ledger, Counter: w.pulses, Clock: time.Now(),
		Tip: events.LedgerTip{Number: number, Hash: events.Sum([]byte(text))}}, w.Signer)
	must(w.t, err)
	must(w.t, w.conn.PublishPulse(payload, signature))
}

// enrol pins the environment's head as it is now.
func (w *world) enrol() *keys.Enrolment {
	w.t.Helper()
	e := w.Environment(env)
	trust, err := e.Trust.Digest()
	must(w.t, err)
	return &keys.Enrolment{Environment: env, Agent: name, Seed: string(foldtest.Seed(w.t, name)), Ledger: w.Ledger, Publishers: e.Trust.Publishers,
		Trust: trust, Head: keys.Head{Revision: e.Revision, Chain: e.Chain}, Bus: keys.Bus{URL: w.server.ClientURL()}}
}

// said waits for an ack that matches.
func (w *world) said(what string, match func(events.Ack) bool) (found events.Ack) {
	w.t.Helper()
	bustest.Eventually(w.t, "the ack "+what, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		i := slices.IndexFunc(w.acks, match)
		if i >= 0 {
			found = w.acks[i]
		}
		return i >= 0
	})
	return found
}

// applied waits for the ack that a revision is applied.
func (w *world) applied(revision uint64) events.Ack {
	w.t.Helper()
	return w.said("applied", func(a events.Ack) bool { return a.Word == events.WordApplied && a.Last == revision })
}

// failed waits for an ack with a word about a revision.
func (w *world) word(word events.Word, last uint64) events.Ack {
	w.t.Helper()
	return w.said(string(word), func(a events.Ack) bool { return a.Word == word && a.Last == last })
}

func (w *world) words() (list []events.Word) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.acks {
		list = append(list, a.Word)
	}
	return list
}

// beat waits for a beat that matches.
func (w *world) beat(what string, match func(events.Beat) bool) (found events.Beat) {
	w.t.Helper()
	bustest.Eventually(w.t, "the beat "+what, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		i := slices.IndexFunc(w.beats, match)
		if i >= 0 {
			found = w.beats[i]
		}
		return i >= 0
	})
	return found
}

// options of an agent that configures what the connectors do, with a state directory of its own.
func (w *world) options(connectors ...connector.Connector) agent.Options {
	w.t.Helper()
	return agent.Options{Enrolment: w.enrol(), State: shortDir(w.t), Router: route(w.t, connectors...), Intervals: quick}
}

// quick is everything but the pulses, of which a test sends one: on a busy machine the agent must not be stale soon after it.
var quick = agent.Intervals{Beat: 300 * time.Millisecond, Pulse: 20 * time.Second, Check: 300 * time.Millisecond, Retry: 20 * time.Millisecond, Most: 40 * time.Millisecond, Reconnect: 100 * time.Millisecond}

// route sends variables and secrets to the first connector, endpoints to the second.
func route(t testing.TB, connectors ...connector.Connector) *connector.Router {
	t.Helper()
	routes := []connector.Route{{Resources: []connector.Glob{"variable/*", "secret/*"}, Connector: connectors[0]}}
	for _, c := range connectors[1:] {
		routes = append(routes, connector.Route{Resources: []connector.Glob{"endpoint/*"}, Connector: c})
	}
	r, err := connector.NewRouter(routes)
	must(t, err)
	return r
}

// shortDir is a directory whose path fits a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lockstep")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A running agent is stopped at the test's end, and its store checked.
type running struct {
	*agent.Agent
	t       testing.TB
	state   string
	stopped bool
}

func start(t testing.TB, o agent.Options) *running {
	t.Helper()
	a, err := agent.New(o)
	must(t, err)
	must(t, a.Start(t.Context()))
	r := &running{a, t, o.State, false}
	t.Cleanup(r.stop)
	return r
}

func (r *running) stop() {
	r.t.Helper()
	if r.stopped {
		return
	}
	r.stopped = true
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Deadline)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		r.t.Errorf("stop: %v", err)
	}
	storetest.Check(r.t, r.state+"/agent.db")
}

// is waits until the status matches.
func (r *running) is(what string, match func(agent.Status) bool) (s agent.Status) {
	r.t.Helper()
	defer func() {
		if r.t.Failed() {
			b, _ := json.MarshalIndent(s, "", " ")
			r.t.Logf("status: %s", b)
		}
	}()
	bustest.Eventually(r.t, "the status "+what, func() bool { s = r.Status(); return match(s) })
	return s
}

func (r *running) condition(word string, reason events.Reason) agent.Status {
	r.t.Helper()
	return r.is(word+" "+string(reason), func(s agent.Status) bool { return s.Condition.Word == word && s.Condition.Reason == reason })
}

func (r *running) at(revision uint64) agent.Status {
	r.t.Helper()
	return r.is("at the revision", func(s agent.Status) bool { return s.Checkpoint.Revision == revision })
}

// holds fails the test where the instance does not hold exactly these values, key and value in turn.
func holds(t testing.TB, i *connectortest.Instance, pairs ...string) {
	t.Helper()
	values := i.Values()
	for k := 0; k < len(pairs); k += 2 {
		if got := string(values[pairs[k]]); got != pairs[k+1] {
			t.Errorf("%s is %s, want %s", pairs[k], got, pairs[k+1])
		}
		delete(values, pairs[k])
	}
	if len(values) > 0 {
		t.Errorf("the instance also holds %v", values.Keys())
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}
