package bustest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Chain is an environment's releases as a publisher makes them: signed, chained, and well-formed; nobody approved them.
type Chain struct {
	Environment string
	Releases    []bus.Release // Releases[0] is revision 1; Sequence and Stamp are not set

	t      testing.TB
	ledger string
	signer *events.Signer
}

// NewChain makes a chain without releases, and the publisher who signs them.
func NewChain(t testing.TB, environment string) *Chain {
	return &Chain{Environment: environment, t: t, ledger: "00000000-0000-4000-8000-000000000001", signer: NewSigner(t)}
}

// NewSigner makes a key.
func NewSigner(t testing.TB) *events.Signer {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	s, err := events.NewSigner(seed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// At is a reader's position after a revision.
func (c *Chain) At(revision uint64) bus.Position {
	if revision == 0 {
		return bus.Position{Chain: events.ChainStart(c.ledger, c.Environment)}
	}
	return bus.Position{Revision: revision, Chain: c.Releases[revision-1].Chain}
}

// Grow makes n releases more, each setting variable/n to a text.
func (c *Chain) Grow(n int, text string) *Chain {
	c.t.Helper()
	for range n {
		at := c.At(uint64(len(c.Releases)))
		value, err := json.Marshal(text)
		if err != nil {
			c.t.Fatal(err)
		}
		payload, err := events.EncodeRelease(events.Release{
			Kind: events.KindChange, Environment: c.Environment, Revision: at.Revision + 1, Previous: at.Chain,
			Ledger: c.ledger, Entry: at.Revision + 1, Derivation: 1,
			Change:     &events.ReleasedChange{ID: fmt.Sprintf("change-%d", at.Revision+1), Size: 1},
			Operations: []events.Operation{{Op: events.OpSet, Key: "variable/n", Value: value}},
		}, time.Unix(1_700_000_000, 0).UTC(), "")
		if err != nil {
			c.t.Fatal(err)
		}
		c.Releases = append(c.Releases, c.sign(at, payload))
	}
	return c
}

func (c *Chain) sign(at bus.Position, payload []byte) bus.Release {
	c.t.Helper()
	chain := events.Chain(at.Chain, payload)
	headers, err := c.signer.SignWave(c.ledger, []events.Digest{chain})
	if err != nil {
		c.t.Fatal(err)
	}
	return bus.Release{Revision: at.Revision + 1, Chain: chain, Stored: bus.Stored{Payload: payload, Signature: headers[0]}}
}

// Fork is the same publisher's chain with the same releases up to a revision.
func (c *Chain) Fork(revision uint64) *Chain {
	fork := *c
	fork.Releases = append([]bus.Release(nil), c.Releases[:revision]...)
	return &fork
}

// Rotate lets another key sign from here on.
func (c *Chain) Rotate() { c.signer = NewSigner(c.t) }

// Key is the public key that signs now.
func (c *Chain) Key() string { return c.signer.Public() }

// Verify is a reader's trust in the key that signs now.
func (c *Chain) Verify(chain events.Digest, signature string) error {
	return events.VerifyWave(c.ledger, chain, signature, func(key string) bool { return key == c.Key() })
}

// Send releases the revisions first to last, after what the stream holds of the environment.
func (c *Chain) Send(conn *bus.Conn, first, last uint64) {
	c.t.Helper()
	ctx := Context(c.t)
	head, err := conn.Head(ctx, c.Environment)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range c.Releases[first-1 : last] {
		result := conn.Send(ctx, []bus.Outgoing{{Environment: c.Environment, Payload: r.Payload, Signature: r.Signature, ExpectedLast: head.Sequence}})[0]
		if result.Err != nil {
			c.t.Fatalf("send revision %d: %v", r.Revision, result.Err)
		}
		head.Sequence = result.Sequence
	}
}

// Complete sends what the stream lacks up to a revision. A killed server loses the end of the release stream, which is not
// fsynced; a publisher sends it again.
func (c *Chain) Complete(conn *bus.Conn, last uint64) {
	c.t.Helper()
	head, err := conn.Head(Context(c.t), c.Environment)
	if err != nil {
		c.t.Fatal(err)
	}
	have := uint64(0)
	if head.Sequence > 0 {
		if _, have, _, err = events.PeekRelease(head.Payload); err != nil {
			c.t.Fatal(err)
		}
	}
	if have < last {
		c.Send(conn, have+1, last)
	}
}
