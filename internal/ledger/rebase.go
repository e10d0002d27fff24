package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Rebase compiles a change anew, against what environments are now, where its base moved and what others did touches none of the
// paths that it edits. Approvals do not carry over: an open change gets another digest, and is approved anew. Of a change that was
// released and left out of some environments, those are proposed as a new change.
type Rebase struct {
	Change string `json:"change"`
}

func (Rebase) name() string { return "rebase" }

func (r Rebase) decide(d *decision) error {
	c, err := d.openChange(r.Change, "rebased", StatusOpen, StatusExpired, StatusReleased, StatusDelivered)
	if err != nil {
		return err
	}
	if c.Trust != nil {
		return newDocument(c)
	}
	id, t := c.ID, events.TypeChangeRevised
	parts := c.Parts
	if c.status != StatusOpen {
		parts = slices.DeleteFunc(slices.Clone(parts), func(part Part) bool { return !part.again() })
		id, t = d.nextChange(), events.TypeChangeProposed
	} else if c.Author != d.by {
		return refuse(KindDenied, "ask them, or propose a change of your own", "change %s is %s's", c.ID, c.Author)
	}
	moved := slices.ContainsFunc(parts, func(part Part) bool { return d.Moved(part) != "" })
	lapsed := slices.ContainsFunc(parts, func(part Part) bool { return part.LeftOut != nil && part.LeftOut.Reason == events.ReasonApprovals })
	if !moved && !lapsed && c.Status(d.now) != StatusExpired {
		return refuse(KindConflict, "", "nothing that change %s is based on has moved", c.ID)
	}
	b := &rebasing{compiler: d.newCompiler(id, nil), change: c}
	if b.written, err = d.WrittenSources(c); err != nil {
		return err
	}
	compilation, err := b.compile(parts)
	if err != nil {
		return err
	}
	sources := Sources{Edits: []SourceEdit{}}
	if len(b.written.Directory) > 0 {
		if sources, err = d.storeEdits(compilation); err != nil {
			return err
		}
	} else {
		for _, e := range compilation.Environments {
			sources.quick(e)
		}
	}
	p := Propose{Reason: c.Reason, Ticket: c.Ticket, Within: int64(c.Within / time.Second), Source: c.Source}
	return d.put(p, sources, compilation, id, t)
}

// again says that a change was left out where it can be proposed again.
func (p Part) again() bool {
	return p.LeftOut != nil && (p.LeftOut.Reason == events.ReasonBaseMoved || p.LeftOut.Reason == events.ReasonApprovals)
}

// Moved tells what moved under a change's part, by whom, in which change; "" where its base is what it was.
func (s *State) Moved(part Part) string {
	e := s.Environments[part.Environment]
	if e.Retired || part.Revision > 0 {
		return ""
	}
	return s.whatMoved(e, part.Operations)
}

// rebasing compiles a change anew.
type rebasing struct {
	*compiler
	change    *Change
	written   Sources
	conflicts []string
}

func (r *rebasing) compile(parts []Part) (Compilation, error) {
	all, err := r.allSources()
	if err != nil {
		return Compilation{}, err
	}
	for _, part := range parts {
		e := r.Environments[part.Environment]
		if e.Retired {
			continue
		}
		out := Compiled{Environment: e.Name, Before: all[e.Name].sources, Had: e.Fold.State.Len()}
		if err := r.part(e, part, &out); err != nil {
			return r.out, err
		}
		r.out.Environments = append(r.out.Environments, out)
	}
	if len(r.conflicts) > 0 {
		return r.out, refuse(KindConflict, "look at both with 'publisher show', and revise it with 'publisher revise "+r.change.ID+"', or propose anew",
			"change %s cannot be rebased: %s", r.change.ID, some(r.conflicts))
	}
	return r.out, nil
}

// part compiles the change anew for one environment.
func (r *rebasing) part(e *Environment, part Part, out *Compiled) error {
	edits, err := r.reader.edits(r.change.ID, e.Name)
	if err != nil {
		return err
	}
	since, err := r.since(e)
	if err != nil {
		return err
	}
	for _, other := range since {
		r.against(e, edits, other, out.Before)
	}
	out.Edits = &registry.Edits{Manifests: edits.Manifests, Quick: r.quick(e, part, edits)}
	out.Sources = r.folder.Fold(out.Before, registry.Step{Change: r.compiler.change, Edits: out.Edits})
	if out.Rendering, err = r.renderer.Manifests(out.Sources, target(e)); err != nil {
		return unrendered(e, err)
	}
	if len(r.written.Directory) == 0 {
		out.Operations = override{e.Name, out.Edits.Quick}.operations(e)
		out.Rendering.Put(out.Sources.Quick())
		out.Changes = len(out.Operations) > 0
		return nil
	}
	r.drop = edits.Drop
	for _, lack := range r.takeOver(e, out) {
		if slices.ContainsFunc(since, func(other sinceThen) bool { return other.change.ID == lack.change }) {
			r.conflicts = append(r.conflicts, lack.text)
		}
	}
	out.finish(e)
	return nil
}

// A sinceThen is a change that reached an environment, or was taken back there, after the one that is rebased was compiled.
type sinceThen struct {
	change *Change
	did    string
	edits  *registry.Edits
}

func (r *rebasing) since(e *Environment) (out []sinceThen, err error) {
	for _, id := range r.order {
		c := r.Changes[id]
		part, found := c.PartFor(e.Name)
		if !found || c == r.change {
			continue
		}
		did := ""
		switch {
		case part.abandoned > r.change.Entry && part.adopted <= r.change.Entry:
			did = "was rolled back"
		case part.adopted > r.change.Entry && part.InSources:
			did = "was released"
		default:
			continue
		}
		edits, err := r.reader.edits(id, e.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, sinceThen{c, did, edits})
	}
	return out, nil
}

// against notes where a change that came since touches manifests that the rebased one edits, and not to the same.
func (r *rebasing) against(e *Environment, edits *registry.Edits, other sinceThen, now *registry.Sources) {
	for _, at := range edits.Conflicts(other.edits) {
		if !edits.Holds(at, now) {
			r.conflicts = append(r.conflicts, fmt.Sprintf("%s at %s is edited by change %s of %s (%s) too, which %s in %s since",
				at.Manifest, at.Path, other.change.ID, other.change.Author, clip(other.change.Reason, 80), other.did, e.Name))
		}
	}
	for _, key := range edits.Drop {
		if _, again := other.edits.Quick[key]; again {
			r.conflicts = append(r.conflicts, fmt.Sprintf("%s in %s is edited by change %s of %s (%s) too, which %s since",
				key, e.Name, other.change.ID, other.change.Author, clip(other.change.Reason, 80), other.did))
		}
	}
}

// quick is what the change's quick edits come to now: what they changed of a value, on the value that is there.
func (r *rebasing) quick(e *Environment, part Part, edits *registry.Edits) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for i, op := range part.Operations {
		if _, quick := edits.Quick[op.Key]; !quick {
			continue
		}
		now, _ := e.Fold.State.Get(op.Key)
		merged, both := registry.Merge(part.Inverse[i].Value, op.Value, now.Value)
		if now.Setter == op.Base {
			merged, both = op.Value, nil
		}
		if len(both) > 0 {
			at := ""
			if both[0] != "" {
				at = " at " + both[0]
			}
			r.conflicts = append(r.conflicts, fmt.Sprintf("%s%s in %s was changed by %s too", op.Key, at, e.Name, r.lastTouch(e, op.Key)))
			continue
		}
		out[op.Key] = merged
	}
	return out
}
