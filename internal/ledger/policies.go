package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/policy"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// judgePolicies refuses what a policy denies, tells what policies warn of, and keeps their verdicts for the ledger.
func (d *decision) judgePolicies(p Propose, c Compilation) error {
	verdicts, err := d.Verdicts(c, p.described(d.by, d.now))
	if err != nil {
		return err
	}
	if denied := policy.Denials(verdicts); len(denied) > 0 {
		const most = 20 // rules that are named
		var why []string
		for _, v := range denied[:min(len(denied), most)] {
			why = append(why, policy.Sentence(v))
		}
		if more := len(denied) - len(why); more > 0 {
			why = append(why, fmt.Sprintf("and %d more", more))
		}
		return refuse(KindInvalid, "change what is proposed, or the policy in a change of its own", "policies deny it: %s", strings.Join(why, "; "))
	}
	d.notes = append(d.notes, policy.Notes(verdicts)...)
	d.verdicts = verdicts
	return nil
}

// Verdicts are what the policies in force say of a compilation. Without a change, what looks at it is not judged.
func (s *State) Verdicts(c Compilation, change *policy.Change) ([]events.Verdict, error) {
	r := policy.Request{Change: change}
	for _, of := range c.Environments {
		if len(of.Operations) > 0 {
			r.Environments = append(r.Environments, s.judged(of))
		}
	}
	for _, e := range s.EnvironmentList() {
		if !e.Retired {
			r.Elsewhere = append(r.Elsewhere, policy.Elsewhere{Name: e.Name, Labels: e.Labels, Released: func(key string) json.RawMessage {
				now, _ := e.Fold.State.Get(key)
				return now.Value
			}})
		}
	}
	verdicts, err := s.policies.Judge(r)
	if err != nil {
		return nil, &Error{Kind: KindInvalid, Message: err.Error(), Cause: err}
	}
	return verdicts, nil
}

// judged is what changes in one environment, as policies see it.
func (s *State) judged(c Compiled) policy.Environment {
	e := s.Environments[c.Environment]
	return policy.Environment{
		Name: e.Name, Labels: e.Labels, Facts: c.Rendering.Target.Facts, Released: c.Before, After: c.Sources,
		Operations: func(yield func(policy.Operation) bool) {
			for _, op := range c.Operations {
				now, _ := e.Fold.State.Get(op.Key)
				o := policy.Operation{Key: op.Key, Before: now.Value, After: op.Value}
				if r, found := c.Rendering.Get(op.Key); found {
					o.Is, o.Value = r.Manifest, shared(r)
				}
				if !yield(o) {
					return
				}
			}
		},
	}
}

// shared is the value of a resource where environments may share it: not that of a quick edit.
func shared(r registry.Rendered) *registry.Value {
	if r.Quick != nil {
		return nil
	}
	return r.Value
}

// described is the proposal as policies see it.
func (p Propose) described(by string, at time.Time) *policy.Change {
	out := &policy.Change{Author: by, Reason: p.Reason, Ticket: p.Ticket, Kind: policy.KindEdit, Within: time.Duration(p.Within) * time.Second, Time: at}
	if p.Directory != nil {
		out.Kind = policy.KindDirectory
	}
	if p.Source != nil {
		out.Repository, out.Commit, out.Build = p.Source.Repository, p.Source.Commit, p.Source.Build
	}
	return out
}
