package apitest

import (
	"context"
	"io"
	"time"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Export implements api.Backend.
func (p *Publisher) Export(_ context.Context, w io.Writer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	tree := &seal.Tree{}
	for _, entry := range p.entries {
		if err := tree.Append(entry); err != nil {
			return err
		}
	}
	root, err := tree.Root(tree.Size())
	if err != nil {
		return err
	}
	sealed, err := seal.Sign(seal.Head{Ledger: p.state.ID, Size: tree.Size(), Root: root}, p.signer)
	if err != nil {
		return err
	}
	out, err := audit.NewWriter(w, p.state.ID, sealed)
	if err != nil {
		return err
	}
	for _, entry := range p.entries {
		if err := out.Entry(audit.Entry{Stamp: time.Unix(1800000000, 0).UTC(), Entry: entry}); err != nil {
			return err
		}
	}
	for number := range p.entries {
		wave := p.held[uint64(number+1)]
		var chains []events.Digest
		for _, r := range wave {
			chains = append(chains, r.Chain)
		}
		headers, err := p.signer.SignWave(p.state.ID, chains)
		if err != nil {
			return err
		}
		for i, r := range wave {
			if err := out.Held(audit.Held{Environment: r.Environment, Revision: r.Revision, Payload: events.Sum(r.Payload), Signature: headers[i]}); err != nil {
				return err
			}
		}
	}
	return out.Close()
}
