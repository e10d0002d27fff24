package publisher

import (
	"context"
	"errors"
	"io"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Export writes the whole ledger as the bus holds it now, under a seal, and what the release stream holds of what it released. It
// verifies nothing: that is for whoever reads it.
func (p *Publisher) Export(ctx context.Context, w io.Writer) error {
	var id string
	p.book.read(func(s *ledger.State) { id = s.ID })
	head, err := p.book.grown.head(id)
	if err != nil {
		return err
	}
	if head.Size == 0 {
		return &api.UnavailableError{Reason: events.ReasonStartup, Message: "the ledger has not been read yet", Next: "see 'publisher doctor'"}
	}
	sealed, err := seal.Sign(head, p.signer)
	if err != nil {
		return err
	}
	out, err := audit.NewWriter(w, id, sealed)
	if err != nil {
		return err
	}
	whole := errors.New("the seal covers no more")
	err = p.conn.ReadLedger(ctx, 1, func(s bus.Stored) error {
		if s.Sequence > head.Size {
			return whole
		}
		return out.Entry(audit.Entry{Stamp: s.Stamp, Entry: s.Payload})
	})
	if err != nil && !errors.Is(err, whole) {
		return err
	}
	_, err = p.conn.ReadAllReleases(ctx, func(environment string, m bus.Stored) error {
		_, revision, _, err := events.PeekRelease(m.Payload)
		if err != nil {
			return nil // the sender removes it
		}
		if later := p.releasedAfter(environment, revision, head.Size); later {
			return nil
		}
		return out.Held(audit.Held{Environment: environment, Revision: revision, Payload: events.Sum(m.Payload), Signature: m.Signature})
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// releasedAfter says that the ledger released a revision in an entry after a number.
func (p *Publisher) releasedAfter(environment string, revision, number uint64) (later bool) {
	p.book.read(func(s *ledger.State) {
		if e := s.Environments[environment]; e != nil && revision > 0 && revision <= e.Head() {
			later = e.Releases[revision-1].Entry > number
		}
	})
	return later
}
