package trust_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A desk answers what it is told to, and keeps what was sent.
type desk struct {
	asked []ledger.Outcome // to dry runs, in turn; the last one again and again
	moved int              // how many commands are refused, because somebody was quicker
	sent  []ledger.Command
}

func (d *desk) Do(_ context.Context, c ledger.Command, dryRun bool) (ledger.Outcome, error) {
	if dryRun {
		if c.Statement != nil {
			return ledger.Outcome{}, errors.New("a dry run was signed")
		}
		out := d.asked[0]
		if len(d.asked) > 1 {
			d.asked = d.asked[1:]
		}
		return out, nil
	}
	d.sent = append(d.sent, c)
	if d.moved > 0 {
		d.moved--
		return ledger.Outcome{}, &ledger.Error{Kind: ledger.KindConflict, Message: "somebody was quicker"}
	}
	return ledger.Outcome{}, nil
}

func about(change, content string) (out ledger.Outcome) {
	out.Change, out.Digest = change, events.Sum([]byte(content))
	return out
}

func TestWhatIsSignedIsWhatTheCommandIsAboutWhenItArrives(t *testing.T) {
	person := signer(t)
	pen := trust.Pen{Ledger: id, Signer: person, Clock: func() time.Time { return now }}
	d := &desk{asked: []ledger.Outcome{about("c1", "one"), about("c2", "two")}, moved: 1}
	command := ledger.Command{ID: "once", By: "anna", Body: ledger.Propose{Reason: "why"}}
	if _, err := pen.Do(t.Context(), d, command); err != nil {
		t.Fatal(err)
	}
	content, err := command.Digest()
	must(t, err)
	for i, want := range []ledger.Outcome{about("c1", "one"), about("c2", "two")} {
		said, err := d.sent[i].Statement.Open()
		must(t, err)
		if said.Change != want.Change || said.Digest != want.Digest || said.By != "anna" || said.Key != person.Public() || said.Command != "once" || said.Content != content || !said.Expires.IsZero() {
			t.Errorf("statement %d is %+v", i+1, said)
		}
	}
}

func TestNobodySignsForEver(t *testing.T) {
	pen := trust.Pen{Ledger: id, Signer: signer(t), Clock: func() time.Time { return now }}
	d := &desk{asked: []ledger.Outcome{about("c1", "one")}, moved: 100}
	if _, err := pen.Do(t.Context(), d, ledger.Command{ID: "once", By: "anna", Body: ledger.Reject{Change: "c1"}}); ledger.KindOf(err) != ledger.KindConflict || len(d.sent) != 4 {
		t.Errorf("%d were sent: %v", len(d.sent), err)
	}
}

func TestWhatWasDoneBeforeIsNotSignedAgain(t *testing.T) {
	done := about("c1", "one")
	done.Again = true
	d := &desk{asked: []ledger.Outcome{done}}
	out, err := trust.Pen{Ledger: id, Signer: signer(t), Clock: func() time.Time { return now }}.Do(t.Context(), d, ledger.Command{ID: "once", By: "anna", Body: ledger.Reject{Change: "c1"}})
	if err != nil || !out.Again || len(d.sent) > 0 {
		t.Errorf("%+v, %d were sent: %v", out, len(d.sent), err)
	}
}

func TestApprovalsSayUntilWhenTheyCountAndABreakGlassWhy(t *testing.T) {
	for _, c := range []struct {
		body   ledger.Body
		life   time.Duration
		until  time.Time
		reason string
	}{
		{ledger.Approve{Change: "c1"}, 0, now.Add(trust.ApprovalLife), ""},
		{ledger.Approve{Change: "c1"}, time.Hour, now.Add(time.Hour), ""},
		{ledger.BreakGlass{Change: "c1", Reason: "it burns"}, time.Hour, now.Add(time.Hour), "it burns"},
		{ledger.Pause{Change: "c1", Reason: "wait"}, time.Hour, time.Time{}, ""},
	} {
		d := &desk{asked: []ledger.Outcome{about("c1", "one")}}
		_, err := trust.Pen{Ledger: id, Signer: signer(t), Life: c.life, Clock: func() time.Time { return now }}.Do(t.Context(), d, ledger.Command{ID: "once", By: "anna", Body: c.body})
		must(t, err)
		said, err := d.sent[0].Statement.Open()
		must(t, err)
		if !said.Expires.Equal(c.until) || said.Reason != c.reason {
			t.Errorf("%T: %+v", c.body, said)
		}
	}
}
