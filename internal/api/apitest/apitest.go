// Package apitest is a publisher in memory, for tests of the API and of the CLI: a real ledger with real decisions, without a bus,
// and agents that apply, fail or stay mute as they are told. It serves on the same interface as internal/publisher.
package apitest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

var _ api.Backend = (*Publisher)(nil)

// A Publisher is a ledger in memory. Its methods are safe for concurrent use.
type Publisher struct {
	t          testing.TB
	mu         sync.Mutex
	state      *ledger.State
	entries    [][]byte
	journal    audit.Journal
	signer     *events.Signer
	held       map[uint64][]ledger.Released // what the release stream would hold, by entry
	agents     []*agent
	unwritable *api.UnavailableError
	unproven   bool
	alarms     notify.State
}

// Conduct is what an agent does with a release.
type Conduct int

// The conducts of agents.
const (
	Applies  Conduct = iota // reads back what it applied
	Blind                   // applies, and cannot read back
	Fails                   // says why
	StaysOut                // beats, and does nothing
)

type agent struct {
	fleet.AgentID
	signer  *events.Signer
	conduct Conduct
	acks    uint64
}

// New is a publisher whose ledger has begun.
func New(t testing.TB) *Publisher {
	p := &Publisher{t: t, state: ledger.New("0b7c5f0e-1f5e-4a1e-9d53-0d2f6a6f7c11"), signer: newSigner(t), held: map[uint64][]ledger.Released{}}
	p.Must("publisher", ledger.Genesis{Publisher: p.signer.Public()})
	return p
}

func newSigner(t testing.TB) *events.Signer {
	t.Helper()
	seed, err := keys.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := events.NewSigner(seed)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// Must does what cannot be refused.
func (p *Publisher) Must(by string, body ledger.Body) ledger.Outcome {
	p.t.Helper()
	out, err := p.Do(p.t.Context(), ledger.Command{By: by, Body: body}, false)
	if err != nil {
		p.t.Fatalf("%T by %s: %v", body, by, err)
	}
	return out
}

// Agent enrols an agent that conducts itself so from now on.
func (p *Publisher) Agent(environment, name string, conduct Conduct) {
	p.t.Helper()
	a := &agent{AgentID: fleet.AgentID{Environment: environment, Agent: name}, signer: newSigner(p.t), conduct: conduct}
	p.mu.Lock()
	p.agents = append(p.agents, a)
	p.mu.Unlock()
	p.Must("steward", ledger.EnrolAgent{Environment: environment, Agent: name, Key: a.signer.Public()})
}

// Unwritable makes every later command fail; nil lets them through again.
func (p *Publisher) Unwritable(err *api.UnavailableError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unwritable = err
}

// Unproven makes nothing show that an append survives power loss.
func (p *Publisher) Unproven() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unproven = true
}

// Do implements api.Backend.
func (p *Publisher) Do(_ context.Context, c ledger.Command, dryRun bool) (ledger.Outcome, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unwritable != nil {
		return ledger.Outcome{}, p.unwritable
	}
	out, err := p.do(c, dryRun)
	if err == nil && !dryRun {
		p.converse()
	}
	return out, err
}

func (p *Publisher) do(c ledger.Command, dryRun bool) (ledger.Outcome, error) {
	c.DryRun = dryRun
	for {
		d, err := p.state.Decide(c, time.Now())
		if err != nil {
			return ledger.Outcome{}, err
		}
		out := ledger.Outcome{Result: d.Result, Digest: d.Digest, Terms: d.Terms, DryRun: dryRun && !d.Known, Again: d.Known, Effect: d.Effect, Notes: d.Notes}
		if d.Known || dryRun {
			return out, nil
		}
		for _, entry := range append(d.Stores, d.Entry) {
			if entry == nil {
				continue
			}
			applied, released, err := p.state.Apply(entry, time.Now())
			if err == nil {
				err = p.journal.Add(p.state, applied)
			}
			if err != nil {
				return out, err
			}
			p.entries = append(p.entries, entry)
			p.held[p.state.Number] = released
		}
		if d.Entry != nil {
			out.Entry = p.state.Number
			return out, nil
		}
	}
}

// converse lets every agent answer the releases that it has not answered.
func (p *Publisher) converse() {
	var deliveries []events.Delivery
	for _, a := range p.agents {
		e := p.state.Environments[a.Environment]
		known := e.Agents[a.Agent]
		if known == nil || known.Revoked || known.Position == e.Head() || a.conduct == StaysOut {
			continue
		}
		deliveries = append(deliveries, a.answer(p.t, p.state.ID, e.Releases[known.Position:]))
	}
	if len(deliveries) == 0 {
		return
	}
	if _, err := p.do(ledger.Command{By: "publisher", Body: ledger.RecordDeliveries{Deliveries: deliveries}}, false); err != nil {
		p.t.Errorf("record deliveries: %v", err)
	}
}

func (a *agent) answer(t testing.TB, id string, releases []ledger.Release) events.Delivery {
	first, last := releases[0], releases[len(releases)-1]
	a.acks++
	ack := events.Ack{
		Environment: a.Environment, Agent: a.Agent, Ledger: id, Number: a.acks, Word: events.WordApplied,
		First: first.Revision, Last: last.Revision, Chain: last.Chain, Expected: last.State, Observed: last.State, ReadBack: true,
	}
	switch a.conduct {
	case Blind:
		ack.Observed, ack.ReadBack = events.Digest{}, false
	case Fails:
		if last.Kind != events.KindTrust {
			ack.Word, ack.Reason, ack.Message, ack.Observed = events.WordFailed, events.ReasonConnector, "the instance answered 500", events.Digest{}
		}
	}
	payload, header, err := events.EncodeAck(ack, time.Now(), a.signer)
	if err != nil {
		t.Errorf("encode an ack: %v", err)
	}
	return events.Delivery{Environment: a.Environment, Agent: a.Agent, Stamp: time.Now(), Ack: payload, Signature: header}
}

// Read implements api.Backend.
func (p *Publisher) Read(fn func(s *ledger.State, r fleet.Reports, asOf time.Time)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn(p.state, p.reports(), time.Now())
}

// reports are the beats of all agents, each of which has beaten just now.
func (p *Publisher) reports() fleet.Reports {
	r := fleet.Reports{Beats: map[fleet.AgentID]fleet.Beat{}}
	for _, a := range p.agents {
		e := p.state.Environments[a.Environment]
		known := e.Agents[a.Agent]
		if known == nil || known.Revoked {
			continue
		}
		beat := events.Beat{Environment: a.Environment, Agent: a.Agent, Clock: time.Now(), Version: "v1.2.3", Revision: known.Position, Connectors: []string{"file"}, Condition: string(fleet.InStep)}
		switch {
		case known.Open != nil:
			beat.Condition, beat.Reason, beat.Message, beat.Since = string(fleet.Failing), known.Open.Reason, known.Open.Message, known.Open.Stamp
		case known.Position < e.Head():
			beat.Condition = string(fleet.Behind)
		}
		if known.Position > 0 {
			at := e.Releases[known.Position-1]
			beat.Chain, beat.State = at.Chain, at.State
		}
		r.Beats[a.AgentID] = fleet.Beat{Beat: beat, Stamp: time.Now()}
	}
	return r
}

// Fleet implements api.Backend.
func (p *Publisher) Fleet() (view fleet.View) {
	p.Read(func(s *ledger.State, r fleet.Reports, asOf time.Time) {
		about := fleet.LedgerView{Writable: true, Durability: "proven"}
		if p.unproven {
			about.Durability = "accepted without proof"
		}
		if p.unwritable != nil {
			about.Writable, about.Reason, about.Message = false, p.unwritable.Reason, p.unwritable.Message
		}
		view = fleet.Build(s, r, about, asOf)
	})
	return view
}

// Decisions are those that a filter wants before an entry, newest first, and at most so many.
func (p *Publisher) Decisions(f audit.Filter, before uint64, most int) audit.Page {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.journal.Find(f, before, most)
}

// BusURL implements api.Backend.
func (p *Publisher) BusURL() string { return "nats://127.0.0.1:4222" }

// IssuesCredentials implements api.Backend.
func (p *Publisher) IssuesCredentials() bool { return false }

// Credentials implements api.Backend.
func (p *Publisher) Credentials(string, string, string) (string, error) { return "", nil }

// Verify implements api.Backend.
func (p *Publisher) Verify(context.Context) (api.Verification, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := api.Verification{Ledger: p.state.ID, OK: true, Message: "every entry follows the one before, and every release is derived as it was recorded"}
	again := ledger.New(p.state.ID)
	for _, entry := range p.entries {
		_, released, err := again.Apply(entry, time.Now())
		if err != nil {
			out.OK, out.Message, out.Next = false, err.Error(), "restore the ledger from a copy"
			break
		}
		out.Releases += len(released)
		out.Tip = events.LedgerTip{Number: again.Number, Hash: again.Hash}
	}
	return out, nil
}

// Doctor implements api.Backend.
func (p *Publisher) Doctor(context.Context) []api.Check {
	p.mu.Lock()
	defer p.mu.Unlock()
	writable := api.Check{Name: "ledger", OK: true, Message: "writable"}
	if p.unwritable != nil {
		writable = api.Check{Name: "ledger", Message: p.unwritable.Message, Next: p.unwritable.Next}
	}
	return []api.Check{{Name: "bus", OK: true, Message: "reachable at " + p.BusURL()}, writable}
}

// Tamper flips a bit of the stored ledger.
func (p *Publisher) Tamper() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries[len(p.entries)/2][10] ^= 1
}
