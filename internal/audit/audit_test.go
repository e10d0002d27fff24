package audit_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A story is a publisher with two environments and agents, and changes c1 (released, rolled back), c2 (released), c3 (open).
func story(t testing.TB) *apitest.Publisher {
	t.Helper()
	p := apitest.New(t)
	for _, name := range []string{"dev", "prod"} {
		p.Must("op", ledger.AddEnvironment{Name: name, Approvals: 1})
		p.Agent(name, "one", apitest.Applies)
	}
	change(t, p, "variable/level", `"debug"`, "dev", "prod")
	p.Must("anna", ledger.Rollback{Change: "c1", Reason: "too loud"})
	change(t, p, "variable/limit", `3`, "prod")
	propose(t, p, "variable/limit", `4`, "dev")
	return p
}

func propose(t testing.TB, p *apitest.Publisher, key, value string, environments ...string) string {
	t.Helper()
	return p.Must("anna", ledger.Propose{Reason: "because", Edits: []ledger.Edit{{Environments: environments, Set: map[string]json.RawMessage{key: json.RawMessage(value)}}}}).Change
}

func change(t testing.TB, p *apitest.Publisher, key, value string, environments ...string) string {
	t.Helper()
	id := propose(t, p, key, value, environments...)
	var digest events.Digest
	p.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) { digest = s.Changes[id].Digest })
	p.Must("ben", ledger.Approve{Change: id, Digest: digest})
	return id
}

func export(t testing.TB, p *apitest.Publisher) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, p.Export(t.Context(), &b))
	return b.Bytes()
}

func reader(t testing.TB, exported []byte) *audit.Reader {
	t.Helper()
	r, err := audit.NewReader(bytes.NewReader(exported))
	must(t, err)
	return r
}

func verified(exported []byte) (audit.Verification, error) {
	r, err := audit.NewReader(bytes.NewReader(exported))
	if err != nil {
		return audit.Verification{}, err
	}
	return audit.Verify(r, nil)
}

func TestAWholeLedgerVerifiesFromItsExportAlone(t *testing.T) {
	exported := export(t, story(t))
	v, err := verified(exported)
	must(t, err)
	if !v.OK || v.Releases != 7 || v.Held != 7 || v.Given != 2 || v.Deliveries < 3 || v.Seal.Size != v.Tip.Number || v.Documents != 1 {
		t.Errorf("%+v", v)
	}
}

// Whatever byte of an export is another one, it is found out; but for the stamps of the bus, which mean nothing for what is decided.
func TestWhateverByteOfALedgerIsFlippedItIsFound(t *testing.T) {
	exported := export(t, story(t))
	whole, err := verified(exported)
	must(t, err)
	random := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		at, bit := random.IntN(len(exported)), random.IntN(8)
		b := bytes.Clone(exported)
		b[at] ^= 1 << bit
		v, err := verified(b)
		if err != nil || !v.OK {
			continue
		}
		line := b[bytes.LastIndexByte(b[:at], '\n')+1:]
		if !bytes.HasPrefix(line, []byte(`{"stamp":"`)) || at-bytes.LastIndexByte(b[:at], '\n') > len(`{"stamp":"2027-01-15T08:00:00Z"`) || v.Tip != whole.Tip {
			t.Errorf("bit %d of byte %d (%q) is flipped, and nobody notices", bit, at, exported[max(0, at-20):min(len(b), at+20)])
		}
	}
}

func TestALedgerThatWasCutReorderedOrForkedIsFound(t *testing.T) {
	exported := export(t, story(t))
	lines := bytes.SplitAfter(exported, []byte("\n"))
	lines = lines[:len(lines)-1]
	entry := func(n int) int { return n } // entry n is line n: the first is the header
	other := bytes.SplitAfter(export(t, story(t)), []byte("\n"))
	for name, change := range map[string]func([][]byte) [][]byte{
		"cut":                     func(l [][]byte) [][]byte { return l[:len(l)-1] },
		"cut in a line":           func(l [][]byte) [][]byte { l[len(l)-1] = l[len(l)-1][:9]; return l },
		"without an entry":        func(l [][]byte) [][]byte { return slices.Delete(l, entry(5), entry(6)) },
		"without the last entry":  func(l [][]byte) [][]byte { i := lastEntry(l); return slices.Delete(l, i, i+1) },
		"entries the other way":   func(l [][]byte) [][]byte { l[4], l[5] = l[5], l[4]; return l },
		"without a release":       func(l [][]byte) [][]byte { i := lastEntry(l) + 1; return slices.Delete(l, i, i+1) },
		"a release twice":         func(l [][]byte) [][]byte { i := lastEntry(l) + 1; return slices.Insert(l, i, l[i]) },
		"releases of another":     func(l [][]byte) [][]byte { i := lastEntry(l) + 2; l[i] = other[i]; return l },
		"the seal of another":     func(l [][]byte) [][]byte { l[0] = other[0]; return l },
		"an entry of another":     func(l [][]byte) [][]byte { l[5] = other[5]; return l },
		"something after its end": func(l [][]byte) [][]byte { return append(l, []byte("{}\n")) },
		"nothing":                 func(l [][]byte) [][]byte { return nil },
		"no ledger":               func(l [][]byte) [][]byte { return l[1:] },
	} {
		changed := change(slices.Clone(lines))
		if v, err := verified(bytes.Join(changed, nil)); err == nil && v.OK {
			t.Errorf("%s: it verifies", name)
		}
		// The same with an end that fits, as whoever tampers would write it.
		if n := len(changed); n > 2 && !strings.HasPrefix(name, "cut") {
			fitting := append(slices.Clone(changed[:n-1]), endOf(changed))
			if v, err := verified(bytes.Join(fitting, nil)); err == nil && v.OK {
				t.Errorf("%s, with an end that fits: it verifies", name)
			}
		}
	}
}

func lastEntry(lines [][]byte) int {
	last := 0
	for i, l := range lines {
		if bytes.HasPrefix(l, []byte(`{"stamp"`)) {
			last = i
		}
	}
	return last
}

func endOf(lines [][]byte) []byte {
	var end audit.End
	for _, l := range lines {
		switch {
		case bytes.HasPrefix(l, []byte(`{"stamp"`)):
			end.Entries++
		case bytes.HasPrefix(l, []byte(`{"environment"`)):
			end.Releases++
		}
	}
	b, _ := events.Encode(end)
	return append(b, '\n')
}

func proof(t testing.TB, p *apitest.Publisher, change string) []byte {
	t.Helper()
	proof, v, err := audit.Prove(reader(t, export(t, p)), change)
	must(t, err)
	if proof == nil {
		t.Fatalf("the ledger does not verify: %+v", v)
	}
	file, err := proof.Encode()
	must(t, err)
	return file
}

func TestAProofShowsWhatBecameOfAChangeAndNeedsNothingElse(t *testing.T) {
	p := story(t)
	found, err := audit.Check(proof(t, p, "c1"), nil)
	must(t, err)
	if found.Author != "anna" || len(found.Approvals) != 1 || found.Approvals[0].By != "ben" || len(found.Environments) != 4 || len(found.Rests) < 3 {
		t.Errorf("%+v", found)
	}
	for _, e := range found.Environments {
		want := events.KindChange
		if e.Revision == 3 {
			want = events.KindRollback
		}
		if e.Kind != want || len(e.Agents) != 1 || e.Agents[0].Agent != "one" || e.Agents[0].Observed != e.State {
			t.Errorf("%+v", e)
		}
	}
	open, err := audit.Check(proof(t, p, "c3"), nil)
	must(t, err)
	if len(open.Environments) != 0 || len(open.Approvals) != 0 {
		t.Errorf("an open change: %+v", open)
	}
	if _, err := audit.Check(proof(t, p, "c1"), []string{"UA"}); err == nil {
		t.Error("roots are named where no document has any")
	}
	if _, _, err := audit.Prove(reader(t, export(t, p)), "c9"); ledger.KindOf(err) != ledger.KindNotFound {
		t.Errorf("a change that is not there: %v", err)
	}
}

func TestWhateverByteOfAProofIsFlippedItIsRefused(t *testing.T) {
	file := proof(t, story(t), "c1")
	random := rand.New(rand.NewPCG(8, 8))
	for range 1500 {
		at, bit := random.IntN(len(file)), random.IntN(8)
		b := bytes.Clone(file)
		b[at] ^= 1 << bit
		if _, err := audit.Check(b, nil); err == nil {
			t.Errorf("bit %d of byte %d (%q) is flipped, and nobody notices", bit, at, file[max(0, at-20):min(len(b), at+20)])
		}
	}
	for _, cut := range []int{0, 1, len(file) / 2, len(file) - 1} {
		if _, err := audit.Check(file[:cut], nil); err == nil {
			t.Errorf("%d of %d bytes are a proof", cut, len(file))
		}
	}
}

func decoded(t testing.TB, file []byte) (p audit.Proof) {
	t.Helper()
	must(t, json.Unmarshal(file, &p))
	return p
}

// Everything in these is signed and sealed; only it is not what the file says it is.
func TestAProofOfPartsThatDoNotBelongTogetherIsRefused(t *testing.T) {
	p := story(t)
	c1, c2 := decoded(t, proof(t, p, "c1")), decoded(t, proof(t, p, "c2"))
	foreign := decoded(t, proof(t, story(t), "c1"))
	of := func(p audit.Proof, what string) int {
		return slices.IndexFunc(p.Entries, func(e audit.ProvenEntry) bool { return strings.Contains(string(e.Entry), `"dev.lockstep.`+what+`.v1"`) })
	}
	for name, change := range map[string]func(p *audit.Proof){
		"another change's name":     func(p *audit.Proof) { p.Change = "c2" },
		"another change's approval": func(p *audit.Proof) { p.Entries[of(*p, "approval.given")] = c2.Entries[of(c2, "approval.given")] },
		"no approval": func(p *audit.Proof) {
			p.Entries = slices.Delete(p.Entries, of(*p, "approval.given"), of(*p, "approval.given")+1)
		},
		"another change's releases": func(p *audit.Proof) { p.Releases = c2.Releases },
		"a release more":            func(p *audit.Proof) { p.Releases = append(p.Releases, c2.Releases...) },
		"a release less":            func(p *audit.Proof) { p.Releases = p.Releases[1:] },
		"a release twice":           func(p *audit.Proof) { p.Releases = append(p.Releases, p.Releases[0]) },
		"signatures the other way": func(p *audit.Proof) {
			p.Releases[0].Signature, p.Releases[1].Signature = p.Releases[1].Signature, p.Releases[0].Signature
		},
		"entries the other way":       func(p *audit.Proof) { slices.Reverse(p.Entries) },
		"an entry twice":              func(p *audit.Proof) { p.Entries = slices.Insert(p.Entries, 1, p.Entries[0]) },
		"the seal of another ledger":  func(p *audit.Proof) { p.Seal = foreign.Seal },
		"the trust of another ledger": func(p *audit.Proof) { p.Entries[0] = foreign.Entries[0] },
		"the name of another ledger":  func(p *audit.Proof) { p.Ledger = "another" },
		"no trust document":           func(p *audit.Proof) { p.Entries = p.Entries[1:] },
		"no proposal": func(p *audit.Proof) {
			p.Entries = slices.Delete(p.Entries, of(*p, "change.proposed"), of(*p, "change.proposed")+1)
		},
		"the places of other entries": func(p *audit.Proof) { p.Entries[1].Proof = p.Entries[2].Proof },
		"nothing":                     func(p *audit.Proof) { p.Entries, p.Releases = nil, nil },
		"another format":              func(p *audit.Proof) { p.Lockstep = "change proof v9" },
	} {
		changed := c1
		changed.Entries, changed.Releases = slices.Clone(c1.Entries), slices.Clone(c1.Releases)
		change(&changed)
		file, err := changed.Encode()
		must(t, err)
		if found, err := audit.Check(file, nil); err == nil {
			t.Errorf("%s: it is taken: %+v", name, found)
		}
	}
}

func TestTheLogSaysWhoDidWhat(t *testing.T) {
	exported := export(t, story(t))
	for _, c := range []struct {
		filter audit.Filter
		want   int
	}{
		{audit.Filter{}, 13}, {audit.Filter{Person: "BEN"}, 2}, {audit.Filter{Resource: "variable/limit"}, 4}, {audit.Filter{Environment: "dev"}, 7},
		{audit.Filter{Person: "nobody"}, 0}, {audit.Filter{Until: time.Unix(0, 0)}, 0}, {audit.Filter{Since: time.Unix(0, 0), Resource: "variable/*", Person: "ben"}, 2},
	} {
		list, v, err := audit.Log(reader(t, exported), c.filter)
		must(t, err)
		if !v.OK || len(list) != c.want {
			t.Errorf("%+v: %d records, want %d: %+v", c.filter, len(list), c.want, list)
		}
	}
}

func TestTheReportSaysWhoActed(t *testing.T) {
	r, v, err := audit.NewReport(reader(t, export(t, story(t))))
	must(t, err)
	if !v.OK || len(r.Access) != 5 || r.Access[0].Person != "anna" || r.Access[0].Acted != 4 || r.Access[0].Known || len(r.BreakGlass)+len(r.ByRule)+len(r.Delegations) > 0 {
		t.Errorf("%+v", r)
	}
}
