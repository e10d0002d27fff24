package scenario

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

var swarmSize = flag.Int("scenario.swarm", 30, "how many agents lose the bus at once")

// comeBack is in what time agents come back to a bus that was restarted, and swarmDeadline how long the test waits for all of them.
const (
	comeBack      = 2 * time.Second
	swarmDeadline = 3 * time.Minute
)

// A swarm is many real agents in this process, with their own intervals, behind one gateway that counts.
type swarm struct {
	w       *world
	gateway *tamper
	agents  []*agent.Agent
}

func newSwarm(t testing.TB, n int) *swarm {
	t.Helper()
	w := newWorld(t, 1, 1, 0)
	s := &swarm{w: w, gateway: newTamper(t, 1, strings.TrimPrefix(w.bus.URL(), "nats://"))}
	dir := shortDir(t)
	for i := range n {
		name := fmt.Sprintf("env-%d", i)
		w.do("op", ledger.AddEnvironment{Name: name, Approvals: 1})
		seed, err := keys.NewSeed()
		must(t, err)
		signer, err := events.NewSigner(seed)
		must(t, err)
		w.do("op", ledger.EnrolAgent{Environment: name, Agent: "one", Key: signer.Public()})
		ctx, cancel := w.context()
		pins, err := w.publishers[0].calls().Pins(ctx, name)
		cancel()
		must(t, err)
		router, err := connector.NewRouter([]connector.Route{{Resources: []connector.Glob{"variable/*", "endpoint/*"}, Connector: connectortest.NewFake("fake")}})
		must(t, err)
		a, err := agent.New(agent.Options{Router: router, State: filepath.Join(dir, name), Log: zerolog.Nop(), Intervals: agent.Intervals{Reconnect: comeBack},
			Enrolment: &keys.Enrolment{Environment: name, Agent: "one", Seed: string(seed), Ledger: pins.Ledger, Publishers: pins.Document.Publishers, Trust: pins.Digest,
				Head: keys.Head{Revision: pins.Head.Revision, Chain: pins.Head.Chain}, Bus: keys.Bus{URL: "nats://" + s.gateway.listener.Addr().String()}}})
		must(t, err)
		must(t, a.Start(t.Context()))
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), bustest.Deadline)
			defer cancel()
			if err := a.Stop(ctx); err != nil {
				t.Error(err)
			}
		})
		s.agents = append(s.agents, a)
	}
	return s
}

// within waits longer than other tests for what many agents do.
func (s *swarm) within(what string, condition func() bool) {
	t := s.w.t
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(swarmDeadline); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", swarmDeadline, what)
		}
	}
}

// inStep waits until all agents, and the publisher, say that they are in step at a revision.
func (s *swarm) inStep(revision uint64) {
	s.w.t.Helper()
	left := slices.Clone(s.agents)
	s.within(fmt.Sprintf("all agents are in step at revision %d", revision), func() bool {
		left = slices.DeleteFunc(left, func(a *agent.Agent) bool {
			status := a.Status()
			return status.Checkpoint.Revision == revision && status.Condition.Word == agent.InStep
		})
		return len(left) == 0
	})
	s.within("the fleet is in step", func() bool {
		v := s.w.fleet()
		return v != nil && !slices.ContainsFunc(v.Environments, func(e fleet.Environment) bool { return e.Condition != fleet.InStep || e.Revision != revision })
	})
}

// A tally is what a swarm asked of the bus.
type tally struct{ attempts, checks, creates, acks int }

func (s *swarm) tally() (n tally) {
	s.gateway.mu.Lock()
	defer s.gateway.mu.Unlock()
	return tally{len(s.gateway.joined), s.gateway.seen[check], s.gateway.seen[create], s.gateway.seen[ack]}
}

func (n tally) since(before tally) tally {
	return tally{n.attempts - before.attempts, n.checks - before.checks, n.creates - before.creates, n.acks - before.acks}
}

// spread is the time in which the middle eight tenths of the attempts since the first n came, and the most of them in a tenth of a second.
func (s *swarm) spread(n int) (middle time.Duration, most int) {
	s.gateway.mu.Lock()
	joined := slices.Clone(s.gateway.joined[n:])
	s.gateway.mu.Unlock()
	for i, first := 0, 0; i < len(joined); i++ {
		for joined[i].Sub(joined[first]) > 100*time.Millisecond {
			first++
		}
		most = max(most, i-first+1)
	}
	return joined[len(joined)*9/10].Sub(joined[len(joined)/10]), most
}

// consumers is how many the bus has.
func (w *world) consumers() (n int) {
	w.t.Helper()
	r, err := http.Get(w.bus.MonitorURL() + "/jsz")
	must(w.t, err)
	defer r.Body.Close()
	var jsz struct{ Consumers int }
	must(w.t, json.NewDecoder(r.Body).Decode(&jsz))
	return jsz.Consumers
}

// All agents lose the bus at once: first their connections only, then the bus is killed and started again, with a release each time
// that nobody hears live. They come back spread over the window that they have for it, ask once each for the head, read what they missed
// once, say so once, and leave nothing on the bus.
func TestASwarmThatLosesTheBusComesBackWithoutAStorm(t *testing.T) {
	t.Parallel()
	n := *swarmSize
	s := newSwarm(t, n)
	s.w.release(set("*", "x", "first"))
	s.inStep(2)
	idle := s.w.consumers()
	if idle > 10 {
		t.Errorf("%d agents in step leave %d consumers on the bus", n, idle)
	}

	before := s.tally()
	s.gateway.cut()
	s.w.release(set("*", "x", "second"))
	s.inStep(3)
	did := s.tally().since(before)
	middle, most := s.spread(before.attempts)
	t.Logf("%d connections cut: %+v, eight tenths of the attempts in %s, at most %d in 100 ms", n, did, middle.Round(time.Millisecond), most)
	s.bounded(did, n)
	if did.attempts > n+n/10 {
		t.Errorf("%d agents connected %d times", n, did.attempts)
	}
	if middle < comeBack/4 {
		t.Errorf("eight tenths of the attempts came within %s", middle)
	}

	before = s.tally()
	down := time.Now()
	s.w.bus.Kill()
	s.within("all have tried to come back, and again", func() bool { return s.tally().since(before).attempts >= 2*n })
	away := time.Since(down)
	tried := s.tally().since(before).attempts
	s.w.bus.Restart()
	s.w.release(set("*", "x", "third"))
	s.inStep(4)
	did = s.tally().since(before)
	middle, most = s.spread(before.attempts)
	t.Logf("bus away for %s: %+v, %d of the attempts while it was away, eight tenths in %s, at most %d in 100 ms", away.Round(time.Millisecond), did, tried, middle.Round(time.Millisecond), most)
	s.bounded(did, n)
	s.within("nothing is left on the bus", func() bool { return s.w.consumers() <= idle })
	s.w.recorded()
}

// bounded checks what n agents asked for to get one release that they missed.
func (s *swarm) bounded(did tally, n int) {
	s.w.t.Helper()
	// A look at the head on coming back, and one as the catch-up begins; while nothing is there yet, or the bus is just up, some more.
	if did.checks > 6*n {
		s.w.t.Errorf("%d agents looked at the head %d times", n, did.checks)
	}
	if did.creates > 2*n {
		s.w.t.Errorf("%d agents missed one release and made %d consumers", n, did.creates)
	}
	if did.acks < n || did.acks > 2*n { // one whose answer was lost is sent again
		s.w.t.Errorf("%d agents applied one release and sent %d acks", n, did.acks)
	}
}
