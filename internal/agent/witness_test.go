package agent_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/connector/connectortest"
	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// A sealer is a publisher that pulses seals and answers questions.
type sealer struct {
	w      *world
	asked  atomic.Int64
	answer atomic.Pointer[func(q seal.Question) (seal.Answer, *events.Signer)]
}

// seals answers nothing until it is told what.
func (w *world) seals() *sealer {
	w.t.Helper()
	s := &sealer{w: w}
	stop, err := w.conn.AnswerProofs(func(_, _ string, question []byte) ([]byte, string) {
		s.asked.Add(1)
		answer := s.answer.Load()
		q, err := seal.DecodeQuestion(question)
		if err != nil || answer == nil {
			return nil, ""
		}
		a, by := (*answer)(q)
		payload, header, err := seal.EncodeAnswer(a, by)
		if err != nil {
			w.t.Errorf("answer: %v", err)
		}
		return payload, header
	})
	must(w.t, err)
	w.t.Cleanup(stop)
	return s
}

// ledgerOf is the tree over a ledger that is like no other from an entry on.
func ledgerOf(t testing.TB, size, fork int) *seal.Tree {
	t.Helper()
	tree := &seal.Tree{}
	for n := 1; n <= size; n++ {
		text := fmt.Sprint("entry ", n)
		if fork > 0 && n >= fork {
			text += " of another ledger"
		}
		must(t, tree.Append([]byte(text)))
	}
	return tree
}

func (s *sealer) head(tree *seal.Tree, size uint64) seal.Head {
	s.w.t.Helper()
	root, err := tree.Root(size)
	must(s.w.t, err)
	return seal.Head{Ledger: s.w.Ledger, Size: size, Root: root}
}

// pulse sends a seal over the first size entries, with the proof from before; 0: without one.
func (s *sealer) pulse(tree *seal.Tree, before, size uint64) {
	t := s.w.t
	t.Helper()
	note, err := seal.Sign(s.head(tree, size), s.w.Signer)
	must(t, err)
	p := events.Pulse{Ledger: s.w.Ledger, Clock: time.Now(), Tip: events.LedgerTip{Number: size, Hash: events.Sum([]byte("the chain is not what is looked at here"))}, Seal: note, Before: before}
	if before > 0 {
		p.Proof, err = tree.Consistency(before, size)
		must(t, err)
	}
	s.w.pulses++
	p.Counter = s.w.pulses
	payload, signature, err := events.EncodePulse(p, s.w.Signer)
	must(t, err)
	must(t, s.w.conn.PublishPulse(payload, signature))
}

// proves answers with what somebody signs: the proof that a ledger of size entries continues what is asked about.
func (s *sealer) proves(tree *seal.Tree, size uint64, by *events.Signer) {
	answer := func(q seal.Question) (a seal.Answer, _ *events.Signer) {
		a.Nonce, a.Asked = q.Nonce, q.Head
		note, err := seal.Sign(s.head(tree, size), by)
		if err == nil {
			a.Proof, err = tree.Consistency(q.Size, size)
		}
		if err != nil {
			s.w.t.Errorf("prove: %v", err)
		}
		a.Seal = note
		return a, by
	}
	s.answer.Store(&answer)
}

// pulseUntil pulses until an agent, which may not listen yet, says so.
func (s *sealer) pulseUntil(r *running, what string, tree *seal.Tree, before, size uint64, match func(agent.Status) bool) {
	s.w.t.Helper()
	r.is(what, func(status agent.Status) bool {
		s.pulse(tree, before, size)
		return match(status)
	})
}

func forked(s agent.Status) bool { return s.Condition.Reason == events.ReasonLedgerForked }
func inStep(s agent.Status) bool { return s.Condition.Word == agent.InStep }

// asking is an agent that asks for proofs soon.
func (w *world) asking() agent.Options {
	o := w.options(connectortest.NewFake("fake"))
	o.Intervals.Pulse = 2 * time.Second
	return o
}

func (r *running) sealedAt(size uint64) {
	r.t.Helper()
	r.is(fmt.Sprint("sealed at ", size), func(s agent.Status) bool { return s.Sealed == size && s.Unproven.IsZero() })
}

func TestAnAgentHoldsEverySealAgainstTheOneBefore(t *testing.T) {
	w := newWorld(t)
	s := w.seals()
	a := start(t, w.options(connectortest.NewFake("fake")))
	w.applied(1)
	one, other := ledgerOf(t, 20, 0), ledgerOf(t, 20, 4)
	s.pulse(one, 0, 5)
	a.sealedAt(5)
	s.pulse(one, 5, 5) // nothing new
	s.pulse(one, 5, 9)
	a.sealedAt(9)
	a.condition(agent.InStep, "")

	s.pulse(other, 9, 12)
	a.condition(agent.Failing, events.ReasonLedgerForked)
	w.beat("says so", func(b events.Beat) bool { return b.Reason == events.ReasonLedgerForked })
	s.pulse(one, 9, 13) // the ledger that was verified is back
	a.condition(agent.InStep, "")
	a.sealedAt(13)
	s.pulse(other, 0, 13)
	a.condition(agent.Failing, events.ReasonLedgerForked)
	if n := s.asked.Load(); n != 0 {
		t.Errorf("%d questions were asked, and every pulse brought its proof", n)
	}
}

func TestAnAgentThatWasAwayAsksForItsOwnProof(t *testing.T) {
	w := newWorld(t)
	s := w.seals()
	o := w.asking()
	one, other := ledgerOf(t, 40, 0), ledgerOf(t, 40, 3)
	a := start(t, o)
	w.applied(1)
	s.pulse(one, 0, 5)
	a.sealedAt(5)
	a.stop()

	a = start(t, o) // it missed the seals up to 30
	s.proves(one, 31, w.Signer)
	s.pulseUntil(a, "proven", one, 30, 31, func(s agent.Status) bool { return s.Sealed == 31 && inStep(s) })
	a.stop()

	s.proves(other, 40, w.Signer)
	a = start(t, o)
	s.pulseUntil(a, "forked", other, 39, 40, forked)
	a.stop()

	a = start(t, o) // a restart does not make it good
	s.pulseUntil(a, "still forked", other, 39, 40, forked)
}

func TestOnlyWhatThePublisherSignedIsAProofOfAFork(t *testing.T) {
	w := newWorld(t)
	s := w.seals()
	a := start(t, w.asking())
	w.applied(1)
	one, other := ledgerOf(t, 20, 0), ledgerOf(t, 20, 2)
	s.pulse(one, 0, 5)
	a.sealedAt(5)
	s.proves(other, 20, foldtest.Signer(t, "stranger"))
	s.pulse(one, 11, 12)
	a.is("asked, and was not told", func(status agent.Status) bool { return s.asked.Load() > 0 && !status.Unproven.IsZero() })
	s.pulseUntil(a, "in step", one, 11, 12, inStep)
	again := func(q seal.Question) (seal.Answer, *events.Signer) { // of another question, whose answer was heard
		return seal.Answer{Nonce: "another", Asked: q.Head, Seal: "a seal\n"}, w.Signer
	}
	s.answer.Store(&again)
	asked := s.asked.Load()
	a.is("asked again", func(agent.Status) bool { return s.asked.Load() > asked })
	s.pulseUntil(a, "in step", one, 11, 12, inStep)
	s.proves(one, 12, w.Signer)
	a.sealedAt(12)
}

func TestALossThatWasAcceptedIsNoFork(t *testing.T) {
	w := newWorld(t)
	s := w.seals()
	a := start(t, w.asking())
	w.applied(1)
	one := ledgerOf(t, 8, 0)
	s.pulse(one, 0, 8)
	a.sealedAt(8)

	loss := events.HistoryRecovered{Loss: &events.Loss{First: 6, Last: 9, Entries: 4, Reason: "the disk is gone"}}
	_, said, err := events.NewEntry(10, events.Sum(nil), w.Ledger, events.Command{By: "olga"}, time.Now(), "", []events.Fact{{Type: events.TypeHistoryRecovered, Data: loss}})
	must(t, err)
	repaired := ledgerOf(t, 9, 6)
	must(t, repaired.Append(said))
	explained := func(q seal.Question) (seal.Answer, *events.Signer) {
		note, err := seal.Sign(s.head(repaired, 10), w.Signer)
		if err != nil {
			t.Errorf("seal: %v", err)
		}
		proof, err := repaired.Inclusion(10, 10)
		if err != nil {
			t.Errorf("prove: %v", err)
		}
		return seal.Answer{Nonce: q.Nonce, Asked: q.Head, Seal: note, Loss: &seal.Loss{Entry: said, Proof: proof}}, w.Signer
	}
	s.answer.Store(&explained)
	s.pulse(repaired, 0, 10)
	a.sealedAt(10)
	s.pulseUntil(a, "in step", repaired, 0, 10, inStep)
}
