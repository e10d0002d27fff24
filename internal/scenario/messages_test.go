package scenario

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// What happens to releases and other messages on their way.
var messages = []scenario{
	{"last release lost on the live tail", 1, func(w *world) {
		a := w.agents[0]
		a.link.lose(events.LiveSubject(env0))
		w.release(set(env0, "x", "lost"))
		a.says("in step at 3, by looking at the head", func(s *agent.Status) bool {
			return s.Checkpoint.Revision == 3 && s.Condition.Word == agent.InStep
		})
		bustest.Eventually(w.t, "the live tail loses it", func() bool { return a.link.losses() > 0 })
		a.link.lose("")
	}},
	{"release stream purged in part: the oldest are gone", 1, func(w *world) { w.thinned(2, false) }},
	{"release stream purged in part: the newest are gone", 1, func(w *world) { w.thinned(2, true) }},
	{"release stream purged in part: one in the middle is gone", 1, func(w *world) {
		w.thinned(1, false) // the newest stays
		w.thinned(1, true)
	}},
	{"message altered", 1, func(w *world) {
		live := w.live(env0)[1]
		live.Payload = bytes.Replace(live.Payload, []byte(`"first"`), []byte(`"fir5t"`), 1)
		w.dropped(bus.RejectedSignature, live)
	}},
	{"message spoofed", 1, func(w *world) { w.dropped(bus.RejectedSignature, w.forged(bustest.NewSigner(w.t))) }},
	{"message unsigned", 1, func(w *world) { w.dropped(bus.RejectedSignature, w.forged(nil)) }},
	{"message without sense", 1, func(w *world) {
		w.dropped(bus.RejectedMalformed, bustest.Live{Environment: env0, Payload: []byte(`{"specversion":"1.0"}`), Signature: w.live(env0)[1].Signature})
	}},
	{"message for another environment", 1, func(w *world) {
		live := w.live("env-1")[1]
		live.Environment = env0
		w.dropped(bus.RejectedEnvironment, live)
	}},
	// A known release is what a rebuilt stream sends too: it is dropped without a word. An old pulse is counted.
	{"message replayed", 1, func(w *world) {
		a := w.agents[0]
		heard := make(chan [2]string, 1)
		stop, err := w.conn.SubscribePulse(func(payload []byte, signature string) {
			select {
			case heard <- [2]string{string(payload), signature}:
			default:
			}
		})
		must(w.t, err)
		old := <-heard
		newest := a.known().LastPulse
		a.says("that it heard a newer pulse", func(s *agent.Status) bool { return s.LastPulse.After(newest) })
		stop()
		before, wire := a.known(), bustest.NewWire(w.t, w.bus.URL())
		for _, live := range w.live(env0) {
			wire.Publish(live)
		}
		wire.Flush()
		must(w.t, w.conn.PublishPulse([]byte(old[0]), old[1]))
		a.says("that it dropped a pulse", func(s *agent.Status) bool { return s.Rejected["pulse"] == before.Rejected["pulse"]+1 })
		w.undisturbed(a, before)
		wire.Store(env0, w.live(env0)[1].Payload, w.live(env0)[1].Signature) // a second time in the stream
		w.released()
		w.release(set(env0, "x", "after"))
	}},
	// Who has the publisher's key can sign another history. An agent that has one does not take the other; it goes on when it is gone.
	{"signed fork of what an agent has applied", 1, func(w *world) {
		w.settle()
		a, p, true2 := w.agents[0], w.publishers[0], w.live(env0)[1]
		signer, err := keys.ReadKey(filepath.Join(p.settings.Data, "publisher.key"))
		must(w.t, err)
		fork := bytes.Replace(true2.Payload, []byte(`"first"`), []byte(`"other"`), 1)
		headers, err := signer.SignWave(w.state.ID, []events.Digest{events.Chain(w.state.Environments[env0].Releases[0].Chain, fork)})
		must(w.t, err)
		served, wire := w.serving(), bustest.NewWire(w.t, w.bus.URL())
		p.kill() // it would notice
		wire.Thin(events.StreamReleases, events.ReleaseSubject(env0), 1, true)
		wire.Store(env0, fork, headers[0])
		a.says("that the ledger is forked", func(s *agent.Status) bool {
			return s.Condition.Word == agent.Failing && s.Condition.Reason == events.ReasonLedgerForked
		})
		served()
		wire.Thin(events.StreamReleases, events.ReleaseSubject(env0), 1, true)
		wire.Store(env0, true2.Payload, true2.Signature)
		p.start()
		w.release(set(env0, "x", "after"))
	}},
	{"what an agent says is spoofed", 1, func(w *world) {
		w.settle()
		rejected := func() bool {
			_, body := get(w.t, w.publishers[0].calls().Server()+"/metrics")
			return regexp.MustCompile(`\nlockstep_signature_failures_total{reason="[^"]*"} [1-9]`).MatchString(body)
		}
		ctx, cancel := w.context()
		defer cancel()
		spoofed := false // the other agent's first beat may still be on its way
		bustest.Eventually(w.t, "another agent's beat is there to be spoofed", func() bool {
			must(w.t, w.conn.ReadBeats(ctx, func(r bus.Report) error {
				if r.Environment == env0 {
					return nil
				}
				must(w.t, w.conn.PublishBeat(env0, "one", r.Payload, r.Signature)) // validly signed, by another
				must(w.t, w.conn.PublishAck(ctx, env0, "one", r.Payload, r.Signature))
				must(w.t, w.conn.PublishBeat(env0, "one", r.Payload, ""))
				must(w.t, w.conn.PublishBeat(env0, "nobody", r.Payload, r.Signature))
				spoofed = true
				return nil
			}))
			return spoofed
		})
		bustest.Eventually(w.t, "the publisher counts it", func() bool { return rejected() })
		w.release(set(env0, "x", "after"))
	}},
}

// live are the releases of an environment as the live tail carried them, oldest first.
func (w *world) live(environment string) (out []bustest.Live) {
	w.t.Helper()
	w.released()
	ctx, cancel := w.context()
	defer cancel()
	must(w.t, w.conn.ReadReleases(ctx, environment, func(m bus.Stored) error {
		out = append(out, bustest.Live{Environment: environment, Payload: bytes.Clone(m.Payload), Signature: m.Signature})
		return nil
	}))
	return out
}

// forged is what the next release of env-0 could look like, by somebody else.
func (w *world) forged(signer *events.Signer) bustest.Live {
	w.t.Helper()
	w.read()
	at := w.state.Environments[env0].Releases[1]
	payload, err := events.EncodeRelease(events.Release{
		Kind: events.KindChange, Environment: env0, Revision: at.Revision + 1, Previous: at.Chain, Ledger: w.state.ID, Entry: w.state.Number + 1,
		Derivation: 1, Change: &events.ReleasedChange{ID: "forged", Size: 1},
		Operations: []events.Operation{{Op: events.OpSet, Key: "variable/x", Value: []byte(`"forged"`)}},
	}, at.Stamp, "")
	must(w.t, err)
	live := bustest.Live{Environment: env0, Payload: payload}
	if signer != nil {
		headers, err := signer.SignWave(w.state.ID, []events.Digest{events.Chain(at.Chain, payload)})
		must(w.t, err)
		live.Signature = headers[0]
	}
	return live
}

// dropped puts a message on the live tail, where it is counted and reported, starts nothing and stops nothing, and into the release
// stream, from where the publisher removes it.
func (w *world) dropped(why bus.Rejection, live bustest.Live) {
	w.t.Helper()
	w.settle()
	a, wire := w.agents[0], bustest.NewWire(w.t, w.bus.URL())
	before := a.known()
	for range 3 {
		wire.Publish(live)
	}
	wire.Flush()
	expected := maps.Clone(before.Rejected)
	if expected == nil {
		expected = map[string]uint64{}
	}
	expected[string(why)] += 3
	a.says(fmt.Sprintf("that it dropped %v", expected), func(s *agent.Status) bool { return maps.Equal(s.Rejected, expected) })
	w.undisturbed(a, before)
	bustest.Eventually(w.t, "the fleet view reports it", func() bool {
		v := w.fleet()
		return v != nil && len(v.Environments) > 0 && rejections(v) == 3
	})
	wire.Store(env0, live.Payload, live.Signature)
	w.released()
	w.release(set(env0, "x", "after"))
}

func rejections(v *fleet.View) (n uint64) {
	for _, e := range v.Environments {
		for _, a := range e.Agents {
			n += a.Rejected
		}
	}
	return n
}

// content says whether an agent has nothing to complain of but, on a busy machine, that it has not heard of anybody for a moment, or that
// its instance takes its time.
func content(s *agent.Status) bool {
	return s.Condition.Word == agent.InStep || s.Condition.Word == agent.Stale || s.Condition.Reason == connector.ReasonTimeout
}

// undisturbed says that an agent knows of nothing new and is as content as before.
func (w *world) undisturbed(a *inst, before *agent.Status) {
	w.t.Helper()
	s := a.known()
	if s.Checkpoint != before.Checkpoint || s.Head != before.Head || s.Followed != before.Followed || !content(s) {
		w.t.Errorf("the agent was %+v, is %+v", before, s)
	}
	if err := a.instanceAt(before.Checkpoint.Revision); err != nil {
		w.t.Error(err)
	}
}

// thinned removes a part of env-0's releases: the stream is rebuilt, and agents notice nothing.
func (w *world) thinned(keep uint64, first bool) {
	w.t.Helper()
	for i := range 3 {
		w.release(set(env0, "x", fmt.Sprint(i)))
	}
	w.settle()
	w.released()
	w.read()
	served := w.serving()
	bustest.NewWire(w.t, w.bus.URL()).Thin(events.StreamReleases, events.ReleaseSubject(env0), keep, first)
	w.released()
	served()
	w.release(set(env0, "x", "after"))
}
