package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/leaktest"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestAnExistingBusIsTakenOnlyAsItShouldBe(t *testing.T) {
	t.Parallel()
	t.Run("other settings", func(t *testing.T) {
		t.Parallel()
		for stream, subject := range map[string]string{
			events.StreamLedger: events.SubjectLedger, events.StreamReleases: events.SubjectReleases, events.StreamAcks: events.SubjectAcks, events.StreamBeats: events.SubjectBeats,
		} {
			process := bustest.StartProcess(t)
			bustest.NewWire(t, process.URL()).MakeStream(stream, subject)
			_, err := publisher.New(t.Context(), options(t.TempDir(), on(process)))
			var setting *bus.SettingError
			if !errors.As(err, &setting) || setting.Stream != stream || !strings.Contains(err.Error(), setting.Setting) {
				t.Errorf("%s: %v", stream, err)
			}
			process.Kill()
		}
	})
	t.Run("settings changed while running", func(t *testing.T) {
		t.Parallel()
		p := start(t, t.TempDir())
		addEnvironments(t, p, "dev")
		bustest.NewWire(t, p.BusURL()).Shrink(events.StreamBeats)
		bustest.Eventually(t, "read-only", func() bool {
			l := p.Fleet().Ledger
			return !l.Writable && l.Reason == events.ReasonBusSettings && strings.Contains(l.Message, "max_msgs")
		})
	})
	t.Run("durability", func(t *testing.T) {
		t.Parallel()
		process := bustest.StartProcess(t)
		unproven := func(o *publisher.Options) { o.NATS, o.MonitorURL = process.URL(), "http://"+closedAddress }
		if _, err := publisher.New(t.Context(), options(t.TempDir(), unproven)); !errors.Is(err, bus.ErrDurabilityUnproven) {
			t.Error(err)
		}
		p := start(t, t.TempDir(), unproven, func(o *publisher.Options) { o.AcceptUnprovenDurability = true })
		if d := p.Fleet().Ledger.Durability; d != "accepted without proof" {
			t.Errorf("durability %q", d)
		}
		eventuallyWritable(t, p)
		for _, c := range p.Doctor(t.Context()) {
			if c.Name == "durability" && c.OK {
				t.Errorf("%+v", c)
			}
		}
	})
	t.Run("not there", func(t *testing.T) {
		t.Parallel()
		_, err := publisher.New(t.Context(), options(t.TempDir(), func(o *publisher.Options) { o.NATS = "nats://" + closedAddress }))
		if !errors.Is(err, bus.ErrUnavailable) {
			t.Error(err)
		}
	})
}

// closedAddress is one where nobody listens.
const closedAddress = "127.0.0.1:1"

func TestABusThatIsSlowAtTheStartIsAskedAgain(t *testing.T) {
	t.Parallel()
	sluggish := func(o *publisher.Options) {
		var asked atomic.Bool
		o.Fault = func(point fault.Point, stage fault.Stage) error {
			if point == fault.StreamsMade && stage == fault.Before && !asked.Swap(true) {
				return fmt.Errorf("make stream RELEASES: %w: %w", bus.ErrUnavailable, context.DeadlineExceeded)
			}
			return nil
		}
	}
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		addEnvironments(t, start(t, t.TempDir(), sluggish), "dev")
	})
	t.Run("existing", func(t *testing.T) {
		t.Parallel()
		addEnvironments(t, start(t, t.TempDir(), on(bustest.StartProcess(t)), sluggish), "dev")
	})
}

func TestWithoutTheBusCommandsFailAndReadsGoOn(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	p := start(t, t.TempDir(), on(process))
	addEnvironments(t, p, "dev")
	change := release(t, p, "variable/x", 1, "dev")
	process.Kill()
	_, err := p.Do(bustest.Context(t), command("op", ledger.AddEnvironment{Name: "new", Approvals: 1}), false)
	if unavailable, ok := err.(*api.UnavailableError); !ok || unavailable.Reason != events.ReasonBusDown {
		t.Errorf("refused with %v", err)
	}
	bustest.Eventually(t, "it says that the bus is down", func() bool { return p.Fleet().Ledger.Reason == events.ReasonBusDown })
	since := p.Fleet().Ledger.Since
	for range 3 {
		if _, err := p.Do(bustest.Context(t), command("op", ledger.AddEnvironment{Name: "new", Approvals: 1}), false); api.KindOf(err) != api.KindUnavailable {
			t.Errorf("refused with %v", err)
		}
	}
	if d := delivery(t, p, change); d.Agent != "" || heads(p)["dev"] != 2 {
		t.Errorf("%+v, %v", d, heads(p))
	}
	if _, err := p.Verify(bustest.Context(t)); api.KindOf(err) != api.KindUnavailable {
		t.Errorf("verify: %v", err)
	}
	for _, c := range p.Doctor(bustest.Context(t)) {
		if c.Name == "bus" && c.OK {
			t.Errorf("%+v", c)
		}
	}
	if !p.Fleet().Ledger.Since.Equal(since) {
		t.Errorf("down since %s, then since %s", since, p.Fleet().Ledger.Since)
	}
	process.Restart()
	eventuallyWritable(t, p)
	release(t, p, "variable/x", 2, "dev")
	eventuallySent(t, p, bustest.Connect(t, process.URL()))
	select {
	case <-p.Done():
		t.Error("the publisher ended")
	default:
	}
}

func TestStopLeavesNothingBehind(t *testing.T) {
	process := bustest.StartProcess(t)
	data := t.TempDir()
	p := start(t, data, on(process))
	addEnvironments(t, p, "dev")
	one := enrol(t, p, "dev", "one")
	one.reaches(1)
	one.beat()
	bustest.Eventually(t, "the beat is heard", func() bool { return p.Fleet().Environments[0].Condition == "in step" })
	one.stop()
	stop(t, p)
	before := goleak.IgnoreCurrent()
	for name, until := range map[string]func(p *publisher.Publisher){
		"at once": func(*publisher.Publisher) {},
		"while it checks": func(p *publisher.Publisher) {
			bustest.Eventually(t, "it waits for the beat", func() bool { return p.Fleet().Ledger.Tip.Number > 0 })
		},
		"while the bus is down":  func(*publisher.Publisher) { process.Kill() },
		"while the bus is stuck": func(*publisher.Publisher) { process.Pause() },
	} {
		p, err := publisher.New(context.WithoutCancel(t.Context()), options(data, on(process), func(o *publisher.Options) { o.BeatWait = time.Hour }))
		must(t, err)
		must(t, p.Start())
		until(p)
		stop(t, p)
		if err := leaktest.Find(before); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		process.Kill()
		process.Restart()
	}
}
