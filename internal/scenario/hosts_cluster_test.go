//go:build hosts

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
)

// A cluster is three NATS servers on hosts of their own, with the configuration that is shipped for that.
type cluster struct {
	t     testing.TB
	ca    *bustest.Authority
	nodes []*node
	js    jetstream.JetStream // of somebody with NATS tools
}

// A node is one of the servers.
type node struct {
	*host
	cluster *cluster
	program string
	config  string
	log     said
	cmd     *exec.Cmd
}

// newCluster starts three servers which let in a publisher and an agent for each of so many environments.
func newCluster(n *network, environments int) *cluster {
	n.t.Helper()
	program, err := bustest.Program()
	must(n.t, err)
	c := &cluster{t: n.t, ca: bustest.NewAuthority(n.t, n.t.TempDir())}
	for i := range 3 {
		c.nodes = append(c.nodes, &node{host: n.host(fmt.Sprintf("nats-%d", i+1)), cluster: c, program: program})
	}
	accounts := c.accounts(environments)
	for _, d := range c.nodes {
		d.configure(accounts)
		d.start()
		n.t.Cleanup(d.kill)
	}
	c.ca.Issue("publisher")
	nc, err := nats.Connect(c.url(), nats.RootCAs(c.ca.Cert("ca")), nats.ClientCert(c.ca.Cert("publisher"), c.ca.Key("publisher")), nats.MaxReconnects(-1))
	must(n.t, err)
	n.t.Cleanup(nc.Close)
	c.js, err = jetstream.New(nc)
	must(n.t, err)
	bustest.Eventually(n.t, "the cluster has a leader", func() bool {
		ctx, cancel := soon(n.t)
		defer cancel()
		_, err := c.js.AccountInfo(ctx)
		return err == nil
	})
	return c
}

// url is all three addresses.
func (c *cluster) url() string {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, "tls://"+net.JoinHostPort(n.address, "4222"))
	}
	return strings.Join(urls, ",")
}

// accounts is the shipped file with its one agent's rights for each of the scenario's.
func (c *cluster) accounts(environments int) string {
	b, err := os.ReadFile("../../deployments/nats/accounts.conf")
	must(c.t, err)
	agent := regexp.MustCompile(`(?s)\n      \{\n        user: "CN=a1\.prod-eu"\n.*?\n      \}`).FindString(string(b))
	if agent == "" {
		c.t.Fatal("accounts.conf has no agent a1 of prod-eu")
	}
	all := ""
	for i := range environments {
		name := fmt.Sprintf("env-%d", i)
		all += strings.NewReplacer("a1.prod-eu", "one."+name, "prod-eu_a1", name+"_one", "prod-eu.a1", name+".one", "prod-eu", name).Replace(agent)
		c.ca.Issue("one." + name)
	}
	return strings.Replace(string(b), agent, all, 1)
}

// configure writes the shipped configuration with the addresses and directories of this network.
func (d *node) configure(accounts string) {
	dir := d.cluster.t.TempDir()
	d.cluster.ca.Issue(d.name, net.ParseIP(d.address))
	b, err := os.ReadFile("../../deployments/nats/cluster.conf")
	must(d.cluster.t, err)
	ours := []string{"/etc/nats/tls/server.pem", d.cluster.ca.Cert(d.name), "/etc/nats/tls/server.key", d.cluster.ca.Key(d.name),
		"/etc/nats/tls/ca.pem", d.cluster.ca.Cert("ca"), "/var/lib/nats", dir}
	for i, other := range d.cluster.nodes {
		ours = append(ours, fmt.Sprintf("nats-%d.example", i+1), other.address)
	}
	d.config = filepath.Join(dir, "cluster.conf")
	must(d.cluster.t, os.WriteFile(d.config, []byte(strings.NewReplacer(ours...).Replace(string(b))), 0o600))
	must(d.cluster.t, os.WriteFile(filepath.Join(dir, "accounts.conf"), []byte(accounts), 0o600))
}

// start starts the server and returns when it accepts connections.
func (d *node) start() {
	d.cluster.t.Helper()
	d.cmd = exec.Command("ip", "netns", "exec", d.name, d.program, "-c", d.config)
	d.cmd.Env = append(os.Environ(), "NATS_NODE="+d.name)
	d.cmd.Stderr = &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(d.cluster.t, d.cmd.Start())
	bustest.Eventually(d.cluster.t, d.name+" accepts connections", func() bool { return d.listens("4222") })
}

// kill ends the server with SIGKILL and returns when it is gone.
func (d *node) kill() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill() // it may be gone
	_ = d.cmd.Wait()         // its error says that it was killed
	d.cmd = nil
}

// leader is the node that leads a stream.
func (c *cluster) leader(stream string) (leader *node) {
	c.t.Helper()
	bustest.Eventually(c.t, stream+" has a leader", func() bool {
		ctx, cancel := soon(c.t)
		defer cancel()
		s, err := c.js.Stream(ctx, stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			c.t.Fatal(err)
		}
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		for _, d := range c.nodes {
			if d.name == s.CachedInfo().Cluster.Leader {
				leader = d
			}
		}
		return leader != nil
	})
	return leader
}

// whole waits until every replica of every stream is there and has everything.
func (c *cluster) whole(streams ...string) {
	c.t.Helper()
	for _, name := range streams {
		bustest.Eventually(c.t, "three nodes hold "+name, func() bool {
			ctx, cancel := soon(c.t)
			defer cancel()
			s, err := c.js.Stream(ctx, name)
			if err != nil || s.CachedInfo().Cluster == nil || len(s.CachedInfo().Cluster.Replicas) != len(c.nodes)-1 {
				return false
			}
			for _, r := range s.CachedInfo().Cluster.Replicas {
				if !r.Current || r.Offline {
					return false
				}
			}
			return true
		})
	}
}

// replicate gives a stream more replicas, as somebody with NATS tools does.
func (c *cluster) replicate(stream string, replicas int) {
	c.t.Helper()
	ctx, cancel := soon(c.t)
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	must(c.t, err)
	config := s.CachedInfo().Config
	config.Replicas = replicas
	_, err = c.js.UpdateStream(ctx, config)
	must(c.t, err)
}

// soon is for a question that is asked again where nobody answers.
func soon(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), time.Second)
}

// hosts are those of the nodes.
func (c *cluster) hosts() (all []*host) {
	for _, d := range c.nodes {
		all = append(all, d.host)
	}
	return all
}
