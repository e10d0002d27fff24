package events_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// FuzzOpenStatement signs what it gets with the key that it names: a signature does not make a statement harmless.
func FuzzOpenStatement(f *testing.F) {
	digest := events.Sum([]byte("change"))
	for _, verb := range []string{events.VerbPropose, events.VerbApprove, events.VerbBreakGlass} {
		e := trusttest.Over(f, foldtest.Ledger, "bob", verb, "c-1", digest, epoch)
		payload, err := base64.StdEncoding.DecodeString(e.Payload)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload)
	}
	f.Add([]byte(`{"ledger":"l","by":"bob","key":"U","at":"2026-03-01T12:00:00Z","expires":null}`))
	bob := trusttest.Key(f, "bob")
	document := trusttest.Document(f, foldtest.Ledger, foldtest.Signer(f, "publisher").Public())
	f.Fuzz(func(t *testing.T, payload []byte) {
		e := events.Envelope{PayloadType: events.StatementType, Payload: base64.StdEncoding.EncodeToString(payload),
			Signatures: []events.EnvelopeSignature{{KeyID: bob.Public(), Sig: bob.SignMessage(payload)}}}
		s, err := e.Open()
		if err != nil {
			wantClosed(t, err)
			return
		}
		if again := encode(t, s); again != string(payload) {
			t.Fatalf("reads %q and writes %q", payload, again)
		}
		if s.Key != bob.Public() {
			t.Fatalf("bob's signature under a statement of %s", s.Key)
		}
		if err := document.Owns(s); (err == nil) != (s.By == "bob") {
			t.Fatalf("%q speaks for %q: %v", payload, s.By, err)
		}
		if err := document.Counts(s, epoch); err != nil {
			wantClosed(t, err)
		}
	})
}

// FuzzOpenEnvelope: whatever travels as an envelope is read as it is written, or refused.
func FuzzOpenEnvelope(f *testing.F) {
	for _, verb := range []string{events.VerbPropose, events.VerbBreakGlass} {
		b, err := events.Encode(trusttest.Over(f, foldtest.Ledger, "gus", verb, "c-1", events.Sum(nil), epoch))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"payloadType":"application/vnd.lockstep.statement.v1+json","payload":"e30=","signatures":[]}`))
	f.Fuzz(func(t *testing.T, envelope []byte) {
		var e events.Envelope
		if err := events.DecodeStrict(envelope, &e); err != nil {
			wantClosed(t, err)
			return
		}
		s, err := e.Open()
		if err != nil {
			wantClosed(t, err)
			return
		}
		if len(e.Signatures) != 1 || e.Signatures[0].KeyID != s.Key {
			t.Fatalf("%q opens", envelope)
		}
		if known, err := (events.Opened{}).Add(&e); err != nil || encode(t, known) != encode(t, s) {
			t.Fatalf("opened again it is %+v (%v)", known, err)
		}
	})
}

// FuzzTrustDocument: a document that Check accepts can be judged with, is written as it was read, and signs for nobody without roots.
func FuzzTrustDocument(f *testing.F) {
	first := trusttest.Document(f, foldtest.Ledger, foldtest.Signer(f, "publisher").Public())
	for _, document := range []events.Trust{first, signedDocument(f), {Version: 1, Ledger: "l", Publishers: []string{"U1"}, Approvals: events.ApprovalsAreNames}} {
		b, err := events.Encode(document)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	release := &events.Release{Environment: "prod-eu", Operations: []events.Operation{{Op: events.OpSet, Key: "variable/x", Value: json.RawMessage(`1`)}},
		Change: &events.ReleasedChange{ID: "c-1", Author: "ann"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		var document events.Trust
		if err := events.DecodeStrict(b, &document); err != nil {
			wantClosed(t, err)
			return
		}
		if err := document.Check(); err != nil {
			wantClosed(t, err)
			return
		}
		if again := encode(t, document); again != string(b) {
			t.Fatalf("reads %q and writes %q", b, again)
		}
		if err := document.CheckApprovals(release, epoch, nil); err == nil {
			t.Fatalf("%q approves what nobody signed", b)
		}
		rules := document.Governing("prod-eu", release.Operations)
		if document.Approvals == events.ApprovalsAreSigned && len(rules) == 0 {
			t.Fatalf("%q leaves a change without a rule", b)
		}
		err := document.CheckSuccession(&first)
		if err == nil && !bytes.Contains(b, []byte(first.Roots.Keys[0])) && !bytes.Contains(b, []byte(first.Roots.Keys[1])) {
			t.Fatalf("%q follows without a root of the document before", b)
		}
	})
}

func FuzzGlob(f *testing.F) {
	f.Add("prod-*", "prod-eu")
	f.Add("*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 12 || len(name) > 12 {
			_ = events.Glob(pattern, name) // ends
			return
		}
		if have, want := events.Glob(pattern, name), globByDefinition(pattern, name); have != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, name, have, want)
		}
	})
}

// globByDefinition tries everything that a star can stand for.
func globByDefinition(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	if pattern[0] == '*' {
		return globByDefinition(pattern[1:], name) || (name != "" && globByDefinition(pattern, name[1:]))
	}
	return name != "" && pattern[0] == name[0] && globByDefinition(pattern[1:], name[1:])
}

// BenchmarkSignedRelease verifies, as an agent does, that a release carries the proposal and two approvals.
func BenchmarkSignedRelease(b *testing.B) {
	p := foldtest.NewSigned(b)
	p.Trust("prod")
	r := p.Draft(foldtest.Set("prod", "variable/x", `1`))[0]
	p.Sign(&r, "ann", "bob", "carol")
	document := p.Document()
	at := p.Now()
	b.Run("approvals", func(b *testing.B) {
		for b.Loop() {
			if err := document.CheckApprovals(&r, at, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("approvals opened before", func(b *testing.B) {
		opened := events.Opened{}
		for _, e := range []*events.Envelope{r.Change.Proposal, r.Change.Approvals[0].Envelope, r.Change.Approvals[1].Envelope} {
			if _, err := opened.Add(e); err != nil {
				b.Fatal(err)
			}
		}
		for b.Loop() {
			if err := document.CheckApprovals(&r, at, opened); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read, wave and approvals", func(b *testing.B) {
		sealed := p.Seal(r)[0]
		for b.Loop() {
			read, event, err := events.DecodeRelease(sealed.Payload)
			if err == nil {
				err = events.VerifyWave(p.Ledger, sealed.Chain, sealed.Header, document.AllowsPublisher)
			}
			if err == nil {
				err = document.CheckApprovals(&read, event.Time, nil)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestAStatementSignedForOnePurposeServesNoOther: the payload type is in what is signed.
func TestAStatementSignedForOnePurposeServesNoOther(t *testing.T) {
	document := trusttest.Document(t, foldtest.Ledger, foldtest.Signer(t, "publisher").Public())
	body, err := document.Body()
	if err != nil {
		t.Fatal(err)
	}
	root := trusttest.Key(t, "root 1")
	forged := events.RootSignature{Key: root.Public(), Sig: root.SignMessage(body)}
	wantReason(t, document.CheckRoot(forged, nil), events.ReasonSignature)
	e := trusttest.Over(t, foldtest.Ledger, "bob", events.VerbApprove, "c-1", events.Sum(nil), epoch)
	e.PayloadType = events.TrustType
	_, err = e.Open()
	wantReason(t, err, events.ReasonUpgradeNeeded)
}

func TestWhoMay(t *testing.T) {
	document := signedDocument(t)
	at := epoch
	for _, c := range []struct {
		who         string
		role        events.Role
		environment string
		at          time.Time
		may         bool
	}{
		{"bob", events.RoleApprover, "prod-eu", at, true}, {"bob", events.RoleAuthor, "prod-eu", at, false}, {"Bob", events.RoleApprover, "prod-eu", at, false},
		{"rita", events.RoleApprover, "prod-eu", at, true}, {"rita", events.RoleApprover, "prod-eu", at.Add(48 * time.Hour), false},
		{"rita", events.RoleApprover, "prod-eu", at.Add(48*time.Hour - time.Microsecond), true}, {"nobody", events.RoleApprover, "prod-eu", at, false},
	} {
		if have := document.May(c.who, c.role, c.environment, c.at); have != c.may {
			t.Errorf("%+v: %v", c, have)
		}
	}
	if !document.MaySomewhere("rita", events.RoleApprover, at) || document.MaySomewhere("rita", events.RoleAuthor, at) {
		t.Error("somewhere")
	}
	if document.Selects("stage=prod", "dev") || !document.Selects("stage=prod", "prod-eu") || document.Selects("stage=", "nowhere") {
		t.Error("labels")
	}
}
