package bus_test

import (
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
)

func TestAgentWorksWithItsOwnCredentials(t *testing.T) {
	g := bustest.StartGuarded(t)
	publisher := g.Publisher(func(environment string, why error) { t.Errorf("%s: %v", environment, why) })
	one := g.Enrol("prod", "a1")
	agent := g.Join(one, func(o *bus.Options) {
		o.OnChange = func(ch bus.Change) {
			if ch.Connected && ch.Err != nil {
				t.Error(ch.Err)
			}
		}
	})
	chain := bustest.NewChain(t, "prod").Grow(4, "value")
	chain.Send(publisher, 1, 3)
	f := feedOf(t, agent, chain)
	expect(t, f, chain, 3)
	chain.Send(publisher, 4, 4)
	expect(t, f, chain, 4)
	acks := make(chan bus.Report, 10)
	go func() {
		_ = publisher.FollowAcks(t.Context(), 1, func(r bus.Report) error { acks <- r; return nil })
	}()
	if err := agent.PublishAck(bustest.Context(t), "prod", "a1", []byte("ack"), ""); err != nil {
		t.Error(err)
	}
	if got := <-acks; got.Environment != "prod" || got.Agent != "a1" || string(got.Payload) != "ack" {
		t.Errorf("%+v", got)
	}
	if err := agent.PublishBeat("prod", "a1", []byte("beat"), ""); err != nil {
		t.Error(err)
	}
	bustest.Eventually(t, "the beat is stored", func() bool {
		found := false
		err := publisher.ReadBeats(bustest.Context(t), func(r bus.Report) error {
			found = r.Environment == "prod" && r.Agent == "a1" && string(r.Payload) == "beat"
			return nil
		})
		return err == nil && found
	})
	pulses := make(chan string, 1000)
	stop, err := agent.SubscribePulse(func(payload []byte, _ string) { pulses <- string(payload) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	bustest.Eventually(t, "a pulse arrives", func() bool {
		if err := publisher.PublishPulse([]byte("pulse"), ""); err != nil {
			t.Error(err)
		}
		return len(pulses) > 0
	})
}
