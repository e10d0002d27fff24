package fleet

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A FlagMatrix are all flags of some environments, side by side.
type FlagMatrix struct {
	Environments []string
	Flags        []FlagRow
}

// A FlagRow is one flag. Its health begins at 100: 40 are taken away where an environment's agents have not applied its newest value, or it
// is not known whether they still hold it, 30 more where they failed to, 20 where environments of one stage differ, and 10 where it is deprecated or past the day it should be gone.
type FlagRow struct {
	Key       string
	Cells     []FlagCell // one for each environment
	Owner     string
	Lifecycle string    // active, deprecated, …; "" where it has no manifest
	Expires   string    // date
	Expired   bool      // and is still in use
	Changed   time.Time // when the newest value was released: since then the row is as it is
	Differs   time.Time // since when environments differ; zero where they do not
	Agreed    time.Time // since when they are alike, where they once were not
	Waiting   []string  // environments whose agents have not applied it
	Failing   []string  // those of them that say they cannot
	Unknown   []string  // environments that have applied it, and of which it is not known whether they still hold it
	Split     []string  // stages whose environments differ
	Health    int
}

// A FlagCell is a flag in an environment.
type FlagCell struct {
	There   bool
	Enabled bool
	Variant string          // the default one
	Value   json.RawMessage // of that variant; nil where the definition names none
	Change  string          // that set it
	Unusual bool            // most environments of the row have another
	Applied bool            // by every agent
	Unknown bool            // whether agents still hold what they applied
	Held    *FlagCell       // what is in effect instead, at the slowest agent, where it is not applied
}

// Same says whether the same was released to two cells.
func (c FlagCell) Same(o FlagCell) bool {
	return c.There == o.There && c.Enabled == o.Enabled && c.Variant == o.Variant && bytes.Equal(c.Value, o.Value)
}

// shows is what is the same of cells that are Same.
func (c FlagCell) shows() shown { return shown{c.There, c.Enabled, c.Variant, string(c.Value)} }

type shown struct {
	there, enabled bool
	variant, value string
}

// Alike says whether two cells show the same: also of what is in effect.
func (c FlagCell) Alike(o FlagCell) bool {
	if c.Held == nil || o.Held == nil {
		return c.Same(o) && c.Applied == o.Applied && c.Unknown == o.Unknown && c.Held == o.Held
	}
	return c.Same(o) && c.Applied == o.Applied && c.Unknown == o.Unknown && c.Held.Same(*o.Held)
}

// Flags are the flags of the environments that are wanted and not retired.
func Flags(s *ledger.State, r Reports, wanted func(*ledger.Environment) bool, asOf time.Time) (FlagMatrix, error) {
	var out FlagMatrix
	var environments []*ledger.Environment
	rows := map[string]*FlagRow{}
	for _, e := range s.EnvironmentList() {
		if e.Retired || !wanted(e) {
			continue
		}
		environments = append(environments, e)
		out.Environments = append(out.Environments, e.Name)
	}
	cells := map[string]FlagCell{} // by definition: most environments have the same
	sources, err := s.SourcesOfAll()
	if err != nil {
		return out, err
	}
	for i, e := range environments {
		standing := buildEnvironment(e, r, asOf)
		before := heldBefore(s, e, standing.Revision)
		for key, resource := range e.Fold.State.All() {
			if !strings.HasPrefix(key, "flag/") || resource.Value == nil {
				continue
			}
			row := rows[key]
			if row == nil {
				row = &FlagRow{Key: key, Cells: make([]FlagCell, len(environments))}
				rows[key] = row
			}
			cell, seen := cells[string(resource.Value)]
			if !seen {
				cell = flagCell(resource.Value)
				cells[string(resource.Value)] = cell
			}
			row.Cells[i] = cell
			row.place(s, e, standing, i, e.Fold.Accepted[resource.Setter].ID)
			if row.Cells[i].Unknown = row.Cells[i].Applied && standing.doubtful(key); row.Cells[i].Unknown {
				row.Unknown = append(row.Unknown, e.Name)
			}
			if value, released := before[key]; released && !row.Cells[i].Applied {
				held := flagCell(value)
				row.Cells[i].Held = &held
			}
			if m, found := sources[e.Name].Manifest(key); found && m.Resource() != nil {
				row.describe(m, asOf)
			}
		}
	}
	differed(s, environments, rows)
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		row := rows[key]
		row.judge(environments)
		out.Flags = append(out.Flags, *row)
	}
	return out, nil
}

// heldBefore are the resources that are set by releases after a revision, as they were at that revision; nil where one was not there.
func heldBefore(s *ledger.State, e *ledger.Environment, revision uint64) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, release := range e.Releases[revision:] {
		for _, op := range historyItem(s, e, release, nil).Operations {
			if _, earlier := out[op.Key]; !earlier {
				out[op.Key] = op.Before
			}
		}
	}
	return out
}

func flagCell(value json.RawMessage) FlagCell {
	if value == nil {
		return FlagCell{}
	}
	var flag struct {
		State    string                     `json:"state"`
		Variants map[string]json.RawMessage `json:"variants"`
		Variant  string                     `json:"defaultVariant"`
	}
	_ = json.Unmarshal(value, &flag) // what is no flag shows as one without a variant
	return FlagCell{There: true, Enabled: flag.State == "ENABLED", Variant: flag.Variant, Value: flag.Variants[flag.Variant]}
}

// place says which change set the flag in an environment, when, and whether it has arrived.
func (row *FlagRow) place(s *ledger.State, e *ledger.Environment, standing Environment, i int, change string) {
	cell := &row.Cells[i]
	cell.Change, cell.Applied = change, true
	c, found := s.Changes[change]
	if !found {
		return
	}
	part, found := c.PartFor(e.Name)
	if !found || part.Revision == 0 {
		return
	}
	if at := e.Releases[part.Revision-1].Time; at.After(row.Changed) {
		row.Changed = at
	}
	if standing.Revision < part.Revision {
		cell.Applied = false
		row.Waiting = append(row.Waiting, e.Name)
		if standing.Condition == Failing || standing.Condition == Torn {
			row.Failing = append(row.Failing, e.Name)
		}
	}
}

// doubtful says whether some agent is not known to hold a resource as it applied it: nobody hears it, it hears nobody, or its instance is
// torn or differs there.
func (e Environment) doubtful(key string) bool {
	return len(e.Agents) == 0 || slices.ContainsFunc(e.Agents, func(a Agent) bool {
		switch a.Condition {
		case Torn, Silent, Stale:
			return true
		case Differing:
			named := a.Drift > 0 && a.Drift == len(a.Differing)
			return !named || slices.ContainsFunc(a.Differing, func(d events.DifferingResource) bool { return d.Resource == key })
		}
		return false
	})
}

func (row *FlagRow) describe(m *registry.Manifest, asOf time.Time) {
	spec := m.Resource()
	row.Owner, row.Lifecycle, row.Expires = m.Metadata().Owner, spec.Lifecycle, spec.Expires
	if row.Lifecycle == "" {
		row.Lifecycle = registry.Active
	}
	day, err := time.Parse(time.DateOnly, spec.Expires)
	row.Expired = err == nil && day.AddDate(0, 0, 1).Before(asOf)
}

// judge finds what differs, and the health that follows.
func (row *FlagRow) judge(environments []*ledger.Environment) {
	usual, most, alike := 0, 0, map[shown]int{}
	for _, cell := range row.Cells {
		alike[cell.shows()]++
	}
	for i, cell := range row.Cells {
		if n := alike[cell.shows()]; n > most {
			usual, most = i, n
		}
	}
	stages := map[string]FlagCell{}
	for i, cell := range row.Cells {
		row.Cells[i].Unusual = !cell.Same(row.Cells[usual])
		stage := environments[i].Labels["stage"]
		if first, seen := stages[stage]; !seen {
			stages[stage] = cell
		} else if !first.Same(cell) && !slices.Contains(row.Split, stage) {
			row.Split = append(row.Split, stage)
		}
	}
	row.Health = 100
	for _, lost := range []struct {
		so     bool
		points int
	}{
		{len(row.Waiting)+len(row.Unknown) > 0, 40}, {len(row.Failing) > 0, 30}, {len(row.Split) > 0, 20},
		{row.Expired || row.Lifecycle == registry.Deprecated, 10},
	} {
		if lost.so {
			row.Health -= lost.points
		}
	}
}
