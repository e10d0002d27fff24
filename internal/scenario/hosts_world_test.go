//go:build hosts

package scenario

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

// hosts is a world whose publishers, agents and three bus nodes are on hosts of their own.
type hosts struct {
	*world
	net     *network
	cluster *cluster
	pubs    []*host // of w.publishers
	insts   []*host // of w.agents
}

// newHosts has a cluster, publishers, and environments env-0, env-1, … with an agent each; all of them are in step.
func newHosts(t testing.TB, seed uint64, publishers, environments, replicas int) *hosts {
	t.Helper()
	n := newNetwork(t)
	h := &hosts{net: n, cluster: newCluster(n, environments), world: &world{t: t, random: rand.New(rand.NewPCG(seed, 1)), proposed: map[string]string{}}}
	ca := h.cluster.ca
	ca.Issue("operator")
	t.Cleanup(h.told)
	h.tls = client.TLS{CA: ca.Cert("ca"), Cert: ca.Cert("operator"), Key: ca.Key("operator")}
	h.conn = bustest.Connect(t, h.cluster.url(), func(o *bus.Options) { o.CA, o.Cert, o.Key = ca.Cert("ca"), ca.Cert("publisher"), ca.Key("publisher") })
	h.wire = h.place
	var addresses []net.IP
	for i := range publishers {
		h.pubs = append(h.pubs, n.host(fmt.Sprintf("pub-%d", i)))
		addresses = append(addresses, net.ParseIP(h.pubs[i].address))
	}
	ca.Issue("publisher", addresses...) // to the bus they are one user
	for _, on := range h.pubs {
		h.addPublisher(settings{
			Host: on.name, Listen: on.address + ":0", NATS: h.cluster.url(), Replicas: replicas, Unproven: replicas == 1,
			CA: ca.Cert("ca"), Cert: ca.Cert("publisher"), Key: ca.Key("publisher"),
		})
	}
	h.populate(environments)
	return h
}

func (h *hosts) place(a *inst) keys.Bus {
	on := h.net.host("agent-" + a.environment)
	h.insts = append(h.insts, on)
	a.settings.Host = on.name
	ca, name := h.cluster.ca, "one."+a.environment
	return keys.Bus{URL: h.cluster.url(), CA: ca.Cert("ca"), Cert: ca.Cert(name), Key: ca.Key(name)}
}
