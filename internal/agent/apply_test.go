package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// picky is a connector that cannot hold the value "bad".
type picky struct{ *connectortest.Fake }

func (p picky) Plan(ctx context.Context, want connector.Values) (connector.Plan, error) {
	for _, key := range want.Keys() {
		if bytes.Contains(want[key], []byte("bad")) {
			return connector.Plan{}, connector.Permanent(connector.ReasonValueUnsupported, "%s cannot be held", key)
		}
	}
	return p.Fake.Plan(ctx, want)
}

// lying is a connector whose instance changes by another hand after each apply.
type lying struct{ *connectortest.Fake }

func (l lying) Apply(ctx context.Context, plan connector.Plan) error {
	err := l.Fake.Apply(ctx, plan)
	l.Instance().Set("variable/a", json.RawMessage(`"edited"`))
	return err
}

// failing answers an operation of a fake with an error, until it is nil.
type failing struct {
	op  string
	err atomic.Pointer[error]
}

func (f *failing) set(err error) { f.err.Store(&err) }

func (f *failing) fault(op string) error {
	if err := f.err.Load(); op == f.op && err != nil {
		return *err
	}
	return nil
}

func TestMissedRevisionsAreFoldedIntoOneApplyAndOneAck(t *testing.T) {
	w := newWorld(t)
	for range 30 {
		w.set("variable/a", `"x"`, "variable/b", `1`)
	}
	w.set("variable/a", `"last"`)
	applies := 0
	fake := connectortest.NewFake("fake")
	fake.Fault = func(op string) error {
		if op == "apply" {
			applies++
		}
		return nil
	}
	a := start(t, w.options(fake))
	if ack := w.applied(32); ack.First != 1 {
		t.Errorf("first is %d", ack.First)
	}
	a.stop()
	holds(t, fake.Instance(), "variable/a", `"last"`, "variable/b", `1`)
	if applies != 1 || len(w.words()) != 1 {
		t.Errorf("%d applies, acks %v", applies, w.words())
	}
}

func TestAStepwiseAgentAppliesEveryRevisionByItself(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `1`)
	w.set("variable/a", `2`)
	o := w.options(connectortest.NewFake("fake"))
	o.Step = true
	start(t, o)
	for revision := range uint64(3) {
		if ack := w.applied(revision + 1); ack.First != revision+1 {
			t.Errorf("revision %d came with %d", revision+1, ack.First)
		}
	}
}

func TestAStepwiseRouteIsNeverFolded(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `1`)
	w.set("variable/a", `2`)
	w.set("endpoint/e", `"x"`)
	w.set("variable/a", `3`)
	w.set("variable/b", `3`)
	o := w.options(connectortest.NewFake("fake"))
	router, err := connector.NewRouter([]connector.Route{
		{Resources: []connector.Glob{"variable/*"}, Connector: connectortest.NewFake("one")},
		{Resources: []connector.Glob{"endpoint/*"}, Connector: connectortest.NewFake("two"), Step: true},
	})
	must(t, err)
	o.Router = router
	start(t, o)
	w.applied(6)
	var ranges [][2]uint64
	w.mu.Lock()
	for _, a := range w.acks {
		ranges = append(ranges, [2]uint64{a.First, a.Last})
	}
	w.mu.Unlock()
	if want := [][2]uint64{{1, 3}, {4, 4}, {5, 6}}; !slices.Equal(ranges, want) {
		t.Errorf("acks %v, want %v", ranges, want)
	}
}

func TestAnApplyThatFailsHalfwayIsPutBackAndALaterReleaseApplies(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`, "variable/b", `"1"`)
	fault := &failing{op: "apply:half"}
	fake := connectortest.NewFake("fake")
	fake.Fault = fault.fault
	a := start(t, w.options(fake))
	w.applied(2)

	fault.set(connector.Permanent(connector.ReasonWriteFailed, "the second half is read-only"))
	w.set("variable/a", `"2"`, "variable/b", `"2"`)
	ack := w.word(events.WordFailed, 3)
	if ack.First != 3 || ack.Reason != connector.ReasonWriteFailed || ack.Message == "" || ack.Chain != w.Environment(env).Chain {
		t.Errorf("ack %+v", ack)
	}
	holds(t, fake.Instance(), "variable/a", `"1"`, "variable/b", `"1"`)
	a.condition(agent.Failing, connector.ReasonWriteFailed)

	w.set("variable/c", `"3"`) // it fails for the same reason: revision 3 is to blame
	if ack := w.word(events.WordBlocked, 4); ack.First != 4 || ack.By != 3 {
		t.Errorf("ack %+v", ack)
	}
	holds(t, fake.Instance(), "variable/a", `"1"`, "variable/b", `"1"`)

	fault.set(nil)
	w.set("variable/a", `"4"`)
	if ack := w.word(events.WordSuperseded, 4); ack.First != 3 || ack.By != 5 {
		t.Errorf("ack %+v", ack)
	}
	if ack := w.applied(5); ack.First != 3 {
		t.Errorf("ack %+v", ack)
	}
	holds(t, fake.Instance(), "variable/a", `"4"`, "variable/b", `"2"`, "variable/c", `"3"`)
	if s := a.at(5); s.Failure != nil {
		t.Errorf("failure %+v", s.Failure)
	}
}

func TestARollbackCuresWhatNoConnectorTakes(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`)
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(fake))
	w.applied(2)
	w.pulse(1, "")
	a.condition(agent.InStep, "")

	misdirected := w.set("variable/a", `"2"`, "endpoint/nobody", `"x"`)
	if ack := w.word(events.WordFailed, 3); ack.First != 3 || ack.Reason != connector.ReasonNoRoute {
		t.Errorf("ack %+v", ack)
	}
	a.condition(agent.Failing, connector.ReasonNoRoute)
	holds(t, fake.Instance(), "variable/a", `"1"`)

	w.send(w.Rollback(misdirected)...)
	w.applied(4)
	if s := a.condition(agent.InStep, ""); s.Checkpoint.Revision != 4 || s.Failure != nil {
		t.Errorf("status %+v", s)
	}
	holds(t, fake.Instance(), "variable/a", `"1"`)

	w.set("variable/a", `"3"`)
	if ack := w.applied(5); ack.First != 5 || !ack.ReadBack || ack.Observed != ack.Expected {
		t.Errorf("ack %+v", ack)
	}
	a.condition(agent.InStep, "")
	holds(t, fake.Instance(), "variable/a", `"3"`)
}

func TestAFoldThatIsTakenApartCountsAsOneFailure(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`)
	w.set("variable/b", `"bad"`)
	o := w.options(picky{connectortest.NewFake("fake")})
	o.Registry = prometheus.NewRegistry()
	start(t, o)
	w.word(events.WordFailed, 3)
	w.set("variable/b", `"good"`)
	w.applied(4)
	families, err := o.Registry.Gather()
	must(t, err)
	failures := 0.0
	for _, f := range families {
		if f.GetName() == "lockstep_agent_apply_failures_total" {
			for _, m := range f.GetMetric() {
				failures += m.GetCounter().GetValue()
			}
		}
	}
	if failures != 1 {
		t.Errorf("%v failures are counted", failures)
	}
}

func TestTheReleaseThatFailsIsFoundInAFold(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`)
	w.set("variable/b", `"bad"`)
	w.set("variable/c", `"3"`)
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(picky{fake}))
	if ack := w.word(events.WordFailed, 3); ack.First != 3 {
		t.Errorf("failed from %d", ack.First)
	}
	w.applied(2)
	if ack := w.word(events.WordBlocked, 4); ack.First != 4 || ack.By != 3 {
		t.Errorf("ack %+v", ack)
	}
	a.at(2)
	holds(t, fake.Instance(), "variable/a", `"1"`)
	w.set("variable/b", `"good"`)
	w.applied(5)
	holds(t, fake.Instance(), "variable/a", `"1"`, "variable/b", `"good"`, "variable/c", `"3"`)
}

func TestAFailedReleaseIsTriedAgainAfterARestartAndOnRequest(t *testing.T) {
	w := newWorld(t)
	fault := &failing{op: "apply"}
	fault.set(connector.Permanent(connector.ReasonWriteFailed, "no"))
	fake := connectortest.NewFake("fake")
	fake.Fault = fault.fault
	w.set("variable/a", `1`)
	o := w.options(fake)
	a := start(t, o)
	w.word(events.WordFailed, 2)
	a.stop()
	words := len(w.words())
	a = start(t, o)
	a.condition(agent.Failing, connector.ReasonWriteFailed)
	must(t, a.Retry(t.Context()))
	if got := w.words(); len(got) != words {
		t.Errorf("the same failure was said again: %v", got)
	}
	fault.set(nil)
	must(t, a.Retry(t.Context()))
	w.applied(2)
}

func TestADiskThatIsFullMakesNoFalseAckAndIsRetriedUntilThereIsRoom(t *testing.T) {
	w := newWorld(t)
	fault := &failing{op: "apply:half"}
	fault.set(connector.Transient(connector.ReasonDiskFull, "no space left on device"))
	fake := connectortest.NewFake("fake")
	fake.Fault = fault.fault
	a := start(t, w.options(fake))
	w.applied(1)
	w.set("variable/a", `1`, "variable/b", `2`)
	if ack := w.word(events.WordRetrying, 2); ack.Reason != connector.ReasonDiskFull || ack.Since.IsZero() {
		t.Errorf("ack %+v", ack)
	}
	w.pulse(1, "")
	a.is("has tried several times", func(s agent.Status) bool { return s.Retry != nil && s.Retry.Attempts > 3 })
	a.condition(agent.Behind, connector.ReasonDiskFull)
	w.beat("says why", func(b events.Beat) bool { return b.Reason == connector.ReasonDiskFull })
	holds(t, fake.Instance())
	if got := w.words(); !slices.Equal(got, []events.Word{events.WordApplied, events.WordRetrying}) {
		t.Errorf("acks %v, want one of revision 1 and one that it retries", got)
	}
	fault.set(nil)
	w.applied(2)
	holds(t, fake.Instance(), "variable/a", `1`, "variable/b", `2`)
}

func TestAStoreThatCannotBeWrittenMakesNoFalseAck(t *testing.T) {
	w := newWorld(t)
	var full atomic.Bool
	fake := connectortest.NewFake("fake")
	o := w.options(fake)
	o.Fault = func(p fault.Point, _ fault.Stage) error {
		if p == fault.CheckpointMoved && full.Load() {
			return errors.New("no space left on device")
		}
		return nil
	}
	a := start(t, o)
	w.applied(1)
	full.Store(true)
	w.set("variable/a", `1`)
	a.is("retries", func(s agent.Status) bool { return s.Retry != nil && s.Retry.Attempts > 2 })
	if got := w.words(); slices.Contains(got[1:], events.WordApplied) {
		t.Errorf("acks %v", got)
	}
	full.Store(false)
	w.applied(2)
}

func TestAnUndoThatFailsIsSaidTornAndTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`, "variable/b", `"1"`)
	half, undo := &failing{op: "apply:half"}, &failing{op: "undo"}
	fake := connectortest.NewFake("fake")
	fake.Fault = func(op string) error { return errors.Join(half.fault(op), undo.fault(op)) }
	a := start(t, w.options(fake))
	w.applied(2)
	half.set(connector.Permanent(connector.ReasonWriteFailed, "no"))
	undo.set(connector.Permanent(connector.ReasonWriteFailed, "no way back"))
	w.set("variable/a", `"2"`, "variable/b", `"2"`)
	if ack := w.word(events.WordTorn, 3); ack.Reason != events.ReasonUndo {
		t.Errorf("ack %+v", ack)
	}
	a.condition(agent.Torn, events.ReasonUndo)
	w.beat("torn", func(b events.Beat) bool { return b.Condition == agent.Torn })
	undo.set(nil)
	w.word(events.WordFailed, 3)
	holds(t, fake.Instance(), "variable/a", `"1"`, "variable/b", `"1"`)
	a.condition(agent.Failing, connector.ReasonWriteFailed)
}

func TestATornInstanceStaysTornOverARestartAndIsPutBack(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`, "variable/b", `"1"`)
	half, undo := &failing{op: "apply:half"}, &failing{op: "undo"}
	fake := connectortest.NewFake("fake")
	fake.Fault = func(op string) error { return errors.Join(half.fault(op), undo.fault(op)) }
	o := w.options(fake)
	a := start(t, o)
	w.applied(2)
	half.set(connector.Permanent(connector.ReasonWriteFailed, "no"))
	undo.set(connector.Permanent(connector.ReasonWriteFailed, "no way back"))
	w.set("variable/a", `"2"`, "variable/b", `"2"`)
	w.word(events.WordTorn, 3)
	a.stop()
	again := fake.Instance().Open("fake")
	again.Fault = fake.Fault
	o.Router = route(t, again)
	a = start(t, o)
	a.condition(agent.Torn, events.ReasonUndo)
	if s := a.Status(); s.Whole {
		t.Error("a torn instance is said to be whole")
	}
	undo.set(nil)
	half.set(nil)
	w.applied(3)
	holds(t, fake.Instance(), "variable/a", `"2"`, "variable/b", `"2"`)
	a.is("whole", func(s agent.Status) bool { return s.Whole })
}

func TestAnInstanceThatReadsBackOtherwiseIsDiffering(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"1"`, "variable/b", `"1"`)
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(lying{fake}))
	ack := w.applied(2)
	if ack.Observed == ack.Expected || !slices.Equal(ack.Differing, []string{"variable/a"}) {
		t.Errorf("ack %+v", ack)
	}
	a.condition(agent.Differing, events.ReasonReadBack)
	w.beat("differing", func(b events.Beat) bool { return b.Condition == agent.Differing && b.Observed != b.State })
}

func TestWhatCannotBeObservedIsSaidNotReadBack(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `1`)
	fake := connectortest.NewFake("fake")
	fake.Blind = true
	a := start(t, w.options(fake))
	if ack := w.applied(2); ack.ReadBack || !ack.Observed.IsZero() {
		t.Errorf("ack %+v", ack)
	}
	if s := a.at(2); s.Connectors[0].ReadBack {
		t.Errorf("status %+v", s)
	}
}

func TestSeveralConnectorsChangeTogetherOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `1`, "endpoint/e", `"x"`)
	fault := &failing{op: "apply"}
	one, two := connectortest.NewFake("one"), connectortest.NewFake("two")
	two.Fault = fault.fault
	start(t, w.options(one, two))
	w.applied(2)
	fault.set(connector.Permanent(connector.ReasonWriteFailed, "no"))
	w.set("variable/a", `2`, "endpoint/e", `"y"`)
	w.word(events.WordFailed, 3)
	holds(t, one.Instance(), "variable/a", `1`)
	holds(t, two.Instance(), "endpoint/e", `"x"`)
	fault.set(nil)
	w.set("variable/b", `3`)
	w.applied(4)
	holds(t, one.Instance(), "variable/a", `2`, "variable/b", `3`)
	holds(t, two.Instance(), "endpoint/e", `"y"`)
}
