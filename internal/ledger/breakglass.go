package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// reviewsDemanded is how many people sign a break-glass off before its review is closed.
const reviewsDemanded = 2

// A BreakGlass releases a change at once, on the word of one person who has the role in every environment of it: also one that waits for
// approvals, or for the end of a freeze. It opens a review.
type BreakGlass struct {
	Change string        `json:"change"`
	Digest events.Digest `json:"digest"` // that the person saw
	Reason string        `json:"reason"`
}

func (BreakGlass) name() string { return events.VerbBreakGlass }

func (b BreakGlass) decide(d *decision) error {
	if !d.signed() {
		return refuse(KindConflict, "have it approved by another name", "nobody breaks the glass where approvals are names")
	}
	if err := demand("the reason", b.Reason); err != nil {
		return err
	}
	c, found := d.Changes[b.Change]
	waits := found && c.status == StatusReleased && c.Frozen()
	if !waits {
		var err error
		if c, err = d.openChange(b.Change, "released", StatusOpen, StatusExpired); err != nil {
			return err
		}
	}
	switch {
	case c.Trust != nil:
		return refuse(KindDenied, "its roots sign it: 'publisher approve "+c.ID+" --root-key FILE'", "no break-glass replaces the signatures under a trust document")
	case b.Digest != c.Digest:
		return revised(c, b.Digest)
	}
	// Before the release is tried, which an agent would refuse without saying whose role is lacking, and before anybody signs.
	if err := (asking{d.State, d.by, d.now}).mayBreakGlass(c); err != nil {
		return err
	}
	if err := d.orphaned(c); err != nil {
		return err
	}
	d.change = c.ID
	d.record(events.TypeBreakGlassUsed, c.ID, &events.BreakGlassUsed{Change: c.ID, Digest: c.Digest, By: d.by, Reason: b.Reason})
	parts := c.Parts
	if waits {
		parts = slices.DeleteFunc(slices.Clone(parts), func(part Part) bool { return part.Frozen == nil })
	}
	d.atOnce = true
	return d.with(c, func() error {
		released, err := d.gather(c, parts)
		if err != nil {
			return err
		}
		if released+len(d.sources) == 0 {
			return d.nowhere(c)
		}
		if !waits {
			d.record(events.TypeRolloutStarted, c.ID, &events.RolloutStarted{Change: c.ID})
		}
		d.recordWave(c)
		if !waits && released == 0 {
			d.record(events.TypeRolloutCompleted, c.ID, &events.RolloutCompleted{Change: c.ID})
		}
		return nil
	})
}

// A GlassBroken is a break-glass and who has reviewed it.
type GlassBroken struct {
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
	Entry   uint64    `json:"entry"`
	Reviews []Signed  `json:"reviews,omitempty"`
}

// A Signed says who signed a break-glass off.
type Signed struct {
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Comment string    `json:"comment,omitempty"`
}

// UnderReview says that not enough people have signed it off.
func (g *GlassBroken) UnderReview() bool { return g != nil && len(g.Reviews) < reviewsDemanded }

// UnderReview are the changes whose break-glass is not reviewed yet, oldest first.
func (s *State) UnderReview() (out []*Change) {
	for _, id := range s.order {
		if c := s.Changes[id]; c.BreakGlass.UnderReview() {
			out = append(out, c)
		}
	}
	return out
}

// A Review is one person's signing off of a break-glass that somebody else used.
type Review struct {
	Change  string `json:"change"`
	Comment string `json:"comment,omitempty"`
}

func (Review) name() string { return "review" }

func (r Review) decide(d *decision) error {
	c, found := d.Changes[r.Change]
	switch {
	case !found:
		return refuse(KindNotFound, "list them with 'publisher changes'", "there is no change %s", r.Change)
	case !c.BreakGlass.UnderReview():
		return refuse(KindConflict, "", "change %s has no break-glass that waits for a review", c.ID)
	case samePerson(c.BreakGlass.By, d.by):
		return refuse(KindDenied, "ask somebody else", "%s broke the glass, and nobody reviews their own", d.by)
	case slices.ContainsFunc(c.BreakGlass.Reviews, func(s Signed) bool { return samePerson(s.By, d.by) }):
		return refuse(KindConflict, "", "%s has signed it off already", d.by)
	}
	if err := checkSaid("the comment", r.Comment); err != nil {
		return err
	}
	d.change = c.ID
	d.record(events.TypeBreakGlassReviewed, c.ID, &events.BreakGlassReviewed{Change: c.ID, By: d.by, Comment: r.Comment})
	return nil
}

func (p *projection) breakGlassUsed(f *events.BreakGlassUsed) error {
	c, err := p.aboutChange(f.Change)
	if err != nil {
		return err
	}
	waits := c.status == StatusReleased && c.Frozen()
	if c.Trust != nil || f.Digest != c.Digest || (c.status != StatusOpen && !waits) {
		return fmt.Errorf("%w: %s broke the glass for %s of change %s, which is %s with %s", ErrBroken, f.By, f.Digest.Short(), c.ID, c.status, c.Digest.Short())
	}
	p.approved(c, f.By)
	c.BreakGlass = &GlassBroken{By: f.By, Reason: f.Reason, At: p.entry.Time, Entry: p.entry.Number}
	if !waits {
		c.status, c.Approved = StatusReleased, p.entry.Time
	}
	return nil
}

func (p *projection) breakGlassReviewed(f *events.BreakGlassReviewed) error {
	c, err := p.aboutChange(f.Change)
	if err != nil {
		return err
	}
	g := c.BreakGlass
	if g == nil || samePerson(g.By, f.By) || slices.ContainsFunc(g.Reviews, func(s Signed) bool { return samePerson(s.By, f.By) }) {
		return fmt.Errorf("%w: %s reviews a break-glass of change %s that is not theirs to review", ErrBroken, f.By, c.ID)
	}
	g.Reviews = append(g.Reviews, Signed{By: f.By, At: p.entry.Time, Comment: f.Comment})
	return nil
}
