package arch

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
)

// natsOptions reads a file of deployments/nats as the server does, with its directories under dir.
func natsOptions(t *testing.T, name, dir string) *server.Options {
	t.Helper()
	for _, file := range []string{name, "accounts.conf"} {
		b, err := os.ReadFile(filepath.Join("../../deployments/nats", file))
		if err != nil {
			t.Fatal(err)
		}
		moved := strings.NewReplacer("/etc/nats/tls", dir, "/var/lib/nats", dir).Replace(string(b))
		if err := os.WriteFile(filepath.Join(dir, file), []byte(moved), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opts, err := server.ProcessConfigFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

// TestTheShippedNATSServesLockstep runs the configuration, and lets a publisher and an agent work with the rights that it gives.
func TestTheShippedNATSServesLockstep(t *testing.T) {
	dir := t.TempDir()
	ca := bustest.NewAuthority(t, dir)
	for _, name := range []string{"server", "publisher", "a1.prod-eu", "a2.prod-eu"} {
		ca.Issue(name)
	}
	opts := natsOptions(t, "nats.conf", dir)
	if !opts.SyncAlways || !opts.TLSMap || opts.TLSConfig.ClientAuth != tls.RequireAndVerifyClientCert || opts.NoAuthUser != "" || opts.HTTPHost != "127.0.0.1" ||
		opts.JetStreamMaxStore == 0 || opts.JetStreamMaxMemory == 0 || opts.MaxConn == 0 {
		t.Errorf("durability, authentication or limits are missing")
	}
	opts.Host, opts.Port, opts.HTTPHost, opts.HTTPPort, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, "", 0, true, true
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(bustest.Deadline) {
		t.Fatal("the server is not ready")
	}

	connect := func(name, certificate string) *bus.Conn {
		return bustest.Connect(t, "tls://"+ns.Addr().String(), func(o *bus.Options) {
			o.Name, o.CA = name, filepath.Join(dir, "ca.pem")
			o.Cert, o.Key = filepath.Join(dir, certificate+".pem"), filepath.Join(dir, certificate+".key")
			o.OnChange = func(ch bus.Change) {
				if ch.Connected && ch.Err != nil {
					t.Errorf("%s: %v", name, ch.Err)
				}
			}
		})
	}
	publisher, agent := connect("publisher", "publisher"), connect("prod-eu.a1", "a1.prod-eu")
	bustest.Streams(t, publisher)
	chain := bustest.NewChain(t, "prod-eu").Grow(3, "value")
	chain.Send(publisher, 1, 2)
	feed, err := agent.Feed(bus.FeedOptions{Environment: "prod-eu", Position: chain.At(0), Verify: chain.Verify})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	chain.Send(publisher, 3, 3)
	for feed.Position().Revision < 3 {
		if _, err := feed.Next(bustest.Context(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := agent.PublishAck(bustest.Context(t), "prod-eu", "a1", []byte("ack"), ""); err != nil {
		t.Error(err)
	}
	if err := agent.PublishBeat("prod-eu", "a1", []byte("beat"), ""); err != nil {
		t.Error(err)
	}

	// A certificate of the same authority that nobody gave rights is nobody.
	stranger := bus.Options{
		Name: "prod-eu.a2", URL: "tls://" + ns.Addr().String(), CA: filepath.Join(dir, "ca.pem"),
		Cert: filepath.Join(dir, "a2.prod-eu.pem"), Key: filepath.Join(dir, "a2.prod-eu.key"),
	}
	if c, err := bus.Connect(bustest.Context(t), stranger); err == nil {
		c.Close()
		t.Error("an unknown certificate connects")
	}
}

// TestTheShippedClusterIsThatOfThreeSuchServers checks that the cluster's file says what the single server's says; the tests of hosts
// (task test:hosts) run it.
func TestTheShippedClusterIsThatOfThreeSuchServers(t *testing.T) {
	dir := t.TempDir()
	ca := bustest.NewAuthority(t, dir)
	ca.Issue("server")
	t.Setenv("NATS_NODE", "nats-2")
	one, three := natsOptions(t, "nats.conf", dir), natsOptions(t, "cluster.conf", dir)
	if three.ServerName != "nats-2" || three.Cluster.Name == "" || len(three.Routes) != 3 || three.Cluster.TLSConfig == nil {
		t.Errorf("%s in cluster %q with %d routes", three.ServerName, three.Cluster.Name, len(three.Routes))
	}
	if three.Cluster.TLSConfig.ClientAuth != tls.RequireAndVerifyClientCert {
		t.Error("anybody may join the cluster")
	}
	if three.SyncAlways != one.SyncAlways || three.TLSMap != one.TLSMap || three.MaxPayload != one.MaxPayload || three.HTTPHost != one.HTTPHost ||
		three.JetStreamMaxStore != one.JetStreamMaxStore || three.JetStreamMaxMemory != one.JetStreamMaxMemory || three.MaxConn != one.MaxConn ||
		three.WriteDeadline != one.WriteDeadline || len(three.Users) != len(one.Users) {
		t.Error("the cluster's settings differ from the single server's")
	}
}
