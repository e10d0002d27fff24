package publisher_test

import (
	"bytes"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func exported(t *testing.T, p *publisher.Publisher) audit.Verification {
	t.Helper()
	var b bytes.Buffer
	must(t, p.Export(bustest.Context(t), &b))
	r, err := audit.NewReader(&b)
	must(t, err)
	v, err := audit.Verify(r, nil)
	must(t, err)
	return v
}

func TestWhatAPublisherExportsVerifies(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	p := start(t, t.TempDir(), on(process))
	conn := bustest.Connect(t, process.URL())
	addEnvironments(t, p, "dev", "prod")
	one := enrol(t, p, "dev", "one")
	release(t, p, "variable/a", "one", "dev", "prod")
	one.reaches(2)
	eventuallySent(t, p, conn)
	bustest.Eventually(t, "an export that verifies, with what the agent said", func() bool {
		v := exported(t, p)
		if !v.OK {
			t.Fatalf("%+v", v)
		}
		return v.Releases == 4 && v.Held == 4 && v.Deliveries > 0
	})

	wire := bustest.NewWire(t, process.URL())
	wire.Thin(events.StreamReleases, events.ReleaseSubject("prod"), 1, true)
	bustest.Eventually(t, "the stream is whole again", func() bool { return exported(t, p).OK })
}
