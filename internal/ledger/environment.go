package ledger

import (
	"maps"
	"slices"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// AddEnvironment adds an environment and releases the trust document to it as revision 1.
type AddEnvironment struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	Steward   string            `json:"steward,omitempty"`
	Approvals int               `json:"approvals"` // people who must approve a change, not counting its author; at least 1
}

func (AddEnvironment) name() string { return "add-environment" }

func (a AddEnvironment) decide(d *decision) error {
	if err := a.check(d); err != nil {
		return err
	}
	if e, taken := d.Environments[a.Name]; taken {
		next := "change it with 'publisher env update'"
		if e.Retired {
			next = "choose another name: one that was used is never used again"
		}
		return refuse(KindConflict, next, "there is an environment %s already", a.Name)
	}
	d.Environments[a.Name] = &Environment{Name: a.Name, Fold: fold.New(d.ID, a.Name)}
	defer delete(d.Environments, a.Name)
	err := d.wave.add(tried{environment: d.Environments[a.Name], release: Release{
		Kind: events.KindTrust, Trust: d.Trust().Version, Entry: d.number, Time: d.now, TraceParent: d.trace}})
	if err != nil {
		return err
	}
	d.record(events.TypeEnvironmentAdded, a.Name, &events.EnvironmentAdded{
		Environment: a.Name, Labels: a.Labels, Steward: a.Steward, Approvals: a.Approvals, Wave: d.wave.record(),
	})
	return nil
}

func (a AddEnvironment) check(d *decision) error {
	if err := registry.CheckName(a.Name); err != nil {
		return refuse(KindInvalid, "", "environment: %v", err)
	}
	least := 1
	if d.signed() {
		least = 0 // the trust document demands what it does, whatever this says
	}
	if a.Approvals < least || a.Approvals > 20 {
		return refuse(KindInvalid, "", "approvals: want %d to 20 people, have %d", least, a.Approvals)
	}
	for _, label := range slices.Sorted(maps.Keys(a.Labels)) {
		if err := registry.CheckName(label); err != nil {
			return refuse(KindInvalid, "", "label: %v", err)
		}
		if a.Labels[label] == "" {
			return refuse(KindInvalid, "", "the label %s is empty", label)
		}
		if err := checkNoted("the label "+label, a.Labels[label], 256); err != nil {
			return err
		}
	}
	return checkNoted("the steward", a.Steward, 128)
}

// UpdateEnvironment replaces an environment's labels, steward and approvals.
type UpdateEnvironment AddEnvironment

func (UpdateEnvironment) name() string { return "update-environment" }

func (u UpdateEnvironment) decide(d *decision) error {
	if err := AddEnvironment(u).check(d); err != nil {
		return err
	}
	e, err := d.activeEnvironment(u.Name)
	if err != nil {
		return err
	}
	if !e.Lost && maps.Equal(e.Labels, u.Labels) && e.Steward == u.Steward && e.Approvals == u.Approvals {
		return refuse(KindConflict, "", "environment %s is like this already", u.Name)
	}
	d.record(events.TypeEnvironmentUpdated, u.Name, &events.EnvironmentUpdated{
		Environment: u.Name, Labels: u.Labels, Steward: u.Steward, Approvals: u.Approvals,
	})
	return nil
}

// RetireEnvironment ends an environment.
type RetireEnvironment struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func (RetireEnvironment) name() string { return "retire-environment" }

func (r RetireEnvironment) decide(d *decision) error {
	e, err := d.activeEnvironment(r.Name)
	if err != nil {
		return err
	}
	if err := demand("the reason", r.Reason); err != nil {
		return err
	}
	d.record(events.TypeEnvironmentRetired, r.Name, &events.EnvironmentRetired{Environment: r.Name, By: d.by, Reason: r.Reason})
	e.Retired = true // what waits for it alone is complete without it
	d.complete(nil)
	e.Retired = false
	return nil
}

// EnrolAgent admits an agent's public key to an environment. The key is made where the agent is enrolled.
type EnrolAgent struct {
	Environment string `json:"environment"`
	Agent       string `json:"agent"`
	Key         string `json:"key"`
}

func (EnrolAgent) name() string { return "enrol-agent" }

func (a EnrolAgent) decide(d *decision) error {
	e, err := d.activeEnvironment(a.Environment)
	if err != nil {
		return err
	}
	if err := registry.CheckName(a.Agent); err != nil {
		return refuse(KindInvalid, "", "agent: %v", err)
	}
	if !nkeys.IsValidPublicUserKey(a.Key) {
		// The key is not quoted: it may be a seed in the wrong place.
		return refuse(KindInvalid, "", "agent: the key is no public user key (U…)")
	}
	if known, found := e.Agents[a.Agent]; found {
		next := "choose another name: one that was used is never used again"
		if !known.Revoked {
			next += "; where its key is lost, take that away with 'publisher env revoke'"
		}
		return refuse(KindConflict, next, "%s has an agent %s already", a.Environment, a.Agent)
	}
	for _, other := range d.Environments {
		for _, known := range other.Agents {
			if known.Key == a.Key {
				return refuse(KindConflict, "make a new key for each agent", "this key is the one of %s in %s", known.Name, other.Name)
			}
		}
	}
	d.record(events.TypeAgentEnrolled, a.Environment, &events.AgentEnrolled{
		Environment: a.Environment, Agent: a.Agent, Key: a.Key, Revision: e.Fold.Revision, Chain: e.Fold.Chain,
	})
	return nil
}

// RevokeAgent takes an agent's key away.
type RevokeAgent struct {
	Environment string `json:"environment"`
	Agent       string `json:"agent"`
	Reason      string `json:"reason"`
}

func (RevokeAgent) name() string { return "revoke-agent" }

func (r RevokeAgent) decide(d *decision) error {
	e, err := d.activeEnvironment(r.Environment)
	if err != nil {
		return err
	}
	a, found := e.Agents[r.Agent]
	if !found || a.Revoked {
		return refuse(KindNotFound, "", "%s has no agent %s", r.Environment, r.Agent)
	}
	if err := demand("the reason", r.Reason); err != nil {
		return err
	}
	d.record(events.TypeAgentRevoked, r.Environment, &events.AgentRevoked{Environment: r.Environment, Agent: r.Agent, By: d.by, Reason: r.Reason})
	a.Revoked = true // what waits for it alone is complete without it
	d.complete(nil)
	a.Revoked = false
	return nil
}
