package fold_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// signedWorld is a publisher of two environments in which approvals are signed: production demands two, of secrets by a release manager.
func signedWorld(t testing.TB) (*foldtest.Publisher, *fold.Environment) {
	p := foldtest.NewSigned(t)
	first := p.Update(func(d *events.Trust) {
		d.Rules = []events.ApprovalRule{
			{Environments: []string{"prod"}, Resources: []string{"secret/*"}, Approvals: 1, Roles: []events.Role{events.RoleReleaseManager}},
			{Environments: []string{"prod"}, Approvals: 2},
			{Environments: []string{"*"}, Approvals: 1},
		}
		for i := range d.People {
			switch d.People[i].Name {
			case "dan":
				d.People[i].Grants[0].Environments = []string{"dev"}
			case "gus":
				d.People[i].Grants[0].Environments = []string{"prod"}
			case "carol":
				d.People[i].Keys = append(d.People[i].Keys, trusttest.Key(t, "carol's phone").Public())
			case "abe":
				d.People[i].Grants = append(d.People[i].Grants, events.Grant{Role: events.RoleApprover, Environments: []string{"*"}})
				d.People[i].Keys = append(d.People[i].Keys, trusttest.Key(t, "abe's phone").Public())
			}
		}
		d.Delegations = []events.Delegation{{From: "bob", To: "otto", Role: events.RoleApprover, Until: foldtest.Epoch.Add(time.Hour)}}
	}, "dev", "prod")
	return p, at(t, "prod", first)
}

// statementOf is what an envelope holds.
func statementOf(t testing.TB, e *events.Envelope) events.Statement {
	t.Helper()
	s, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signedBy(t testing.TB, s events.Statement, key string) *events.Envelope {
	t.Helper()
	e, err := events.SignStatement(s, trusttest.Key(t, key))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestAStolenPublisherReleasesNothing: it has the publisher's key, every statement that was ever signed, and chooses what a release says
// and when it was. Each attack begins with a release that would be accepted.
func TestAStolenPublisherReleasesNothing(t *testing.T) {
	p, prod := signedWorld(t)
	earlier := p.Draft(foldtest.Set("dev", "variable/other", `1`), foldtest.Set("prod", "variable/other", `1`))[1]
	p.Sign(&earlier, "ann", "bob", "carol") // approved, and never released
	draft := func() events.Release { return p.Draft(foldtest.Set("prod", "variable/x", `1`))[0] }
	good := func() events.Release {
		r := draft()
		p.Sign(&r, "ann", "bob", "carol")
		return r
	}
	resign := func(i int, edit func(*events.Statement)) func(*events.Release) {
		return func(r *events.Release) {
			s := statementOf(t, r.Change.Approvals[i].Envelope)
			edit(&s)
			r.Change.Approvals[i].Envelope = signedBy(t, s, s.By)
		}
	}
	reproposed := func(edit func(*events.Statement)) func(*events.Release) {
		return func(r *events.Release) {
			s := statementOf(t, r.Change.Proposal)
			edit(&s)
			r.Change.Proposal = signedBy(t, s, s.By)
		}
	}
	spelled := func(r *events.Release, spell func(payload string) string) {
		e := *r.Change.Approvals[0].Envelope
		payload, err := base64.StdEncoding.DecodeString(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		again := spell(string(payload))
		if again == string(payload) {
			t.Fatal("nothing is spelled otherwise")
		}
		e.Payload = base64.StdEncoding.EncodeToString([]byte(again))
		r.Change.Approvals[0].Envelope = &e
	}
	glass := func(by string, edit func(*events.Statement)) func(*events.Release) {
		return func(r *events.Release) {
			s := statementOf(t, trusttest.Over(t, p.Ledger, by, events.VerbBreakGlass, r.Change.ID, r.Change.Digest, p.Now()))
			edit(&s)
			r.Change.Approvals = []events.Approval{{By: by, At: p.Now(), Envelope: signedBy(t, s, by)}}
		}
	}
	for what, attack := range map[string]struct {
		alter func(*events.Release)
		want  events.Reason
	}{
		"other operations under good approvals": {func(r *events.Release) { r.Operations[0].Value = []byte(`2`) }, events.ReasonLeafPath},
		"approvals of another change":           {func(r *events.Release) { r.Change.Approvals = earlier.Change.Approvals }, events.ReasonApprovals},
		"an approval of another change":         {func(r *events.Release) { r.Change.Approvals[1] = earlier.Change.Approvals[1] }, events.ReasonApprovals},
		"the proposal of another change":        {func(r *events.Release) { r.Change.Proposal = earlier.Change.Proposal }, events.ReasonApprovals},
		"no approvals":                          {func(r *events.Release) { r.Change.Approvals = []events.Approval{} }, events.ReasonApprovals},
		"names":                                 {func(r *events.Release) { r.Change.Approvals[0].Envelope = nil }, events.ReasonApprovals},
		"one of two":                            {func(r *events.Release) { r.Change.Approvals = r.Change.Approvals[:1] }, events.ReasonApprovals},
		"one of them twice":                     {func(r *events.Release) { r.Change.Approvals[1] = r.Change.Approvals[0] }, events.ReasonApprovals},
		"one person's two keys": {func(r *events.Release) {
			p.Sign(r, "ann", "carol")
			s := statementOf(t, r.Change.Approvals[0].Envelope)
			r.Change.Approvals = append(r.Change.Approvals, events.Approval{By: "carol", At: p.Now(), Envelope: signedBy(t, s, "carol's phone")})
		}, events.ReasonApprovals},
		"the author as an approver": {func(r *events.Release) { p.Sign(r, "abe", "abe", "bob") }, events.ReasonApprovals},
		"the author's other key as an approver": {func(r *events.Release) {
			p.Sign(r, "abe", "abe", "bob")
			s := statementOf(t, r.Change.Approvals[0].Envelope)
			r.Change.Approvals[0].Envelope = signedBy(t, s, "abe's phone")
		}, events.ReasonApprovals},
		"another author than who signed":     {func(r *events.Release) { r.Change.Author = "abe" }, events.ReasonApprovals},
		"an author without the role":         {func(r *events.Release) { p.Sign(r, "otto", "bob", "carol") }, events.ReasonApprovals},
		"no proposal":                        {func(r *events.Release) { r.Change.Proposal = nil }, events.ReasonApprovals},
		"an approval as the proposal":        {reproposed(func(s *events.Statement) { s.Verb = events.VerbApprove }), events.ReasonApprovals},
		"a rejection as an approval":         {resign(0, func(s *events.Statement) { s.Verb = "reject" }), events.ReasonApprovals},
		"a rollback as an approval":          {resign(0, func(s *events.Statement) { s.Verb = "rollback" }), events.ReasonApprovals},
		"an approver of another environment": {func(r *events.Release) { p.Sign(r, "ann", "bob", "dan") }, events.ReasonApprovals},
		"an approver without the role":       {func(r *events.Release) { p.Sign(r, "ann", "bob", "rita") }, events.ReasonApprovals},
		"a stranger":                         {func(r *events.Release) { p.Sign(r, "ann", "bob", "mallory") }, events.ReasonApprovals},
		"carol's approval as dan's":          {func(r *events.Release) { r.Change.Approvals[1].By = "dan" }, events.ReasonApprovals},
		"a stranger's key as carol's": {func(r *events.Release) {
			r.Change.Approvals[1].Envelope = signedBy(t, statementOf(t, r.Change.Approvals[1].Envelope), "mallory")
		}, events.ReasonApprovals},
		"an approval for another ledger":      {resign(0, func(s *events.Statement) { s.Ledger = "other" }), events.ReasonApprovals},
		"an approval of another digest":       {resign(0, func(s *events.Statement) { s.Digest = events.Sum(nil) }), events.ReasonApprovals},
		"an approval that expired":            {resign(0, func(s *events.Statement) { s.At = s.At.Add(-2 * time.Hour); s.Expires = s.At.Add(time.Hour) }), events.ReasonApprovals},
		"an approval for ever":                {resign(0, func(s *events.Statement) { s.Expires = time.Time{} }), events.ReasonApprovals},
		"an approval for a year":              {resign(0, func(s *events.Statement) { s.Expires = s.At.AddDate(1, 0, 0) }), events.ReasonApprovals},
		"a release dated before its approval": {resign(0, func(s *events.Statement) { s.At = s.At.Add(time.Hour) }), events.ReasonApprovals},
		"a break-glass without the role":      {glass("bob", func(*events.Statement) {}), events.ReasonApprovals},
		"a break-glass without a reason":      {glass("gus", func(s *events.Statement) { s.Reason = "" }), events.ReasonApprovals},
		"a break-glass that expired":          {glass("gus", func(s *events.Statement) { s.At = s.At.Add(-2 * time.Hour); s.Expires = s.At.Add(time.Hour) }), events.ReasonApprovals},
		"a break-glass for another change":    {glass("gus", func(s *events.Statement) { s.Change = "change-0001" }), events.ReasonApprovals},
		"an altered signature": {func(r *events.Release) {
			e := *r.Change.Approvals[0].Envelope
			e.Signatures = slices.Clone(e.Signatures)
			e.Signatures[0].Sig = strings.Repeat("A", 86) + "=="
			r.Change.Approvals[0].Envelope = &e
		}, events.ReasonApprovals},
		"no signature": {func(r *events.Release) {
			e := *r.Change.Approvals[0].Envelope
			e.Signatures = []events.EnvelopeSignature{}
			r.Change.Approvals[0].Envelope = &e
		}, events.ReasonApprovals},
		"two signatures": {func(r *events.Release) {
			e := *r.Change.Approvals[0].Envelope
			e.Signatures = append(e.Signatures, r.Change.Approvals[1].Envelope.Signatures...)
			r.Change.Approvals[0].Envelope = &e
		}, events.ReasonApprovals},
		"another payload type": {func(r *events.Release) {
			e := *r.Change.Approvals[0].Envelope
			e.PayloadType = events.TrustType
			r.Change.Approvals[0].Envelope = &e
		}, events.ReasonApprovals},
		"the statement with white space": {func(r *events.Release) {
			spelled(r, func(s string) string { return strings.Replace(s, `":"`, `": "`, 1) })
		}, events.ReasonApprovals},
		"the statement in another order": {func(r *events.Release) {
			spelled(r, func(s string) string { return `{"by":"bob",` + strings.Replace(s[1:], `"by":"bob",`, "", 1) })
		}, events.ReasonApprovals},
		"the statement with a field twice": {func(r *events.Release) {
			spelled(r, func(s string) string { return strings.Replace(s, `"by":"bob"`, `"by":"bob","by":"bob"`, 1) })
		}, events.ReasonApprovals},
		"the statement in escapes": {func(r *events.Release) {
			spelled(r, func(s string) string { return strings.Replace(s, `"by":"bob"`, `"by":"\u0062ob"`, 1) })
		}, events.ReasonApprovals},
		"the statement cut": {func(r *events.Release) { spelled(r, func(s string) string { return s[:len(s)-1] }) }, events.ReasonApprovals},
		"base64 in another alphabet": {func(r *events.Release) {
			e := *r.Change.Approvals[0].Envelope
			e.Payload = strings.TrimRight(e.Payload, "=") + "\n"
			r.Change.Approvals[0].Envelope = &e
		}, events.ReasonApprovals},
	} {
		t.Run(what, func(t *testing.T) {
			r := good()
			attack.alter(&r)
			refuse(t, prod, p.Seal(r)[0].Payload, attack.want)
		})
	}
	for what, alter := range map[string]func(*events.Release){
		"as it was approved": func(*events.Release) {},
		"by one on the phone": func(r *events.Release) {
			r.Change.Approvals[1].Envelope = signedBy(t, statementOf(t, r.Change.Approvals[1].Envelope), "carol's phone")
		},
		"with an approval that counts for nothing": func(r *events.Release) { p.Sign(r, "ann", "dan", "bob", "carol") },
		"in another order":                         func(r *events.Release) { slices.Reverse(r.Change.Approvals) },
		"by a delegate":                            func(r *events.Release) { p.Sign(r, "ann", "otto", "carol") },
		"on one person's word":                     glass("gus", func(*events.Statement) {}),
	} {
		r := good()
		alter(&r)
		step, err := prod.Accept(p.Seal(r)[0].Payload)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		prod.Revert(step)
	}
}

func TestADelegationEnds(t *testing.T) {
	p, prod := signedWorld(t)
	p.Wait(2 * time.Hour)
	r := p.Draft(foldtest.Set("prod", "variable/x", `1`))[0]
	p.Sign(&r, "ann", "otto", "carol")
	refuse(t, prod, p.Seal(r)[0].Payload, events.ReasonApprovals)
	// Dated back by the publisher to when it was in force, the release is from before its approval.
	p.Wait(-90 * time.Minute)
	refuse(t, prod, p.Seal(r)[0].Payload, events.ReasonApprovals)
}

// TestAnApproverRemovedInARunCountsBeforeAndNotAfter: a run is judged release by release, each under the document at its place.
func TestAnApproverRemovedInARunCountsBeforeAndNotAfter(t *testing.T) {
	p, prod := signedWorld(t)
	before := p.Draft(foldtest.Set("prod", "variable/x", `1`))[0]
	p.Sign(&before, "ann", "bob", "carol")
	run := p.Publish(before)
	after := p.Draft(foldtest.Set("prod", "variable/x", `2`))[0]
	p.Sign(&after, "ann", "bob", "carol") // while bob may
	run = append(run, p.Update(trusttest.Remove("bob"), "prod")...)
	for _, r := range run {
		accept(t, prod, r)
	}
	after.Revision, after.Previous = prod.Revision+1, prod.Chain
	refuse(t, prod, p.Seal(after)[0].Payload, events.ReasonApprovals)
}

// TestAMonthOldRunIsJudgedByItsOwnTime: what was released while its approvals counted is applied, whenever an agent comes back.
func TestAMonthOldRunIsJudgedByItsOwnTime(t *testing.T) {
	p, prod := signedWorld(t)
	old := p.Draft(foldtest.Set("prod", "variable/x", `1`))[0]
	p.Sign(&old, "ann", "bob", "carol")
	run := p.Publish(old)
	late := p.Draft(foldtest.Set("prod", "variable/x", `2`))[0]
	p.Sign(&late, "ann", "bob", "carol")
	p.Wait(31 * 24 * time.Hour)
	accept(t, prod, run[0])
	refuse(t, prod, p.Seal(late)[0].Payload, events.ReasonApprovals)
}

// TestEveryResourceOfAChangeHasItsRule: a change of a variable and a secret demands what both rules demand.
func TestEveryResourceOfAChangeHasItsRule(t *testing.T) {
	p, prod := signedWorld(t)
	both := []foldtest.Edit{foldtest.Set("prod", "variable/x", `1`), foldtest.Set("prod", "secret/key", `{"$secret":{"ref":"env://KEY"}}`)}
	for _, c := range []struct {
		edits     []foldtest.Edit
		approvers []string
		accepted  bool
	}{
		{both[:1], []string{"bob", "carol"}, true}, {both[1:], []string{"rita"}, true}, {both[1:], []string{"bob", "carol"}, false},
		{both, []string{"bob", "carol"}, false}, {both, []string{"rita"}, false}, {both, []string{"bob", "carol", "rita"}, true},
	} {
		r := p.Draft(c.edits...)[0]
		p.Sign(&r, "ann", c.approvers...)
		step, err := prod.Accept(p.Seal(r)[0].Payload)
		if (err == nil) != c.accepted {
			t.Errorf("%d edits by %v: %v", len(c.edits), c.approvers, err)
		}
		if err == nil {
			prod.Revert(step)
		}
	}
}

func TestTrustDocumentsFollowByTheSignaturesOfTheirRoots(t *testing.T) {
	p, prod := signedWorld(t)
	next := func(edit func(*events.Trust), roots ...string) events.Trust {
		return trusttest.Signed(t, trusttest.Unsigned(p.Document(), edit), roots...)
	}
	nothing := func(*events.Trust) {}
	newRoots := func(d *events.Trust) { d.Roots.Keys = []string{trusttest.Key(t, "root 3").Public()} }
	two := func(d *events.Trust) { d.Roots.Threshold = 2 }
	resigned := next(nothing, "root 1")
	resigned.Publishers = []string{foldtest.Signer(t, "mallory").Public()}
	twice := next(two, "root 1", "root 1")
	names := events.Trust{Version: 2, Ledger: p.Ledger, Publishers: p.Document().Publishers, Approvals: events.ApprovalsAreNames}
	for what, c := range map[string]struct {
		document events.Trust
		want     events.Reason
	}{
		"unsigned":                          {next(nothing), events.ReasonSignature},
		"signed by no root":                 {next(nothing, "bob"), events.ReasonSignature},
		"signed by the publisher":           {next(nothing, "publisher"), events.ReasonSignature},
		"altered after it was signed":       {resigned, events.ReasonSignature},
		"one of two that it demands":        {next(two, "root 1"), events.ReasonSignature},
		"one of them twice":                 {twice, events.ReasonSignature},
		"new roots, signed by them only":    {next(newRoots, "root 3"), events.ReasonSignature},
		"new roots, signed by the old":      {next(newRoots, "root 1"), events.ReasonSignature},
		"the one before":                    {p.Document(), events.ReasonTrust},
		"a gap":                             {next(func(d *events.Trust) { d.Version++ }, "root 1"), events.ReasonTrust},
		"of another ledger":                 {next(func(d *events.Trust) { d.Ledger = "other" }, "root 1"), events.ReasonTrust},
		"names again":                       {names, events.ReasonTrust},
		"no publisher":                      {next(func(d *events.Trust) { d.Publishers = nil }, "root 1"), events.ReasonTrust},
		"one key of two people":             {next(func(d *events.Trust) { d.People[0].Keys = d.People[1].Keys }, "root 1"), events.ReasonTrust},
		"a person with the publisher's key": {next(func(d *events.Trust) { d.People[0].Keys = d.Publishers }, "root 1"), events.ReasonTrust},
		"a person with a root's key":        {next(func(d *events.Trust) { d.People[0].Keys = d.Roots.Keys }, "root 1"), events.ReasonTrust},
		"two people of one name":            {next(func(d *events.Trust) { d.People[0].Name = "BOB" }, "root 1"), events.ReasonTrust},
		"no rule for what is left":          {next(func(d *events.Trust) { d.Rules = d.Rules[:2] }, "root 1"), events.ReasonTrust},
		"a last rule that demands nobody":   {next(func(d *events.Trust) { d.Rules[2].Approvals = 0 }, "root 1"), events.ReasonTrust},
		"a role that is none":               {next(func(d *events.Trust) { d.People[0].Grants[0].Role = "god" }, "root 1"), events.ReasonTrust},
	} {
		refuse(t, prod, p.Seal(p.DraftTrust(c.document, "prod")...)[0].Payload, c.want)
		if t.Failed() {
			t.Fatal(what)
		}
	}
	for _, r := range p.Publish(p.DraftTrust(next(newRoots, "root 1", "root 3"), "prod")...) {
		accept(t, prod, r)
	}
}

// TestNoReleaseIsDatedBeforeTheOneBeforeIt: a stolen publisher cannot bring back the time at which approvals that are over still counted.
func TestNoReleaseIsDatedBeforeTheOneBeforeIt(t *testing.T) {
	p, prod := signedWorld(t)
	month := 30 * 24 * time.Hour
	draft := func(value string) events.Release {
		r := p.Draft(foldtest.Set("prod", "variable/x", value))[0]
		p.Sign(&r, "ann", "bob", "carol")
		return r
	}
	first := prod.Released
	p.Wait(month)
	accept(t, prod, p.Publish(draft(`1`))[0])
	if !prod.Released.Equal(first.Add(month + time.Second)) {
		t.Errorf("the environment was released %s, and before that %s", prod.Released, first)
	}
	p.Wait(-month)
	old := draft(`2`)
	refuse(t, prod, p.Seal(old)[0].Payload, events.ReasonChainBroken)
	p.Wait(month)
	refuse(t, prod, p.Seal(old)[0].Payload, events.ReasonApprovals)

	last, good := prod.Released, draft(`2`)
	for _, c := range []struct {
		at   time.Time
		want events.Reason
	}{{last.Add(-time.Nanosecond), events.ReasonChainBroken}, {last, ""}} {
		for i := range good.Change.Approvals { // signed before either
			s := statementOf(t, good.Change.Approvals[i].Envelope)
			s.At = last.Add(-time.Minute)
			good.Change.Approvals[i].Envelope = signedBy(t, s, s.By)
		}
		payload, err := events.EncodeRelease(good, c.at, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := prod.Accept(payload); events.ReasonOf(err) != c.want {
			t.Errorf("dated %s after the one before it: %v, want %q", c.at.Sub(last), err, c.want)
		} else if err == nil && !prod.Released.Equal(last) {
			t.Errorf("the environment was released %s", prod.Released)
		}
	}
}
