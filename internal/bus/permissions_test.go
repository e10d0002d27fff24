package bus_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// The rights are those of the package's documentation.
func TestAgentWorksWithTheRightsThatAreDocumented(t *testing.T) {
	rights := &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			"$JS.API.DIRECT.GET.RELEASES.lockstep.release.prod",
			"$JS.API.CONSUMER.CREATE.RELEASES.*.lockstep.release.prod",
			"$JS.API.CONSUMER.MSG.NEXT.RELEASES.*",
			"$JS.API.CONSUMER.DELETE.RELEASES.*",
			"lockstep.ack.prod.a1", "lockstep.beat.prod.a1",
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{"lockstep.live.prod", "lockstep.pulse", "_INBOX_prod-a1.>"}},
	}
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "publisher", Password: "p"}, {Username: "agent", Password: "a", Permissions: rights}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(bustest.Deadline) {
		t.Fatal("the server is not ready")
	}
	as := func(name, user string) *bus.Conn {
		return bustest.Connect(t, "nats://"+user+"@"+ns.Addr().String(), func(o *bus.Options) {
			o.Name = name
			o.OnChange = func(ch bus.Change) {
				if ch.Connected && ch.Err != nil {
					t.Errorf("%s: %v", name, ch.Err)
				}
			}
		})
	}
	publisher, agent := as("publisher", "publisher:p"), as("prod-a1", "agent:a")
	bustest.Streams(t, publisher)
	chain := bustest.NewChain(t, "prod").Grow(4, "value")
	chain.Send(publisher, 1, 3)
	f := feedOf(t, agent, chain)
	expect(t, f, chain, 3)
	chain.Send(publisher, 4, 4)
	expect(t, f, chain, 4)
	if err := agent.PublishAck(bustest.Context(t), "prod", "a1", []byte("ack"), ""); err != nil {
		t.Error(err)
	}
	if err := agent.PublishBeat("prod", "a1", []byte("beat"), ""); err != nil {
		t.Error(err)
	}
	stop, err := agent.SubscribePulse(func([]byte, string) {})
	if err != nil {
		t.Error(err)
	}
	stop()

	info, err := admin(t, "nats://publisher:p@"+ns.Addr().String()).Stream(bustest.Context(t), events.StreamReleases)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "no consumer stays behind", func() bool {
		now, err := info.Info(bustest.Context(t))
		return err == nil && now.State.Consumers == 0
	})
}
