package publisher

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// A thaw releases approved changes when the freeze is over that they wait for. What waits and until when is in the ledger, so that
// any publisher goes on with it after a restart, and two do it once.
type thaw struct {
	*Publisher
	looked uint64 // the ledger's entry at which all that waits was looked at
}

// spreadTrust releases a trust document to environments that the entry which approved it had no room for.
func (p *Publisher) spreadTrust(ctx context.Context) {
	var lagging bool
	p.book.read(func(s *ledger.State) { lagging = s.Lagging() })
	for lagging {
		_, err := p.book.do(ctx, ledger.Command{By: "publisher", Body: ledger.SpreadTrust{}}, false)
		if err != nil && !errors.Is(err, ledger.ErrNothingNew) && ctx.Err() == nil {
			p.log.Warn().Err(err).Msg("a trust document could not be released to all environments; trying again")
		}
		lagging = err == nil
	}
}

// release releases what need not wait any more: its time has come, or something was decided since that may have taken the freeze away.
func (t *thaw) release(ctx context.Context) {
	var ids []string
	var number uint64
	now := time.Now()
	t.book.read(func(s *ledger.State) {
		number = s.Number
		for _, c := range s.FrozenChanges() {
			if number != t.looked || slices.ContainsFunc(c.Parts, func(part ledger.Part) bool { return part.Frozen != nil && !now.Before(part.Frozen.Until) }) {
				ids = append(ids, c.ID)
			}
		}
	})
	for _, id := range ids {
		_, err := t.book.do(ctx, ledger.Command{By: "publisher", Body: ledger.Open{Change: id}}, false)
		if err != nil && !errors.Is(err, ledger.ErrNothingNew) {
			if ctx.Err() == nil {
				t.book.read(func(s *ledger.State) {
					ofChange(t.log.Warn(), s, id, "").Err(err).Msg("a change that waited for the end of a freeze could not be released; trying again")
				})
			}
			return
		}
	}
	t.looked = number
}
