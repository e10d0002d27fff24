package ledger_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// TestWhatNobodySignedIsNotReadFromTheLedger writes entries as whoever holds the publisher's host can: well-formed, numbered, chained.
func TestWhatNobodySignedIsNotReadFromTheLedger(t *testing.T) {
	b := signedBook(t, func(d *events.Trust) { d.Rules[0].Approvals = 2 }, "dev", "prod")
	id := b.must("ann", set("dev", "variable/x", "1")).Change
	c := b.state.Changes[id]
	at := b.now.Add(time.Second)
	statement := func(command ledger.Command, edit func(*events.Statement)) events.Command {
		s := events.Statement{Ledger: ledgerID, At: at, Expires: at.Add(time.Hour)}
		if edit != nil {
			edit(&s)
		}
		signed, err := command.Signed(s, trusttest.Key(t, command.By))
		if err != nil {
			t.Fatal(err)
		}
		digest, err := command.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return events.Command{ID: command.ID, By: command.By, Digest: digest, Statement: signed.Statement}
	}
	over := func(s *events.Statement) { s.Change, s.Digest = id, c.Digest }
	none := func(by string) events.Command { return events.Command{ID: "forged", By: by, Digest: events.Sum(nil)} }
	approve := func(by string) events.Command {
		return statement(ledger.Command{ID: "forged", By: by, Body: ledger.Approve{Change: id, Digest: c.Digest}}, over)
	}
	fact := func(of events.Type, data any) events.Fact { return events.Fact{Type: of, Data: data} }
	approval := func(by string) events.Fact {
		return fact(events.TypeApprovalGiven, &events.ApprovalGiven{Change: id, Digest: c.Digest, By: by})
	}
	enrolled := func(key string) events.Fact {
		return fact(events.TypeAgentEnrolled, &events.AgentEnrolled{Environment: "dev", Agent: "a1", Key: signer(key).Public(), Revision: 1, Chain: b.state.Environments["dev"].Fold.Chain})
	}
	enrol := statement(ledger.Command{ID: "forged", By: "otto", Body: ledger.EnrolAgent{Environment: "dev", Agent: "a1", Key: signer("a1").Public()}}, nil)
	signedDocument := trusttest.Next(t, *b.state.Trust(), trusttest.Remove("dan"))
	approved := fact(events.TypeChangeApproved, &events.ChangeApproved{Change: id, Digest: c.Digest})
	wave := fact(events.TypeWaveReleased, &events.WaveReleased{Change: id, Number: 1, Wave: events.Wave{Derivation: 1, Releases: []events.ReleaseRef{}}})

	apply := func(command events.Command, at time.Time, facts ...events.Fact) error {
		s := b.upTo(len(b.entries) + 1)
		_, payload, err := events.NewEntry(s.Number+1, s.Hash, s.ID, command, at, "", facts)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = s.Apply(payload, at)
		return err
	}
	for what, err := range map[string]error{
		"bob's approval":               apply(approve("bob"), at, approval("bob")),
		"the enrolment that was meant": apply(enrol, at, enrolled("a1")),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"an approval that nobody signed":                         apply(none("bob"), at, approval("bob")),
		"carol's signature as bob's approval":                    apply(approve("carol"), at, approval("bob")),
		"carol's command as bob's":                               apply(func() events.Command { c := approve("carol"); c.By = "bob"; return c }(), at, approval("bob")),
		"an approval under another command's id":                 apply(func() events.Command { c := approve("bob"); c.ID = "another"; return c }(), at, approval("bob")),
		"an approval kept for an hour":                           apply(approve("bob"), at.Add(time.Hour), approval("bob")),
		"an approval of somebody without the role":               apply(approve("otto"), at, approval("otto")),
		"an approval over no digest":                             apply(statement(ledger.Command{ID: "forged", By: "bob", Body: ledger.Approve{Change: id, Digest: c.Digest}}, nil), at, approval("bob")),
		"a rejection as an approval":                             apply(statement(ledger.Command{ID: "forged", By: "bob", Body: ledger.Reject{Change: id, Reason: "no"}}, over), at, approval("bob")),
		"released with one approval of two":                      apply(approve("bob"), at, approval("bob"), approved, fact(events.TypeRolloutStarted, &events.RolloutStarted{Change: id}), wave),
		"released without a word":                                apply(none("publisher"), at, wave),
		"approved without a word":                                apply(none("publisher"), at, approved),
		"an agent with another key":                              apply(enrol, at, enrolled("mallory")),
		"an agent beside another command":                        apply(approve("bob"), at, approval("bob"), enrolled("mallory")),
		"an environment that nobody added":                       apply(none("otto"), at, fact(events.TypeEnvironmentUpdated, &events.EnvironmentUpdated{Environment: "prod"})),
		"an environment retired by nobody":                       apply(none("otto"), at, fact(events.TypeEnvironmentRetired, &events.EnvironmentRetired{Environment: "prod", By: "otto"})),
		"a rollback that nobody ordered":                         apply(none("rita"), at, fact(events.TypeRollbackOrdered, &events.RollbackOrdered{By: "rita", Undone: []events.Undone{}, Wave: events.Wave{Releases: []events.ReleaseRef{}}})),
		"glass that nobody broke":                                apply(none("gus"), at, fact(events.TypeBreakGlassUsed, &events.BreakGlassUsed{Change: id, Digest: c.Digest, By: "gus", Reason: "x"})),
		"a trust document that roots signed and nobody approved": apply(none("publisher"), at, fact(events.TypeTrustUpdated, &events.TrustUpdated{Document: signedDocument, Wave: events.Wave{Derivation: 1, Releases: []events.ReleaseRef{}}})),
		"that document beside an approval of something else":     apply(approve("bob"), at, approval("bob"), fact(events.TypeTrustUpdated, &events.TrustUpdated{Document: signedDocument, Wave: events.Wave{Derivation: 1, Releases: []events.ReleaseRef{}}})),
		"deliveries with somebody's signature":                   apply(approve("bob"), at, fact(events.TypeDeliveryRecorded, &events.DeliveryRecorded{Deliveries: []events.Delivery{}})),
		"a proposal by rule that demands two":                    apply(none("ann"), at, fact(events.TypeChangeProposed, &events.ChangeProposed{Change: "c2", Author: "ann"})),
	} {
		if !errors.Is(err, ledger.ErrForged) && !errors.Is(err, ledger.ErrBroken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	unapproved := apply(none("publisher"), at, fact(events.TypeTrustUpdated, &events.TrustUpdated{Document: signedDocument, Wave: events.Wave{Derivation: 1, Releases: []events.ReleaseRef{}}}))
	if !errors.Is(unapproved, ledger.ErrForged) {
		t.Errorf("%v", unapproved)
	}
}

// TestAStatementIsDoneOnce: an entry's own command and statement in a later entry is no second command.
func TestAStatementIsDoneOnce(t *testing.T) {
	b := signedBook(t, nil, "dev")
	b.must("otto", ledger.AddEnvironment{Name: "test", Approvals: 1})
	entry, err := events.DecodeEntry(b.entries[len(b.entries)-1])
	if err != nil {
		t.Fatal(err)
	}
	b.must("otto", ledger.RetireEnvironment{Name: "test", Reason: "done"})
	fact := &events.EnvironmentUpdated{Environment: "dev", Approvals: 1}
	for what, facts := range map[string][]events.Fact{
		"the same again": {{Type: events.TypeEnvironmentAdded, Data: &events.EnvironmentAdded{Environment: "test", Approvals: 1, Wave: events.Wave{Releases: []events.ReleaseRef{}}}}},
		"something else": {{Type: events.TypeEnvironmentUpdated, Data: fact}},
	} {
		s := b.upTo(len(b.entries) + 1)
		_, payload, err := events.NewEntry(s.Number+1, s.Hash, s.ID, entry.Command, b.now, "", facts)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Apply(payload, b.now); !errors.Is(err, ledger.ErrForged) && !errors.Is(err, ledger.ErrBroken) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestARecoveredTrustDocumentFollowsTheOneBefore: what stands for a lost entry holds no other roots than those that signed.
func TestARecoveredTrustDocumentFollowsTheOneBefore(t *testing.T) {
	b := signedBook(t, nil, "dev")
	stolen := trusttest.Unsigned(*b.state.Trust(), func(d *events.Trust) { d.Roots.Keys = []string{trusttest.Key(t, "mallory").Public()} })
	stolen.Signatures = []events.RootSignature{trusttest.Root(t, stolen, "mallory")}
	payload, err := events.EncodeRelease(events.Release{Kind: events.KindTrust, Environment: "new", Revision: 1, Previous: events.ChainStart(ledgerID, "new"),
		Ledger: ledgerID, Entry: b.state.Number + 1, Derivation: 1, Trust: &stolen, State: b.state.Environments["dev"].Fold.State.Digest()}, b.now, "")
	if err != nil {
		t.Fatal(err)
	}
	headers, err := signer("publisher").SignWave(ledgerID, []events.Digest{events.Chain(events.ChainStart(ledgerID, "new"), payload)})
	if err != nil {
		t.Fatal(err)
	}
	s := b.upTo(len(b.entries) + 1)
	_, entry, err := events.NewEntry(s.Number+1, s.Hash, s.ID, events.Command{By: "publisher"}, b.now, "", []events.Fact{{Type: events.TypeHistoryRecovered,
		Data: &events.HistoryRecovered{Releases: []events.RecoveredRelease{{Payload: payload, Signature: headers[0]}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Apply(entry, b.now); !errors.Is(err, ledger.ErrBroken) || !strings.Contains(err.Error(), "does not follow document 1") {
		t.Error(err)
	}
}

// TestTermsGiveTheDigestThatIsSigned: of a proposal before it is made, of a change, and of a change of trust.
func TestTermsGiveTheDigestThatIsSigned(t *testing.T) {
	b := signedBook(t, nil, "dev", "prod")
	b.approve("bob", b.must("ann", set("dev", "variable/x", "0")).Change)
	for _, c := range []struct {
		by   string
		body ledger.Body
	}{
		{"ann", set("dev prod", "variable/x", `{"a":[1,2,"\u00fc"]}`)}, {"ann", del("dev", "variable/x")},
		{"ada", ledger.ProposeTrust{Document: trusttest.Unsigned(*b.state.Trust(), trusttest.Remove("dan")), Reason: "dan left"}},
	} {
		dry, err := b.state.Decide(ledger.Command{ID: "dry", By: c.by, Body: c.body, DryRun: true}, b.now)
		if err != nil || dry.Entry != nil || dry.Stores != nil {
			t.Fatalf("%+v (%v)", dry, err)
		}
		if digest, err := dry.Terms.Digest(); err != nil || digest != dry.Digest || digest.IsZero() {
			t.Errorf("the terms of a dry run give %s, want %s (%v)", digest.Short(), dry.Digest.Short(), err)
		}
		id := b.must(c.by, c.body).Change
		terms, err := b.state.TermsOf(id)
		if err != nil {
			t.Fatal(err)
		}
		var again ledger.Terms // as a client reads them
		text, err := json.Marshal(terms)
		if err == nil {
			err = json.Unmarshal(text, &again)
		}
		if err != nil {
			t.Fatal(err)
		}
		if digest, err := again.Digest(); err != nil || digest != b.state.Changes[id].Digest || digest != dry.Digest {
			t.Errorf("the terms of %s give %s, want %s (%v)", id, digest.Short(), b.state.Changes[id].Digest.Short(), err)
		}
	}
}
