package agent_test

import (
	"testing"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestReleasesAreAppliedInOrderAndAcknowledged(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`, "variable/b", `"1"`)
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(fake))
	w.applied(2)
	w.set("variable/a", `"2"`)
	undone := w.set("variable/b", "")
	w.applied(4)
	w.send(w.Rollback(undone)...)
	ack := w.applied(5)
	holds(t, fake.Instance(), "variable/a", `"2"`, "variable/b", `"1"`)
	e := w.Environment(env)
	if ack.Chain != e.Chain || ack.Expected != e.State.Digest() || ack.Observed != ack.Expected || !ack.ReadBack || len(ack.Differing) > 0 {
		t.Errorf("ack %+v", ack)
	}
	if p := ack.Phases; p.Received.IsZero() || p.Verified.Before(p.Received) || p.Applied.Before(p.Verified) || p.Committed.Before(p.Applied) {
		t.Errorf("phases %+v", p)
	}
	w.pulse(7, "seven")
	a.condition(agent.InStep, "")
	beat := w.beat("in step", func(b events.Beat) bool { return b.Condition == agent.InStep && b.Revision == 5 && b.LastAck > 0 })
	if beat.Chain != e.Chain || beat.State != e.State.Digest() || beat.Observed != beat.State || beat.Seen.Number != 7 || beat.Boot == "" {
		t.Errorf("beat %+v", beat)
	}
}
