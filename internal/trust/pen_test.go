package trust_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
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

// proposed is the answer to a dry run of a proposal that sets values, of "ENVIRONMENT KEY" each.
func proposed(t *testing.T, change string, values map[string]string) (out ledger.Outcome) {
	t.Helper()
	terms := &ledger.Terms{Change: change}
	for _, in := range slices.Sorted(maps.Keys(values)) {
		environment, key, _ := strings.Cut(in, " ")
		terms.Environments = append(terms.Environments, ledger.TermsIn{
			Environment: environment, Operations: []events.Operation{{Op: events.OpSet, Key: key, Value: []byte(values[in])}}, Inverse: []events.Inverse{{Op: events.OpDelete, Key: key}}})
	}
	digest, err := terms.Digest()
	must(t, err)
	out.Change, out.Digest, out.Terms = change, digest, terms
	return out
}

func edit(value string, environments ...string) []ledger.Edit {
	return []ledger.Edit{{Environments: environments, Set: map[string]json.RawMessage{"variable/x": json.RawMessage(value)}}}
}

// TestAPublisherThatLiesGetsNothingSigned: what a person signs is what they asked for and were shown, whatever the publisher answers.
func TestAPublisherThatLiesGetsNothingSigned(t *testing.T) {
	set := ledger.Propose{Reason: "why", Edits: edit("1", "de*")}
	honest := func() ledger.Outcome { return proposed(t, "c1", map[string]string{"dev variable/x": "1"}) }
	change := func(edit func(*ledger.Outcome)) ledger.Outcome {
		out := proposed(t, "c1", map[string]string{"dev variable/x": "1"})
		edit(&out)
		return out
	}
	document, _ := first(t, 1, 1)
	for what, c := range map[string]struct {
		body  ledger.Body
		asked ledger.Outcome
	}{
		"another digest than was looked at":    {ledger.Approve{Change: "c1", Digest: events.Sum([]byte("one"))}, about("c1", "two")},
		"another change than was looked at":    {ledger.Approve{Change: "c1", Digest: events.Sum([]byte("one"))}, about("c2", "one")},
		"another glass":                        {ledger.BreakGlass{Change: "c1", Digest: events.Sum([]byte("one")), Reason: "it burns"}, about("c1", "two")},
		"no terms":                             {set, about("c1", "one")},
		"terms of another digest":              {set, change(func(o *ledger.Outcome) { o.Digest = events.Sum(nil) })},
		"terms of another change":              {set, change(func(o *ledger.Outcome) { o.Change = "c2" })},
		"a trust document for operations":      {set, change(func(o *ledger.Outcome) { o.Terms.Trust = document })},
		"an inverse of something else":         {set, change(func(o *ledger.Outcome) { o.Terms.Environments[0].Inverse[0].Key = "variable/y" })},
		"no inverse":                           {set, change(func(o *ledger.Outcome) { o.Terms.Environments[0].Inverse = nil })},
		"another value":                        {set, proposed(t, "c1", map[string]string{"dev variable/x": "2"})},
		"an operation more":                    {set, proposed(t, "c1", map[string]string{"dev variable/x": "1", "dex variable/y": "1"})},
		"an environment more":                  {set, proposed(t, "c1", map[string]string{"dev variable/x": "1", "prod variable/x": "1"})},
		"what a later edit replaces":           {ledger.Propose{Reason: "why", Edits: append(edit("1", "dev"), edit("2", "dev")...)}, honest()},
		"a revision of another change":         {ledger.Revise{Change: "c2", Propose: set}, honest()},
		"a rebase without terms":               {ledger.Rebase{Change: "c1"}, about("c1", "one")},
		"another trust document than proposed": {ledger.ProposeTrust{Document: *document, Reason: "why"}, about("c1", "one")},
	} {
		d := &desk{asked: []ledger.Outcome{c.asked}}
		_, err := trust.Pen{Ledger: id, Signer: signer(t), Clock: func() time.Time { return now }}.Do(t.Context(), d, ledger.Command{ID: "once", By: "anna", Body: c.body})
		if ledger.KindOf(err) != ledger.KindDenied || !strings.Contains(err.Error(), "the publisher contradicts itself") || len(d.sent) > 0 {
			t.Errorf("%s: %d were signed: %v", what, len(d.sent), err)
		}
	}
}

// TestWhatIsAnsweredToAProposalIsWhatWasSigned: not what the publisher says that it did.
func TestWhatIsAnsweredToAProposalIsWhatWasSigned(t *testing.T) {
	asked := proposed(t, "c1", map[string]string{"dev variable/x": "1"})
	asked.Effect = []ledger.Effect{{Environment: "dev", Key: "variable/y"}}
	out, err := trust.Pen{Ledger: id, Signer: signer(t), Clock: func() time.Time { return now }}.Do(t.Context(), &desk{asked: []ledger.Outcome{asked}},
		ledger.Command{ID: "once", By: "anna", Body: ledger.Propose{Reason: "why", Edits: edit(" 1", "dev")}})
	if err != nil || len(out.Effect) != 1 || out.Effect[0].Key != "variable/x" || string(out.Effect[0].After) != "1" {
		t.Errorf("%+v (%v)", out.Effect, err)
	}
}

func TestWhatIsSignedIsWhatTheCommandIsAboutWhenItArrives(t *testing.T) {
	person := signer(t)
	pen := trust.Pen{Ledger: id, Signer: person, Clock: func() time.Time { return now }}
	first, second := proposed(t, "c1", map[string]string{"dev variable/x": "1"}), proposed(t, "c2", map[string]string{"dev variable/x": "1"})
	d := &desk{asked: []ledger.Outcome{first, second}, moved: 1}
	command := ledger.Command{ID: "once", By: "anna", Body: ledger.Propose{Reason: "why", Edits: edit("1", "dev")}}
	if _, err := pen.Do(t.Context(), d, command); err != nil {
		t.Fatal(err)
	}
	content, err := command.Digest()
	must(t, err)
	for i, want := range []ledger.Outcome{first, second} {
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
		{ledger.Approve{Change: "c1", Digest: events.Sum([]byte("one"))}, 0, now.Add(trust.ApprovalLife), ""},
		{ledger.Approve{Change: "c1", Digest: events.Sum([]byte("one"))}, time.Hour, now.Add(time.Hour), ""},
		{ledger.BreakGlass{Change: "c1", Digest: events.Sum([]byte("one")), Reason: "it burns"}, time.Hour, now.Add(time.Hour), "it burns"},
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
