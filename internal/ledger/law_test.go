package ledger_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// TestWhateverPeopleDoTheLedgerHolds lets several people do anything, sensible or not, in several environments. After each
// sequence everything that book.verify knows must be true; book.decide compares the state around every decision.
func TestWhateverPeopleDoTheLedgerHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := environments(t, "dev", "prod")
		b.must("op", ledger.AddEnvironment{Name: "edge", Approvals: 2})
		p := people{b: b, t: t}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			p.step()
		}
		b.verify()
		for _, e := range b.state.EnvironmentList() {
			for r := uint64(1); r <= e.Head(); r++ {
				at, err := b.state.Folded(e.Name, r)
				if err != nil || at.State.Digest() != e.Releases[r-1].State || at.Chain != e.Releases[r-1].Chain {
					t.Fatalf("revision %d of %s is folded to another state (%v)", r, e.Name, err)
				}
			}
		}
	})
}

// people draw commands.
type people struct {
	b *book
	t *rapid.T
}

func (p people) pick(what string, from ...string) string {
	return rapid.SampledFrom(from).Draw(p.t, what)
}

func (p people) person() string { return p.pick("person", "anna", "ben", "carla", "dora") }

// environment may be one that is not there, or a pattern.
func (p people) environment() string {
	return p.pick("environment", "dev", "dev", "prod", "prod", "edge", "*", "p*", "stage", "new")
}

func (p people) change() string {
	ids := []string{"c99"}
	for _, c := range p.b.state.ChangeList() {
		ids = append(ids, c.ID)
	}
	return p.pick("change", ids[max(0, len(ids)-4):]...) // the later ones: most of the others have ended
}

func (p people) propose() ledger.Propose {
	out := ledger.Propose{Reason: p.pick("reason", "r", "r", "r", "")}
	for range rapid.IntRange(1, 3).Draw(p.t, "edits") {
		edit := ledger.Edit{Environments: []string{p.environment()}, Set: map[string]json.RawMessage{}}
		for range rapid.IntRange(0, 3).Draw(p.t, "keys") {
			key := p.pick("key", "variable/a", "variable/b", "flag/c", "document/d", "secret/e")
			if rapid.IntRange(0, 3).Draw(p.t, "delete") == 0 {
				edit.Delete = append(edit.Delete, key)
				continue
			}
			value := p.pick("value", `1`, `2`, `"x"`, `{"a":[true,null]}`, `{"$secret":{"ref":"env://E"}}`, `9007199254740993`)
			edit.Set[key] = json.RawMessage(value)
		}
		out.Edits = append(out.Edits, edit)
	}
	return out
}

func (p people) approve() ledger.Body {
	id := p.change()
	if c := p.b.state.Changes[id]; c != nil && rapid.IntRange(0, 9).Draw(p.t, "stale digest") > 0 {
		return ledger.Approve{Change: id, Digest: c.Digest}
	}
	return ledger.Approve{Change: id}
}

func (p people) step() {
	name := p.pick("name", "dev", "prod", "edge", "new", "stage")
	agent := p.pick("agent", "a", "b")
	var body ledger.Body
	switch rapid.IntRange(0, 19).Draw(p.t, "command") {
	case 0, 1, 2, 3:
		body = p.propose()
	case 4, 5, 6, 7, 8, 9:
		body = p.approve()
	case 10:
		body = ledger.Revise{Change: p.change(), Propose: p.propose()}
		if rapid.Bool().Draw(p.t, "rebase") {
			body = ledger.Rebase{Change: p.change()}
		}
	case 11:
		body = p.ending()
	case 12, 13:
		body = ledger.Rollback{Change: p.change(), Reason: "r"}
		if rapid.Bool().Draw(p.t, "somewhere") {
			body = ledger.Rollback{Change: p.change(), Reason: "r", Environments: []string{p.environment()}}
		}
	case 14:
		body = ledger.Rollback{Environment: name, ToRevision: rapid.Uint64Range(0, 8).Draw(p.t, "revision"), Reason: "r"}
	case 15:
		body = p.registry(name)
	case 16:
		body = ledger.EnrolAgent{Environment: name, Agent: agent, Key: signer(name + "/" + agent).Public()}
		if rapid.IntRange(0, 5).Draw(p.t, "revoke") == 0 {
			body = ledger.RevokeAgent{Environment: name, Agent: agent, Reason: "r"}
		}
	case 17, 18:
		p.deliver(name, agent)
		return
	case 19:
		p.b.now = p.b.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(p.t, "days")) * 24 * time.Hour)
		return
	}
	p.act(body)
}

func (p people) ending() ledger.Body {
	if rapid.Bool().Draw(p.t, "withdraw") {
		return ledger.Withdraw{Change: p.change()}
	}
	return ledger.Reject{Change: p.change(), Reason: "r"}
}

func (p people) registry(name string) ledger.Body {
	demanded := rapid.IntRange(0, 2).Draw(p.t, "approvals")
	switch rapid.IntRange(0, 5).Draw(p.t, "registry") {
	case 0:
		return ledger.RetireEnvironment{Name: name, Reason: "r"}
	case 1, 2:
		return ledger.UpdateEnvironment{Name: name, Approvals: demanded}
	}
	return ledger.AddEnvironment{Name: name, Approvals: demanded}
}

// act does something and, sometimes, does it again: with the same id it is known, and a refusal is one of the kinds.
func (p people) act(body ledger.Body) {
	p.b.commands++
	c := ledger.Command{ID: fmt.Sprintf("command-%04d", p.b.commands), By: p.person(), Body: body}
	before := len(p.b.entries)
	first, err := p.b.command(c)
	if err != nil {
		if ledger.KindOf(err) == "" {
			p.t.Fatalf("%s is refused without a kind: %v", c.Verb(), err)
		}
		if len(p.b.entries) != before {
			p.t.Fatalf("%s was refused and left entries: %v", c.Verb(), err)
		}
		return
	}
	entries := len(p.b.entries)
	again, err := p.b.command(c)
	if err != nil || again.Entry != first.Entry || len(again.Released) != len(first.Released) || len(p.b.entries) != entries {
		p.t.Fatalf("%s again: %+v (%v), want %+v", c.Verb(), again, err, first)
	}
}

func (p people) deliver(environment, agent string) {
	e := p.b.state.Environments[environment]
	if e == nil || e.Head() == 0 {
		return
	}
	last := rapid.Uint64Range(1, e.Head()).Draw(p.t, "last")
	first := rapid.Uint64Range(1, last).Draw(p.t, "first")
	word := rapid.SampledFrom([]events.Word{"applied", "applied", "applied", "failed", "blocked", "superseded", "refused", "retrying", "torn"}).Draw(p.t, "word")
	deliveries := []events.Delivery{p.b.ack(environment, agent, word, first, last)}
	switch rapid.IntRange(0, 3).Draw(p.t, "delivery") {
	case 0:
		deliveries = append(deliveries, deliveries[0])
	case 1:
		deliveries = append(deliveries, p.b.beat(environment, agent, last))
	case 2:
		deliveries[0].Signature = p.b.beat(environment, agent, last).Signature
	}
	if _, err := p.b.record(deliveries...); err != nil && !errors.Is(err, ledger.ErrNothingNew) {
		p.t.Fatalf("record deliveries: %v", err)
	}
}
