package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// A flagEvent is that a change set a flag in an environment, or was undone there; or that the environment was added.
type flagEvent struct {
	at          time.Time
	environment string
	revision    uint64 // that did it
	change      string // "": the environment was added
	undone      bool
	after       json.RawMessage // what the change sets; nil: nothing is there
	before      json.RawMessage // what was there
}

// A flagSetting is a change that has not been undone.
type flagSetting struct {
	change string
	value  json.RawMessage
}

// differed says of every flag since when the environments are alike, or differ, as what they were to hold was released. It goes through
// their history as agents do: of the changes that are not undone the last one counts.
func differed(s *ledger.State, environments []*ledger.Environment, rows map[string]*FlagRow) {
	of := flagHistory(s, environments, rows)
	for key, row := range rows {
		events := of[key]
		for _, e := range environments {
			events = append(events, flagEvent{at: e.Added, environment: e.Name})
		}
		slices.SortStableFunc(events, func(a, b flagEvent) int {
			if c := a.at.Compare(b.at); c != 0 {
				return c
			}
			return int(a.revision) - int(b.revision)
		})
		row.follow(events)
	}
}

// flagHistory are the events of each flag.
func flagHistory(s *ledger.State, environments []*ledger.Environment, rows map[string]*FlagRow) map[string][]flagEvent {
	shown := map[string]*ledger.Environment{}
	for _, e := range environments {
		shown[e.Name] = e
	}
	out := map[string][]flagEvent{}
	for _, c := range s.ChangeList() {
		for _, part := range c.Parts {
			e := shown[part.Environment]
			if e == nil || part.Revision == 0 {
				continue
			}
			for i, op := range part.Operations {
				if !strings.HasPrefix(op.Key, "flag/") || rows[op.Key] == nil {
					continue
				}
				event := flagEvent{at: e.Releases[part.Revision-1].Time, environment: e.Name, revision: part.Revision, change: c.ID, after: op.Value, before: part.Inverse[i].Value}
				out[op.Key] = append(out[op.Key], event)
				if part.Undone > 0 {
					event.at, event.revision, event.undone = e.Releases[part.Undone-1].Time, part.Undone, true
					out[op.Key] = append(out[op.Key], event)
				}
			}
		}
	}
	return out
}

// follow goes through the events of the flag, in order; those of one moment happen at once.
func (row *FlagRow) follow(events []flagEvent) {
	settings := map[string][]flagSetting{} // by environment; the first is what was there before
	now, counts := map[string]string{}, map[string]int{}
	for i, event := range events {
		of := settings[event.environment]
		switch {
		case event.change == "":
		case event.undone:
			of = slices.DeleteFunc(of, func(f flagSetting) bool { return f.change == event.change })
		case len(of) == 0:
			of = []flagSetting{{"", event.before}, {event.change, event.after}}
		default:
			of = append(of, flagSetting{event.change, event.after})
		}
		settings[event.environment] = of
		if was, known := now[event.environment]; known {
			if counts[was]--; counts[was] == 0 {
				delete(counts, was)
			}
		}
		is := "" // not there
		if len(of) > 0 && of[len(of)-1].value != nil {
			cell := flagCell(of[len(of)-1].value)
			is = fmt.Sprint("there ", cell.Enabled, " ", cell.Variant, " ", string(cell.Value))
		}
		now[event.environment] = is
		counts[is]++
		if i+1 < len(events) && events[i+1].at.Equal(event.at) {
			continue
		}
		switch differs := len(counts) > 1; {
		case differs && row.Differs.IsZero():
			row.Differs, row.Agreed = event.at, time.Time{}
		case !differs && !row.Differs.IsZero():
			row.Differs, row.Agreed = time.Time{}, event.at
		}
	}
}
