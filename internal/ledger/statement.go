package ledger

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// verbs of commands that are the publisher's own: it decides them by what it finds, and nobody signs them. A first trust document is
// nobody's to sign yet.
var ownVerbs = map[string]bool{Open{}.name(): true, SpreadTrust{}.name(): true, RecordDeliveries{}.name(): true, Genesis{}.name(): true}

// maxStatementLife is how long a statement that is no approval may say that it lives; it is used at once.
const maxStatementLife = events.ApprovalLife

// Reasons of commands that are refused for how they are signed.
const (
	ReasonUnsigned  events.Reason = "statement-missing"
	ReasonStatement events.Reason = "statement-invalid"
)

// unsigned refuses a command for how it is signed.
func unsigned(reason events.Reason, next, format string, args ...any) error {
	why := fmt.Errorf(format, args...)
	return &Error{Kind: KindDenied, Message: why.Error(), Next: next, Cause: &events.Error{Reason: reason, Err: why}}
}

// spoken is what a person signed for a command; nil where nobody needs to have.
type spoken struct {
	events.Statement
	signed *events.Envelope
	opened events.Opened // it alone
}

func (s *spoken) envelope() *events.Envelope {
	if s == nil {
		return nil
	}
	return s.signed
}

// Signed is the command as a person signs it. Of the statement they give ledger, time, until when an approval counts, the change that it
// is about with its digest, as a dry run says them (Outcome.Change and Digest; none where the digest is zero), and the reason of a
// break-glass; the rest follows from the command.
func (c Command) Signed(s events.Statement, by *events.Signer) (Command, error) {
	content, err := c.Digest()
	if err != nil {
		return c, err
	}
	s.By, s.Verb, s.Command, s.Content = c.By, c.Verb(), c.ID, content
	c.Statement, err = events.SignStatement(s, by)
	return c, err
}

func openSpoken(e *events.Envelope) (*spoken, error) {
	opened := events.Opened{}
	said, err := opened.Add(e)
	return &spoken{said, e, opened}, err
}

// with is what was opened before, and this.
func (s *spoken) with(opened events.Opened) events.Opened {
	if s == nil {
		return opened
	}
	out := events.Opened{}
	maps.Copy(out, opened)
	maps.Copy(out, s.opened)
	return out
}

// signed says whether approvals are signed now, and with them every command.
func (s *State) signed() bool {
	t := s.Trust()
	return t != nil && t.Approvals == events.ApprovalsAreSigned
}

// said is the statement of a command, checked for everything but what it is about and whether the person may: nil where approvals are
// names, of the publisher's own commands, and in a dry run.
func (s *State) said(c Command, content events.Digest, now time.Time) (*spoken, error) {
	if !s.signed() || ownVerbs[c.Verb()] || c.DryRun {
		return nil, nil
	}
	if c.Statement == nil {
		return nil, unsigned(ReasonUnsigned, "sign it: --as NAME chooses whose key signs, and 'publisher key list' shows the keys here", "the command of %s is not signed, and this ledger takes none that is not", c.By)
	}
	out, err := openSpoken(c.Statement)
	if err != nil {
		return nil, unsigned(ReasonStatement, "", "the statement of %s is none: %w", c.By, err)
	}
	if why := s.unlike(out.Statement, events.Command{ID: c.ID, By: c.By, Digest: content}, now); why != "" {
		return nil, unsigned(ReasonStatement, "sign the command that is to be done, now, with a key of the trust document", "the statement is none for this command: %s", why)
	}
	if out.Verb != c.Verb() {
		return nil, unsigned(ReasonStatement, "", "the statement is none for this command: it says %q, not %q", clip(out.Verb, 40), c.Verb())
	}
	return out, nil
}

// unlike says how a statement is none for a command at a time; "" where it is one.
func (s *State) unlike(said events.Statement, c events.Command, at time.Time) string {
	t := s.Trust()
	switch err := t.Owns(said); {
	case err != nil:
		return events.MessageOf(err)
	case said.By != c.By:
		return fmt.Sprintf("it is of %q, not of %q", said.By, c.By)
	case said.Ledger != s.ID:
		return fmt.Sprintf("it is for ledger %q", clip(said.Ledger, 64))
	case c.ID == "" || said.Command != c.ID:
		return fmt.Sprintf("it is for the command id %q, not for %q", clip(said.Command, 128), c.ID)
	case said.Content != c.Digest:
		return fmt.Sprintf("it is over the content %s, the command is %s", said.Content.Short(), c.Digest.Short())
	case said.At.Sub(at).Abs() > events.StatementSkew:
		return fmt.Sprintf("it was signed at %s, which is more than %s from %s: clocks may differ", said.At.UTC().Format(time.RFC3339), events.StatementSkew, at.UTC().Format(time.RFC3339))
	case !said.Expires.IsZero() && (!at.Before(said.Expires) || said.Expires.Sub(said.At) > maxStatementLife):
		return fmt.Sprintf("it says that it expires at %s: that is over, or further away than %d days", said.Expires.UTC().Format(time.RFC3339), maxStatementLife/(24*time.Hour))
	}
	return ""
}

// A subject is the change that an entry is about, as the statement for it names it; the zero subject where it is about none.
type subject struct {
	change string
	digest events.Digest
}

// about is the change that facts are about: the one that they propose, end, approve, hold or undo. Facts that undo several are about none.
func (s *State) about(facts []events.Fact) subject {
	of := func(id string) subject {
		if c := s.Changes[id]; c != nil {
			return subject{c.ID, c.Digest}
		}
		return subject{}
	}
	if len(facts) == 0 {
		return subject{}
	}
	switch f := facts[0].Data.(type) {
	case *events.ChangeProposed:
		return subject{f.Change, f.Digest}
	case *events.ApprovalGiven:
		return subject{f.Change, f.Digest}
	case *events.ChangeEnded:
		return of(f.Change)
	case *events.RolloutPaused:
		return of(f.Change)
	case *events.BreakGlassUsed:
		return of(f.Change)
	case *events.BreakGlassReviewed:
		return of(f.Change)
	case *events.RollbackOrdered:
		all := slices.Concat(f.Undone, f.SourcesOnly)
		if !slices.ContainsFunc(all, func(u events.Undone) bool { return u.Change != all[0].Change }) && len(all) > 0 {
			return of(all[0].Change)
		}
	}
	return subject{}
}
