package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const here = "publisher.example.org"

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newSigner(t testing.TB) *events.Signer { return signerOf(t, rand.Text()) }

// signerOf is the same for the same text.
func signerOf(t testing.TB, text string) *events.Signer {
	t.Helper()
	raw := sha256.Sum256([]byte(text))
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, raw[:])
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := events.NewSigner(seed)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// document knows anna, who authors, and zoe, who has no role.
func document(anna, zoe *events.Signer) *events.Trust {
	return &events.Trust{Version: 2, Ledger: "0b7c5f0e", Approvals: events.ApprovalsAreSigned, People: []events.Person{
		{Name: "anna", Keys: []string{anna.Public()}, Grants: []events.Grant{{Role: events.RoleAuthor, Environments: []string{"dev"}}}},
		{Name: "zoe", Keys: []string{zoe.Public()}},
	}}
}

func mint(t testing.TB, use Use, ledger, by string, signer *events.Signer, at time.Time, life time.Duration) string {
	t.Helper()
	token, err := Mint(use, ledger, by, signer, at, life)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestATokenCountsForItsPersonLedgerHostAndUseUntilItEnds(t *testing.T) {
	anna, zoe, eve := newSigner(t), newSigner(t), newSigner(t)
	trust := document(anna, zoe)
	read, open := Use{Read, here}, Use{Open, here}
	for name, c := range map[string]struct {
		token string
		use   Use
		want  events.Reason
	}{
		"brief":                        {mint(t, read, "0b7c5f0e", "anna", anna, now, Brief), read, ""},
		"of a file":                    {mint(t, read, "0b7c5f0e", "anna", anna, now.Add(-80*24*time.Hour), MaxRead), read, ""},
		"host in capitals, with a dot": {mint(t, Use{Read, "Publisher.Example.org."}, "0b7c5f0e", "anna", anna, now, Brief), read, ""},
		"of a clock ahead":             {mint(t, read, "0b7c5f0e", "anna", anna, now.Add(9*time.Minute), Brief), read, ""},
		"to open":                      {mint(t, open, "0b7c5f0e", "anna", anna, now, Brief), open, ""},
		"not yet":                      {mint(t, read, "0b7c5f0e", "anna", anna, now.Add(11*time.Minute), Brief), read, ReasonExpired},
		"ended":                        {mint(t, read, "0b7c5f0e", "anna", anna, now.Add(-Brief), Brief), read, ReasonExpired},
		"for longer than any":          {mint(t, read, "0b7c5f0e", "anna", anna, now, MaxRead+time.Second), read, ReasonExpired},
		"without an end":               {endless(t, anna), read, ReasonExpired},
		"for days, to open":            {mint(t, open, "0b7c5f0e", "anna", anna, now, 24*time.Hour), open, ReasonExpired},
		"to open, used to read":        {mint(t, open, "0b7c5f0e", "anna", anna, now, Brief), read, ReasonOtherUse},
		"to read, used to open":        {mint(t, read, "0b7c5f0e", "anna", anna, now, Brief), open, ReasonOtherUse},
		"of another ledger":            {mint(t, read, "1c8d6a1f", "anna", anna, now, Brief), read, events.ReasonWrongLedger},
		"of another host":              {mint(t, Use{Read, "evil.example.org"}, "0b7c5f0e", "anna", anna, now, Brief), read, ReasonOtherUse},
		"of somebody unknown":          {mint(t, read, "0b7c5f0e", "anna", eve, now, Brief), read, events.ReasonSignature},
		"in another name":              {mint(t, read, "0b7c5f0e", "anna", zoe, now, Brief), read, events.ReasonSignature},
		"without a role":               {mint(t, read, "0b7c5f0e", "zoe", zoe, now, Brief), read, ReasonNoRole},
		"a command's statement":        {commands(t, anna, events.VerbApprove), read, ReasonOtherUse},
		"of a release's approval":      {commands(t, anna, Read), read, ReasonOtherUse},
		"empty":                        {"", read, events.ReasonMalformed},
		"no token":                     {"hunter2", read, events.ReasonMalformed},
		"long":                         {strings.Repeat("A", maxToken+4), read, events.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			holder, err := Check(c.token, c.use, trust, now)
			if events.ReasonOf(err) != c.want || (err == nil) != (holder == Holder{"anna", anna.Public()}) {
				t.Errorf("%+v, %v", holder, err)
			}
		})
	}
}

func endless(t testing.TB, signer *events.Signer) string {
	return wrap(t, events.Statement{Ledger: "0b7c5f0e", By: "anna", At: now, Verb: Read, Content: Use{Read, here}.content()}, signer)
}

func commands(t testing.TB, signer *events.Signer, verb string) string {
	return wrap(t, events.Statement{Ledger: "0b7c5f0e", By: "anna", At: now, Expires: now.Add(Brief), Verb: verb, Command: "x", Content: Use{Read, here}.content(), Change: "c1"}, signer)
}

// wrap makes a token of any statement.
func wrap(t testing.TB, s events.Statement, signer *events.Signer) string {
	t.Helper()
	envelope, err := events.SignStatement(s, signer)
	if err != nil {
		t.Fatal(err)
	}
	b, err := events.Encode(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func TestATokenAlteredAnywhereIsRefused(t *testing.T) {
	anna := newSigner(t)
	trust := document(anna, newSigner(t))
	token := mint(t, Use{Read, here}, trust.Ledger, "anna", anna, now, Brief)
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range token {
		other := alphabet[(strings.IndexByte(alphabet, token[i])+1)%len(alphabet)]
		for _, altered := range []string{token[:i] + string(other) + token[i+1:], token[:i] + "\n" + token[i:], token[:i] + token[i+1:], token[:i]} {
			if _, err := Check(altered, Use{Read, here}, trust, now); err == nil {
				t.Fatalf("altered at %d, it is taken", i)
			}
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, spelt := range []string{token + "=", token + "A", " " + token, base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(append(raw, ' ')),
		base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), `{"payloadType"`, `{ "payloadType"`, 1))),
		base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), `"sig"`, `"Sig"`, 1)))} {
		if _, err := Check(spelt, Use{Read, here}, trust, now); err == nil {
			t.Errorf("spelt otherwise, it is taken: %s", spelt)
		}
	}
}

func TestATokenEndsWithItsPersonKeyOrRole(t *testing.T) {
	anna, zoe := newSigner(t), newSigner(t)
	trust := document(anna, zoe)
	holder := Holder{"anna", anna.Public()}
	check := func(want events.Reason) {
		t.Helper()
		if err := holder.May(trust, now); events.ReasonOf(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	check("")
	trust.People[0].Grants = nil
	check(ReasonNoRole)
	trust.Delegations = []events.Delegation{{From: "ben", To: "anna", Role: events.RoleApprover, Until: now.Add(time.Second)}}
	check("")
	trust.Delegations[0].Until = now
	check(ReasonNoRole)
	trust = document(newSigner(t), zoe)
	check(events.ReasonSignature)
	trust.People = slices.Delete(trust.People, 0, 1)
	check(events.ReasonSignature)
}

func TestALinkOpensOneSession(t *testing.T) {
	anna := newSigner(t)
	trust, holder := document(anna, newSigner(t)), Holder{"anna", anna.Public()}
	var s Sessions
	link := s.Link(holder, now)
	session, err := s.Follow(link, trust, now.Add(LinkLife-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Check(session, trust, now.Add(SessionLife)); err != nil || got != holder {
		t.Error(got, err)
	}
	for name, used := range map[string]string{"used": link, "guessed": "x", "empty": "", "a session": session} {
		if _, err := s.Follow(used, trust, now); events.ReasonOf(err) != ReasonLink {
			t.Errorf("%s: %v", name, err)
		}
	}
	late := s.Link(holder, now)
	for range 2 { // late, and then used
		if _, err := s.Follow(late, trust, now.Add(LinkLife)); events.ReasonOf(err) != ReasonLink {
			t.Error(err)
		}
	}
	var started Sessions
	if _, err := started.Follow(s.Link(holder, now), trust, now); events.ReasonOf(err) != ReasonLink {
		t.Errorf("after another start: %v", err)
	}
	removed := s.Link(holder, now)
	if _, err := s.Follow(removed, document(newSigner(t), newSigner(t)), now); events.ReasonOf(err) != events.ReasonSignature {
		t.Errorf("of who has left: %v", err)
	}
}

func TestASessionEnds(t *testing.T) {
	anna := newSigner(t)
	trust, holder := document(anna, newSigner(t)), Holder{"anna", anna.Public()}
	var s Sessions
	open := func() string {
		session, err := s.Follow(s.Link(holder, now), trust, now)
		if err != nil {
			t.Fatal(err)
		}
		return session
	}
	check := func(session string, trust *events.Trust, at time.Time, want events.Reason) {
		t.Helper()
		if _, err := s.Check(session, trust, at); events.ReasonOf(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	closed, removed, old := open(), open(), open()
	s.End(closed)
	check(closed, trust, now, ReasonSession)
	check(removed, document(newSigner(t), newSigner(t)), now, events.ReasonSignature)
	check(removed, trust, now, ReasonSession) // who comes back does not find it
	check(old, trust, now.Add(SessionLife-time.Second), "")
	check(old, trust, now.Add(SessionLife), ReasonSession)
	check("", trust, now, ReasonSession)

	var all []string
	for range maxOfOne + 1 {
		now = now.Add(time.Second)
		all = append(all, open())
	}
	check(all[0], trust, now, ReasonSession)
	check(all[1], trust, now, "")
	if len(s.sessions) > maxOfOne || len(s.links) > maxOfOne {
		t.Errorf("%d sessions and %d links of one person", len(s.sessions), len(s.links))
	}
}

// FuzzCheck: whatever stands where a token should, only what was minted counts, and no error says anything of it.
func FuzzCheck(f *testing.F) {
	anna := signerOf(f, "anna")
	trust := document(anna, signerOf(f, "zoe"))
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	token := mint(f, Use{Read, here}, trust.Ledger, "anna", anna, now, Brief)
	f.Add(token)
	f.Add(commands(f, anna, events.VerbApprove))
	f.Add(mint(f, Use{Read, here}, trust.Ledger, "anna", newSigner(f), now, Brief))
	f.Add(strings.ToUpper(token))
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"payloadType":"application/vnd.lockstep.statement.v1+json","payload":"e30=","signatures":[{"keyid":"","sig":"AA=="}]}`)))
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"payloadType":"very-secret-very-secret","payload":{},"secretsecretsecret":1}`)))
	f.Fuzz(func(t *testing.T, text string) {
		holder, err := Check(text, Use{Read, here}, trust, now)
		if err == nil {
			if s, err := open(text); err != nil || s.Verb != Read || s.Key != anna.Public() || holder.Name != "anna" {
				t.Fatalf("%q is taken as %s's", text, holder.Name)
			}
			return
		}
		if holder != (Holder{}) {
			t.Fatalf("%v, and yet %s holds it", err, holder.Name)
		}
		said := err.Error()
		b, _ := base64.RawURLEncoding.DecodeString(text)
		for _, shown := range []string{text, string(b)} {
			for i := 0; i+16 <= len(shown); i++ {
				if part := shown[i : i+16]; strings.Contains(said, part) && !strings.Contains(token, part) {
					t.Fatalf("%q is said: %s", part, said)
				}
			}
		}
	})
}
