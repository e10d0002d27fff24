package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus/bare"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// steps is the share of the revisions that is applied one by one: each costs two writes to the disk or more.
const steps = 40

// A past is the history of one environment on a bus, and the enrolment of an agent that has missed all of it.
type past struct {
	enrolment *keys.Enrolment
	revisions int
	conn      *bare.Conn
	starts    int
}

// newPast makes a history without a publisher: the ledger's state is pure, and so are the releases that follow from it.
func newPast(ctx context.Context, g *lifecycle.Group, dir string, revisions int) (*past, error) {
	server, err := embedded.Start(embedded.Options{StoreDir: filepath.Join(dir, "bus"), Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	g.Defer("bus", func(context.Context) error { server.Shutdown(); return nil })
	if err := makeStreams(ctx, server.ClientURL()); err != nil {
		return nil, err
	}
	h, err := newHistory()
	if err != nil {
		return nil, err
	}
	p := &past{revisions: revisions}
	if p.enrolment, err = h.begin(server.ClientURL()); err != nil {
		return nil, err
	}
	for i := len(h.messages); i < revisions; i++ {
		if err := h.change(i); err != nil {
			return nil, err
		}
	}
	if p.conn, err = bare.Dial(server.ClientURL()); err != nil {
		return nil, err
	}
	g.Defer("connection", func(context.Context) error { p.conn.Close(); return nil })
	_, err = p.conn.Publish(ctx, h.messages)
	return p, err
}

// A history is a ledger in memory.
type history struct {
	state    *ledger.State
	signer   *events.Signer
	messages []bare.Message
}

func newHistory() (*history, error) {
	seed, err := keys.NewSeed()
	if err != nil {
		return nil, err
	}
	signer, err := events.NewSigner(seed)
	return &history{state: ledger.New(bareLedger), signer: signer}, err
}

// begin makes the ledger's beginning, an environment, and an agent.
func (h *history) begin(url string) (*keys.Enrolment, error) {
	seed, err := keys.NewSeed()
	if err != nil {
		return nil, err
	}
	agent, err := events.NewSigner(seed)
	if err != nil {
		return nil, err
	}
	name := environmentName(0)
	for _, body := range []ledger.Body{
		ledger.Genesis{Publisher: h.signer.Public()},
		ledger.AddEnvironment{Name: name, Approvals: 1},
		ledger.EnrolAgent{Environment: name, Agent: agentName, Key: agent.Public()},
	} {
		if _, err := h.do(author, body); err != nil {
			return nil, err
		}
	}
	head := h.state.Environments[name].Fold
	trust, err := h.state.Trust().Digest()
	return &keys.Enrolment{
		Environment: name, Agent: agentName, Seed: string(seed), Ledger: bareLedger, Publishers: h.state.Trust().Publishers, Trust: trust,
		Head: keys.Head{Revision: head.Revision, Chain: head.Chain}, Bus: keys.Bus{URL: url},
	}, err
}

// change makes one more revision.
func (h *history) change(n int) error {
	values := first(keysPerAgent)
	values[changedKey] = roundValue(uint64(n))
	proposed, err := h.do(author, ledger.Propose{Reason: reason, Edits: []ledger.Edit{{Environments: []string{environmentName(0)}, Set: values}}})
	if err != nil {
		return err
	}
	_, err = h.do(approver, ledger.Approve{Change: proposed, Digest: h.state.Changes[proposed].Digest})
	return err
}

// do decides and applies a command, and notes what it released.
func (h *history) do(by string, body ledger.Body) (change string, err error) {
	for {
		d, err := h.state.Decide(ledger.Command{By: by, Body: body}, time.Now())
		if err != nil {
			return "", err
		}
		entries := d.Stores
		if d.Entry != nil {
			entries = [][]byte{d.Entry}
		}
		for _, entry := range entries {
			if err := h.apply(entry); err != nil {
				return "", err
			}
		}
		if d.Entry != nil {
			return d.Result.Change, nil
		}
	}
}

func (h *history) apply(entry []byte) error {
	_, released, err := h.state.Apply(entry, time.Now())
	if err != nil {
		return err
	}
	for _, r := range released {
		headers, err := h.signer.SignWave(h.state.ID, []events.Digest{r.Chain})
		if err != nil {
			return err
		}
		h.messages = append(h.messages, bare.Message{
			Subject: events.ReleaseSubject(r.Environment), Payload: r.Payload, Signature: headers[0], Expected: uint64(len(h.messages)),
		})
	}
	return nil
}

// catchUp starts an agent that knows nothing and returns how long it took to apply everything.
func (p *past) catchUp(ctx context.Context, dir string, step bool) (took time.Duration, err error) {
	p.starts++
	g := lifecycle.New(ctx)
	defer func() { err = errors.Join(err, g.Stop(context.WithoutCancel(ctx))) }()
	a, err := openAgent(g, p.enrolment, filepath.Join(dir, "agent-"+strconv.Itoa(p.starts)), step)
	if err != nil {
		return 0, err
	}
	g.Defer("agent", a.Stop)
	began := time.Now()
	if err := a.Start(ctx); err != nil {
		return 0, err
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		s := a.Status()
		if s.Checkpoint.Revision == uint64(p.revisions) {
			return time.Since(began), nil
		}
		select {
		case <-look.C:
		case <-a.Done():
			return 0, fmt.Errorf("the agent ended at revision %d of %d: %s", s.Checkpoint.Revision, p.revisions, s.Condition.Message)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// folded measures an agent that missed everything.
func folded(ctx context.Context, o Options) (rows []Row, err error) {
	err = stage(ctx, o, 1, func(g *lifecycle.Group, dir, _ string) error {
		o.Progress("%s: making %d revisions", Folded, o.Revisions)
		p, err := newPast(ctx, g, dir, o.Revisions)
		if err != nil {
			return err
		}
		o.Progress("%s: %d rounds", Folded, o.Rounds)
		product, floor, err := alternate(ctx, o.Rounds,
			func(ctx context.Context) (time.Duration, error) { return p.catchUp(ctx, dir, false) },
			func(ctx context.Context) (time.Duration, error) {
				began := time.Now()
				err := p.conn.Drain(ctx, events.StreamReleases, events.ReleaseSubject(environmentName(0)), p.revisions)
				return time.Since(began), err
			})
		if err == nil {
			rows = []Row{atLeast(Folded, 1, product, floor, 0.2)}
		}
		return err
	})
	return rows, err
}

// stepwise measures an agent that applies revision by revision.
func stepwise(ctx context.Context, o Options) (rows []Row, err error) {
	err = stage(ctx, o, 1, func(g *lifecycle.Group, dir, _ string) error {
		p, err := newPast(ctx, g, dir, max(o.Revisions/steps, 3))
		if err != nil {
			return err
		}
		s, err := store.Open(filepath.Join(dir, "bare.db"), store.Identity{Ledger: bareLedger, Environment: environmentName(0), Agent: agentName})
		if err != nil {
			return err
		}
		defer s.Close() // nothing of it is kept
		o.Progress("%s: %d revisions, %d rounds", Stepwise, p.revisions, o.Rounds)
		product, floor, err := alternate(ctx, o.Rounds,
			func(ctx context.Context) (time.Duration, error) { return p.catchUp(ctx, dir, true) },
			func(context.Context) (time.Duration, error) {
				began := time.Now()
				for n := range uint64(p.revisions) {
					if err := errors.Join((replaced{dir}).replace(roundValue(n)), commit(s, n)); err != nil {
						return 0, err
					}
				}
				return time.Since(began), nil
			})
		if err == nil {
			rows = []Row{atLeast(Stepwise, 1, product, floor, 0.7)}
		}
		return err
	})
	return rows, err
}
