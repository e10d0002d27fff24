package agent

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// mostPatience is how many pulses an agent waits at most before it asks for a proof once more.
const mostPatience = 16

// A witness remembers the newest seal of the ledger that was verified, and holds every later one against it: whoever shows it another
// history than before is found out, whatever keys they hold. The first seal is believed. It says what it finds, and stops nothing.
type witness struct {
	ledger string
	key    string          // the agent's own: a seal is of one enrolment
	keys   func() []string // publishers' that count now
	clock  func() time.Time
	every  time.Duration // between pulses
	wake   chan struct{} // a proof is wanted

	mu      sync.Mutex
	kept    store.Seal // newest verified; zero: none
	stored  store.Seal // as the store has it
	problem error      // a publisher signed what contradicts the kept seal
	since   time.Time  // of the first seal that nothing connects with the kept one; zero: there is none
	next    time.Time  // when a proof is asked for
	asked   int        // how often, for these
}

// restore takes what was verified before the start. A new enrolment begins anew: it pins the ledger as it is then.
func (w *witness) restore(s *store.Seal) {
	if s != nil && s.Agent == w.key {
		w.kept, w.stored = *s, *s
	}
}

func (w *witness) head() seal.Head {
	return seal.Head{Ledger: w.ledger, Size: w.kept.Size, Root: w.kept.Root}
}

// hear holds a pulse's seal against the kept one. Pulses of a publisher that makes no seals say nothing.
func (w *witness) hear(p events.Pulse) {
	if p.Seal == "" {
		return
	}
	now, err := seal.Open(p.Seal, w.ledger, w.keys())
	if err != nil {
		return // a kind of seal that is not known here
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.head()
	switch {
	case kept.Size == 0:
		w.keep(now, p.Seal)
	case now.Size == kept.Size:
		w.judge(now, p.Seal, now.Continues(kept, nil))
	case now.Size > kept.Size && p.Before == kept.Size:
		w.judge(now, p.Seal, now.Continues(kept, p.Proof))
	case w.since.IsZero(): // some were missed, or another publisher took over
		w.since = time.Now()
		w.next = w.since.Add(rand.N(w.every))
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// judge takes a seal that a proof connects with the kept one, or notes that a publisher contradicts itself. mu is held.
func (w *witness) judge(now seal.Head, note string, contradiction error) {
	if w.problem = contradiction; contradiction == nil {
		w.keep(now, note)
	}
}

func (w *witness) keep(now seal.Head, note string) {
	w.problem, w.since, w.asked = nil, time.Time{}, 0
	if now != w.head() {
		w.kept = store.Seal{Size: now.Size, Root: now.Root, Note: note, Agent: w.key, At: events.Stamp(w.clock())}
	}
}

// question is what to ask now, if a proof is wanted and it is time; otherwise how long to wait.
func (w *witness) question(now time.Time) (q seal.Question, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return q, time.Hour
	}
	if wait := w.next.Sub(now); wait > 0 {
		return q, wait
	}
	w.next = now.Add(w.every<<min(w.asked, 30) + rand.N(w.every))
	if most := now.Add(mostPatience * w.every); w.next.After(most) {
		w.next = most
	}
	w.asked++
	return seal.Question{Head: w.head(), Nonce: uuid.NewString()}, 0
}

// answer judges the answer to a question. An error that is no contradiction says nothing of the ledger: the question is asked again.
func (w *witness) answer(q seal.Question, payload []byte, signature string) (a seal.Answer, err error) {
	a, sealed, err := seal.DecodeAnswer(payload, signature, q, w.keys())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.head() != q.Head || (err != nil && events.ReasonOf(err) != events.ReasonLedgerForked) {
		return a, err
	}
	w.judge(sealed, a.Seal, err)
	return a, err
}

// unkept is the kept seal, if the store has another one.
func (w *witness) unkept() (store.Seal, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept, w.kept != w.stored
}

func (w *witness) keptAs(s store.Seal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stored = s
}

// seen is the kept seal, since when there are seals that it could not be connected with, and what contradicts it.
func (w *witness) seen() (kept store.Seal, since time.Time, problem error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept, w.since, w.problem
}

// askForProofs asks for the proofs that pulses did not bring: one question at a time, less and less often.
func (a *Agent) askForProofs(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		q, wait := a.witness.question(time.Now())
		if q.Nonce != "" {
			a.askForProof(ctx, q)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-a.witness.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *Agent) askForProof(ctx context.Context, q seal.Question) {
	question, err := events.Encode(q)
	if err != nil {
		a.opts.Log.Warn().Err(err).Msg("could not write a question for a proof")
		return
	}
	payload, signature, err := a.conn.AskProof(ctx, a.opts.Enrolment.Environment, a.opts.Enrolment.Agent, question)
	if err != nil {
		a.opts.Log.Debug().Err(err).Uint64("entries", q.Size).Msg("nobody proves that the ledger continues the seal that was verified")
		return
	}
	answer, err := a.witness.answer(q, payload, signature)
	switch {
	case events.ReasonOf(err) == events.ReasonLedgerForked:
		a.opts.Log.Error().Err(err).Str("seal", answer.Seal).Msg("the publisher signed a ledger that does not continue the one it signed before")
	case err != nil:
		a.opts.Log.Debug().Err(err).Msg("the answer is no proof")
	case answer.Loss != nil:
		if loss, err := answer.Loss.Said(); err == nil {
			a.opts.Log.Warn().Uint64("first", loss.First).Uint64("last", loss.Last).Str("why", loss.Reason).Msg("entries of the ledger were lost, and somebody accepted that: its seals begin anew")
		}
	}
	a.beatOnChange()
}
