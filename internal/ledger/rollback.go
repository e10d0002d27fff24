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
	if (r.Change == "") == (r.Environment == "") {
		return refuse(KindInvalid, "", "name either a change, or an environment and a revision")
	}
	undone, err := r.undone(d)
	if err != nil {
		return err
	}
	for _, u := range undone {
		if err := d.undo(u, r.Reason); err != nil {
			return err
		}
	}
	d.change = undone[len(undone)-1].Change
	d.record(events.TypeRollbackOrdered, d.change, events.RollbackOrdered{By: d.by, Reason: r.Reason, Undone: undone, Wave: d.wave.record()})
	return nil
}

func (r Rollback) undone(d *decision) ([]events.Undone, error) {
	if r.Change != "" {
		return r.ofChange(d)
	}
	return r.toRevision(d)
}

// ofChange undoes the change in every environment to which it was released, or in those that are named.
func (r Rollback) ofChange(d *decision) ([]events.Undone, error) {
	c, found := d.Changes[r.Change]
	if !found {
		return nil, refuse(KindNotFound, "list them with 'publisher changes'", "there is no change %s", r.Change)
	}
	only := map[string]bool{}
	for _, pattern := range r.Environments {
		names, err := d.match(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			only[name] = true
		}
	}
	var undone []events.Undone
	for _, part := range c.Parts {
		named := len(only) == 0 || only[part.Environment]
		if named && part.Revision > 0 && part.Undone == 0 && !d.Environments[part.Environment].Retired {
			undone = append(undone, events.Undone{Environment: part.Environment, Change: c.ID})
		}
	}
	if len(undone) == 0 {
		return nil, refuse(KindConflict, "look at it with 'publisher show "+c.ID+"'", "change %s is %s: there is nothing of it to undo there", c.ID, c.Status(d.now))
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
	var force []string // changes that were in force at the revision, or came since, oldest first
	for _, release := range e.Releases {
		switch release.Kind {
		case events.KindChange:
			force = append(force, release.Change)
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

// undo releases one inverse, and notes what it restores.
func (d *decision) undo(u events.Undone, reason string) error {
	c, e := d.Changes[u.Change], d.Environments[u.Environment]
	part, _ := c.PartFor(u.Environment)
	inverse, err := d.Inverse(*part)
	if err != nil {
		return err
	}
	for _, op := range inverse {
		now, _ := e.Fold.State.Get(op.Key)
		if now.Setter != c.Digest {
			later := e.Fold.Accepted[now.Setter].ID
			return refuse(KindConflict, "undo "+later+" first, or bring the environment back with 'publisher rollback --env "+e.Name+" --to-revision N'",
				"%s in %s was set by change %s after %s", op.Key, e.Name, later, c.ID)
		}
		d.affect(e.Name, op.Key, now.Value, op.Value)
	}
	return d.wave.add(e.Name, Release{Kind: events.KindRollback, Change: c.ID, By: d.by, Reason: reason, Entry: d.number, Time: d.now, TraceParent: d.trace})
}
