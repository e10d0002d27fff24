package notify

import (
	"fmt"
	"slices"
	"strings"
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
	Since       time.Time     `json:"since,omitzero"`   // where it is known
	Stewards    []string      `json:"stewards"`         // of the environments that are concerned; none where none is set
	Owners      []string      `json:"owners"`           // of the resources that are concerned, as their manifests say; none where none is set
	Author      string        `json:"author,omitempty"` // who proposed the change that is concerned, or the environment's newest one
	Next        string        `json:"next"`             // a command that shows more
}

// Who finds the author of a change, and the owners of resources; where none are named, of those that the change sets in an environment, or,
// where that is empty, anywhere. fleet.Who makes one.
type Who func(environment, change string, resources []string) (author string, owners []string)

// People says who answers for what is wrong.
func (f Finding) People() string {
	out := "no steward is set"
	if len(f.Stewards) > 0 {
		out = "steward " + some(f.Stewards)
	}
	switch {
	case f.Rule == Ledger:
		return "whoever runs the publisher; " + out
	case len(f.Owners) > 0:
		out += "; owner " + some(f.Owners)
	default:
		out += "; no owner is set"
	}
	if f.Rule == Glass {
		out = "two who may approve it, besides who broke the glass; " + out
	}
	if f.Author != "" {
		out += "; proposed by " + f.Author
	}
	return out
}

// some names a few of many.
func some(names []string) string {
	const most = 6
	if more := len(names) - most; more > 1 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
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
	case Glass:
		return f.Change + " was released by break-glass"
	case Ledger:
		return "the ledger cannot be written"
	}
	return f.Environment + " is " + f.State
}

// Find is what is wrong with a fleet. Changes are those that are open or released.
func Find(view fleet.View, changes []fleet.Change, who Who) []Finding {
	if l := view.Ledger; !l.Writable {
		f := Finding{Rule: Ledger, Reason: l.Reason, Message: l.Message, Since: l.Since, Stewards: []string{}, Owners: []string{}, Next: "publisher doctor"}
		for _, e := range view.Environments { // all of them are concerned
			if e.Steward != "" && e.Condition != fleet.Retired {
				f.Stewards = append(f.Stewards, e.Steward)
			}
		}
		slices.Sort(f.Stewards)
		f.Stewards = slices.Compact(f.Stewards)
		return []Finding{f}
	}
	stewards := map[string]string{}
	var out []Finding
	add := func(f Finding, change string, resources []string, environments ...string) {
		f.Author, f.Owners = who(f.Environment, change, resources)
		f.Stewards = []string{}
		for _, name := range environments {
			if s := stewards[name]; s != "" && !slices.Contains(f.Stewards, s) {
				f.Stewards = append(f.Stewards, s)
			}
		}
		out = append(out, f)
	}
	for _, e := range view.Environments {
		stewards[e.Name] = e.Steward
		if rule := ruleOf(e.Condition); rule != "" {
			add(Finding{Rule: rule, Environment: e.Name, State: string(e.Condition), Reason: e.Reason, Message: e.Message, Since: e.Since, Next: "publisher status " + e.Name},
				e.LastChange, differing(e), e.Name)
		}
	}
	for _, r := range view.Reviews {
		add(Finding{Rule: Glass, Change: r.Change, Since: r.At, Next: "publisher show " + r.Change, Message: r.String()}, r.Change, nil, r.Environments...)
	}
	for _, c := range changes {
		switch c.Status {
		case string(ledger.StatusOpen):
			var environments []string
			for _, e := range c.Environments {
				environments = append(environments, e.Environment)
			}
			why, _, _ := strings.Cut(strings.TrimSpace(c.Reason), "\n")
			add(Finding{Rule: Approval, Change: c.ID, Since: c.Proposed, Next: "publisher show " + c.ID,
				Message: fmt.Sprintf("proposed by %s: %s; %d of %d approvals", c.Author, why, len(c.Approvals), c.Demanded)}, c.ID, nil, environments...)
		case string(ledger.StatusReleased):
			for _, e := range c.Environments {
				if late := e.Revision > 0 && e.Undone == 0 && e.Lag == nil && c.Within > 0 && view.AsOf.Sub(e.Released).Seconds() > c.Within; late {
					add(Finding{Rule: Late, Environment: e.Environment, Change: c.ID, Since: e.Released, Next: "publisher show " + c.ID,
						Message: fmt.Sprintf("revision %d is not applied within %s: %s", e.Revision, time.Duration(c.Within*float64(time.Second)), e.Outcome)}, c.ID, nil, e.Environment)
				}
			}
		}
	}
	return out
}

// differing are the resources that agents of a differing environment name.
func differing(e fleet.Environment) (out []string) {
	for _, a := range e.Agents {
		for _, r := range a.Differing {
			out = append(out, r.Resource)
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
