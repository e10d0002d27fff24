package events_test

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// signedDocument is a trust document with every field filled.
func signedDocument(t testing.TB) events.Trust {
	document := trusttest.Document(t, foldtest.Ledger, foldtest.Signer(t, "publisher").Public())
	return trusttest.Next(t, document, func(d *events.Trust) {
		d.Rules = append([]events.ApprovalRule{
			{Environments: []string{"stage=prod", "prod-*"}, Resources: []string{"secret/*", "connection/*"}, Approvals: 2, Roles: []events.Role{events.RoleApprover, events.RoleReleaseManager}},
			{Environments: []string{"dev"}, Approvals: 0},
		}, d.Rules...)
		d.Delegations = []events.Delegation{{From: "bob", To: "rita", Role: events.RoleApprover, Until: epoch.Add(48 * time.Hour)}}
		d.Labels = map[string]map[string]string{"prod-eu": {"stage": "prod"}, "dev": {"stage": "dev"}}
	})
}

// signedFacts is one fact of every ledger type that only signed approvals have, and of those that they fill further.
func signedFacts(t testing.TB) []events.Fact {
	document := signedDocument(t)
	proposed := document
	proposed.Signatures = nil
	digest, err := events.TrustChangeDigest("c-9", &proposed)
	if err != nil {
		t.Fatal(err)
	}
	change := events.Sum([]byte("change"))
	return []events.Fact{
		{Type: events.TypeChangeProposed, Subject: "c-9", Data: &events.ChangeProposed{
			Change: "c-9", Digest: digest, Author: "ada", Reason: "rita stands in for bob", Expires: epoch.Add(24 * time.Hour), Environments: []events.ProposedEnvironment{}, Trust: &proposed}},
		{Type: events.TypeApprovalGiven, Subject: "c-9", Data: &events.ApprovalGiven{Change: "c-9", Digest: digest, By: "ada", Roots: document.Signatures}},
		{Type: events.TypeTrustUpdated, Subject: "trust.2", Data: &events.TrustUpdated{Document: document, Wave: events.Wave{Derivation: 1, Releases: []events.ReleaseRef{}}}},
		{Type: events.TypeChangeApproved, Subject: "c-1", Data: &events.ChangeApproved{Change: "c-1", Digest: change, ByRule: true}},
		{Type: events.TypeRolloutPaused, Subject: "c-1", Data: &events.RolloutPaused{Change: "c-1", By: "rita", Reason: "not on a Friday"}},
		{Type: events.TypeRolloutResumed, Subject: "c-1", Data: &events.RolloutPaused{Change: "c-1", By: "rita"}},
		{Type: events.TypeBreakGlassUsed, Subject: "c-1", Data: &events.BreakGlassUsed{Change: "c-1", Digest: change, By: "gus", Reason: "the shop is down"}},
		{Type: events.TypeBreakGlassReviewed, Subject: "c-1", Data: &events.BreakGlassReviewed{Change: "c-1", By: "bob", Comment: "it was"}},
		{Type: events.TypeAlarmAcknowledged, Subject: "af13aa6d3941", Data: &events.AlarmAcknowledged{Alarm: "af13aa6d3941", Environment: "prod-eu", By: "otto", Reason: "restarting the agent"}},
		{Type: events.TypeAlarmsSilenced, Subject: "prod-*", Data: &events.AlarmsSilenced{Environment: "prod-*", Rule: "silent", Until: epoch.Add(2 * time.Hour), By: "otto", Reason: "the provider moves us"}},
		{Type: events.TypeSilenceEnded, Subject: "s12", Data: &events.SilenceEnded{Silence: 12, By: "otto"}},
	}
}

func TestGoldenSignedEntries(t *testing.T) {
	var vectors []entryVector
	var previous events.Digest
	for i, f := range signedFacts(t) {
		at := epoch.Add(time.Duration(i) * time.Second)
		command := events.Command{ID: "0190f3a2-7c1e-7d3a-8b0a-00000000001" + string(rune('0'+i)), By: "ada", Digest: events.Sum([]byte(f.Type))}
		command.Statement = trusttest.Sign(t, events.Statement{Ledger: foldtest.Ledger, By: "ada", At: at, Verb: "propose-trust", Command: command.ID, Content: command.Digest})
		_, payload, err := events.NewEntry(uint64(i+1), previous, foldtest.Ledger, command, at, "", []events.Fact{f})
		if err != nil {
			t.Fatal(err)
		}
		previous = events.Sum(payload)
		vectors = append(vectors, entryVector{f.Type, string(payload), previous.String()})
	}
	golden(t, "entries-signed.json", vectors)
}

func TestGoldenSignedEntriesAreReadAsTheyWereWritten(t *testing.T) {
	wrote := signedFacts(t)
	for i, v := range readVectors[[]entryVector](t, "entries-signed.json") {
		e, err := events.DecodeEntry([]byte(v.Payload))
		if err != nil {
			t.Fatalf("%s: %v", v.Type, err)
		}
		if s, err := e.Command.Statement.Open(); err != nil || s.By != "ada" || s.Content != e.Command.Digest {
			t.Errorf("%s: its statement is %+v (%v)", v.Type, s, err)
		}
		data, err := events.DecodeFact(e.Events[0])
		if err != nil {
			t.Fatal(err)
		}
		diff(t, data, wrote[i].Data)
		raw, _ := events.Encode(e.Events[0])
		checkCloudEvent(t, raw)
	}
}

// A statementEnvelope is a vector for whoever signs or verifies elsewhere.
type statementEnvelope struct {
	Payload  string          `json:"payload"`  // the statement, as it is signed
	Message  string          `json:"message"`  // what the key signs: the pre-authentication encoding of DSSE, in base64
	Envelope events.Envelope `json:"envelope"` // as it travels
}

func TestGoldenStatementsOfPeople(t *testing.T) {
	digest := events.Sum([]byte("change"))
	var vectors []statementEnvelope
	for _, e := range []*events.Envelope{
		trusttest.Over(t, foldtest.Ledger, "ann", events.VerbPropose, "c-1", digest, epoch),
		trusttest.Over(t, foldtest.Ledger, "bob", events.VerbApprove, "c-1", digest, epoch.Add(time.Hour)),
		trusttest.Over(t, foldtest.Ledger, "gus", events.VerbBreakGlass, "c-1", digest, epoch.Add(2*time.Hour)),
		trusttest.Sign(t, events.Statement{Ledger: foldtest.Ledger, By: "otto", At: epoch, Verb: "add-environment", Command: "0190f3a2", Content: digest}),
	} {
		s, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		payload, err := base64.StdEncoding.DecodeString(e.Payload)
		if err != nil || string(payload) != encode(t, s) {
			t.Errorf("%s is signed as %s (%v)", encode(t, s), payload, err)
		}
		sig, _ := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
		message := dsse.PAE(events.StatementType, payload)
		checkEd25519(t, s.Key, message, sig)
		vectors = append(vectors, statementEnvelope{string(payload), base64.StdEncoding.EncodeToString(message), *e})
	}
	golden(t, "people.json", vectors)
}

// A trustVector is a trust document with what its roots sign.
type trustVector struct {
	Document string `json:"document"` // as it travels
	Digest   string `json:"digest"`   // which an enrolment pins
	Body     string `json:"body"`     // what roots sign, in the pre-authentication encoding of DSSE
	Change   string `json:"change"`   // a change that proposes it
	Proposal string `json:"proposal"` // the digest of that change
}

func TestGoldenTrustDocuments(t *testing.T) {
	first := trusttest.Document(t, foldtest.Ledger, foldtest.Signer(t, "publisher").Public())
	second := signedDocument(t)
	if err := second.CheckSuccession(&first); err != nil {
		t.Fatal(err)
	}
	var vectors []trustVector
	for i, document := range []events.Trust{first, second} {
		digest, err := document.Digest()
		if err != nil {
			t.Fatal(err)
		}
		body, err := document.Body()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range document.Signatures {
			sig, _ := base64.StdEncoding.DecodeString(s.Sig)
			checkEd25519(t, s.Key, dsse.PAE(events.TrustType, body), sig)
		}
		change := "c-" + string(rune('8'+i))
		proposal, err := events.TrustChangeDigest(change, &document)
		if err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, trustVector{encode(t, document), digest.String(), string(body), change, proposal.String()})
	}
	golden(t, "trust.json", vectors)
}
