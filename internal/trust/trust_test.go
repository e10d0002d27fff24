package trust_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const id = "6f1f9ac2-5d0c-4a0e-9d5b-2f1a3c4d5e6f"

var now = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)

func signer(t testing.TB) *events.Signer {
	t.Helper()
	pair, err := nkeys.CreateUser()
	must(t, err)
	return signerOf(t, pair)
}

func signerOf(t testing.TB, pair nkeys.KeyPair) *events.Signer {
	t.Helper()
	seed, err := pair.Seed()
	must(t, err)
	s, err := events.NewSigner(seed)
	must(t, err)
	return s
}

func key(t testing.TB) string { return signer(t).Public() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// first is a first document, signed, with its roots.
func first(t testing.TB, roots, threshold int) (*events.Trust, []*events.Signer) {
	t.Helper()
	var signers []*events.Signer
	var keys []string
	for range roots {
		s := signer(t)
		signers, keys = append(signers, s), append(keys, s.Public())
	}
	document, err := trust.First(&events.Trust{Ledger: id, Publishers: []string{key(t)}}, events.Roots{Keys: keys, Threshold: threshold}, "anna", key(t))
	must(t, err)
	sign(t, document, signers[:threshold])
	return document, signers
}

func sign(t testing.TB, document *events.Trust, roots []*events.Signer) {
	t.Helper()
	for _, root := range roots {
		sig, err := document.SignRoot(root)
		must(t, err)
		document.Signatures = append(document.Signatures, sig)
	}
}

func signedBy(document *events.Trust) (out []string) {
	for _, s := range document.Signatures {
		out = append(out, s.Key)
	}
	return out
}

func next(t testing.TB, document *events.Trust, edits ...trust.Edit) *events.Trust {
	t.Helper()
	out, err := trust.Next(document, edits...)
	must(t, err)
	return out
}

func TestTheFirstDocumentIsOneThatAnEnrolmentMayPin(t *testing.T) {
	document, _ := first(t, 3, 2)
	if err := document.CheckSuccession(nil); err != nil || document.Version != 1 {
		t.Errorf("version %d: %v", document.Version, err)
	}
	for role, want := range map[events.Role]bool{events.RoleAdministrator: true, events.RoleAuthor: true, events.RoleApprover: true, events.RoleOperator: true, events.RoleBreakGlass: false} {
		if document.May("anna", role, "prod-eu", now) != want {
			t.Errorf("%s is held: %v", role, !want)
		}
	}
	if len(document.Missing("prod-eu", []events.Operation{{Key: "variable/x"}}, "anna", []string{"anna"}, now)) == 0 {
		t.Error("the first administrator approves their own")
	}
	if _, err := trust.First(document, *document.Roots, "ben", key(t)); ledger.KindOf(err) != ledger.KindConflict {
		t.Errorf("a second first one: %v", err)
	}
}

func TestALedgerWithNamesGetsItsFirstSignedDocumentAfterThem(t *testing.T) {
	names := &events.Trust{Version: 4, Ledger: id, Publishers: []string{key(t)}, Approvals: events.ApprovalsAreNames}
	root := signer(t)
	document, err := trust.First(names, events.Roots{Keys: []string{root.Public()}, Threshold: 1}, "anna", key(t))
	must(t, err)
	sign(t, document, []*events.Signer{root})
	if err := document.CheckSuccession(names); err != nil {
		t.Error(err)
	}
	if _, err := trust.Next(names, trust.Add("ben", key(t), nil, nil)); ledger.KindOf(err) != ledger.KindConflict {
		t.Errorf("people among names: %v", err)
	}
}

func TestEditsSayWhatIsWrong(t *testing.T) {
	document, _ := first(t, 1, 1)
	ben := key(t)
	document = next(t, document, trust.Add("ben", ben, []events.Role{events.RoleApprover}, []string{"prod-*"}))
	for name, c := range map[string]struct {
		edit trust.Edit
		want string
	}{
		"unknown person":        {trust.Remove("carla"), "there is no person carla"},
		"other letters":         {trust.Remove("Ben"), "did you mean ben?"},
		"no key":                {trust.Add("carla", "", nil, nil), "--key"},
		"a seed as a key":       {trust.Add("carla", "SUAXX", nil, nil), "no public user key"},
		"another's key":         {trust.Add("carla", ben, nil, nil), "one key is both of"},
		"no such role":          {trust.Add("ben", "", []events.Role{"king"}, []string{"*"}), "no such role"},
		"nothing new":           {trust.Add("ben", ben, []events.Role{events.RoleApprover}, []string{"prod-*"}), "says already"},
		"last administrator":    {trust.Remove("anna"), "nobody would be administrator"},
		"not theirs":            {trust.Revoke("ben", []events.Role{events.RoleAuthor}, nil), "ben is no author"},
		"not there":             {trust.Revoke("ben", []events.Role{events.RoleApprover}, []string{"dev"}), "it is given in prod-*"},
		"delegates what is not": {trust.Delegate("ben", "anna", events.RoleOperator, now), "ben is no operator"},
		"which key":             {trust.RotatePublisher("UAXX", key(t)), "not among the publisher keys"},
		"no last rule":          {trust.Undemand(1), "the last rule"},
		"no such rule":          {trust.Undemand(7), "there is no rule 7"},
	} {
		if _, err := trust.Next(document, c.edit); err == nil || ledger.KindOf(err) == "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhoMayDoWhatWhere(t *testing.T) {
	document, _ := first(t, 1, 1)
	document = next(t, document,
		trust.Add("ben", key(t), []events.Role{events.RoleApprover}, []string{"stage=prod"}),
		trust.Add("carla", key(t), []events.Role{events.RoleApprover}, []string{"dev"}),
		trust.Delegate("ben", "carla", events.RoleApprover, now.Add(time.Hour)),
		trust.Demand(events.ApprovalRule{Environments: []string{"stage=prod"}, Resources: []string{"secret/*"}, Approvals: 2}),
		trust.Demand(events.ApprovalRule{Environments: []string{"dev"}, Approvals: 1}),
		trust.Labelled(map[string]map[string]string{"prod-eu": {"stage": "prod", "region": "eu"}, "dev": {"stage": "dev"}}))
	if diff := cmp.Diff(map[string]map[string]string{"prod-eu": {"stage": "prod"}, "dev": {"stage": "dev"}}, document.Labels); diff != "" {
		t.Error(diff)
	}
	who := func(at time.Time) (people string, needs []trust.Need) {
		seats, needs := trust.Who(document, "prod-eu", at)
		for _, s := range seats {
			people += s.Person + " "
		}
		return people, needs
	}
	people, needs := who(now)
	if people != "anna ben carla " || len(needs) != 2 || !slices.Equal(needs[0].People, []string{"anna", "ben", "carla"}) || needs[0].Approvals != 2 || needs[1].Rule != 3 {
		t.Errorf("%s %+v", people, needs)
	}
	if people, needs := who(now.Add(time.Hour)); people != "anna ben " || !slices.Equal(needs[0].People, []string{"anna", "ben"}) {
		t.Errorf("the delegation is over: %s %+v", people, needs)
	}
	if stuck := trust.Stuck(document, map[string]int{"prod-eu": 1, "dev": 1}, now.Add(time.Hour)); len(stuck) != 1 || !strings.HasPrefix(stuck[0], "in prod-eu a change must be 2 times approved by somebody besides its author, and only 2 people can") {
		t.Error(stuck)
	}
	if stuck := trust.Stuck(document, map[string]int{"dev": 9}, now); len(stuck) != 1 || !strings.HasPrefix(stuck[0], "in dev a change must be 9 times approved") {
		t.Errorf("what the environment itself demands is not counted: %q", stuck)
	}
}

// An edit that is drawn may be refused; what is not refused may follow the document before, once its roots signed, differs as it says,
// and has left that document alone.
func TestWhateverIsEditedMayFollow(t *testing.T) {
	seven := make([]string, 7)
	for i := range seven {
		seven[i] = key(t)
	}
	begin, roots := first(t, 2, 2)
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SampledFrom([]string{"anna", "ben", "carla", "Ben"})
		roles := rapid.SliceOfN(rapid.SampledFrom(events.Roles), 0, 3)
		places := rapid.SliceOfN(rapid.SampledFrom([]string{"*", "prod-*", "dev", "stage=prod"}), 0, 3)
		keys := rapid.SampledFrom(append(seven, ""))
		draw := func() trust.Edit {
			name, key := names.Draw(rt, "name"), keys.Draw(rt, "key")
			switch rapid.IntRange(0, 8).Draw(rt, "edit") {
			case 0, 1, 2:
				return trust.Add(name, key, roles.Draw(rt, "roles"), places.Draw(rt, "places"))
			case 3:
				return trust.Remove(name)
			case 4:
				return trust.Revoke(name, roles.Draw(rt, "roles"), places.Draw(rt, "places"))
			case 5:
				return trust.Rotate(name, "", key)
			case 6:
				return trust.Delegate(name, names.Draw(rt, "to"), rapid.SampledFrom(events.Roles).Draw(rt, "role"), now)
			case 7:
				return trust.Demand(events.ApprovalRule{Environments: places.Draw(rt, "places"), Approvals: rapid.IntRange(-1, 22).Draw(rt, "approvals"), Roles: roles.Draw(rt, "roles")})
			}
			return trust.Undemand(rapid.IntRange(0, 3).Draw(rt, "rule"))
		}
		document := begin
		for range rapid.IntRange(1, 12).Draw(rt, "edits") {
			before, err := events.Encode(document)
			must(t, err)
			after, err := trust.Next(document, draw(), trust.Labelled(map[string]map[string]string{"prod-eu": {"stage": "prod"}}))
			if untouched, _ := events.Encode(document); string(untouched) != string(before) {
				rt.Fatal("the document before was changed")
			}
			if err != nil {
				if ledger.KindOf(err) == "" {
					rt.Fatalf("%v is no refusal", err)
				}
				continue
			}
			if n, of := trust.Lacking(document, after, nil); n != 2 || len(of) != 2 {
				rt.Fatalf("%d signatures of %v are lacking", n, of)
			}
			sign(t, after, roots)
			if err := after.CheckSuccession(document); err != nil {
				rt.Fatal(err)
			}
			if len(trust.Diff(document, after)) == 0 || len(trust.Diff(after, after)) > 0 {
				rt.Fatalf("the difference is %q", trust.Diff(document, after))
			}
			document = after
		}
	})
}

func TestARootSignsAwayFromTheNetwork(t *testing.T) {
	before, roots := first(t, 2, 2)
	document := next(t, before, trust.Add("ben", key(t), []events.Role{events.RoleApprover}, []string{"*"}))
	file, err := events.Encode(trust.Proposal{Kind: trust.ProposalKind, Change: "c7", By: "anna", Reason: "ben comes", Before: before, Document: document, Signed: []string{}})
	must(t, err)
	there, err := trust.ReadProposal(append(file, '\n'))
	must(t, err)
	if diff := trust.Diff(there.Before, there.Document); len(diff) != 1 || !strings.HasPrefix(diff[0], "+ ben: key U") || !strings.HasSuffix(diff[0], "; approver in *") {
		t.Error(diff)
	}
	if _, err := there.Sign(signer(t)); ledger.KindOf(err) != ledger.KindDenied {
		t.Errorf("somebody's key: %v", err)
	}
	for _, root := range roots {
		made, err := there.Sign(root)
		must(t, err)
		back, err := events.Encode(made)
		must(t, err)
		sig, err := trust.ReadSignature(append(back, '\n'), document)
		must(t, err)
		document.Signatures = append(document.Signatures, sig)
		other := next(t, before, trust.Add("ben", key(t), nil, nil))
		if _, err := trust.ReadSignature(back, other); ledger.KindOf(err) != ledger.KindConflict {
			t.Errorf("for another document: %v", err)
		}
	}
	if err := document.CheckSuccession(before); err != nil {
		t.Error(err)
	}
	if n, of := trust.Lacking(before, document, signedBy(document)); n != 0 || len(of) != 0 {
		t.Errorf("%d of %v are lacking", n, of)
	}
}

func TestAnotherRootSignsBesideTheOneThatGoes(t *testing.T) {
	before, roots := first(t, 1, 1)
	come := signer(t)
	document := next(t, before, trust.RotateRoot("", come.Public()))
	for i, root := range []*events.Signer{come, roots[0]} {
		if n, of := trust.Lacking(before, document, signedBy(document)); n != 2-i || len(of) != 2-i || document.CheckSuccession(before) == nil {
			t.Errorf("%d of %v are lacking", n, of)
		}
		sign(t, document, []*events.Signer{root})
	}
	if n, of := trust.Lacking(before, document, signedBy(document)); n != 0 || len(of) != 0 || document.CheckSuccession(before) != nil {
		t.Errorf("%d of %v are lacking", n, of)
	}
}

func FuzzReadProposal(f *testing.F) {
	var signers []*events.Signer // the same each time, so that the corpus stays what it is
	for i := range 4 {
		pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, bytes.Repeat([]byte{byte(i)}, 32))
		must(f, err)
		signers = append(signers, signerOf(f, pair))
	}
	before, err := trust.First(&events.Trust{Ledger: id, Publishers: []string{signers[0].Public()}}, events.Roots{Keys: []string{signers[1].Public()}, Threshold: 1}, "anna", signers[2].Public())
	must(f, err)
	document := next(f, before, trust.Add("ben", signers[3].Public(), []events.Role{events.RoleApprover}, []string{"prod-*"}))
	p := trust.Proposal{Kind: trust.ProposalKind, Change: "c7", By: "anna", Reason: "why", Before: before, Document: document, Signed: []string{}}
	whole, err := events.Encode(p)
	must(f, err)
	made, err := p.Sign(signers[1])
	must(f, err)
	back, err := events.Encode(made)
	must(f, err)
	f.Add(whole)
	f.Add(back)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = trust.ReadSignature(b, document)
		p, err := trust.ReadProposal(b)
		if err != nil {
			return
		}
		again, err := events.Encode(p)
		must(t, err)
		if !bytes.Equal(again, bytes.TrimSpace(b)) {
			t.Fatalf("%s was read as %s", b, again)
		}
		_ = trust.Diff(p.Before, p.Document)
		trust.Stuck(p.Document, map[string]int{"prod": 1}, now)
	})
}
