package scenario

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

var tailSeed = flag.Uint64("scenario.tail", 0, "seed of what happens on the live tail; 0 is another one each time")

// everything happens to every class of message. An answer or an ack that is lost costs the agent a timeout, so these are few.
var everything = map[class]chances{
	live:   {drop: 20, alter: 15, double: 20, delay: 20, most: 1 << 30},
	pulse:  {drop: 20, alter: 20, double: 20, delay: 20, most: 1 << 30},
	beat:   {drop: 20, alter: 20, double: 20, delay: 20, most: 1 << 30},
	answer: {drop: 2, alter: 8, double: 20, delay: 20, most: 3},
	ack:    {drop: 5, alter: 25, double: 25, delay: 20, most: 3},
	check:  {double: 20, delay: 20},
	create: {double: 10, delay: 20},
}

// Whatever happens to the messages between agents and the bus, in either direction, while changes run: the invariants hold, nothing
// is refused that is the publisher's, nothing is applied that is not, and it is counted why.
func TestWhateverHappensOnTheLiveTailTheInvariantsHold(t *testing.T) {
	t.Parallel()
	seed := *tailSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("replay with: go test ./internal/scenario -run OnTheLiveTail -scenario.tail=%d", seed)
	w := newWorld(t, seed, 1, 2)
	w.release(set("*", "x", "first"))
	w.settle()
	var tampers []*tamper
	for i, a := range w.agents {
		tampers = append(tampers, between(t, seed+uint64(i), a))
	}
	w.settle()
	stop := w.invent(seed, tampers)
	for _, p := range tampers {
		p.play(everything)
	}
	load, cycle := rand.New(rand.NewPCG(seed, 4)), 0
	for deadline := time.Now().Add(3 * bustest.Deadline); cycle < 8 || !w.counted(); cycle++ {
		if time.Now().After(deadline) {
			t.Fatalf("after %d cycles not every kind of what was invented or altered is counted", cycle)
		}
		w.moment()
		for _, edit := range w.changes(load, cycle) {
			w.change(0, edit)
		}
	}
	stop()
	for _, p := range tampers {
		p.play(nil)
	}
	w.settle()
	for i, a := range w.agents {
		s := a.known()
		// A catch-up that finds nothing makes the next one wait, at least an eighth of a second; one that finds something brought a revision.
		creates, _ := tampers[i].count(create)
		if most := int(s.Head) + 3*int(1+time.Since(s.Started)/(125*time.Millisecond)); creates > most {
			t.Errorf("%s: %d catch-ups, %d would be many", a.environment, creates, most)
		}
	}
	for _, p := range tampers {
		t.Log(p)
	}
	w.recorded()
	w.atMost(tampers)
	w.holds()
}

// counted says whether every agent has counted rejections of every kind.
func (w *world) counted() bool {
	for _, a := range w.agents {
		s := a.status()
		for _, why := range []string{"malformed", "environment", "signature", "pulse"} {
			if s == nil || s.Rejected[why] == 0 {
				return false
			}
		}
	}
	return true
}

// invent says what nobody said, until stop is called.
func (w *world) invent(seed uint64, tampers []*tamper) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var inventing sync.WaitGroup
	for i, p := range tampers {
		random := rand.New(rand.NewPCG(seed, uint64(10+i)))
		to := events.LiveSubject(w.agents[i].environment)
		stranger := bustest.NewChain(w.t, w.agents[i].environment).Grow(30, "spoofed").Releases
		elsewhere := tampers[(i+1)%len(tampers)]
		inventing.Go(func() {
			tick := time.NewTicker(3 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				replay, foreign, pulses := p.copies(live), elsewhere.copies(live), p.copies(pulse)
				switch spoofed := stranger[random.IntN(len(stranger))]; {
				case n%6 == 0:
					p.say(to, "", []byte("noise"))
				case n%6 == 1:
					p.say(to, spoofed.Signature, spoofed.Payload)
				case n%6 == 2 && len(foreign) > 0:
					p.again(to, foreign[random.IntN(len(foreign))])
				case n%6 == 3 && len(replay) > 0:
					p.again(to, replay[random.IntN(len(replay))])
				case n%6 == 4 && len(pulses) > 0:
					p.again(events.SubjectPulse, pulses[random.IntN(len(pulses))])
				case n%6 == 5 && len(replay) > 0:
					p.say(to, replay[0].signature(), replay[random.IntN(len(replay))].payload()) // another one's signature
				}
			}
		})
	}
	return func() { cancel(); inventing.Wait() }
}

// atMost checks that a delivery whose first ack did not arrive is not said to be measured.
func (w *world) atMost(tampers []*tamper) {
	w.t.Helper()
	for i, p := range tampers {
		recorded := w.state.Environments[w.agents[i].environment].Agents["one"]
		for payload := range p.lost() {
			var said struct {
				Data struct {
					Word   events.Word
					Last   uint64
					Resent bool
				}
			}
			must(w.t, json.Unmarshal([]byte(payload), &said))
			if d := recorded.Applied(said.Data.Last); said.Data.Word == events.WordApplied && !said.Data.Resent && d != nil && d.Last == said.Data.Last && !d.AtMost {
				w.t.Errorf("the ack of revision %d was lost, and %+v is said to be measured", said.Data.Last, d)
			}
		}
	}
}

// Only what the publisher signed can start a catch-up or stop an agent: anything else is counted, each for its reason, and nothing more.
func TestOnlyAValidlySignedMessageStartsACatchUpOrStopsAnAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, 2)
	w.settle()
	p, q := between(t, 1, w.agents[0]), between(t, 2, w.agents[1])
	w.settle()
	w.release(set("*", "x", "first"))
	w.settle()
	a, to := w.agents[0], events.LiveSubject(env0)
	bustest.Eventually(t, "both agents heard a release and a pulse", func() bool {
		return len(p.copies(live)) > 0 && len(q.copies(live)) > 0 && len(p.copies(pulse)) > 0
	})
	known, foreign, heard := p.copies(live)[0], q.copies(live)[0], p.copies(pulse)[0]
	stranger := bustest.NewChain(t, env0).Grow(20, "spoofed").Releases
	before, _ := p.count(create)
	settled := a.known()
	for n := range 20 {
		p.say(to, "", []byte("noise"))
		p.say(to, stranger[n].Signature, stranger[n].Payload) // of any revision, known ones and ones to come
		p.say(to, known.signature(), stranger[n].Payload)
		p.again(to, foreign)
		p.again(to, known.altered(len(known.content())-1-n*7, 1))
		p.again(to, known)
		p.again(events.SubjectPulse, heard)
		p.say(events.SubjectPulse, heard.signature(), known.payload())
		want := map[string]uint64{"environment": uint64(n + 1), "pulse": uint64(2*n + 2)}
		bustest.Eventually(t, "all of it is counted", func() bool {
			s := a.status()
			if s == nil {
				return false
			}
			if !content(s) || s.Failure != nil || s.Checkpoint != settled.Checkpoint || s.Head != settled.Head {
				t.Fatalf("it changed the agent: %+v", s)
			}
			for why, n := range want {
				if s.Rejected[why] != n {
					return false
				}
			}
			// An altered byte makes a release malformed, or one with another signature.
			return s.Rejected["malformed"]+s.Rejected["signature"] == uint64(4*(n+1))
		})
	}
	if after, _ := p.count(create); after != before {
		t.Errorf("%d catch-ups were started", after-before)
	}
	w.holds()
}

// The last release of all is lost on the live tail: nothing comes after it that would show the gap. The next look at the head finds it.
func TestTheLastReleaseLostOnTheLiveTailIsFoundByTheNextLookAtTheHead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, 1)
	w.settle()
	p := between(t, 1, w.agents[0])
	w.settle()
	p.play(map[class]chances{live: {drop: 100, most: 1 << 30}})
	for _, value := range []string{"b", "c", "d"} {
		_, lost := p.count(live)
		before := len(p.looks())
		w.release(set(env0, "x", value))
		bustest.Eventually(t, "the live message is lost", func() bool { _, now := p.count(live); return now > lost })
		after, found := len(p.looks()), 0
		bustest.Eventually(t, "a catch-up", func() bool {
			found = slices.Index(p.looks()[before:], create)
			return found >= 0
		})
		// One may have been answered before the release; one finds it, and one more begins the catch-up.
		if checks := before + found - after; checks > 3 {
			t.Errorf("the head was looked at %d times before it was found", checks)
		}
		w.settle()
	}
	w.holds()
}

// An agent that reads too slowly is thrown out by the bus, and nobody else waits for it.
func TestAnAgentThatReadsTooSlowlyComesBackAndIsInStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 1, 2)
	w.settle()
	w.bus.Kill()
	w.bus.Configure(`write_deadline: "1s"`)
	w.bus.Restart()
	p := between(t, 1, w.agents[0])
	w.settle()
	wire := bustest.NewWire(t, w.bus.URL())
	noise := []byte(strings.Repeat("noise ", 50_000))
	for _, value := range []string{"b", "c"} {
		before, release := w.slow(), p.hold()
		bustest.Eventually(t, "the bus finds the agent slow", func() bool {
			wire.Publish(bustest.Live{Environment: env0, Payload: noise})
			wire.Flush()
			return w.slow() > before
		})
		w.release(set("*", "x", value))
		w.agents[1].says("in step", func(s *agent.Status) bool { return s.Condition.Word == agent.InStep && s.Checkpoint.Revision == s.Head })
		release()
		bustest.Eventually(t, "the agent is back", p.listens)
		w.settle()
	}
	w.holds()
}

// slow is how many slow readers the bus has thrown out.
func (w *world) slow() int {
	w.t.Helper()
	r, err := http.Get(w.bus.MonitorURL() + "/varz")
	must(w.t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	must(w.t, err)
	var varz struct {
		Slow int `json:"slow_consumers"`
	}
	must(w.t, json.Unmarshal(b, &varz))
	return varz.Slow
}

// hold stops reading what the server says, until release is called.
func (p *tamper) hold() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var held []*tampered
	for c := range p.conns {
		c.held[0].Lock()
		held = append(held, c)
	}
	return sync.OnceFunc(func() {
		for _, c := range held {
			c.held[0].Unlock()
		}
	})
}
