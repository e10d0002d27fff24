package publisher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/leaktest"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(runChild())
	}
	leaktest.Main(m, bustest.LeftBehind()...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// options are quick ones; change may alter them.
func options(data string, change ...func(*publisher.Options)) publisher.Options {
	o := publisher.Options{
		Data: data, Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", Log: zerolog.Nop(),
		LeaseTTL: bustest.LeaseTTL, BeatWait: 100 * time.Millisecond, Recheck: 100 * time.Millisecond,
	}
	for _, fn := range change {
		fn(&o)
	}
	return o
}

// logs show what happened when a test is looked at. The connection's last words come after the test.
type logs struct{ testing.TB }

func (l logs) Write(b []byte) (int, error) {
	if l.Context().Err() == nil {
		l.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// on is an existing NATS, proven by its monitoring.
func on(p *bustest.Process) func(*publisher.Options) {
	return func(o *publisher.Options) { o.NATS, o.MonitorURL = p.URL(), p.MonitorURL() }
}

func start(t testing.TB, data string, change ...func(*publisher.Options)) *publisher.Publisher {
	t.Helper()
	shown := func(o *publisher.Options) {
		if testing.Verbose() {
			o.Log = zerolog.New(logs{t})
		}
	}
	p, err := publisher.New(context.WithoutCancel(t.Context()), options(data, append([]func(*publisher.Options){shown}, change...)...))
	must(t, err)
	must(t, p.Start())
	t.Cleanup(func() { stop(t, p) })
	return p
}

func stop(t testing.TB, p *publisher.Publisher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), bustest.Deadline)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func command(by string, body ledger.Body) ledger.Command {
	return ledger.Command{ID: uuid.NewString(), By: by, Body: body}
}

func do(t testing.TB, p doer, by string, body ledger.Body) ledger.Outcome {
	t.Helper()
	out, err := p.Do(bustest.Context(t), command(by, body), false)
	if err != nil {
		t.Fatalf("%T: %v", body, err)
	}
	return out
}

func addEnvironments(t testing.TB, p doer, names ...string) {
	t.Helper()
	for _, name := range names {
		do(t, p, "op", ledger.AddEnvironment{Name: name, Approvals: 1})
	}
}

func set(key string, value any, environments ...string) ledger.Propose {
	b, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return ledger.Propose{Reason: "why", Edits: []ledger.Edit{{Environments: environments, Set: map[string]json.RawMessage{key: b}}}}
}

// propose proposes a change and returns what approves it.
func propose(t testing.TB, p *publisher.Publisher, key string, value any, environments ...string) ledger.Approve {
	t.Helper()
	out := do(t, p, "anna", set(key, value, environments...))
	return approval(p, out.Change)
}

func approval(p *publisher.Publisher, change string) (a ledger.Approve) {
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		a = ledger.Approve{Change: change, Digest: s.Changes[change].Digest}
	})
	return a
}

// release proposes and approves.
func release(t testing.TB, p *publisher.Publisher, key string, value any, environments ...string) string {
	t.Helper()
	a := propose(t, p, key, value, environments...)
	do(t, p, "ben", a)
	return a.Change
}

// heads are the ledger's, by environment.
func heads(p *publisher.Publisher) map[string]uint64 {
	out := map[string]uint64{}
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		for name, e := range s.Environments {
			out[name] = e.Head()
		}
	})
	return out
}

// A message is one of the release stream.
type message struct{ Payload, Signature string }

// stream is what the release stream holds, by environment, in order.
func stream(t testing.TB, conn *bus.Conn) map[string][]message {
	t.Helper()
	out := map[string][]message{}
	_, err := conn.ReadAllReleases(bustest.Context(t), func(environment string, s bus.Stored) error {
		out[environment] = append(out[environment], message{string(s.Payload), s.Signature})
		return nil
	})
	if err != nil {
		return nil // not there at the moment
	}
	return out
}

// eventuallyRead is what the stream holds, whatever that is.
func eventuallyRead(t testing.TB, conn *bus.Conn) (found map[string][]message) {
	t.Helper()
	bustest.Eventually(t, "the release stream can be read", func() bool {
		found = stream(t, conn)
		return found != nil
	})
	return found
}

// eventuallySent waits until the stream holds exactly the ledger's releases, each once, in order.
func eventuallySent(t testing.TB, p *publisher.Publisher, conn *bus.Conn) map[string][]message {
	t.Helper()
	var found map[string][]message
	bustest.Eventually(t, "the release stream holds what the ledger released", func() bool {
		found = stream(t, conn)
		return p.Fleet().Ledger.Writable && found != nil && asReleased(t, p, found) == nil
	})
	return found
}

// asReleased compares with what the ledger derives.
func asReleased(t testing.TB, p *publisher.Publisher, found map[string][]message) (err error) {
	t.Helper()
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		for name := range found {
			if s.Environments[name] == nil {
				err = fmt.Errorf("%s is no environment", name)
			}
		}
		for name, e := range s.Environments {
			if uint64(len(found[name])) != e.Head() {
				err = fmt.Errorf("%s has %d messages, head is %d", name, len(found[name]), e.Head())
				return
			}
			for i, m := range found[name] {
				if want, failed := s.Payload(name, uint64(i+1)); failed != nil || string(want) != m.Payload {
					err = fmt.Errorf("%s: revision %d is another one (%v)", name, i+1, failed)
				} else if failed := events.VerifyWave(s.ID, e.Releases[i].Chain, m.Signature, s.Trust().AllowsPublisher); failed != nil {
					err = fmt.Errorf("%s: revision %d: %w", name, i+1, failed)
				}
			}
		}
	})
	return err
}

func verify(t testing.TB, p *publisher.Publisher) api.Verification {
	t.Helper()
	v, err := p.Verify(bustest.Context(t))
	must(t, err)
	if !v.OK {
		t.Fatalf("%+v", v)
	}
	return v
}

// eventuallyWritable waits until the ledger is checked and open.
func eventuallyWritable(t testing.TB, p *publisher.Publisher) {
	t.Helper()
	bustest.Eventually(t, "the ledger is writable", func() bool { return p.Fleet().Ledger.Writable })
}

// An agent is a fake one: it follows its environment's releases, verifies them, and says that it applied them.
type agent struct {
	t      testing.TB
	conn   *bus.Conn
	id     fleet.AgentID
	ledger string
	signer *events.Signer
	cancel context.CancelFunc
	ended  sync.WaitGroup

	connected atomic.Bool

	mu      sync.Mutex
	fold    *fold.Environment
	acks    uint64
	beats   uint64
	silent  bool // it does not ack
	changed chan struct{}
}

// enrol enrols an agent and starts it.
func enrol(t testing.TB, p *publisher.Publisher, environment, name string) *agent {
	t.Helper()
	signer := foldtest.Signer(t, environment+"/"+name)
	do(t, p, "op", ledger.EnrolAgent{Environment: environment, Agent: name, Key: signer.Public()})
	return startAgent(t, p, environment, name)
}

func startAgent(t testing.TB, p *publisher.Publisher, environment, name string) *agent {
	t.Helper()
	a := &agent{t: t, id: fleet.AgentID{Environment: environment, Agent: name}, signer: foldtest.Signer(t, environment+"/"+name), changed: make(chan struct{})}
	jwt, err := p.Credentials(environment, name, a.signer.Public())
	must(t, err)
	a.conn = bustest.Connect(t, p.BusURL(), func(o *bus.Options) {
		o.Name, o.JWT, o.Seed = environment+"."+name, jwt, string(foldtest.Seed(t, environment+"/"+name))
		o.OnChange = a.changes
	})
	var allows func(string) bool
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		a.ledger, allows = s.ID, s.Trust().AllowsPublisher
	})
	a.fold = fold.New(a.ledger, environment)
	feed, err := a.conn.Feed(bus.FeedOptions{
		Environment: environment, Position: bus.Position{Chain: a.fold.Chain}, CheckInterval: 500 * time.Millisecond,
		Verify: func(chain events.Digest, signature string) error {
			return events.VerifyWave(a.ledger, chain, signature, allows)
		},
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.ended.Go(func() { a.run(ctx, feed) })
	t.Cleanup(a.stop)
	return a
}

// changes keeps whether the bus lets the agent in.
func (a *agent) changes(c bus.Change) { a.connected.Store(c.Connected) }

func (a *agent) stop() {
	a.cancel()
	a.ended.Wait()
	a.conn.Close()
}

func (a *agent) run(ctx context.Context, feed *bus.Feed) {
	defer feed.Close()
	for {
		run, err := feed.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.t.Errorf("agent %v: %v", a.id, err)
			}
			return
		}
		a.mu.Lock()
		for _, r := range run {
			if _, err := a.fold.Accept(r.Payload); err != nil {
				a.t.Errorf("agent %v: %v", a.id, err)
			}
		}
		a.acks++
		payload, signature := a.ack(events.Ack{Word: events.WordApplied, Number: a.acks, First: run[0].Revision, Last: a.fold.Revision,
			Chain: a.fold.Chain, Expected: a.fold.State.Digest(), Observed: a.fold.State.Digest(), ReadBack: true})
		silent := a.silent
		close(a.changed)
		a.changed = make(chan struct{})
		a.mu.Unlock()
		for !silent && a.conn.PublishAck(ctx, a.id.Environment, a.id.Agent, payload, signature) != nil {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}
}

// ack signs what the agent says of a release.
func (a *agent) ack(ack events.Ack) (payload []byte, signature string) {
	ack.Environment, ack.Agent, ack.Ledger = a.id.Environment, a.id.Agent, a.ledger
	payload, signature, err := events.EncodeAck(ack, time.Now(), a.signer)
	if err != nil {
		a.t.Error(err)
	}
	return payload, signature
}

// beat sends a beat; change may alter it first.
func (a *agent) beat(change ...func(*events.Beat)) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.beats++
	b := events.Beat{Environment: a.id.Environment, Agent: a.id.Agent, Ledger: a.ledger, Boot: "boot", Number: a.beats, Clock: events.Stamp(time.Now()),
		Revision: a.fold.Revision, Chain: a.fold.Chain, State: a.fold.State.Digest(), Observed: a.fold.State.Digest(), Condition: string(fleet.InStep)}
	for _, fn := range change {
		fn(&b)
	}
	payload, signature, err := events.EncodeBeat(b, a.signer)
	must(a.t, err)
	must(a.t, a.conn.PublishBeat(a.id.Environment, a.id.Agent, payload, signature))
}

// beatsOn beats and returns when the bus has it, so that a publisher that starts now reads it.
func (a *agent) beatsOn(conn *bus.Conn, change ...func(*events.Beat)) {
	a.t.Helper()
	a.beat(change...)
	bustest.Eventually(a.t, "the bus has the beat", func() (has bool) {
		err := conn.ReadBeats(bustest.Context(a.t), func(r bus.Report) error {
			b, err := events.DecodeBeat(r.Payload, r.Signature, a.id.Environment, a.id.Agent, a.signer.Public())
			has = has || err == nil && b.Number == a.beats
			return nil
		})
		return err == nil && has
	})
}

// reaches waits until the agent has applied a revision.
func (a *agent) reaches(revision uint64) {
	a.t.Helper()
	ctx := bustest.Context(a.t)
	for {
		a.mu.Lock()
		at, changed := a.fold.Revision, a.changed
		a.mu.Unlock()
		if at >= revision {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			a.t.Fatalf("agent %v is at revision %d, want %d", a.id, at, revision)
		}
	}
}
