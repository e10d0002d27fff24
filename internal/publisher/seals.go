package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// maxProofs is how many questions for proofs are answered in a second, one of each agent at most; who gets no answer asks again later.
const maxProofs = 500

// A growth is the tree over the entries that were read back from the bus. It has a lock of its own: it is grown behind every append,
// and nothing that is on a release's way waits for it.
type growth struct {
	mu   sync.Mutex
	tree seal.Tree
}

// add adds an entry that was read back, if it is the next one.
func (g *growth) add(s bus.Stored) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.Sequence != g.tree.Size()+1 {
		return nil
	}
	return g.tree.Append(s.Payload)
}

// head is the whole tree's.
func (g *growth) head(ledger string) (seal.Head, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := seal.Head{Ledger: ledger, Size: g.tree.Size()}
	if h.Size == 0 {
		return h, nil
	}
	var err error
	h.Root, err = g.tree.Root(h.Size)
	return h, err
}

func (g *growth) root(size uint64) (events.Digest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tree.Root(size)
}

func (g *growth) consistency(from, size uint64) ([]events.Digest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tree.Consistency(from, size)
}

func (g *growth) inclusion(number, size uint64) ([]events.Digest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tree.Inclusion(number, size)
}

// A sealing is a seal with the proof that it continues the one before it.
type sealing struct {
	head   seal.Head
	note   string
	before uint64 // entries under the seal before it; 0: there was none
	proof  []events.Digest
}

// after seals what the tree holds now, as the continuation of a sealing.
func (g *growth) after(before sealing, ledger string, by *events.Signer) (sealing, error) {
	head, err := g.head(ledger)
	if err != nil || head == before.head || head.Size == 0 {
		return before, err
	}
	next := sealing{head: head, before: before.head.Size}
	if next.before > 0 {
		if next.proof, err = g.consistency(next.before, head.Size); err != nil {
			return before, err
		}
	}
	next.note, err = seal.Sign(head, by)
	return next, err
}

// answerProofs answers agents that missed seals, until ctx ends.
func (p *Publisher) answerProofs(ctx context.Context) error {
	var window time.Time
	answered := map[fleet.AgentID]bool{}
	stop, err := p.conn.AnswerProofs(func(environment, agent string, question []byte) ([]byte, string) {
		if now := time.Now(); now.Sub(window) > time.Second {
			window = now
			clear(answered)
		}
		id := fleet.AgentID{Environment: environment, Agent: agent}
		if answered[id] || len(answered) >= maxProofs {
			return nil, ""
		}
		answered[id] = true
		answer, signature, err := p.prove(ctx, question)
		if err != nil {
			p.log.Debug().Err(err).Msg("a question for a proof has no answer")
			return nil, ""
		}
		return answer, signature
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	stop()
	return nil
}

// prove answers a question: with the proof that the ledger continues the seal that is asked about, or with the loss that explains why
// it does not.
func (p *Publisher) prove(ctx context.Context, question []byte) (answer []byte, signature string, err error) {
	q, err := seal.DecodeQuestion(question)
	if err != nil {
		return nil, "", err
	}
	var id string
	var losses []ledger.Loss
	p.book.read(func(s *ledger.State) { id, losses = s.ID, slices.Clone(s.Losses) })
	head, err := p.book.grown.head(id)
	if err != nil {
		return nil, "", err
	}
	if q.Ledger != id || q.Size > head.Size {
		return nil, "", fmt.Errorf("it is about %d entries of ledger %q, and %d of %s are known here", q.Size, q.Ledger, head.Size, id)
	}
	a := seal.Answer{Nonce: q.Nonce, Asked: q.Head}
	root, err := p.book.grown.root(q.Size)
	if err != nil {
		return nil, "", err
	}
	explains := func(l ledger.Loss) bool { return l.First <= q.Size && q.Size <= l.Last && l.Entry <= head.Size }
	if i := slices.IndexFunc(losses, explains); root != q.Root && i >= 0 {
		if a.Loss, err = p.lossProof(ctx, losses[i].Entry, head.Size); err != nil {
			return nil, "", err
		}
	} else if a.Proof, err = p.book.grown.consistency(q.Size, head.Size); err != nil {
		return nil, "", err
	}
	if a.Seal, err = seal.Sign(head, p.signer); err != nil {
		return nil, "", err
	}
	if answer, signature, err = seal.EncodeAnswer(a, p.signer); len(answer) > seal.MaxAnswer {
		return nil, "", fmt.Errorf("the answer has %d bytes", len(answer))
	}
	return answer, signature, err
}

// lossProof is the entry that says what was lost, with its place under a seal.
func (p *Publisher) lossProof(ctx context.Context, number, size uint64) (*seal.Loss, error) {
	found := errors.New("found")
	var l seal.Loss
	err := p.conn.ReadLedger(ctx, number, func(s bus.Stored) error { l.Entry = s.Payload; return found })
	if !errors.Is(err, found) {
		return nil, errors.Join(err, fmt.Errorf("entry %d could not be read", number))
	}
	l.Proof, err = p.book.grown.inclusion(number, size)
	return &l, err
}
