package ledger

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// An Approve is one person's yes to a change with a digest. When it is the last one demanded, the same entry releases the change:
// that append is the only fsync on the way out.
type Approve struct {
	Change  string        `json:"change"`
	Digest  events.Digest `json:"digest"` // that the person saw; a change revised since is not approved
	Comment string        `json:"comment,omitempty"`
	// Roots are signatures under the trust document that the change proposes.
	Roots []events.RootSignature `json:"roots,omitempty"`
}

func (Approve) name() string { return "approve" }

func (a Approve) decide(d *decision) error {
	c, err := d.openChange(a.Change, "approved", StatusOpen)
	if err != nil {
		return err
	}
	if err := a.check(d, c); err != nil {
		return err
	}
	if c.Trust != nil {
		return a.approveTrust(d, c)
	}
	for _, part := range c.Parts {
		if e := d.Environments[part.Environment]; e.Lost && !e.Retired {
			return refuse(KindConflict, "say them again with 'publisher env update "+e.Name+"'", "how many approvals %s demands was lost with its ledger", e.Name)
		}
	}
	d.change = c.ID
	d.record(events.TypeApprovalGiven, c.ID, &events.ApprovalGiven{Change: c.ID, Digest: c.Digest, By: d.by, Comment: a.Comment})
	return d.with(c, func() error {
		if d.lacks(c) {
			return nil
		}
		return d.release(c)
	})
}

func (a Approve) check(d *decision, c *Change) error {
	switch {
	case a.Digest != c.Digest:
		return revised(c, a.Digest)
	case c.Trust != nil: // it is the roots that approve it
	case len(a.Roots) > 0:
		return refuse(KindInvalid, "leave them out", "roots sign trust documents, and change %s proposes none", c.ID)
	case samePerson(c.Author, d.by):
		return refuse(KindDenied, "ask somebody else to approve it", "%s is the author of %s, and authors do not approve their own changes", c.Author, c.ID)
	case d.hasApproved(c):
		return refuse(KindConflict, "", "%s has approved %s already", d.by, c.ID)
	case d.signed() && c.Proposal == nil:
		return refuse(KindConflict, "its author revises it, and signs it: 'publisher revise "+c.ID+"'", "change %s was proposed before changes were signed", c.ID)
	}
	if err := d.orphaned(c); err != nil {
		return err
	}
	if d.unsigned && c.Trust == nil { // before anybody signs; what is signed is judged with its statement
		if err := (asking{d.State, d.by, d.now}).approver(c); err != nil {
			return err
		}
	}
	return checkSaid("the comment", a.Comment)
}

// orphaned refuses a change whose author's key counts no more: no agent would take it, whoever approves it.
func (d *decision) orphaned(c *Change) error {
	if !d.signed() || c.Trust != nil {
		return nil
	}
	said, err := c.opened.Get(c.Proposal)
	if err == nil {
		err = d.Trust().Owns(said)
	}
	if err == nil {
		return nil
	}
	return &Error{Kind: KindDenied, Cause: err, Message: fmt.Sprintf("agents would refuse change %s: the proposal of %q: %s", c.ID, c.Author, events.MessageOf(err)),
		Next: "end it with 'publisher reject " + c.ID + " -m WHY' and have it proposed anew"}
}

// hasApproved says whether the person's approval is there, and counts.
func (d *decision) hasApproved(c *Change) bool {
	if d.signed() {
		return slices.Contains(d.approvers(c, d.now), d.by)
	}
	return slices.ContainsFunc(c.Approvals, func(given events.Approval) bool { return samePerson(given.By, d.by) })
}

// lacks says whether approvals are missing.
func (d *decision) lacks(c *Change) bool {
	if !d.signed() {
		return len(c.Approvals) < d.Demanded(c)
	}
	return unmet(d.Demands(c, d.now)) != nil
}

// with tries something with one more approval of a change.
func (d *decision) with(c *Change, try func() error) error {
	before, opened := c.Approvals, c.opened
	defer func() { c.Approvals, c.opened = before, opened }()
	c.Approvals = append(slices.Clone(before), events.Approval{By: d.by, At: d.now, Envelope: d.said.envelope()})
	c.opened = d.said.with(opened)
	return try()
}

// revised refuses what was meant for another digest of a change.
func revised(c *Change, digest events.Digest) error {
	return refuse(KindConflict, "look at it again with 'publisher show "+c.ID+"'", "change %s was revised: its digest is %s now, not %s", c.ID, c.Digest.Short(), digest.Short())
}

// release puts an approved change into one wave of all its environments, but for those in which it has to wait for the end of a freeze.
// One whose base moved is left out; when that is so everywhere the approval is refused. Where the change edits the sources only, they
// take its edits now, and nothing is released.
func (d *decision) release(c *Change) error {
	released, err := d.gather(c, c.Parts)
	if err != nil {
		return err
	}
	if released+len(d.sources)+len(d.frozen) == 0 {
		return d.nowhere(c)
	}
	d.record(events.TypeChangeApproved, c.ID, &events.ChangeApproved{Change: c.ID, Digest: c.Digest, ByRule: c.ByRule})
	d.record(events.TypeRolloutStarted, c.ID, &events.RolloutStarted{Change: c.ID})
	d.recordWave(c)
	if released+len(d.frozen) == 0 {
		d.record(events.TypeRolloutCompleted, c.ID, &events.RolloutCompleted{Change: c.ID})
	}
	return nil
}

// nowhere refuses a release whose base moved in every environment.
func (d *decision) nowhere(c *Change) error {
	return refuse(KindConflict, "its author looks at what changed, and compiles it anew with 'publisher rebase "+c.ID+"', or revises it",
		"change %s cannot be released anywhere any more: %s", c.ID, d.whyLeft()+d.nowHolds(c))
}

// gather tries the releases of some parts of a change together, and says how many those are. It notes what is left out, what waits, and
// where only sources change.
func (d *decision) gather(c *Change, parts []Part) (int, error) {
	sources, err := d.allSources()
	if err != nil {
		return 0, err
	}
	as := d.asReleased(c)
	var next []tried
	for _, part := range parts {
		e, err := d.reachable(c, part)
		if err != nil {
			return 0, err
		}
		if e == nil {
			continue
		}
		if err := d.unapproved(e, c, part); err != nil && c.status != StatusReleased {
			return 0, &Error{Kind: KindDenied, Next: "where it rests on somebody whose key or role is gone, end it with 'publisher reject " + c.ID + " -m WHY' and have it proposed anew", Message: fmt.Sprintf("agents of %s would refuse it: %s", e.Name, events.MessageOf(err)), Cause: err}
		} else if err != nil {
			d.left = append(d.left, events.LeftOut{Environment: e.Name, Reason: events.ReasonApprovals, Detail: events.MessageOf(err)})
			continue
		}
		if part.SourcesOnly() {
			d.sources = append(d.sources, e.Name)
			continue
		}
		if frozen := d.policies.Frozen(d.changing(part, sources[e.Name].sources), as, d.now, false); frozen != nil && !d.atOnce {
			d.frozen = append(d.frozen, *frozen)
			continue
		}
		next = append(next, tried{environment: e, opened: c.opened, release: Release{Kind: events.KindChange, Change: c.ID,
			By: c.Author, Reason: c.Reason, approvals: len(c.Approvals), Entry: d.number, Time: d.now, TraceParent: d.trace}})
	}
	if d.unsigned {
		return len(next), nil
	}
	return len(next), d.wave.add(next...)
}

// recordWave records the next wave of a change.
func (d *decision) recordWave(c *Change) {
	d.record(events.TypeWaveReleased, c.ID, &events.WaveReleased{
		Change: c.ID, Number: c.waves + 1, Wave: d.wave.record(), LeftOut: d.left, SourcesOnly: d.sources, Frozen: d.frozen})
}

func (d *decision) whyLeft() string {
	var why []string
	for _, left := range d.left {
		why = append(why, left.Detail)
	}
	return some(why)
}

// reachable is the environment of a change's part; nil where it is to be left out.
func (d *decision) reachable(c *Change, part Part) (*Environment, error) {
	e := d.Environments[part.Environment]
	if e.Retired {
		d.left = append(d.left, events.LeftOut{Environment: e.Name, Reason: events.ReasonRetired, Detail: "environment " + e.Name + " is retired"})
		return nil, nil
	}
	if _, err := e.Fold.Invert(part.Operations); events.ReasonOf(err) == events.ReasonBaseMoved {
		d.left = append(d.left, events.LeftOut{Environment: e.Name, Reason: events.ReasonBaseMoved, Detail: d.whatMoved(e, part.Operations)})
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if why, err := d.outdated(c, part, e); err != nil {
		return nil, err
	} else if why != "" {
		d.left = append(d.left, events.LeftOut{Environment: e.Name, Reason: events.ReasonBaseMoved, Detail: why})
		return nil, nil
	}
	for i, op := range part.Operations {
		d.affect(e.Name, op.Key, part.Inverse[i].Value, op.Value)
	}
	return e, nil
}

// whatMoved tells the second of two authors who changed what since their base.
func (s *State) whatMoved(e *Environment, operations []events.Operation) string {
	var moved []string
	for _, op := range operations {
		if now, _ := e.Fold.State.Get(op.Key); now.Setter != op.Base {
			moved = append(moved, op.Key+" in "+e.Name+" was changed by "+s.lastTouch(e, op.Key))
		}
	}
	return some(moved)
}

// nowHolds tells what the resources hold whose base moved. It is for the answer only, not for the ledger's record of why.
func (d *decision) nowHolds(c *Change) string {
	var held []string
	for _, part := range c.Parts {
		for _, op := range part.Operations {
			now, _ := d.Environments[part.Environment].Fold.State.Get(op.Key)
			switch {
			case now.Setter == op.Base:
			case now.Value == nil:
				held = append(held, op.Key+" in "+part.Environment+" is deleted now")
			default:
				held = append(held, op.Key+" in "+part.Environment+" is "+clip(string(now.Value), 80)+" now")
			}
		}
	}
	if len(held) == 0 {
		return ""
	}
	return "; " + some(held)
}

// lastTouch says which change or rollback touched a key last, whose it was, and why.
func (s *State) lastTouch(e *Environment, key string) string {
	for i := len(e.Releases) - 1; i >= 0; i-- {
		r := e.Releases[i]
		if r.Kind == events.KindTrust {
			continue
		}
		part, _ := s.Changes[r.Change].PartFor(e.Name)
		if !slices.ContainsFunc(part.Operations, func(op events.Operation) bool { return op.Key == key }) {
			continue
		}
		what := "change " + r.Change
		if r.Kind == events.KindRollback {
			what = "the rollback of change " + r.Change
		}
		return what + " by " + r.By + " (" + clip(r.Reason, 80) + ")"
	}
	return "nobody"
}

// some is a list for people that stays short however long it is: entries of the ledger hold it.
func some(list []string) string {
	const most = 3
	if len(list) > most {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
	}
	return strings.Join(list, "; ")
}

// clip is a text cut after at most n bytes, between characters.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// A Reject ends an open change; a person other than its author says why.
type Reject struct {
	Change string `json:"change"`
	Reason string `json:"reason"`
}

func (Reject) name() string { return "reject" }

func (r Reject) decide(d *decision) error {
	c, err := d.openChange(r.Change, "rejected", StatusOpen, StatusExpired)
	if err != nil {
		return err
	}
	if err := demand("the reason", r.Reason); err != nil {
		return err
	}
	if samePerson(c.Author, d.by) {
		return refuse(KindDenied, "withdraw it with 'publisher withdraw "+c.ID+"'", "%s is the author of %s", c.Author, c.ID)
	}
	d.change = c.ID
	d.record(events.TypeChangeRejected, c.ID, &events.ChangeEnded{Change: c.ID, By: d.by, Reason: r.Reason})
	return nil
}
