package ledger_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// book is a ledger in memory: what internal/publisher does with a bus, without one.
type book struct {
	t        *testing.T
	state    *ledger.State
	entries  [][]byte
	now      time.Time
	commands int
}

func newBook(t *testing.T) *book {
	b := &book{t: t, state: ledger.New("0b7c5f0e-1f5e-4a1e-9d53-0d2f6a6f7c11"), now: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)}
	b.must("publisher", ledger.Genesis{Publisher: "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"})
	return b
}

// do decides and appends until the command's entry is there.
func (b *book) do(by string, body ledger.Body) (ledger.Result, error) {
	b.commands++
	return b.command(ledger.Command{ID: "command-" + time.Duration(b.commands).String(), By: by, Body: body})
}

func (b *book) command(c ledger.Command) (ledger.Result, error) {
	b.t.Helper()
	for {
		b.now = b.now.Add(time.Second)
		d, err := b.state.Decide(c, b.now)
		if err != nil || d.Known {
			return d.Result, err
		}
		entries := d.Stores
		if entries == nil {
			entries = [][]byte{d.Entry}
		}
		for _, e := range entries {
			if _, _, err := b.state.Apply(e, b.now.Add(time.Millisecond)); err != nil {
				b.t.Fatalf("apply what was decided: %v", err)
			}
			b.entries = append(b.entries, e)
		}
		if d.Entry != nil {
			d.Result.Entry = b.state.Number
			return d.Result, nil
		}
	}
}

func (b *book) must(by string, body ledger.Body) ledger.Result {
	b.t.Helper()
	r, err := b.do(by, body)
	if err != nil {
		b.t.Fatalf("%T by %s: %v", body, by, err)
	}
	return r
}

func set(environment, key, value string) ledger.Propose {
	return ledger.Propose{Reason: "test", Edits: []ledger.Edit{{Environments: []string{environment}, Set: map[string]json.RawMessage{key: json.RawMessage(value)}}}}
}

func (b *book) approve(by, change string) ledger.Result {
	b.t.Helper()
	return b.must(by, ledger.Approve{Change: change, Digest: b.state.Changes[change].Digest})
}

func (b *book) value(environment, key string) string {
	r, _ := b.state.Environments[environment].Fold.State.Get(key)
	return string(r.Value)
}

func TestOneApprovedChangeReachesEveryEnvironment(t *testing.T) {
	b := newBook(t)
	for _, name := range []string{"dev", "prod-eu", "prod-us"} {
		b.must("op", ledger.AddEnvironment{Name: name, Approvals: 1})
	}
	c := b.must("anna", set("prod-*", "variable/log-level", `"debug"`)).Change
	r := b.approve("ben", c)
	if len(r.Released) != 2 || b.value("prod-eu", "variable/log-level") != `"debug"` || b.value("dev", "variable/log-level") != "" {
		t.Fatalf("released %+v", r)
	}
	c2 := b.must("anna", set("prod-eu", "variable/log-level", `"warn"`)).Change
	b.approve("ben", c2)
	b.must("op", ledger.Rollback{Change: c2, Reason: "too quiet"})
	if got := b.value("prod-eu", "variable/log-level"); got != `"debug"` {
		t.Fatalf("after the rollback: %s", got)
	}
	again := ledger.New(b.state.ID)
	for _, e := range b.entries {
		if _, _, err := again.Apply(e, b.now); err != nil {
			t.Fatal(err)
		}
	}
	if again.Hash != b.state.Hash {
		t.Fatal("another hash after replay")
	}
}
