package ledger_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// TestAChangeCarriesNothingOfOthersAndUndoesNothingOfThem lets people edit directories and values, approve, rebase, withdraw and roll
// back in any order, and compares every environment with a naive model: it has what the changes that reached it, and were not rolled
// back, edited leaf by leaf, in the order in which they came.
func TestAChangeCarriesNothingOfOthersAndUndoesNothingOfThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newNaive(t)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			m.step++
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2:
				m.propose()
			case 3:
				m.proposeQuickly()
			case 4, 5, 6:
				m.approve()
			case 7, 8:
				m.rebase()
			case 9:
				m.takeBack()
			}
			m.compare()
		}
		m.b.verify()
	})
}

var bothEnvironments = []string{"dev", "prod"}

// A naiveChange is what somebody edited: leaf by leaf, per environment. An empty text removes a leaf.
type naiveChange struct {
	edits    map[string]map[string]string
	base     map[string]map[string]string // sources that they edit
	compiled int                          // step
}

// A naive is the model.
type naive struct {
	t        *rapid.T
	b        *book
	step     int
	changes  map[string]*naiveChange
	inForce  map[string][]string
	touched  map[string]int  // by environment and leaf: the last step that touched it
	diverged map[string]bool // where a rollback brought back a value that a later change says too: values and sources differ there
}

func newNaive(t *rapid.T) *naive {
	m := &naive{t: t, b: environments(t, bothEnvironments...), changes: map[string]*naiveChange{}, inForce: map[string][]string{}, touched: map[string]int{}, diverged: map[string]bool{}}
	m.b.unwatched = true
	begin := map[string]string{"p.x": "1", "p.y": "1", "q.x": "1", "k.x": "1"}
	first := m.b.release(m.directory(begin, bothEnvironments))
	second := m.b.release(set("*", "document/k", `{"x":1}`))
	m.changes[first], m.changes[second] = &naiveChange{edits: map[string]map[string]string{}}, &naiveChange{edits: map[string]map[string]string{}}
	for _, e := range bothEnvironments {
		m.changes[first].edits[e], m.inForce[e] = begin, []string{first, second}
	}
	return m
}

// sources are the leaves of an environment, as <document>.<field>.
func (m *naive) sources(environment string) map[string]string {
	out := map[string]string{}
	for _, id := range m.inForce[environment] {
		apply(out, m.changes[id].edits[environment])
	}
	return out
}

func (m *naive) all() map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, e := range bothEnvironments {
		out[e] = m.sources(e)
	}
	return out
}

func apply(leaves, edits map[string]string) {
	for leaf, value := range edits {
		if value == "" {
			delete(leaves, leaf)
		} else {
			leaves[leaf] = value
		}
	}
}

func edited(from, to map[string]string) map[string]string {
	out := map[string]string{}
	for leaf := range from {
		if to[leaf] == "" {
			out[leaf] = ""
		}
	}
	for leaf, value := range to {
		if from[leaf] != value {
			out[leaf] = value
		}
	}
	return out
}

// document is one document's value.
func document(leaves map[string]string, name string) string {
	fields := map[string]json.RawMessage{}
	for leaf, value := range leaves {
		if of, field, _ := strings.Cut(leaf, "."); of == name {
			fields[field] = json.RawMessage(value)
		}
	}
	b, _ := json.Marshal(fields)
	return string(b)
}

// directory is p and q, which directories manage; k is edited quickly.
func (m *naive) directory(leaves map[string]string, environments []string) ledger.Propose {
	list := []string{"Environment dev ", "Environment prod "}
	for _, name := range []string{"p", "q"} {
		list = append(list, "Document "+name+" default: "+document(leaves, name))
	}
	return only(dir(list...), environments...)
}

func (m *naive) where() []string {
	return rapid.SampledFrom([][]string{{"dev"}, {"prod"}, bothEnvironments}).Draw(m.t, "where")
}

// vary edits one or two fields of documents; x is always there.
func (m *naive) vary(leaves map[string]string, documents ...string) {
	for range rapid.IntRange(1, 2).Draw(m.t, "edits") {
		leaf := rapid.SampledFrom(documents).Draw(m.t, "document") + "." + rapid.SampledFrom([]string{"x", "y", "z"}).Draw(m.t, "field")
		value := rapid.SampledFrom([]string{"0", "1", "2", "3", ""}).Draw(m.t, "value")
		if value == "" && strings.HasSuffix(leaf, ".x") {
			value = "4"
		}
		apply(leaves, map[string]string{leaf: value})
	}
}

func (m *naive) propose() {
	environments := m.where()
	leaves := m.sources(environments[0])
	m.vary(leaves, "p", "q")
	m.keep(environments, m.directory(leaves, environments), func(environment string) map[string]string {
		mine := edited(m.sources(environment), leaves)
		maps.DeleteFunc(mine, func(leaf, _ string) bool { return strings.HasPrefix(leaf, "k.") })
		return mine
	})
}

func (m *naive) proposeQuickly() {
	environments := m.where()
	leaves := m.sources(environments[0])
	m.vary(leaves, "k")
	m.keep(environments, set(strings.Join(environments, " "), "document/k", document(leaves, "k")), func(environment string) map[string]string {
		mine := edited(m.sources(environment), leaves)
		maps.DeleteFunc(mine, func(leaf, _ string) bool { return !strings.HasPrefix(leaf, "k.") })
		return mine
	})
}

func (m *naive) keep(environments []string, p ledger.Propose, edits func(environment string) map[string]string) {
	r, err := m.b.do("anna", p)
	if err != nil {
		m.conflict(err)
		return
	}
	c := &naiveChange{edits: map[string]map[string]string{}, compiled: m.step}
	for _, e := range environments {
		c.edits[e] = edits(e)
	}
	c.base = m.all()
	m.changes[r.Change] = c
}

func (m *naive) conflict(err error) {
	m.t.Helper()
	if ledger.KindOf(err) != ledger.KindConflict {
		m.t.Fatal(err)
	}
}

// change draws one of the newest.
func (m *naive) change() *ledger.Change {
	list := m.b.state.ChangeList()[2:]
	if len(list) == 0 {
		return nil
	}
	return list[rapid.IntRange(max(0, len(list)-5), len(list)-1).Draw(m.t, "change")]
}

func (m *naive) touch(environment, id string) {
	for leaf := range m.changes[id].edits[environment] {
		m.touched[environment+" "+leaf] = m.step
	}
}

func (m *naive) approve() {
	c := m.change()
	if c == nil {
		return
	}
	r, err := m.b.do("ben", m.b.approval(c.ID))
	if err != nil {
		m.conflict(err)
		return
	}
	reached := r.SourcesOnly
	for _, released := range r.Released {
		reached = append(reached, released.Environment)
	}
	for _, environment := range reached {
		m.inForce[environment] = append(m.inForce[environment], c.ID)
		m.touch(environment, c.ID)
	}
}

// rebase must be possible where nobody touched a leaf since, and must not be where somebody made something else of it.
func (m *naive) rebase() {
	c := m.change()
	if c == nil {
		return
	}
	before := m.changes[c.ID]
	r, err := m.b.do("anna", ledger.Rebase{Change: c.ID})
	if err == nil {
		m.changes[r.Change] = &naiveChange{edits: before.edits, base: m.all(), compiled: m.step}
		for _, part := range m.b.state.Changes[r.Change].Parts {
			now := m.sources(part.Environment)
			for leaf, mine := range before.edits[part.Environment] {
				if now[leaf] != mine && now[leaf] != before.base[part.Environment][leaf] && !m.diverged[part.Environment] {
					m.t.Fatalf("%s is rebased over %s in %s, which somebody made %q of, and it %q", c.ID, leaf, part.Environment, now[leaf], mine)
				}
			}
		}
		return
	}
	m.conflict(err)
	if !strings.Contains(err.Error(), "change "+c.ID+" cannot be rebased: ") {
		return
	}
	for environment, edits := range before.edits {
		for leaf := range edits {
			if m.touched[environment+" "+leaf] >= before.compiled || m.diverged[environment] {
				return
			}
		}
	}
	m.t.Fatalf("%v: nobody touched what it edits, %v", err, before.edits)
}

func (m *naive) takeBack() {
	c := m.change()
	if c == nil {
		return
	}
	if rapid.Bool().Draw(m.t, "withdraw") {
		_, _ = m.b.do("anna", ledger.Withdraw{Change: c.ID}) // refused where it is not open
		return
	}
	r, err := m.b.do("omar", ledger.Rollback{Change: c.ID, Reason: "r"})
	if err != nil {
		m.conflict(err)
		return
	}
	reached := r.SourcesOnly
	for _, released := range r.Released {
		reached = append(reached, released.Environment)
	}
	for _, environment := range reached {
		list := m.inForce[environment]
		at := slices.Index(list, c.ID)
		for _, later := range list[at+1:] {
			for leaf := range m.changes[c.ID].edits[environment] {
				_, too := m.changes[later].edits[environment][leaf]
				m.diverged[environment] = m.diverged[environment] || too
			}
		}
		m.inForce[environment] = slices.Delete(slices.Clone(list), at, at+1)
		m.touch(environment, c.ID)
	}
}

func (m *naive) compare() {
	for _, environment := range bothEnvironments {
		if m.diverged[environment] {
			continue
		}
		leaves, want := m.sources(environment), []string{}
		for _, name := range []string{"k", "p", "q"} {
			want = append(want, fmt.Sprintf("document/%s=%s", name, document(leaves, name)))
		}
		if got := m.b.values(environment); got != strings.Join(want, " ") {
			m.t.Fatalf("%s has %s, want %v", environment, got, want)
		}
	}
}
