package publisher_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
)

func start(t *testing.T, data string) *publisher.Publisher {
	t.Helper()
	p, err := publisher.New(t.Context(), publisher.Options{
		Data: data, Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0", Log: zerolog.New(zerolog.NewTestWriter(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func do(t *testing.T, p *publisher.Publisher, by string, body ledger.Body) ledger.Outcome {
	t.Helper()
	out, err := p.Do(t.Context(), ledger.Command{ID: t.Name() + time.Now().String(), By: by, Body: body}, false)
	if err != nil {
		t.Fatalf("%T: %v", body, err)
	}
	return out
}

func TestDecisionSurvivesRestart(t *testing.T) {
	data := t.TempDir()
	p := start(t, data)
	do(t, p, "op", ledger.AddEnvironment{Name: "dev", Approvals: 1})
	out := do(t, p, "anna", ledger.Propose{Reason: "why", Edits: []ledger.Edit{{Environments: []string{"dev"}, Set: map[string]json.RawMessage{"variable/x": json.RawMessage("1")}}}})
	var c *ledger.Change
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { c = s.Changes[out.Change] })
	do(t, p, "ben", ledger.Approve{Change: c.ID, Digest: c.Digest})
	b, _ := json.MarshalIndent(p.Fleet(), "", " ")
	t.Log(string(b))
	v, err := p.Verify(t.Context())
	if err != nil || !v.OK {
		t.Fatal(v, err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	p = start(t, data)
	do(t, p, "op", ledger.AddEnvironment{Name: "prod", Approvals: 1})
	if v, err := p.Verify(t.Context()); err != nil || !v.OK || v.Releases != 3 {
		t.Fatal(v, err)
	}
	for _, c := range p.Doctor(t.Context()) {
		t.Log(c)
	}
}
