package ledger_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestBadInputIsRefusedWithWordsAndNothingIsStored(t *testing.T) {
	edit := func(alter func(*ledger.Propose)) ledger.Propose {
		p := set("prod", "variable/x", "1")
		alter(&p)
		return p
	}
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	b := environments(t, "prod")
	for name, c := range map[string]struct {
		body ledger.Body
		kind ledger.Kind
		word string
	}{
		"unknown kind":         {set("prod", "setting/x", "1"), ledger.KindInvalid, "unknown kind"},
		"no kind":              {set("prod", "x", "1"), ledger.KindInvalid, "<kind>/<name>"},
		"control in key":       {edit(func(p *ledger.Propose) { p.Edits = set("prod", "variable/a\x00b", "1").Edits }), ledger.KindInvalid, "no valid name"},
		"path as key":          {set("prod", "document/../x", "1"), ledger.KindInvalid, "no valid name"},
		"unknown kind deleted": {del("prod", "setting/x"), ledger.KindInvalid, "unknown kind"},
		"long key":             {set("prod", "variable/"+strings.Repeat("x", 200), "1"), ledger.KindInvalid, "at most 128"},
		"no reason":            {edit(func(p *ledger.Propose) { p.Reason = " \n " }), ledger.KindInvalid, "reason is missing"},
		"control in reason":    {edit(func(p *ledger.Propose) { p.Reason = "a\x1b[2Jb" }), ledger.KindInvalid, "U+001B"},
		"long reason":          {edit(func(p *ledger.Propose) { p.Reason = strings.Repeat("x", 5000) }), ledger.KindInvalid, "at most 4096"},
		"two-line ticket":      {edit(func(p *ledger.Propose) { p.Ticket = "OPS-1\nOPS-2" }), ledger.KindInvalid, "ticket"},
		"hidden in source":     {edit(func(p *ledger.Propose) { p.Source = &events.Provenance{Commit: "abc\u202edef"} }), ledger.KindInvalid, "source"},
		"negative window":      {edit(func(p *ledger.Propose) { p.Within = -1 }), ledger.KindInvalid, "within"},
		"endless window":       {edit(func(p *ledger.Propose) { p.Within = 1 << 62 }), ledger.KindInvalid, "within"},
		"secret in a ticket":   {edit(func(p *ledger.Propose) { p.Ticket = "password=hunter2" }), ledger.KindInvalid, "the ticket holds what looks like a secret"},
		"secret in a source": {edit(func(p *ledger.Propose) {
			p.Source = &events.Provenance{Repository: "https://ci:hunter2@git.example/shop"}
		}), ledger.KindInvalid, "the source holds what looks like a secret (a password in a URL)"},
		"secret, odd letters":  {edit(func(p *ledger.Propose) { p.Reason = "\U000e0001 password=hunter2" }), ledger.KindInvalid, "the reason holds what looks like a secret"},
		"secret in a rollback": {ledger.Rollback{Change: "c1", Reason: "it was password=hunter2"}, ledger.KindInvalid, "the reason holds what looks like a secret"},
		"secret in a label":    {ledger.AddEnvironment{Name: "x", Approvals: 1, Labels: map[string]string{"dsn": "pg://a:hunter2@db/x"}}, ledger.KindInvalid, "the label dsn holds what looks like a secret"},
		"name to be corrected": {ledger.AddEnvironment{Name: "Prod_EU", Approvals: 1}, ledger.KindInvalid, "write prod-eu"},
		"key to be corrected":  {set("prod", "variable/log level", "1"), ledger.KindInvalid, "write variable/log-level"},
		"no edits":             {ledger.Propose{Reason: "r"}, ledger.KindInvalid, "no edits"},
		"no environments":      {ledger.Propose{Reason: "r", Edits: []ledger.Edit{{Delete: []string{"flag/x"}}}}, ledger.KindInvalid, "edit 1: no environments"},
		"empty edit":           {ledger.Propose{Reason: "r", Edits: []ledger.Edit{{Environments: []string{"prod"}}}}, ledger.KindInvalid, "nothing is set or deleted"},
		"set and delete":       {edit(func(p *ledger.Propose) { p.Edits[0].Delete = []string{"variable/x"} }), ledger.KindInvalid, "both set and deleted"},
		"not JSON":             {set("prod", "variable/x", "NaN"), ledger.KindInvalid, "cannot be written"},
		"empty value":          {set("prod", "variable/x", ""), ledger.KindInvalid, ""},
		"null":                 {set("prod", "variable/x", "null"), ledger.KindInvalid, "null is no value"},
		"beyond 2^53":          {set("prod", "variable/x", "9007199254740993"), ledger.KindInvalid, "write it as a string"},
		"beyond 2^53, deep":    {set("prod", "document/x", `{"a":[1,9007199254740993]}`), ledger.KindInvalid, "write it as a string"},
		"out of range":         {set("prod", "variable/x", "1e999"), ledger.KindInvalid, "out of range"},
		"duplicate keys":       {set("prod", "document/x", `{"a":1,"a":2}`), ledger.KindInvalid, `"a" stands twice`},
		"lone surrogate":       {set("prod", "variable/x", `"\ud800"`), ledger.KindInvalid, "surrogate"},
		"invalid UTF-8":        {set("prod", "variable/x", "\"\xff\""), ledger.KindInvalid, ""},
		"too deep":             {set("prod", "document/x", deep), ledger.KindInvalid, "too deep"},
		"a megabyte":           {set("prod", "document/x", `"`+strings.Repeat("x", 1<<20)+`"`), ledger.KindInvalid, "in prod has"},
		"a secret's value":     {set("prod", "secret/crm", `"hunter2"`), ledger.KindInvalid, "reference"},
		"no such scheme":       {set("prod", "secret/crm", `{"$secret":{"ref":"vault://x"}}`), ledger.KindInvalid, "env://NAME"},
		"nested secret":        {set("prod", "connection/crm", `{"auth":[{"token":{"$secret":"hunter2"}}]}`), ledger.KindInvalid, "auth: item 0: token"},
		"unknown environment":  {set("stage", "variable/x", "1"), ledger.KindNotFound, "edit 1: there is no environment"},
		"environment's name":   {ledger.AddEnvironment{Name: "Prod EU", Approvals: 1}, ledger.KindInvalid, "is not a name"},
		"wildcard as name":     {ledger.AddEnvironment{Name: "*", Approvals: 1}, ledger.KindInvalid, "is not a name"},
		"no approvals":         {ledger.AddEnvironment{Name: "x"}, ledger.KindInvalid, "approvals"},
		"too many approvals":   {ledger.AddEnvironment{Name: "x", Approvals: 21}, ledger.KindInvalid, "approvals"},
		"environment twice":    {ledger.AddEnvironment{Name: "prod", Approvals: 1}, ledger.KindConflict, "already"},
		"label's name":         {ledger.AddEnvironment{Name: "x", Approvals: 1, Labels: map[string]string{"A B": "c"}}, ledger.KindInvalid, "label"},
		"empty label":          {ledger.AddEnvironment{Name: "x", Approvals: 1, Labels: map[string]string{"ring": ""}}, ledger.KindInvalid, "ring"},
		"hidden in label":      {ledger.AddEnvironment{Name: "x", Approvals: 1, Labels: map[string]string{"ring": "a\u200bb"}}, ledger.KindInvalid, "ring"},
		"hidden in steward":    {ledger.AddEnvironment{Name: "x", Approvals: 1, Steward: "ops\n"}, ledger.KindInvalid, "steward"},
		"nothing updated":      {ledger.UpdateEnvironment{Name: "prod", Approvals: 1}, ledger.KindConflict, "already"},
		"unknown updated":      {ledger.UpdateEnvironment{Name: "stage", Approvals: 1}, ledger.KindNotFound, "stage"},
		"retired for nothing":  {ledger.RetireEnvironment{Name: "prod"}, ledger.KindInvalid, "reason"},
		"agent's name":         {ledger.EnrolAgent{Environment: "prod", Agent: "a.b", Key: signer("a").Public()}, ledger.KindInvalid, "agent"},
		"agent's key":          {ledger.EnrolAgent{Environment: "prod", Agent: "a", Key: "SUAHUNTER2"}, ledger.KindInvalid, "no public user key"},
		"agent nowhere":        {ledger.EnrolAgent{Environment: "stage", Agent: "a", Key: signer("a").Public()}, ledger.KindNotFound, "stage"},
		"nobody revoked":       {ledger.RevokeAgent{Environment: "prod", Agent: "a", Reason: "r"}, ledger.KindNotFound, "no agent a"},
		"a second genesis":     {ledger.Genesis{Publisher: signer("other").Public()}, ledger.KindConflict, "begun already"},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			b.refused("anna", c.body, c.kind, c.word)
			if _, err := b.do("anna", c.body); strings.Contains(fmt.Sprint(err), "hunter2") || strings.Contains(fmt.Sprint(err), "SUAHUNTER2") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
	b.t = t
	b.verify()
}

func TestACommandSaysWhoActs(t *testing.T) {
	b := environments(t, "prod")
	for _, by := range []string{"", " ", "an\x00na", "anna\n", "\u202eanna", strings.Repeat("a", 200), "\xff"} {
		b.refused(by, set("prod", "variable/x", "1"), ledger.KindInvalid)
	}
	for _, c := range []ledger.Command{
		{ID: strings.Repeat("x", 200), By: "anna"}, {ID: "a\nb", By: "anna"}, {ID: "x", By: "anna", TraceParent: "00-\x00"}, {ID: "x", By: "anna", TraceParent: strings.Repeat("0", 200)},
	} {
		c.Body = set("prod", "variable/x", "1")
		if _, err := b.command(c); ledger.KindOf(err) != ledger.KindInvalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
	b.verify()
}

func TestNothingComesBeforeTheFirstTrustDocument(t *testing.T) {
	b := &book{t: t, state: ledger.New(ledgerID), now: epoch}
	b.refused("op", ledger.AddEnvironment{Name: "prod", Approvals: 1}, ledger.KindConflict, "has not begun")
	b.refused("anna", set("prod", "variable/x", "1"), ledger.KindConflict)
	b.refused("publisher", ledger.Genesis{Publisher: "SUAHUNTER2"}, ledger.KindInvalid)
}

func TestWhatFitsNoReleaseIsRefused(t *testing.T) {
	b := environments(t, "dev", "prod")
	half := fmt.Sprintf("%q", strings.Repeat("x", 300<<10))
	p := set("*", "document/a", half)
	p.Edits = append(p.Edits, set("prod", "document/b", half).Edits...)
	b.refused("anna", p, ledger.KindInvalid, "what the change does in prod has", "at most 524288", "smaller parts")

	b.release(set("prod", "document/a", half))
	b.release(set("prod", "document/b", half))
	b.refused("anna", del("prod", "document/a", "document/b"), ledger.KindInvalid, "what the change replaces in prod has")
	b.release(del("prod", "document/a"))
	b.verify()
}

func TestAChangeReachesTwoThousandEnvironmentsAtMost(t *testing.T) {
	b := newBook(t)
	b.unwatched = true
	for i := range 2001 {
		b.must("op", ledger.AddEnvironment{Name: fmt.Sprintf("environment-%04d", i), Approvals: 1})
	}
	p := set("*", "document/checkout", fmt.Sprintf(`{"variants":%q}`, strings.Repeat("x", 1000)))
	b.refused("anna", p, ledger.KindInvalid, "2001 environments", "at most 2000")
	b.must("op", ledger.RetireEnvironment{Name: "environment-0000", Reason: "r"})
	c := b.must("anna", p).Change
	second := b.must("dora", set("*", "document/checkout", "1")).Change
	if r := b.approve("ben", c); len(r.Released) != 2000 {
		t.Fatalf("%d releases", len(r.Released))
	}
	b.refused("ben", b.approval(second), ledger.KindConflict, "and 1997 more")
	late := b.must("dora", set("*", "variable/"+strings.Repeat("v", 128), "2")).Change
	// Everywhere but in one environment the base moves, and the entry that says so fits the bus.
	key := "variable/" + strings.Repeat("v", 128)
	b.release(ledger.Propose{Reason: strings.Repeat("r", 4000), Edits: set("environment-[01]*", key, "3").Edits})
	if r := b.approve("ben", late); len(r.Released) != 1 || len(r.LeftOut) != 1999 {
		t.Errorf("%d released, %d left out", len(r.Released), len(r.LeftOut))
	}
}

func TestNothingThatPeopleSayOfAChangeIsKeptWithASecret(t *testing.T) {
	b := environments(t, "prod")
	b.must("anna", set("prod", "variable/x", "1"))
	for by, body := range map[string]ledger.Body{
		"ben":  ledger.Reject{Change: "c1", Reason: "use password=hunter2"},
		"cara": ledger.Approve{Change: "c1", Digest: b.state.Changes["c1"].Digest, Comment: "use password=hunter2"},
		"anna": ledger.Withdraw{Change: "c1", Reason: "use password=hunter2"},
	} {
		if _, err := b.decide(ledger.Command{By: by, Body: body}); err == nil || !strings.Contains(err.Error(), "looks like a secret") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%T: got %v", body, err)
		}
	}
}
