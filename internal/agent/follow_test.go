package agent_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

func TestWhatThePublisherDidNotReleaseIsCountedAndNeverApplied(t *testing.T) {
	w := newWorld(t)
	w.Trust("other")
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(fake))
	first := w.set("variable/a", `"good"`).Releases[0]
	w.applied(2)

	next := w.Draft(foldtest.Set(env, "variable/a", `"evil"`))[0]
	unsigned := w.Seal(next)[0]
	stranger := foldtest.Signer(t, "stranger")
	headers, err := stranger.SignWave(w.Ledger, []events.Digest{unsigned.Chain})
	must(t, err)
	other := w.Seal(w.Draft(foldtest.Set("other", "variable/a", `"evil"`))...)[0]
	wire := bustest.NewWire(t, w.server.ClientURL())
	for _, spoofed := range []bustest.Live{
		{Payload: unsigned.Payload},
		{Payload: unsigned.Payload, Signature: headers[0]},
		{Payload: unsigned.Payload, Signature: first.Header},
		{Payload: bytes.Replace(unsigned.Payload, []byte("evil"), []byte("more"), 1), Signature: unsigned.Header},
		{Payload: other.Payload, Signature: other.Header},
		{Payload: []byte("noise"), Signature: unsigned.Header},
		{Payload: first.Payload, Signature: first.Header}, // replayed: known, dropped silently
	} {
		spoofed.Environment = env
		wire.Publish(spoofed)
	}
	wire.Flush()
	a.is("counted", func(s agent.Status) bool {
		return s.Rejected["signature"] == 4 && s.Rejected["environment"] == 1 && s.Rejected["malformed"] == 1
	})
	w.beat("reports what was rejected", func(b events.Beat) bool { return b.Rejected == 6 })
	w.set("variable/b", `"good"`)
	w.applied(3)
	holds(t, fake.Instance(), "variable/a", `"good"`, "variable/b", `"good"`)
}

func TestASignedReleaseThatDoesNotVerifyIsRefusedAndNothingBehindItIsApplied(t *testing.T) {
	w := newWorld(t)
	fake := connectortest.NewFake("fake")
	o := w.options(fake)
	a := start(t, o)
	w.set("variable/a", `1`)
	w.applied(2)
	draft := w.Draft(foldtest.Set(env, "variable/a", `2`))[0]
	draft.Change.Approvals = nil
	bad := w.Seal(draft)[0]
	w.send(bad)
	if ack := w.word(events.WordRefused, 3); ack.Reason != events.ReasonApprovals || ack.Chain != bad.Chain {
		t.Errorf("ack %+v", ack)
	}
	behind := w.Draft(foldtest.Set(env, "variable/a", `3`))[0]
	behind.Revision, behind.Previous = 4, bad.Chain
	w.send(w.Seal(behind)...)
	if ack := w.word(events.WordBlocked, 4); ack.By != 3 {
		t.Errorf("ack %+v", ack)
	}
	holds(t, fake.Instance(), "variable/a", `1`)
	a.condition(agent.Failing, events.ReasonApprovals)
	a.stop()
	said := len(w.words())
	a = start(t, o)
	a.is("refused again", func(s agent.Status) bool { return s.Head == 4 && s.Failure != nil })
	holds(t, fake.Instance(), "variable/a", `1`)
	if got := w.words(); len(got) != said {
		t.Errorf("the same refusal was said again: %v", got)
	}
}

func TestAChainThatMissesThePinnedHeadIsAForkedLedger(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `1`)
	o := w.options(connectortest.NewFake("fake"))
	o.Enrolment.Head.Chain = events.Sum([]byte("another history"))
	a := start(t, o)
	a.condition(agent.Failing, events.ReasonLedgerForked)
	w.word(events.WordRefused, 2)
	a.at(1)
}

func TestASignedForkStopsTheAgent(t *testing.T) {
	w := newWorld(t)
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(fake))
	fork := w.Seal(w.Draft(foldtest.Set(env, "variable/a", `"fork"`))...)[0]
	w.set("variable/a", `"true"`)
	w.applied(2)
	wire := bustest.NewWire(t, w.server.ClientURL())
	wire.Publish(bustest.Live{Environment: env, Payload: fork.Payload, Signature: fork.Header})
	a.condition(agent.Failing, events.ReasonLedgerForked)
	w.beat("forked", func(b events.Beat) bool { return b.Reason == events.ReasonLedgerForked })
	holds(t, fake.Instance(), "variable/a", `"true"`)
}

// TestAnAgentGoesOnWhenTheForkIsRepaired: it looks again by itself, says forked as long as it is so, and needs no restart.
func TestAnAgentGoesOnWhenTheForkIsRepaired(t *testing.T) {
	w := newWorld(t)
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(fake))
	w.applied(1)
	true1, fork := w.stored()[0], w.Seal(w.Draft(foldtest.Set(env, "variable/a", `"fork"`))...)[0]
	true2 := w.set("variable/a", `"true"`).Releases[0]
	w.applied(2)
	must(t, w.conn.PurgeReleases(bustest.Context(t), env))
	w.send(true1, fork)
	a.condition(agent.Failing, events.ReasonLedgerForked)
	holds(t, fake.Instance(), "variable/a", `"true"`)
	must(t, w.conn.PurgeReleases(bustest.Context(t), env))
	w.send(true1, true2)
	w.set("variable/a", `"later"`)
	w.applied(3)
	holds(t, fake.Instance(), "variable/a", `"later"`)
	w.pulse(1, "")
	a.condition(agent.InStep, "")
}

func TestADeletedAndRebuiltReleaseStreamChangesNothing(t *testing.T) {
	w := newWorld(t)
	all := w.Publisher.Environment(env)
	first := w.set("variable/a", `1`)
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(fake))
	w.applied(2)
	trust := w.stored()[0]
	bustest.NewWire(t, w.server.ClientURL()).DropStream(events.StreamReleases)
	a.is("misses its head", func(s agent.Status) bool {
		return s.Condition.Reason == events.ReasonHistoryMissing || s.Condition.Word == agent.Stale
	})
	bustest.Streams(t, w.conn)
	w.send(trust)
	w.send(first.Releases...)
	w.set("variable/a", `2`)
	w.applied(3)
	holds(t, fake.Instance(), "variable/a", `2`)
	if s := a.at(3); s.Checkpoint.Chain != all.Chain || len(w.words()) != 2 {
		t.Errorf("status %+v, acks %v", s, w.words())
	}
}

// stored are the releases on the bus.
func (w *world) stored() (list []foldtest.Release) {
	w.t.Helper()
	must(w.t, w.conn.ReadReleases(bustest.Context(w.t), env, func(s bus.Stored) error {
		list = append(list, foldtest.Release{Environment: env, Payload: s.Payload, Header: s.Signature})
		return nil
	}))
	return list
}

func TestNewPublisherKeysCountFromTheirTrustDocumentOn(t *testing.T) {
	w := newWorld(t)
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(fake))
	w.applied(1)
	next := foldtest.Signer(t, "next publisher")
	w.send(w.Publish(w.DraftTrust(events.Trust{Version: 2, Ledger: w.Ledger, Publishers: []string{next.Public()}, Approvals: events.ApprovalsAreNames}, env)...)...)
	w.applied(2)
	old := w.Seal(w.Draft(foldtest.Set(env, "variable/a", `"old key"`))...)[0]
	bustest.NewWire(t, w.server.ClientURL()).Publish(bustest.Live{Environment: env, Payload: old.Payload, Signature: old.Header})
	a.is("refuses the old key", func(s agent.Status) bool { return s.Rejected["signature"] == 1 })
	w.Signer = next
	w.set("variable/a", `"new key"`)
	w.applied(3)
	holds(t, fake.Instance(), "variable/a", `"new key"`)
	w.pulse(1, "")
	a.condition(agent.InStep, "")
}

func TestPulsesThatAreNotNewAndSignedAreNotHeard(t *testing.T) {
	w := newWorld(t)
	a := start(t, w.options(connectortest.NewFake("fake")))
	w.applied(1)
	good, sig, err := events.EncodePulse(events.Pulse{Ledger: w.Ledger, Counter: 5, Tip: events.LedgerTip{Number: 3}, Clock: time.Now()}, w.Signer)
	must(t, err)
	strange, strangeSig, err := events.EncodePulse(events.Pulse{Ledger: w.Ledger, Counter: 9, Clock: time.Now()}, foldtest.Signer(t, "stranger"))
	must(t, err)
	foreign, foreignSig, err := events.EncodePulse(events.Pulse{Ledger: "other", Counter: 9, Clock: time.Now()}, w.Signer)
	must(t, err)
	must(t, w.conn.PublishPulse(strange, strangeSig))
	must(t, w.conn.PublishPulse(foreign, foreignSig))
	a.is("counted", func(s agent.Status) bool { return s.Rejected["pulse"] == 2 && s.LastPulse.IsZero() })
	must(t, w.conn.PublishPulse(good, sig))
	a.condition(agent.InStep, "")
	must(t, w.conn.PublishPulse(good, sig))
	a.is("a replay is counted", func(s agent.Status) bool { return s.Rejected["pulse"] == 3 })
}

func TestAPulseOlderThanWhatWasSeenIsALedgerTruncatedOrForked(t *testing.T) {
	w := newWorld(t)
	a := start(t, w.options(connectortest.NewFake("fake")))
	w.applied(1) // then it listens to pulses too
	w.pulse(9, "nine")
	a.condition(agent.InStep, "")
	w.pulse(8, "eight")
	a.condition(agent.Failing, events.ReasonLedgerTruncated)
	w.beat("truncated", func(b events.Beat) bool { return b.Reason == events.ReasonLedgerTruncated && b.Seen.Number == 9 })
	w.pulse(9, "nine")
	a.condition(agent.InStep, "")
	w.pulse(9, "another nine")
	a.condition(agent.Failing, events.ReasonLedgerForked)
	w.pulse(10, "ten")
	a.condition(agent.Failing, events.ReasonLedgerForked)
}

func TestAClockThatIsWrongIsToldAndChangesNothingElse(t *testing.T) {
	w := newWorld(t)
	o := w.options(connectortest.NewFake("fake"))
	o.Clock = func() time.Time { return time.Now().Add(time.Hour) }
	a := start(t, o)
	w.applied(1)
	w.pulse(1, "")
	w.beat("in step, an hour ahead", func(b events.Beat) bool { return b.Condition == agent.InStep && time.Until(b.Clock) > 50*time.Minute })
	a.condition(agent.InStep, "")
}

func TestAcksAreSentUntilTheBusHasThemEvenAfterARestart(t *testing.T) {
	w := newWorld(t)
	o := w.options(connectortest.NewFake("fake"))
	blocked := o
	blocked.Fault = func(p fault.Point, _ fault.Stage) error {
		if p == fault.AckSent {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	a := start(t, blocked)
	a.at(1)
	a.is("keeps its ack", func(s agent.Status) bool { return s.Outbox == 1 })
	a.stop()
	if len(w.words()) != 0 {
		t.Fatalf("acks %v", w.words())
	}
	a = start(t, o)
	if ack := w.applied(1); !ack.Resent || ack.Number != 1 {
		t.Errorf("ack %+v", ack)
	}
	w.set("variable/a", `1`)
	if ack := w.applied(2); ack.Resent || ack.Number != 2 {
		t.Errorf("ack %+v", ack)
	}
	a.is("empty", func(s agent.Status) bool { return s.Outbox == 0 && s.LastAck == 2 })
	a.stop()
	s, err := store.OpenReadOnly(filepath.Join(o.State, "agent.db"))
	must(t, err)
	defer s.Close()
	must(t, s.View(func(tx *store.Tx) error {
		acks, err := tx.Outbox()
		if len(acks) != 0 {
			t.Errorf("the store still keeps %v", acks)
		}
		return err
	}))
}

func TestAnAgentWithoutTheBusServesItsLastStateAndSaysStaleSinceWhen(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `1`)
	fake := connectortest.NewFake("fake")
	o := w.options(fake)
	a := start(t, o)
	w.applied(2)
	w.pulse(1, "")
	heard := a.condition(agent.InStep, "").LastPulse
	a.stop()
	o.Enrolment.Bus.URL = "nats://127.0.0.1:1"
	o.MaxStale = time.Nanosecond
	a = start(t, o)
	s := a.condition(agent.Stale, events.ReasonBusDown)
	if s.Checkpoint.Revision != 2 || s.Unverified || !s.Condition.Since.Equal(events.Stamp(heard)) && s.Condition.Since.Sub(heard).Abs() > time.Second {
		t.Errorf("status %+v, heard %s", s, heard)
	}
	holds(t, fake.Instance(), "variable/a", `1`)
}

// TestARevokedAgentSaysSo: it is not merely unreachable, and waiting mends nothing. So it is after a restart.
func TestARevokedAgentSaysSo(t *testing.T) {
	w := newWorld(t)
	o := w.options(connectortest.NewFake("fake"))
	guarded := bustest.StartGuarded(t)
	key := foldtest.Signer(t, name).Public()
	jwt, err := guarded.Authority.Agent(env, name, key)
	must(t, err)
	o.Enrolment.Bus.URL, o.Enrolment.Bus.JWT = guarded.ClientURL(), jwt
	var log locked
	o.Log = zerolog.New(&log)
	lines := func() int { return strings.Count(log.String(), `"reason":"bus-refused"`) }
	a := start(t, o)
	a.is("connected", func(s agent.Status) bool { return s.Connected })
	accounts, err := guarded.Authority.Accounts([]string{key})
	must(t, err)
	must(t, bus.PushAccounts(bustest.Context(t), bus.Options{Name: "system", URL: guarded.ClientURL(), Credentials: guarded.Authority.System()}, accounts))
	for said := 1; said <= 2; said++ {
		s := a.condition(agent.Stale, events.ReasonBusRefused)
		if s.Connected || !strings.Contains(s.Condition.Message, "revoked") {
			t.Errorf("%+v", s.Condition)
		}
		bustest.Eventually(t, "a line in the log", func() bool { return lines() >= said })
		a.stop()
		if n := lines(); n != said {
			t.Errorf("%d lines say so, want %d", n, said)
		}
		a = start(t, o)
	}
}

func TestAnAgentRestoredFromAnOldDiskImageDoesNotRewindTheInstance(t *testing.T) {
	for _, step := range []bool{false, true} {
		t.Run(fmt.Sprintf("step %v", step), func(t *testing.T) { restoredFromAnOldDiskImage(t, step) })
	}
}

func restoredFromAnOldDiskImage(t *testing.T, step bool) {
	w := newWorld(t)
	w.set("variable/a", `"2"`)
	fake := connectortest.NewFake("fake")
	var writes []string
	fake.Fault = func(op string) error {
		if op == "apply:late" {
			writes = append(writes, string(fake.Instance().Values()["variable/a"]))
		}
		return nil
	}
	o := w.options(fake)
	o.Step = step
	a := start(t, o)
	w.applied(2)
	a.stop()
	image := shortDir(t)
	must(t, os.CopyFS(image, os.DirFS(o.State)))
	a = start(t, o)
	w.set("variable/a", `"3"`)
	w.applied(3)
	w.set("variable/a", `"4"`)
	w.applied(4)
	a.stop()
	w.set("variable/a", `"5"`)
	before := len(writes)
	o.State = image
	a = start(t, o)
	a.at(5)
	a.stop()
	if got := strings.Join(writes[before:], " "); got != `"5"` {
		t.Errorf("the instance was taken from 4 over %s", got)
	}
}

func TestAnOldDiskImageWithoutTheBusTouchesNothing(t *testing.T) {
	w := newWorld(t)
	w.set("variable/a", `"2"`)
	fake := connectortest.NewFake("fake")
	o := w.options(fake)
	a := start(t, o)
	w.applied(2)
	a.stop()
	fake.Instance().Set("variable/a", []byte(`"newer"`))
	url := o.Enrolment.Bus.URL
	o.Enrolment.Bus.URL = "nats://127.0.0.1:1"
	a = start(t, o)
	a.is("unverified", func(s agent.Status) bool { return s.Unverified && s.Condition.Word == agent.Stale })
	must(t, a.Retry(t.Context()))
	holds(t, fake.Instance(), "variable/a", `"newer"`)
	a.stop()
	// With the bus it is known that nothing newer was released: then it is a difference, and said so.
	o.Enrolment.Bus.URL = url
	a = start(t, o)
	a.condition(agent.Differing, events.ReasonReadBack)
	holds(t, fake.Instance(), "variable/a", `"newer"`)
	must(t, a.Retry(t.Context()))
	holds(t, fake.Instance(), "variable/a", `"2"`)
	a.is("not differing", func(s agent.Status) bool { return len(s.Differing) == 0 })
}
