package trust

import (
	"cmp"
	"context"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Desk is where commands are carried out: a publisher, or a client of one.
type Desk interface {
	Do(ctx context.Context, c ledger.Command, dryRun bool) (ledger.Outcome, error)
}

// ApprovalLife is how long an approval counts where its person says nothing else.
const ApprovalLife = 7 * 24 * time.Hour

// A Pen signs the commands of one person.
type Pen struct {
	Ledger string // id
	Signer *events.Signer
	Life   time.Duration    // how long an approval or a break-glass counts; 0 is ApprovalLife
	Clock  func() time.Time // what the time is
}

// tries bound how often a command is signed anew, because somebody was quicker and it is about another change then.
const tries = 4

// Do has a command carried out that the person signs: it asks what the command would be about, signs that, and sends it. Where that
// is not so any more when it arrives, it asks again. What it is told is not believed: where it is not what the command says, nothing is
// signed. The effect of a proposal that it answers with is of what was signed.
func (p Pen) Do(ctx context.Context, desk Desk, c ledger.Command) (ledger.Outcome, error) {
	for try := 1; ; try++ {
		asked, err := desk.Do(ctx, c, true)
		if err != nil || asked.Again {
			return asked, err
		}
		if err := agree(c.Body, asked); err != nil {
			return ledger.Outcome{}, err
		}
		signed, err := p.sign(c, asked)
		if err != nil {
			return ledger.Outcome{}, err
		}
		out, err := desk.Do(ctx, signed, false)
		if ledger.KindOf(err) != ledger.KindConflict || try == tries {
			if asked.Terms != nil {
				out.Effect = asked.Terms.Effects()
			}
			return out, err
		}
	}
}

// sign is the command with the person's statement, about what was answered when it was asked.
func (p Pen) sign(c ledger.Command, asked ledger.Outcome) (ledger.Command, error) {
	s := events.Statement{Ledger: p.Ledger, At: p.Clock()}
	if !asked.Digest.IsZero() {
		s.Change, s.Digest = asked.Change, asked.Digest
	}
	if verb := c.Verb(); verb == events.VerbApprove || verb == events.VerbBreakGlass {
		s.Expires = s.At.Add(cmp.Or(p.Life, ApprovalLife))
	}
	if glass, ok := c.Body.(ledger.BreakGlass); ok {
		s.Reason = glass.Reason
	}
	return c.Signed(s, p.Signer)
}
