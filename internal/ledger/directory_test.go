package ledger_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

// dir is a directory of manifests, each written "Kind name spec…" with the spec in flow style.
func dir(manifests ...string) ledger.Propose {
	d := &ledger.Directory{}
	for i, m := range manifests {
		parts := strings.SplitN(m, " ", 3)
		d.Files = append(d.Files, registry.File{Name: fmt.Sprintf("%s-%d.yaml", parts[1], i),
			Text: fmt.Sprintf("apiVersion: lockstep/v1\nkind: %s\nmetadata: {name: %s}\nspec: {%s}\n", parts[0], parts[1], parts[2])})
	}
	return ledger.Propose{Reason: "the directory", Directory: d}
}

func with(p ledger.Propose, change func(*ledger.Directory)) ledger.Propose {
	change(p.Directory)
	return p
}

const three = "Environment dev |Environment prod-eu |Environment prod-us "

func declared(manifests ...string) ledger.Propose {
	return dir(append(strings.Split(three, "|"), manifests...)...)
}

func (b *book) values(environment string) string {
	var out []string
	values := b.state.Environments[environment].Fold.State.Values()
	for _, key := range slices.Sorted(maps.Keys(values)) {
		out = append(out, key+"="+string(values[key]))
	}
	return strings.Join(out, " ")
}

func (b *book) have(want map[string]string) {
	b.t.Helper()
	for name, values := range want {
		if got := b.values(name); got != values {
			b.t.Errorf("%s has %s, want %s", name, got, values)
		}
	}
}

func TestADirectoryBecomesTheSourceOfTheEnvironmentsThatItDeclares(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us", "lab")
	b.release(declared("Variable level default: info, overrides: {prod-*: warn}", "Variable region overrides: {prod-eu: eu, prod-us: us}"))
	b.have(map[string]string{"dev": `variable/level="info"`, "prod-eu": `variable/level="warn" variable/region="eu"`, "prod-us": `variable/level="warn" variable/region="us"`, "lab": ""})

	// Where nothing changes there is no release.
	one := b.must("anna", declared("Variable level default: debug, overrides: {prod-*: warn}", "Variable region overrides: {prod-eu: eu, prod-us: us}")).Change
	if r := b.approve("ben", one); len(r.Released) != 1 || r.Released[0].Environment != "dev" {
		t.Errorf("%+v", r.Released)
	}
	b.refused("anna", declared("Variable level default: debug, overrides: {prod-*: warn}", "Variable region overrides: {prod-eu: eu, prod-us: us}"), ledger.KindConflict, "nothing would change")

	// A rollback takes the change's edits out of the sources too: the same directory proposes them again.
	b.must("omar", ledger.Rollback{Change: one, Reason: "too loud"})
	b.have(map[string]string{"dev": `variable/level="info"`})
	b.release(declared("Variable level default: debug, overrides: {prod-*: warn}", "Variable region overrides: {prod-eu: eu, prod-us: us}"))
	b.have(map[string]string{"dev": `variable/level="debug"`, "prod-eu": `variable/level="warn" variable/region="eu"`})
	b.verify()
}

func TestDeletingAndChangingManyMustBeMeant(t *testing.T) {
	b := environments(t, "dev")
	list := []string{"Environment dev "}
	for i := range 20 {
		list = append(list, fmt.Sprintf("Variable v%02d default: 1", i))
	}
	b.release(dir(list...))
	b.refused("anna", dir(list[:20]...), ledger.KindInvalid, "1 resource would be deleted: variable/v19 in dev", "--prune")
	b.release(with(dir(list[:20]...), func(d *ledger.Directory) { d.Prune = true }))
	for i := range 6 {
		list[i+1] = strings.Replace(list[i+1], "1", "2", 1)
		list[i+1] = fmt.Sprintf("Variable v%02d default: 2", i)
	}
	b.refused("anna", dir(list[:20]...), ledger.KindInvalid, "more than a fifth of the resources would be changed or deleted: 6 of 19 in dev", "--confirm-many 6")
	b.refused("anna", with(dir(list[:20]...), func(d *ledger.Directory) { d.ConfirmMany = 5 }), ledger.KindInvalid, "--confirm-many 6")
	b.release(with(dir(list[:20]...), func(d *ledger.Directory) { d.ConfirmMany = 6 }))
	b.verify()
}

func TestADirectoryThatLacksAQuickEditIsAConflictAndNotAnUndo(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	b.release(declared("Variable level default: info", "Variable other default: 1"))
	b.release(set("prod-*", "variable/level", `"debug"`))
	b.release(set("dev", "variable/own", `1`))
	b.refused("anna", declared("Variable level default: info", "Variable other default: 2"), ledger.KindConflict,
		"variable/level in prod-eu was set by change c2 of anna (because of variable/level), and level-3.yaml:4 says otherwise", "--drop-edits")
	b.have(map[string]string{"prod-eu": `variable/level="debug" variable/other=1`})

	// The directory that says the same takes the edit over; what it does not manage stays.
	b.release(declared("Variable level default: info, overrides: {prod-eu: debug, prod-us: debug}", "Variable other default: 2"))
	b.have(map[string]string{"prod-eu": `variable/level="debug" variable/other=2`, "dev": `variable/level="info" variable/other=2 variable/own=1`})
	b.release(declared("Variable level default: info, overrides: {prod-eu: warn, prod-us: debug}", "Variable other default: 2"))
	b.have(map[string]string{"prod-eu": `variable/level="warn" variable/other=2`})

	// The explicit undo.
	b.release(set("dev", "variable/level", `"trace"`))
	directory := []string{"Variable level default: info, overrides: {prod-eu: warn, prod-us: debug}", "Variable other default: 3"}
	b.refused("anna", declared(directory...), ledger.KindConflict, "variable/level in dev")
	b.refused("anna", with(declared(directory...), func(d *ledger.Directory) { d.DropEdits = []string{"variable/levle"} }), ledger.KindInvalid, "no environment has a quick edit of variable/levle")
	undo := b.release(with(declared(directory...), func(d *ledger.Directory) { d.DropEdits = []string{"variable/level"} }))
	b.have(map[string]string{"dev": `variable/level="info" variable/other=3 variable/own=1`})

	// Rolling that back brings the quick edit back, with its conflict.
	b.must("omar", ledger.Rollback{Change: undo, Reason: "not yet"})
	b.have(map[string]string{"dev": `variable/level="trace" variable/other=2 variable/own=1`})
	b.refused("anna", declared(directory...), ledger.KindConflict, "variable/level in dev")
	b.verify()
}

func TestWhatADirectoryDeclaresIsComparedWithTheLedger(t *testing.T) {
	b := environments(t, "dev", "old")
	b.must("op", ledger.UpdateEnvironment{Name: "dev", Labels: map[string]string{"stage": "dev"}, Approvals: 1})
	b.must("op", ledger.RetireEnvironment{Name: "old", Reason: "gone"})
	p := dir("Environment dev ", "Environment old ", "Environment new ", "Variable a default: 1")
	p.Directory.Files[0].Text = "apiVersion: lockstep/v1\nkind: Environment\nmetadata: {name: dev, labels: {stage: test}}\n"
	d, err := b.decide(ledger.Command{ID: "x", By: "anna", Body: p})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"dev-0.yaml:3: environment dev has other labels in the ledger, which count; change them with 'publisher env update dev --label stage=test'",
		"new-2.yaml:1: environment new is in the directory only; add it with 'publisher env add new'",
		"old-1.yaml:1: environment old is retired; delete its manifest",
	}
	if !slices.Equal(d.Notes, want) {
		t.Errorf("%s", strings.Join(d.Notes, "\n"))
	}
	b.refused("anna", dir("Environment new ", "Variable a default: 1"), ledger.KindInvalid, "declares no environment that is in the ledger", "publisher env add new")
	b.refused("anna", dir("Variable a default: 1"), ledger.KindInvalid, "declares no environment", "write a manifest of kind Environment")
	b.refused("anna", dir("Variable a defualt: 1"), ledger.KindInvalid, `a-0.yaml:4:8: unknown key "defualt": did you mean "default"?`)
	b.refused("anna", dir("Environment dev template: base", "Variable a default: 1"), ledger.KindInvalid, "dev cannot be rendered: dev-0.yaml:4:1: environment/dev: there is no template base")
}

func TestWhereAValueComesFromIsKnownForWhatIsReleased(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	b.release(declared("Document d default: {a: 1, b: {c: 2}}"))
	b.release(declared("Document d default: {a: 1, b: {c: 3}}"))
	s, err := b.state.SourcesOf("dev")
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.NewRenderer().Render(s, registry.Target{Name: "dev"})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := r.Get("document/d")
	var got []string
	for _, o := range d.Origins() {
		got = append(got, fmt.Sprintf("%s=%s by %s at %s:%d", o.Path, o.Value, o.Change, o.File, o.Line))
	}
	if want := "/a=1 by c1 at d-3.yaml:4, /b/c=3 by c2 at d-3.yaml:4"; strings.Join(got, ", ") != want {
		t.Errorf("%v", got)
	}
	other, err := b.state.SourcesOf("prod-us")
	if err != nil || other != s {
		t.Errorf("environments with the same history do not share their sources (%v)", err)
	}
}

func TestAnAnswerListsNoMoreThanCanBeRead(t *testing.T) {
	b := newBook(t)
	b.unwatched = true
	var list []string
	for i := range 60 {
		name := fmt.Sprintf("e%02d", i)
		b.must("op", ledger.AddEnvironment{Name: name, Approvals: 1})
		list = append(list, "Environment "+name+" ")
	}
	for i := range 200 {
		list = append(list, fmt.Sprintf("Variable v%03d default: 1", i))
	}
	d, err := b.decide(ledger.Command{ID: "x", By: "anna", Body: dir(list...)})
	if err != nil || len(d.Effect) != 10_000 || len(d.Notes) != 1 || !strings.HasPrefix(d.Notes[0], "2000 more resources change") {
		t.Errorf("%d effects, notes %v (%v)", len(d.Effect), d.Notes, err)
	}
}

// TestSourcesComeToWhatIsReleased: whatever people propose, release and edit quickly, the sources of an environment, rendered, are its
// state. A rollback brings back values and takes edits out; where a later change says the same value, the two differ until a directory
// is proposed again, and that brings every environment to what the directory says, whatever happened before.
func TestSourcesComeToWhatIsReleased(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := environments(t, "dev", "prod-eu", "prod-us")
		var open []string
		rolledBack := false
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				var list []string
				for _, name := range []string{"a", "b", "c"} {
					if rapid.IntRange(0, 3).Draw(t, "there") > 0 {
						list = append(list, fmt.Sprintf("Document %s default: {x: %d, y: %d}, overrides: {prod-*: {x: %d}}", name,
							rapid.IntRange(0, 2).Draw(t, "x"), rapid.IntRange(0, 2).Draw(t, "y"), rapid.IntRange(0, 2).Draw(t, "prod")))
					}
				}
				p := declared(list...)
				p.Directory.Prune, p.Directory.ConfirmMany = true, 0
				if r, err := b.do("anna", p); err == nil {
					open = append(open, r.Change)
				} else if ledger.KindOf(err) != ledger.KindConflict {
					t.Fatal(err)
				}
			case 2:
				if r, err := b.do("anna", set(rapid.SampledFrom([]string{"dev", "prod-*"}).Draw(t, "environment"), "document/a", rapid.SampledFrom([]string{`{"x":1,"y":1}`, `2`}).Draw(t, "value"))); err == nil {
					open = append(open, r.Change)
				}
			case 3, 4:
				if len(open) > 0 {
					i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
					_, _ = b.do("ben", b.approval(open[i])) // refused where its base moved
					open = slices.Delete(open, i, i+1)
				}
			case 5:
				if list := b.state.ChangeList(); len(list) > 0 {
					c := list[rapid.IntRange(0, len(list)-1).Draw(t, "change")]
					_, err := b.do("omar", ledger.Rollback{Change: c.ID, Reason: "r"}) // refused where it is not the setter
					rolledBack = rolledBack || err == nil
				}
			}
			if !rolledBack {
				b.inSources()
			}
		}
		last := with(declared("Document a default: {x: 7}", "Document b default: {x: 7}"), func(d *ledger.Directory) { d.Prune = true })
		for _, key := range []string{"document/a", "document/b"} {
			for _, e := range b.state.EnvironmentList() {
				s, err := b.state.SourcesOf(e.Name)
				if err != nil {
					t.Fatal(err)
				}
				if _, quick := s.QuickOf(key); quick && !slices.Contains(last.Directory.DropEdits, key) {
					last.Directory.DropEdits = append(last.Directory.DropEdits, key)
				}
			}
		}
		b.release(last)
		b.inSources()
		b.have(map[string]string{"dev": `document/a={"x":7} document/b={"x":7}`, "prod-us": `document/a={"x":7} document/b={"x":7}`})
		b.verify()
	})
}

// inSources compares what the sources of every environment come to with its state.
func (b *book) inSources() {
	b.t.Helper()
	for _, e := range b.state.EnvironmentList() {
		s, err := b.state.SourcesOf(e.Name)
		if err != nil {
			b.t.Fatalf("%v", err)
		}
		r, err := registry.NewRenderer().Render(s, registry.Target{Name: e.Name})
		if err != nil {
			b.t.Fatalf("%v", err)
		}
		var got []string
		for _, resource := range r.Resources {
			got = append(got, resource.Key+"="+string(resource.Value.JSON))
		}
		if want := b.values(e.Name); strings.Join(got, " ") != want {
			b.t.Fatalf("the sources of %s come to %v, its state is %s", e.Name, got, want)
		}
	}
}

// TestWhatEditsSourcesOnlyIsApprovedAndNotReleased: what says something of an environment, and changes no resource there, is approved as any change, gets
// no release, and is undone as any change.
func TestWhatEditsSourcesOnlyIsApprovedAndNotReleased(t *testing.T) {
	b := environments(t, "dev", "prod-eu", "prod-us")
	b.must("op", ledger.UpdateEnvironment{Name: "prod-eu", Approvals: 2})
	level := func(dev, production string) ledger.Propose {
		return dir("Environment dev ", "Environment prod-eu template: production", "Environment prod-us template: production",
			"Template production version: "+production+", values: {variable/level: warn}", "Variable level overrides: {dev: "+dev+"}")
	}
	first := b.must("anna", level("info", "1.0.0")).Change
	b.approve("ben", first)
	b.approve("carla", first)

	// What is said of one environment is nothing to the others.
	one := b.must("anna", level("debug", "1.0.0")).Change
	if parts := b.state.Changes[one].Parts; len(parts) != 1 || parts[0].Environment != "dev" {
		t.Fatalf("%+v", parts)
	}
	b.approve("ben", one)

	// The template's new version changes nothing that is rendered.
	two := b.must("anna", level("debug", "1.1.0")).Change
	terms, err := b.state.TermsOf(two)
	if err != nil {
		t.Fatal(err)
	}
	if digest, err := terms.Digest(); err != nil || digest != b.state.Changes[two].Digest || len(terms.Effects()) > 0 {
		t.Errorf("its terms have the digest %s and the effects %v, want %s and none (%v)", digest.Short(), terms.Effects(), b.state.Changes[two].Digest.Short(), err)
	}
	b.approve("ben", two)
	b.templateIs("prod-eu", "1.0.0")
	r := b.approve("carla", two)
	if len(r.Released) > 0 || !slices.Equal(r.SourcesOnly, []string{"prod-eu", "prod-us"}) || b.status(two) != ledger.StatusDelivered {
		t.Errorf("%+v, %s", r, b.status(two))
	}
	b.templateIs("prod-eu", "1.1.0")
	b.refused("anna", level("debug", "1.1.0"), ledger.KindConflict, "nothing would change")

	// It is undone where it is meant, and then elsewhere; it cannot be undone twice.
	r = b.must("omar", ledger.Rollback{Change: two, Environments: []string{"prod-eu"}, Reason: "not here"})
	if len(r.Released) > 0 || !slices.Equal(r.SourcesOnly, []string{"prod-eu"}) || b.status(two) != ledger.StatusDelivered {
		t.Errorf("%+v, %s", r, b.status(two))
	}
	b.templateIs("prod-eu", "1.0.0")
	b.templateIs("prod-us", "1.1.0")
	b.refused("omar", ledger.Rollback{Change: two, Environments: []string{"prod-eu"}, Reason: "again"}, ledger.KindConflict, "nothing of it to undo in prod-eu")
	b.must("omar", ledger.Rollback{Change: two, Reason: "nor there"})
	if b.status(two) != ledger.StatusRolledBack {
		t.Errorf("%s", b.status(two))
	}
	b.verify()

	// A change of one environment's resource and of the sources of others is delivered when that one has it.
	b.enrol("dev", "a")
	three := b.must("anna", level("trace", "2.0.0")).Change
	b.approve("ben", three)
	r = b.approve("carla", three)
	if len(r.Released) != 1 || len(r.SourcesOnly) != 2 || b.status(three) != ledger.StatusReleased {
		t.Fatalf("%+v, %s", r, b.status(three))
	}
	b.recorded(b.ack("dev", "a", "applied", b.state.Environments["dev"].Head(), b.state.Environments["dev"].Head()))
	if b.status(three) != ledger.StatusDelivered {
		t.Errorf("%s", b.status(three))
	}
	b.must("op", ledger.RetireEnvironment{Name: "prod-us", Reason: "gone"})
	four := b.must("anna", with(level("trace", "3.0.0"), func(d *ledger.Directory) { d.Environments = []string{"prod-eu"} })).Change
	b.approve("ben", four)
	b.must("op", ledger.RetireEnvironment{Name: "prod-eu", Reason: "gone"})
	b.refused("carla", b.approval(four), ledger.KindConflict, "prod-eu is retired")
	b.verify()
}

func (b *book) templateIs(environment, version string) {
	b.t.Helper()
	s, err := b.state.SourcesOf(environment)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	if chain, err := s.Chain(environment); err != nil || len(chain) != 1 || chain[0].Key != "template/production@"+version {
		b.t.Errorf("%s does not have version %s of its template", environment, version)
	}
}
