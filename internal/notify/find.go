package notify

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Finding is something that is wrong now.
type Finding struct {
	Rule        Rule          `json:"rule"`
	Environment string        `json:"environment,omitempty"`
	Change      string        `json:"change,omitempty"`
	State       string        `json:"state,omitempty"` // of the environment
	Reason      events.Reason `json:"reason,omitempty"`
	Message     string        `json:"message"`
	Since       time.Time     `json:"since,omitzero"` // where it is known
	Steward     string        `json:"steward,omitempty"`
	Owners      []string      `json:"owners,omitempty"` // who proposed the change that is concerned, or the newest one
	Next        string        `json:"next"`             // a command that shows more
}

// subject tells findings apart: the same subject is the same episode while it lasts.
func (f Finding) subject() string {
	return string(f.Rule) + " " + f.Environment + " " + f.Change
}

// about says what it is about, in a few words.
func (f Finding) about() string {
	switch f.Rule {
	case Late:
		return f.Change + " is late in " + f.Environment
	case Approval:
		return f.Change + " waits for approval"
	case Ledger:
		return "the ledger cannot be written"
	}
	return f.Environment + " is " + f.State
}

// Find is what is wrong with a fleet. Changes are those that are open or released.
func Find(view fleet.View, changes []fleet.Change) []Finding {
	if l := view.Ledger; !l.Writable {
		return []Finding{{Rule: Ledger, Reason: l.Reason, Message: l.Message, Since: l.Since, Next: "publisher doctor"}}
	}
	authors := map[string]string{}
	for _, c := range changes {
		authors[c.ID] = c.Author
	}
	stewards := map[string]string{}
	var out []Finding
	for _, e := range view.Environments {
		stewards[e.Name] = e.Steward
		if rule := ruleOf(e.Condition); rule != "" {
			out = append(out, Finding{Rule: rule, Environment: e.Name, State: string(e.Condition), Reason: e.Reason, Message: e.Message,
				Since: e.Since, Steward: e.Steward, Owners: owners(authors[e.LastChange]), Next: "publisher status " + e.Name})
		}
	}
	for _, c := range changes {
		switch c.Status {
		case string(ledger.StatusOpen):
			out = append(out, Finding{Rule: Approval, Change: c.ID, Since: c.Proposed, Owners: owners(c.Author), Next: "publisher show " + c.ID,
				Message: fmt.Sprintf("proposed by %s: %s; %d of %d approvals", c.Author, c.Reason, len(c.Approvals), c.Demanded)})
		case string(ledger.StatusReleased):
			for _, e := range c.Environments {
				if late := e.Revision > 0 && e.Undone == 0 && e.Lag == nil && c.Within > 0 && view.AsOf.Sub(e.Released).Seconds() > c.Within; late {
					out = append(out, Finding{Rule: Late, Environment: e.Environment, Change: c.ID, Since: e.Released, Steward: stewards[e.Environment], Owners: owners(c.Author),
						Next: "publisher show " + c.ID, Message: fmt.Sprintf("revision %d is not applied within %s: %s", e.Revision, time.Duration(c.Within*float64(time.Second)), e.Outcome)})
				}
			}
		}
	}
	return out
}

func ruleOf(c fleet.Condition) Rule {
	switch c {
	case fleet.Torn, fleet.Failing:
		return Failing
	case fleet.Differing:
		return Differing
	case fleet.Silent:
		return Silent
	}
	return ""
}

func owners(names ...string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}
