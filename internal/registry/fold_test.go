package registry_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// A tree is the naive model of sources: leaf by "manifest path".
type tree map[string]string

func flat(s *registry.Sources) tree {
	out := tree{}
	for _, m := range s.Manifests() {
		for _, l := range m.Leaves() {
			out[m.Key+" "+l.Path] = string(l.Value)
		}
	}
	return out
}

// meet says whether one place is the other, or lies below it.
func meet(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// places are what edits touch; a manifest that is removed is touched everywhere.
func places(e *registry.Edits, has tree) (out []string) {
	for _, m := range e.Manifests {
		for _, p := range m.Delete {
			out = append(out, m.Key+" "+p)
		}
		for _, l := range m.Set {
			out = append(out, m.Key+" "+l.Path)
		}
		for place := range has {
			if m.Removed && strings.HasPrefix(place, m.Key+" ") {
				out = append(out, place)
			}
		}
	}
	return out
}

// replay is the naive fold.
func replay(steps []registry.Step) tree {
	out := tree{}
	for _, step := range steps {
		for _, m := range step.Edits.Manifests {
			for place := range out {
				if m.Removed && strings.HasPrefix(place, m.Key+" ") {
					delete(out, place)
				}
			}
			for _, p := range m.Delete {
				delete(out, m.Key+" "+p)
			}
			for _, l := range m.Set {
				for place := range out {
					if meet(place, m.Key+" "+l.Path) {
						delete(out, place)
					}
				}
				out[m.Key+" "+l.Path] = string(l.Value)
			}
		}
	}
	return out
}

// directory is a small random directory, as text.
func directory(t *rapid.T) []string {
	var out []string
	for _, name := range []string{"a", "b", "c"} {
		if rapid.IntRange(0, 4).Draw(t, "there") == 0 {
			continue
		}
		spec := "default: " + text(anyValue(2, false).Draw(t, "value"))
		if rapid.Bool().Draw(t, "overridden") {
			spec += "\noverrides: {e1: " + text(anyValue(1, true).Draw(t, "override")) + "}"
		}
		out = append(out, manifest("Document", name, spec))
	}
	return out
}

// A world rolls changes out to environments, one by one.
type world struct {
	t        *rapid.T
	folder   registry.Folder
	released map[string][]registry.Step
	pending  map[string][]registry.Step // approved, and not released there yet
	changes  int
}

func (w *world) sources(environment string) *registry.Sources {
	return w.folder.Fold(&registry.Sources{}, w.released[environment]...)
}

// propose compiles a directory for every environment, and approves it where nothing that is pending is touched.
func (w *world) propose() {
	dir := read(w.t, directory(w.t)...)
	w.changes++
	for _, e := range w.environments() {
		assumed := w.folder.Fold(w.sources(e), w.pending[e]...)
		edits := registry.Difference(assumed, dir)
		if got, want := flat(w.folder.Fold(assumed, registry.Step{Edits: edits})), flat(dir); !maps.Equal(got, want) {
			w.t.Fatalf("the difference leads to %v, want %v", got, want)
		}
		held := false
		for _, p := range w.pending[e] {
			conflicts := edits.Conflicts(p.Edits)
			naive := slices.ContainsFunc(places(edits, flat(assumed)), func(a string) bool {
				return slices.ContainsFunc(places(p.Edits, flat(assumed)), func(b string) bool { return meet(a, b) })
			})
			if naive && len(conflicts) == 0 {
				w.t.Fatalf("an edit of what %s edits is no conflict: %+v and %+v", p.Change, edits, p.Edits)
			}
			held = held || len(conflicts) > 0
		}
		if !held && !edits.Empty() {
			w.pending[e] = append(w.pending[e], registry.Step{Change: fmt.Sprintf("c%d", w.changes), Edits: edits})
		}
	}
}

func (w *world) environments() []string { return slices.Sorted(maps.Keys(w.released)) }

// release releases a pending change, not always the first: nothing of the others comes along, nothing is undone.
func (w *world) release(e string) {
	if len(w.pending[e]) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.pending[e])-1).Draw(w.t, "which")
	step := w.pending[e][i]
	before := flat(w.sources(e))
	w.pending[e] = slices.Delete(slices.Clone(w.pending[e]), i, i+1)
	w.released[e] = append(w.released[e], step)
	w.onlyTouched(before, flat(w.sources(e)), step)
}

func (w *world) rollBack(e string) {
	if len(w.released[e]) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.released[e])-1).Draw(w.t, "which")
	step := w.released[e][i]
	before := flat(w.sources(e))
	later := w.released[e][i+1:]
	w.released[e] = slices.Delete(slices.Clone(w.released[e]), i, i+1)
	after := flat(w.sources(e))
	w.onlyTouched(before, after, step)
	for _, l := range later {
		for _, place := range places(l.Edits, nil) {
			if before[place] != after[place] && !slices.ContainsFunc(places(step.Edits, before), func(p string) bool { return meet(p, place) }) {
				w.t.Fatalf("rolling back %s takes %s of %s back", step.Change, place, l.Change)
			}
		}
	}
}

// onlyTouched compares all leaves but those that a change touches.
func (w *world) onlyTouched(before, after tree, step registry.Step) {
	touched := places(step.Edits, before)
	for _, m := range step.Edits.Manifests {
		if m.Removed {
			touched = append(touched, places(step.Edits, after)...)
		}
	}
	for _, leaves := range []tree{before, after} {
		for place := range leaves {
			if before[place] != after[place] && !slices.ContainsFunc(touched, func(p string) bool { return meet(p, place) }) {
				w.t.Fatalf("%s does not touch %s, which was %q and is %q", step.Change, place, before[place], after[place])
			}
		}
	}
}

// TestASecondChangeCarriesNothingOfOneThatIsHalfRolledOutAndUndoesNothingOfIt lets directories be proposed, released environment by
// environment in any order, aborted and rolled back, and compares the sources with a naive replay after every step.
func TestASecondChangeCarriesNothingOfOneThatIsHalfRolledOutAndUndoesNothingOfIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, released: map[string][]registry.Step{"e1": nil, "e2": nil, "e3": nil}, pending: map[string][]registry.Step{}}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			e := rapid.SampledFrom(w.environments()).Draw(t, "environment")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2:
				w.propose()
			case 3, 4, 5, 6:
				w.release(e)
			case 7:
				w.pending[e] = nil // aborted
			case 8, 9:
				w.rollBack(e)
			}
			for _, e := range w.environments() {
				if got, want := flat(w.sources(e)), replay(w.released[e]); !maps.Equal(got, want) {
					t.Fatalf("%s has %v, want %v", e, got, want)
				}
			}
		}
	})
}

// TestTheEditsOfACommitAreTheCommit: whoever edits the directory on top of a change that has reached only some environments gets his
// own edits in each of them, and nothing else.
func TestTheEditsOfACommitAreTheCommit(t *testing.T) {
	dir := func(a, b string) *registry.Sources {
		return read(t, manifest("Variable", "a", "default: "+a), manifest("Variable", "b", "default: "+b))
	}
	var f registry.Folder
	base := f.Fold(&registry.Sources{}, registry.Step{Change: "c1", Edits: registry.Difference(&registry.Sources{}, dir("1", "1"))})
	first := registry.Step{Change: "c2", Edits: registry.Difference(base, dir("2", "1"))}
	reached := f.Fold(base, first)
	for name, e := range map[string]*registry.Edits{"reached": registry.Difference(reached, dir("2", "2")), "pending": registry.Difference(f.Fold(base, first), dir("2", "2"))} {
		if len(e.Manifests) != 1 || e.Manifests[0].Key != "variable/b" || len(e.Manifests[0].Set) != 1 || len(e.Manifests[0].Delete) != 0 {
			t.Errorf("%s: %+v", name, e)
		}
		if len(e.Conflicts(first.Edits)) != 0 {
			t.Errorf("%s: conflicts", name)
		}
	}
	second := registry.Step{Change: "c3", Edits: registry.Difference(reached, dir("2", "2"))}
	if got := flat(f.Fold(base, second)); got["variable/a /spec/default"] != "1" || got["variable/b /spec/default"] != "2" {
		t.Errorf("the second alone: %v", got)
	}
	if f.Fold(base, first) != reached {
		t.Error("what was folded is folded again")
	}
	again := registry.Difference(reached, dir("3", "1"))
	if c := again.Conflicts(first.Edits); len(c) != 1 || c[0].Path != "/spec/default" {
		t.Errorf("an edit of a pending leaf: %+v", c)
	}
}

func TestQuickEditsLieOnTopAndGoWhenTheirChangeGoes(t *testing.T) {
	var f registry.Folder
	dir := registry.Step{Change: "c1", Edits: registry.Difference(&registry.Sources{}, read(t, manifest("Variable", "a", "default: 1"), manifest("Variable", "b", "default: 1")))}
	quick := registry.Step{Change: "c2", Edits: &registry.Edits{Quick: map[string]json.RawMessage{"variable/a": json.RawMessage(`{"x":{"y":2}}`), "variable/b": nil, "variable/c": json.RawMessage("3")}}}
	absorb := registry.Step{Change: "c3", Edits: &registry.Edits{Drop: []string{"variable/a", "variable/b"}}}
	for name, c := range map[string]struct {
		steps []registry.Step
		want  string
	}{
		"on top":      {[]registry.Step{dir, quick}, `variable/a={"x":{"y":2}}/x/y:c2 variable/c=3:c2`},
		"absorbed":    {[]registry.Step{dir, quick, absorb}, `variable/a=1/c1:default variable/b=1/c1:default variable/c=3:c2`},
		"rolled back": {[]registry.Step{dir}, `variable/a=1/c1:default variable/b=1/c1:default`},
	} {
		r, err := registry.NewRenderer().Render(f.Fold(&registry.Sources{}, c.steps...), registry.Target{Name: "dev"})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, resource := range r.Resources {
			o := resource.Origins()[0]
			at := o.Path + ":" + o.Change
			if o.Layer != registry.OverrideDocument {
				at = "/" + o.Change + ":" + o.Layer
			}
			got = append(got, resource.Key+"="+string(resource.Value.JSON)+at)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}
