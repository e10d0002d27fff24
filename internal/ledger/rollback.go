package ledger

import (
	"fmt"
	"slices"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Rollback undoes a change where it was released, or brings an environment back to a revision, by new releases of inverses:
// history is never rewound. It needs no approvals: an agent that accepted a change accepts its inverse.
type Rollback struct {
	Change       string   `json:"change,omitempty"`       // undo this one
	Environments []string `json:"environments,omitempty"` // only there; names or patterns, default all it was released to
	Environment  string   `json:"environment,omitempty"`  // or: bring this one back
	ToRevision   uint64   `json:"toRevision,omitempty"`   // to what it was at this revision
	Reason       string   `json:"reason"`
}

func (Rollback) name() string { return "rollback" }

func (r Rollback) decide(d *decision) error {
	if err := demand("the reason", r.Reason); err != nil {
		return err
	}
	ofChange := r.Change != "" && r.Environment == "" && r.ToRevision == 0
	toRevision := r.Change == "" && r.Environment != "" && len(r.Environments) == 0
	if !ofChange && !toRevision {
		return refuse(KindInvalid, "", "name either a change, with or without environments, or an environment and a revision")
	}
	undone, err := r.undone(d)
	if err != nil {
		return err
	}
	d.change = undone[len(undone)-1].Change
	undone, sourcesOnly := d.released(undone)
	if len(undone) > maxWave {
		return refuse(KindInvalid, "choose a later revision first", "this undoes %d releases; at most %d are undone together", len(undone), maxWave)
	}
	if err := d.frozenRollback(undone, r.Reason); err != nil {
		return err
	}
	for _, u := range undone {
		if err := d.undo(u, r.Reason); err != nil {
			return err
		}
	}
	d.effect = net(d.effect)
	d.record(events.TypeRollbackOrdered, d.change, &events.RollbackOrdered{By: d.by, Reason: r.Reason, Undone: undone, Wave: d.wave.record(), SourcesOnly: sourcesOnly})
	return nil
}

// released are the changes that were released where they are undone; the others edited nothing but sources there.
func (d *decision) released(all []events.Undone) (released, sourcesOnly []events.Undone) {
	released = []events.Undone{}
	for _, u := range all {
		if part, _ := d.Changes[u.Change].PartFor(u.Environment); part.SourcesOnly() {
			sourcesOnly = append(sourcesOnly, u)
			d.sources = append(d.sources, u.Environment)
		} else {
			released = append(released, u)
		}
	}
	return released, sourcesOnly
}

func (r Rollback) undone(d *decision) ([]events.Undone, error) {
	if r.Change != "" {
		return r.ofChange(d)
	}
	return r.toRevision(d)
}

// ofChange undoes the change in every environment that it reached, or in those that are named.
func (r Rollback) ofChange(d *decision) ([]events.Undone, error) {
	c, found := d.Changes[r.Change]
	if !found {
		return nil, refuse(KindNotFound, "list them with 'publisher changes'", "there is no change %s", r.Change)
	}
	undoable := map[string]bool{}
	for _, part := range c.Parts {
		undoable[part.Environment] = part.InSources && !d.Environments[part.Environment].Retired
	}
	nothing := func(where string) error {
		return refuse(KindConflict, "look at it with 'publisher show "+c.ID+"'", "change %s is %s: there is nothing of it to undo %s", c.ID, c.Status(d.now), where)
	}
	only := map[string]bool{}
	for _, pattern := range r.Environments {
		names, err := d.match(pattern)
		if err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !undoable[name] })
		if len(names) == 0 {
			return nil, nothing("in " + pattern)
		}
		for _, name := range names {
			only[name] = true
		}
	}
	var undone []events.Undone
	for _, part := range c.Parts {
		if undoable[part.Environment] && (len(only) == 0 || only[part.Environment]) {
			undone = append(undone, events.Undone{Environment: part.Environment, Change: c.ID})
		}
	}
	if len(undone) == 0 {
		return nil, nothing("any more")
	}
	return undone, nil
}

// toRevision undoes, newest first, the changes that are in force at the head and were not at the revision.
func (r Rollback) toRevision(d *decision) ([]events.Undone, error) {
	e, err := d.activeEnvironment(r.Environment)
	if err != nil {
		return nil, err
	}
	if r.ToRevision == 0 || r.ToRevision >= e.Head() {
		return nil, refuse(KindInvalid, "list them with 'publisher history "+e.Name+"'", "want a revision before the head of %s, which is %d; have %d", e.Name, e.Head(), r.ToRevision)
	}
	var undone []events.Undone
	for _, release := range e.Releases {
		switch release.Kind {
		case events.KindChange:
			if release.Revision > r.ToRevision {
				undone = append(undone, events.Undone{Environment: e.Name, Change: release.Change})
			}
		case events.KindRollback:
			part, _ := d.Changes[release.Change].PartFor(e.Name)
			if release.Revision > r.ToRevision && part.Revision <= r.ToRevision {
				return nil, refuse(KindConflict, "propose a new change with the values you want, or choose a revision from "+fmt.Sprint(release.Revision)+" on",
					"at revision %d change %s was in force, which revision %d undid: bringing it back is no undoing", r.ToRevision, release.Change, release.Revision)
			}
			undone = slices.DeleteFunc(undone, func(u events.Undone) bool { return u.Change == release.Change })
		}
	}
	if len(undone) == 0 {
		return nil, refuse(KindConflict, "", "%s has the same configuration now as at revision %d", e.Name, r.ToRevision)
	}
	slices.Reverse(undone)
	return undone, nil
}

// net is what effects come to: of each resource the value before all of them and the value after.
func net(effects []Effect) []Effect {
	var out []Effect
	at := map[[2]string]int{}
	for _, e := range effects {
		place := [2]string{e.Environment, e.Key}
		if i, again := at[place]; again {
			out[i].After = e.After
			continue
		}
		at[place] = len(out)
		out = append(out, e)
	}
	return out
}

// undo releases one inverse, and notes what it restores.
func (d *decision) undo(u events.Undone, reason string) error {
	c, e := d.Changes[u.Change], d.Environments[u.Environment]
	part, _ := c.PartFor(u.Environment)
	for _, op := range part.Inverse {
		now, _ := e.Fold.State.Get(op.Key)
		if now.Setter != c.Digest {
			later := e.Fold.Accepted[now.Setter].ID
			return refuse(KindConflict, "undo "+later+" first, or bring the environment back with 'publisher rollback --env "+e.Name+" --to-revision N'",
				"%s in %s was set by change %s after %s", op.Key, e.Name, later, c.ID)
		}
		d.affect(e.Name, op.Key, now.Value, op.Value)
	}
	return d.wave.add(tried{environment: e, release: Release{
		Kind: events.KindRollback, Change: c.ID, By: d.by, Reason: reason, Entry: d.number, Time: d.now, TraceParent: d.trace}})
}
