//go:build hosts

package scenario

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestHostsRandomCutsUnderLoadKeepTheInvariants cuts links one way and both ways, splits the network, and kills leaders, publishers and
// agents, at random moments and for random times, while changes run.
func TestHostsRandomCutsUnderLoadKeepTheInvariants(t *testing.T) {
	t.Parallel()
	first := *seed
	if first == 0 {
		first = rand.Uint64N(1 << 32)
	}
	t.Logf("replay with: go test -tags hosts ./internal/scenario -run TestHostsRandom -scenario.seed=%d -scenario.cycles=%d", first, *cycles)
	h := newHosts(t, first, 2, 3, 3)
	load := rand.New(rand.NewPCG(first, 2))
	for cycle := range *cycles {
		var loaded sync.WaitGroup
		for author := range 2 {
			edits := h.changes(load, cycle)
			loaded.Go(func() {
				for _, edit := range edits {
					h.change(author, edit)
				}
			})
		}
		h.moment()
		what, undo := h.trouble()
		began := time.Now()
		h.endure()
		undo()
		loaded.Wait()
		h.settle()
		h.cluster.whole(streamNames...)
		t.Logf("%s: in step %s after it began", what, time.Since(began).Round(time.Millisecond))
	}
	h.holds()
}

// endure lets a trouble last: for moments, for as long as an election, or for longer than a server that is cut off is believed.
func (h *hosts) endure() {
	select {
	case <-time.After(time.Duration(h.random.Int64N(int64([]time.Duration{time.Second, 5 * time.Second, 15 * time.Second}[h.random.IntN(3)])))):
	case <-h.t.Context().Done():
	}
}

// trouble does one thing, and says what, and how to undo it.
func (h *hosts) trouble() (what string, undo func()) {
	h.t.Helper()
	hosts := slices.Clone(h.net.hosts)
	h.random.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	node := h.cluster.nodes[h.random.IntN(len(h.cluster.nodes))]
	other := slices.DeleteFunc(slices.Clone(hosts), func(other *host) bool { return other == node.host })[0]
	rest := slices.DeleteFunc(h.cluster.hosts(), func(other *host) bool { return other == node.host })
	switch h.random.IntN(9) {
	case 0:
		node.silence(other)
		return fmt.Sprintf("%s does not reach %s", node.name, other.name), h.net.heal
	case 1:
		other.silence(node.host)
		return fmt.Sprintf("%s does not reach %s", other.name, node.name), h.net.heal
	case 2:
		rest[0].cut(rest[1])
		return fmt.Sprintf("%s and %s do not reach each other", rest[0].name, rest[1].name), h.net.heal
	case 3:
		node.cut(rest...)
		return node.name + " is cut off from the other two", h.net.heal
	case 4:
		node.silence(rest[0])
		node.silence(rest[1])
		return node.name + " does not reach the other two", h.net.heal
	case 5:
		node.cut(h.net.others(node.host)...)
		return node.name + " is cut off", h.net.heal
	case 6:
		side := 1 + h.random.IntN(len(hosts)-1)
		for _, other := range hosts[:side] {
			other.cut(hosts[side:]...)
		}
		return fmt.Sprintf("the network is split, with %d of %d hosts on one side", side, len(hosts)), h.net.heal
	case 7:
		stream := streamNames[h.random.IntN(len(streamNames))]
		leader := h.cluster.leader(stream)
		leader.kill()
		return fmt.Sprintf("%s, the leader of %s, is killed", leader.name, stream), leader.start
	default:
		p, a := h.publishers[h.random.IntN(len(h.publishers))], h.agents[h.random.IntN(len(h.agents))]
		p.kill()
		a.kill()
		return "a publisher and an agent are killed", func() { p.start(); a.start() }
	}
}
