//go:build hosts

package scenario

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// What happens between hosts, in a world of its own that begins in step at revision 2, with two publishers and two agents on a cluster
// whose streams have three replicas. The invariants are checked after each.
var hostScenarios = []struct {
	name string
	play func(h *hosts)
}{
	{"a publisher and the bus do not reach each other", func(h *hosts) {
		h.cutPublisher(func(p *host, nodes []*host) { p.cut(nodes...) })
	}},
	{"a publisher does not reach the bus", func(h *hosts) {
		h.cutPublisher(func(p *host, nodes []*host) {
			for _, n := range nodes {
				p.silence(n)
			}
		})
	}},
	{"the bus does not reach a publisher", func(h *hosts) {
		h.cutPublisher(func(p *host, nodes []*host) {
			for _, n := range nodes {
				n.silence(p)
			}
		})
	}},
	{"an agent and the bus do not reach each other", func(h *hosts) {
		h.cutAgent(func(a *host, nodes []*host) { a.cut(nodes...) })
	}},
	{"an agent does not reach the bus", func(h *hosts) {
		h.cutAgent(func(a *host, nodes []*host) {
			for _, n := range nodes {
				a.silence(n)
			}
		})
	}},
	{"the bus does not reach an agent", func(h *hosts) {
		h.cutAgent(func(a *host, nodes []*host) {
			for _, n := range nodes {
				n.silence(a)
			}
		})
	}},
	{"each node of the bus is cut off", func(h *hosts) {
		for i, n := range h.cluster.nodes {
			n.cut(h.net.others(n.host)...)
			h.release(set("*", "x", "without "+n.name))
			h.settle()
			h.net.heal()
			h.cluster.whole(streamNames...)
			if i == 1 {
				h.recorded()
			}
		}
	}},
	{"each node of the bus is cut off from the other two", func(h *hosts) {
		for i, n := range h.cluster.nodes {
			n.cut(h.cluster.nodes[(i+1)%3].host, h.cluster.nodes[(i+2)%3].host)
			h.release(set("*", "x", "without "+n.name))
			h.settle()
			h.net.heal()
			h.cluster.whole(streamNames...)
		}
	}},
	{"the leader of each stream is killed", func(h *hosts) {
		for _, stream := range streamNames {
			leader := h.cluster.leader(stream)
			leader.kill()
			h.release(set("*", "x", "without the leader of "+stream))
			h.settle()
			leader.start()
			h.cluster.whole(streamNames...)
		}
	}},
	{"two nodes of the bus do not reach each other", func(h *hosts) {
		for i, n := range h.cluster.nodes {
			n.cut(h.cluster.nodes[(i+1)%3].host)
			h.release(set("*", "x", "around "+n.name))
			h.settle()
			h.net.heal()
			h.cluster.whole(streamNames...)
		}
	}},
	{"two nodes of the bus are cut off", func(h *hosts) {
		one, two := h.cluster.nodes[0], h.cluster.nodes[1]
		one.cut(h.net.others(one.host)...)
		two.cut(h.net.others(two.host, one.host)...)

		var refused sync.WaitGroup
		for i := range h.publishers {
			refused.Go(func() { h.refuses(i, events.ReasonBusDown) })
		}
		refused.Wait()
		for _, a := range h.agents {
			a.says("stale", func(s *agent.Status) bool { return s.Condition.Word == agent.Stale })
		}
		h.nothingInStep(h.publishers...)
		h.net.heal()
		h.release(set("*", "x", "after"))
	}},
	{"a partition has a publisher on either side", func(h *hosts) {
		h.pubs[0].cut(h.cluster.nodes[1].host, h.cluster.nodes[2].host)
		h.cluster.nodes[0].cut(h.net.others(h.cluster.nodes[0].host, h.pubs[0], h.insts[0])...)
		h.insts[0].cut(h.cluster.nodes[1].host, h.cluster.nodes[2].host)
		h.refuses(0, events.ReasonBusDown)
		h.done(1, "ben", h.proposal(1, set("*", "x", "on one side")))
		h.agents[1].says("at 3", func(s *agent.Status) bool { return s.Checkpoint.Revision == 3 && s.Condition.Word == agent.InStep })
		h.agents[0].says("stale at 2", func(s *agent.Status) bool { return s.Checkpoint.Revision == 2 && s.Condition.Word == agent.Stale })
		h.nothingInStep(h.publishers[0])
		h.net.heal()
	}},
	{"the answer to an append is lost", func(h *hosts) {
		c := h.command("ben", h.proposal(1, set("*", "x", "once")))
		for _, n := range h.cluster.nodes {
			n.silence(h.pubs[0])
		}
		answered := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(h.t.Context(), 15*time.Second)
			defer cancel()
			_, err := h.publishers[0].calls().Do(ctx, c, false)
			answered <- err
		}()
		first, err := h.send(1, c)
		must(h.t, err)
		h.net.heal()
		<-answered
		for i := range h.publishers {
			again, err := h.send(i, c)
			must(h.t, err)
			if !again.Again || again.Entry != first.Entry {
				h.t.Errorf("first %+v, then %+v", first, again)
			}
		}
	}},
}

// streamNames are all that the publishers make.
var streamNames = []string{events.StreamLedger, events.StreamReleases, events.StreamAcks, events.StreamBeats, "KV_" + events.BucketLease}

func TestHostsWhateverHappensBetweenThemTheInvariantsHold(t *testing.T) {
	for i, s := range hostScenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h := newHosts(t, uint64(i+1), 2, 2, 3)
			h.release(set("*", "x", "first", "y", "first"))
			h.settle()
			began := time.Now()
			s.play(h)
			t.Logf("played in %s", time.Since(began))
			h.holds()
			t.Logf("holds after %s", time.Since(began))
		})
	}
}

// cutPublisher cuts the publisher that has the lease: the other one takes over, and the first says that it cannot write, and calls nothing
// in step.
func (h *hosts) cutPublisher(cut func(p *host, nodes []*host)) {
	h.t.Helper()
	cut(h.pubs[0], h.cluster.hosts())
	h.done(1, "ben", h.proposal(1, set("*", "x", "meanwhile")))
	for _, a := range h.agents {
		a.says("in step at 3", func(s *agent.Status) bool { return s.Checkpoint.Revision == 3 && s.Condition.Word == agent.InStep })
	}
	h.refuses(0, events.ReasonBusDown)
	h.nothingInStep(h.publishers[0])
	h.net.heal()
}

// cutAgent cuts one agent: it says that it is stale, and nobody calls it in step.
func (h *hosts) cutAgent(cut func(a *host, nodes []*host)) {
	h.t.Helper()
	a := h.agents[0]
	cut(h.insts[0], h.cluster.hosts())
	h.release(set("*", "x", "meanwhile"))
	a.says("stale", func(s *agent.Status) bool { return s.Condition.Word == agent.Stale })
	if v := h.fleet(); v != nil && v.Environments[0].Condition == fleet.InStep && v.Environments[0].Revision != v.Environments[0].Head {
		h.t.Errorf("in step at %d, the head is %d", v.Environments[0].Revision, v.Environments[0].Head)
	}
	h.read()
	if err := a.instanceAt(a.known().Checkpoint.Revision); err != nil {
		h.t.Error(err)
	}
	h.net.heal()
}

// nothingInStep waits until publishers that do not reach the bus call no environment in step.
func (h *hosts) nothingInStep(publishers ...*pub) {
	h.t.Helper()
	for _, p := range publishers {
		bustest.Eventually(h.t, "nothing is in step", func() bool {
			ctx, cancel := soon(h.t)
			defer cancel()
			v, err := p.calls().Fleet(ctx)
			return err == nil && !v.Ledger.Writable && !slices.ContainsFunc(v.Environments, func(e fleet.Environment) bool { return e.Condition == fleet.InStep })
		})
	}
}

// refuses waits until a publisher refuses to write, and why.
func (h *hosts) refuses(publisher int, reason events.Reason) {
	h.t.Helper()
	bustest.Eventually(h.t, "the publisher refuses", func() bool {
		_, err := h.send(publisher, h.command("anna", ledger.Propose{Reason: "refused", Edits: []ledger.Edit{set("*", "z", "refused")}}))
		if err == nil {
			h.t.Fatalf("publisher %d took a change", publisher)
		}
		unavailable, ok := errors.AsType[*api.UnavailableError](err)
		return ok && unavailable.Reason == reason
	})
}

// send sends a command to one publisher.
func (h *hosts) send(publisher int, c ledger.Command) (ledger.Outcome, error) {
	ctx, cancel := h.context()
	defer cancel()
	return h.publishers[publisher].calls().Do(ctx, c, false)
}

// done sends a command to one publisher until it is answered.
func (h *hosts) done(publisher int, by string, body ledger.Body) (out ledger.Outcome) {
	h.t.Helper()
	c := h.command(by, body)
	bustest.Eventually(h.t, "the command is answered", func() (answered bool) {
		var err error
		out, err = h.send(publisher, c)
		if err != nil && api.KindOf(err) != api.KindUnavailable {
			h.t.Fatal(err)
		}
		return err == nil
	})
	return out
}

// proposal proposes to one publisher and returns what approves it.
func (h *hosts) proposal(publisher int, edits ...ledger.Edit) ledger.Approve {
	h.t.Helper()
	reason := "reason of " + h.command("", nil).ID
	out := h.done(publisher, "anna", ledger.Propose{Reason: reason, Edits: edits})
	h.mu.Lock()
	h.proposed[reason] = out.Change
	h.mu.Unlock()
	ctx, cancel := h.context()
	defer cancel()
	view, err := h.publishers[publisher].calls().Change(ctx, out.Change)
	must(h.t, err)
	return ledger.Approve{Change: out.Change, Digest: view.Digest}
}

func TestHostsAClusterWithOneReplicaGetsThree(t *testing.T) {
	again := func(p *pub, replicas int) {
		p.kill()
		p.settings.Replicas, p.settings.Unproven = replicas, replicas == 0
		p.start()
	}
	for name, ask := range map[string]func(h *hosts, p *pub){
		"asked for at a start": func(_ *hosts, p *pub) { again(p, 3) },
		"given to the ledger under a running publisher": func(h *hosts, p *pub) {
			again(p, 0)
			h.cluster.replicate(events.StreamLedger, 3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHosts(t, 1, 1, 2, 1)
			h.release(set("*", "x", "first", "y", "first"))
			h.settle()
			ask(h, h.publishers[0])
			h.release(set("*", "x", "meanwhile"))
			h.cluster.whole(streamNames...)
			h.holds()
			again(h.publishers[0], 1) // fewer than there are: they stay, and are proof enough
			h.checks("durability", "3 replicas")
			h.checks("releases", "holds what the ledger released")

			// Now one server may go, whichever it is.
			h.cluster.leader(events.StreamLedger).kill()
			h.release(set("*", "x", "with two"))
			h.settle()
		})
	}
}

// checks waits until a publisher's doctor finds something in order, and says so.
func (h *hosts) checks(name, says string) {
	h.t.Helper()
	bustest.Eventually(h.t, "doctor says of "+name+": "+says, func() bool {
		ctx, cancel := soon(h.t)
		defer cancel()
		checks, err := h.publishers[0].calls().Doctor(ctx)
		return err == nil && slices.ContainsFunc(checks, func(c api.Check) bool { return c.Name == name && c.OK && strings.Contains(c.Message, says) })
	})
}
