package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// about is what a fact is about.
type about struct {
	changes, environments []string
	agent                 string
	reason                string
}

// aboutOf reads what every kind of fact is about. Deliveries and contents are about too much to say.
func aboutOf(fact any) (a about) {
	wave := func(w events.Wave) {
		for _, ref := range w.Releases {
			a.environments = append(a.environments, ref.Environment)
		}
	}
	switch f := fact.(type) {
	case *events.ChangeProposed:
		a = about{changes: []string{f.Change}, reason: f.Reason}
		for _, e := range f.Environments {
			a.environments = append(a.environments, e.Environment)
		}
	case *events.ChangeApproved:
		a.changes = []string{f.Change}
	case *events.ChangeEnded:
		a = about{changes: []string{f.Change}, reason: f.Reason}
	case *events.ApprovalGiven:
		a = about{changes: []string{f.Change}, reason: f.Comment}
	case *events.BreakGlassUsed:
		a = about{changes: []string{f.Change}, reason: f.Reason}
	case *events.BreakGlassReviewed:
		a = about{changes: []string{f.Change}, reason: f.Comment}
	case *events.RolloutPaused:
		a = about{changes: []string{f.Change}, reason: f.Reason}
	case *events.RolloutStarted:
		a.changes = []string{f.Change}
	case *events.RolloutCompleted:
		a.changes = []string{f.Change}
	case *events.WaveReleased:
		a.changes = []string{f.Change}
		wave(f.Wave)
	case *events.RollbackOrdered:
		a.reason = f.Reason
		for _, undone := range append(slices.Clone(f.Undone), f.SourcesOnly...) {
			if !slices.Contains(a.changes, undone.Change) {
				a.changes = append(a.changes, undone.Change)
			}
			a.environments = append(a.environments, undone.Environment)
		}
	case *events.EnvironmentAdded:
		a.environments = []string{f.Environment}
	case *events.EnvironmentUpdated:
		a.environments = []string{f.Environment}
	case *events.EnvironmentRetired:
		a = about{environments: []string{f.Environment}, reason: f.Reason}
	case *events.AgentEnrolled:
		a = about{environments: []string{f.Environment}, agent: f.Agent}
	case *events.AgentRevoked:
		a = about{environments: []string{f.Environment}, agent: f.Agent, reason: f.Reason}
	case *events.AlarmAcknowledged:
		a.reason = f.Reason
		if f.Environment != "" {
			a.environments = []string{f.Environment}
		}
	case *events.AlarmsSilenced:
		a = about{environments: []string{f.Environment}, reason: f.Reason}
	case *events.HistoryRecovered:
		if f.Loss != nil {
			a.reason = f.Loss.Reason
		}
	}
	slices.Sort(a.environments)
	a.environments = slices.Compact(a.environments)
	return a
}

// A Record is one decision, for people: an entry that stores contents or deliveries alone is none.
type Record struct {
	Entry        uint64    `json:"entry"`
	Time         time.Time `json:"time"`
	By           string    `json:"by"`
	What         []string  `json:"what"` // types of its events, without their frame: change.proposed
	Changes      []string  `json:"changes,omitempty"`
	Environments []string  `json:"environments,omitempty"`
	Resources    []string  `json:"resources,omitempty"`
	Agent        string    `json:"agent,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	Signed       bool      `json:"signed"` // the person's statement stands in the entry
}

// A Filter says which records are wanted. Zero fields want all.
type Filter struct {
	Person      string // as they acted, whatever the case of letters
	Change      string // its id
	Resource    string // a name, or a pattern with *
	Environment string // a name, or a pattern with *
	Since       time.Time
	Until       time.Time // and not after
}

func (f Filter) wants(r Record) bool {
	matches := func(pattern string, names []string) bool {
		return pattern == "" || slices.ContainsFunc(names, func(name string) bool { return events.Glob(pattern, name) })
	}
	return (f.Change == "" || slices.Contains(r.Changes, f.Change)) && (f.Person == "" || strings.EqualFold(f.Person, r.By)) &&
		!r.Time.Before(f.Since) && (f.Until.IsZero() || !r.Time.After(f.Until)) && matches(f.Resource, r.Resources) && matches(f.Environment, r.Environments)
}

// Log verifies a ledger and lists the decisions that a filter wants, newest first. Where the ledger is not as it should be, the
// Verification says so, and the list goes as far as the ledger is good.
func Log(r *Reader, f Filter) ([]Record, Verification, error) {
	w := newWalk(r)
	out, err := w.log(r, f)
	return out, w.Verification, err
}

func (w *walk) log(r *Reader, f Filter) (out []Record, err error) {
	w.seen = func(_ Entry, entry events.Entry, _ []ledger.Released) error {
		record, err := recordOf(w.state, entry)
		if err == nil && record != nil && f.wants(*record) {
			out = append(out, *record)
		}
		return err
	}
	err = w.run(r, nil)
	slices.Reverse(out)
	return out, err
}

// recordOf is an entry for people; nil where it is no decision.
func recordOf(s *ledger.State, entry events.Entry) (*Record, error) {
	out := Record{Entry: entry.Number, Time: entry.Time, By: entry.Command.By, Signed: entry.Command.Statement != nil}
	for _, event := range entry.Events {
		if event.Type == events.TypeContentStored || event.Type == events.TypeDeliveryRecorded {
			continue
		}
		fact, err := events.DecodeFact(event)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", entry.Number, err)
		}
		what := strings.TrimSuffix(strings.TrimPrefix(string(event.Type), "dev.lockstep."), ".v1")
		if !slices.Contains(out.What, what) {
			out.What = append(out.What, what)
		}
		a := aboutOf(fact)
		out.Changes = append(out.Changes, a.changes...)
		out.Environments = append(out.Environments, a.environments...)
		if out.Agent == "" {
			out.Agent = a.agent
		}
		if out.Reason == "" {
			out.Reason = a.reason
		}
	}
	if len(out.What) == 0 {
		return nil, nil
	}
	for _, id := range out.Changes {
		if c := s.Changes[id]; c != nil {
			for _, part := range c.Parts {
				out.Environments = append(out.Environments, part.Environment)
				for _, op := range part.Operations {
					out.Resources = append(out.Resources, op.Key)
				}
			}
		}
	}
	for _, list := range []*[]string{&out.Changes, &out.Environments, &out.Resources} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return &out, nil
}
