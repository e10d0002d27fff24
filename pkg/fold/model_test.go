package fold_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// A model is what a person would write down beside an environment: values with their setters, and for every change what stood
// there before it.
type model struct {
	revision  uint64
	resources map[string]fold.Resource
	changes   []modelChange
}

type modelChange struct {
	foldtest.Change
	before map[string]fold.Resource
	undone bool
}

// undoable says whether the change is the setter of all that it touched.
func (m *model) undoable(c modelChange) bool {
	for key := range c.before {
		if m.resources[key].Setter != c.Digest {
			return false
		}
	}
	return !c.undone
}

func (m *model) check(t *rapid.T, e *fold.Environment) {
	values := map[string]json.RawMessage{}
	count := 0
	for key, r := range m.resources {
		if r.Value != nil {
			values[key] = r.Value
		}
		if r.Value != nil || !r.Setter.IsZero() {
			count++
		}
		if got, _ := e.State.Get(key); string(got.Value) != string(r.Value) || got.Setter != r.Setter {
			t.Fatalf("%s is %s by %s, want %s by %s", key, got.Value, got.Setter.Short(), r.Value, r.Setter.Short())
		}
	}
	for range e.State.All() {
		count--
	}
	if count != 0 || e.Revision != m.revision || e.State.Digest() != byDefinition(values) || len(e.Accepted) != len(m.changes) {
		t.Fatalf("revision %d, digest %s, want %d, %s; %d resources too few", e.Revision, e.State.Digest().Short(), m.revision, byDefinition(values).Short(), count)
	}
}

// TestAcceptTakesEachReleaseWholeOrNotAtAll plays random histories with releases that fit and releases that do not.
func TestAcceptTakesEachReleaseWholeOrNotAtAll(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := foldtest.New(t)
		e := fold.New(foldtest.Ledger, "dev")
		m := &model{resources: map[string]fold.Resource{}}
		play := func(r foldtest.Release) {
			before := snapshot(e)
			step, err := e.Accept(r.Payload)
			if err != nil {
				rt.Fatal(err)
			}
			after := snapshot(e)
			if e.Chain != r.Chain || step.Chain != r.Chain {
				rt.Fatalf("chain %s, want %s", e.Chain.Short(), r.Chain.Short())
			}
			e.Revert(step)
			if got := snapshot(e); got != before {
				rt.Fatalf("taken back it is\n%s\nbefore it was\n%s", got, before)
			}
			if _, err := e.Accept(r.Payload); err != nil || snapshot(e) != after {
				rt.Fatalf("accepted again: %v", err)
			}
			m.revision++
		}
		play(p.Trust("dev")[0])
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) { m.check(rt, e) },
			"change": func(rt *rapid.T) {
				edits := drawEdits(rt)
				c := modelChange{Change: p.Change(edits...), before: map[string]fold.Resource{}}
				for _, edit := range edits {
					c.before[edit.Key] = m.resources[edit.Key]
					m.resources[edit.Key] = fold.Resource{Value: edit.Value, Setter: c.Digest}
				}
				m.changes = append(m.changes, c)
				play(c.Releases[0])
			},
			"roll back": func(rt *rapid.T) {
				for i := len(m.changes) - 1; i >= 0; i-- {
					if c := &m.changes[i]; m.undoable(*c) {
						for key, r := range c.before {
							m.resources[key] = r
						}
						c.undone = true
						play(p.Rollback(c.Change)[0])
						return
					}
				}
			},
			"trust": func(rt *rapid.T) { play(p.Trust("dev")[0]) },
			"refuse a rollback": func(rt *rapid.T) {
				for _, c := range m.changes {
					if !m.undoable(c) {
						r := p.Seal(p.DraftRollback(c.Change)...)[0]
						refuseAny(rt, e, r.Payload)
						return
					}
				}
			},
			"refuse a change": func(rt *rapid.T) {
				r := p.Draft(drawEdits(rt)...)[0]
				switch rapid.IntRange(0, 6).Draw(rt, "alteration") {
				case 0:
					r.State = events.Sum([]byte("x"))
				case 1:
					r.Operations[0].Value = json.RawMessage(`"x"`)
					r.Operations[0].Op = events.OpSet
				case 2:
					r.Change.Approvals = nil
				case 3:
					r.Revision++
				case 4:
					r.Previous = events.Sum([]byte("x"))
				case 5:
					r.Operations[0].Base = events.Sum([]byte("x"))
				case 6:
					r.Environment = "prod"
				}
				refuseAny(rt, e, p.Seal(r)[0].Payload)
			},
			"refuse a replay": func(rt *rapid.T) {
				if len(m.changes) == 0 {
					return
				}
				r, _, err := events.DecodeRelease(rapid.SampledFrom(m.changes).Draw(rt, "change").Releases[0].Payload)
				if err != nil {
					rt.Fatal(err)
				}
				r.Revision, r.Previous = e.Revision+1, e.Chain
				refuseAny(rt, e, p.Seal(r)[0].Payload)
			},
		})
	})
}

func refuseAny(t *rapid.T, e *fold.Environment, payload []byte) {
	before := snapshot(e)
	_, err := e.Accept(payload)
	if events.ReasonOf(err) == "" {
		t.Fatalf("have the error %v, want one with a reason", err)
	}
	if after := snapshot(e); after != before {
		t.Fatalf("%v: the fold was\n%s\nand is\n%s", err, before, after)
	}
}

// drawEdits draws edits of distinct keys.
func drawEdits(t *rapid.T) (edits []foldtest.Edit) {
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 5), 1, 4, rapid.ID).Draw(t, "keys") {
		edit := foldtest.Delete("dev", fmt.Sprintf("variable/k%d", i))
		if value := rapid.IntRange(0, 3).Draw(t, "value"); value > 0 {
			edit = foldtest.Set("dev", edit.Key, fmt.Sprint(value))
		}
		edits = append(edits, edit)
	}
	return edits
}

// BenchmarkAccept folds releases of about a kilobyte into an environment of a thousand resources.
func BenchmarkAccept(b *testing.B) {
	p := foldtest.New(b)
	p.Trust("dev")
	const object = `{"retries":3,"timeoutSeconds":30,"url":"https://pay.example/api/v1/orders","weights":[10,20,70]}`
	var all []foldtest.Edit
	for i := range 1000 {
		all = append(all, foldtest.Set("dev", fmt.Sprintf("endpoint/e%d", i), object))
	}
	p.Change(all...)
	payload := p.Seal(p.Draft(all[:4]...)...)[0].Payload
	e := p.Environment("dev")
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		step, err := e.Accept(payload)
		if err != nil {
			b.Fatal(err)
		}
		e.Revert(step)
	}
}
