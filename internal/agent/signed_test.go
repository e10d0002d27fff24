package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// rotate is a trust document in which another key signs releases, released by a publisher that has that key and not the one before.
func (w *world) rotate(name string) []foldtest.Release {
	w.t.Helper()
	w.Signer = foldtest.Signer(w.t, name)
	return w.Update(func(d *events.Trust) { d.Publishers = []string{w.Signer.Public()} }, env)
}

// TestAReleaseWithoutItsApprovalsIsRefusedAndChangesNothing: the refusal is a signed ack with its reason, said once for each such release,
// and the agent goes on by itself when the release is gone, or another stands in its place.
func TestAReleaseWithoutItsApprovalsIsRefusedAndChangesNothing(t *testing.T) {
	w := newWorldOf(t, foldtest.NewSigned(t))
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(fake))
	w.set("variable/x", `1`)
	w.applied(2)
	for i, value := range []string{`2`, `3`} {
		forged := w.Draft(foldtest.Set(env, "variable/x", value))[0]
		w.Sign(&forged, "ann", "otto") // who may not approve
		sealed := w.Seal(forged)[0]
		w.send(sealed)
		ack := w.said("that refuses "+value, func(ack events.Ack) bool { return ack.Word == events.WordRefused && ack.Chain == sealed.Chain })
		if ack.Reason != events.ReasonApprovals || ack.First != 3 || ack.Last != 3 {
			t.Errorf("%+v", ack)
		}
		if s := a.condition(agent.Failing, events.ReasonApprovals); s.Checkpoint.Revision != 2 {
			t.Errorf("%+v", s.Checkpoint)
		}
		a.looksAgain()
		w.unsend()
		if i == 0 {
			a.is("that forgave", func(s agent.Status) bool { return s.Failure == nil && s.Head == 2 })
		}
	}
	holds(t, fake.Instance(), "variable/x", `1`)
	w.set("variable/x", `4`)
	w.applied(3)
	holds(t, fake.Instance(), "variable/x", `4`)
	if s := a.at(3); s.Failure != nil {
		t.Errorf("%+v", s.Failure)
	}
	if n := strings.Count(fmt.Sprint(w.words()), string(events.WordRefused)); n != 2 {
		t.Errorf("two releases were refused %d times: %v", n, w.words())
	}
}

// looksAgain waits for two more looks at the head.
func (r *running) looksAgain() {
	r.t.Helper()
	for range 2 {
		before := r.Status().LastCheck
		r.is("with another look at the head", func(s agent.Status) bool { return s.LastCheck.After(before) })
	}
}

// unsend takes the newest release of the environment out of the stream.
func (w *world) unsend() {
	w.t.Helper()
	head, err := w.conn.Head(bustest.Context(w.t), env)
	must(w.t, err)
	must(w.t, w.conn.DeleteRelease(bustest.Context(w.t), head.Sequence))
}

// TestAReplacedPublisherKeyCountsFromTheDocumentThatReplacesIt: the document is sent by whoever has the new key, and the agent has never
// heard of that; the roots say so.
func TestAReplacedPublisherKeyCountsFromTheDocumentThatReplacesIt(t *testing.T) {
	w := newWorldOf(t, foldtest.NewSigned(t))
	fake := connectortest.NewFake("fake")
	a := start(t, w.options(fake))
	w.set("variable/x", `1`)
	w.applied(2)
	stolen := w.Signer
	w.send(w.rotate("second publisher")...)
	w.set("variable/x", `2`)
	w.applied(4)
	forged := w.Draft(foldtest.Set(env, "variable/x", `3`))
	w.Signer = stolen
	w.send(w.Seal(forged...)...)
	s := a.is("with a message that it dropped", func(s agent.Status) bool { return len(s.Rejected) > 0 })
	if s.Checkpoint.Revision != 4 {
		t.Errorf("%+v", s.Checkpoint)
	}
	holds(t, fake.Instance(), "variable/x", `2`)
}

// TestAStreamThatANewKeySignedIsReadFromTheBeginning: whoever rebuilds the stream has the newest key only, and an agent that was away
// knows the oldest.
func TestAStreamThatANewKeySignedIsReadFromTheBeginning(t *testing.T) {
	w := newWorldOf(t, foldtest.NewSigned(t))
	fake := connectortest.NewFake("fake")
	o := w.options(fake) // it pins revision 1
	all := w.change("variable/x", `1`).Releases
	all = append(all, w.rotate("second publisher")...)
	all = append(all, w.change("variable/x", `2`).Releases...)
	w.Wait(time.Hour)
	all = append(all, w.Update(trusttest.Remove("dan"), env)...)
	all = append(all, w.rotate("third publisher")...)
	all = append(all, w.change("variable/x", `3`).Releases...)
	for i := range all {
		headers, err := w.Signer.SignWave(w.Ledger, []events.Digest{all[i].Chain})
		must(t, err)
		all[i].Header = headers[0]
	}
	w.send(all...)
	start(t, o).at(7)
	holds(t, fake.Instance(), "variable/x", `3`)
}

// TestATrustDocumentBehindAReleaseThatFailsCounts: what cannot be applied keeps nobody's stolen key alive.
func TestATrustDocumentBehindAReleaseThatFailsCounts(t *testing.T) {
	w := newWorldOf(t, foldtest.NewSigned(t))
	fault := &failing{op: "apply"}
	fault.set(connector.Permanent(connector.ReasonWriteFailed, "no"))
	fake := connectortest.NewFake("fake")
	fake.Fault = fault.fault
	a := start(t, w.options(fake))
	w.set("variable/x", `1`)
	w.word(events.WordFailed, 2)
	w.send(w.rotate("second publisher")...)
	a.is("that has heard of the document", func(s agent.Status) bool { return s.Head == 3 })
	fault.set(nil)
	w.set("variable/x", `2`)
	w.applied(4)
	holds(t, fake.Instance(), "variable/x", `2`)
}
