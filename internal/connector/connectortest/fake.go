package connectortest

import (
	"context"
	"encoding/json"
	"maps"
	"sync"

	"github.com/lockstep-dev/lockstep/internal/connector"
)

// An Instance is what one Fake, or after a restart the next, configures: a map in memory.
type Instance struct {
	mu     sync.Mutex
	values connector.Values
}

// NewInstance is an empty instance.
func NewInstance() *Instance { return &Instance{values: connector.Values{}} }

// Open opens a connector on the instance, as after a restart.
func (i *Instance) Open(name string) *Fake { return &Fake{name: name, instance: i} }

// Set changes the instance behind the connector's back; nil deletes.
func (i *Instance) Set(key string, value json.RawMessage) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if value == nil {
		delete(i.values, key)
		return
	}
	i.values[key] = value
}

// Values is a copy of what the instance holds.
func (i *Instance) Values() connector.Values {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.values)
}

// A Fake is a connector with one unit on an Instance.
type Fake struct {
	name     string
	instance *Instance
	image    connector.ValuesImage // of the last Apply
	unit     connector.Unit

	// Fault, when set, is asked at each operation; its error is returned. The operations are "observe", "plan", "prepare", "apply"
	// (before anything is done), "apply:half" (when half of the keys are done), "apply:late" (when all are done), and "undo".
	Fault func(op string) error
	// Blind makes it a connector that does not observe.
	Blind bool
}

var _ connector.Connector = (*Fake)(nil)

// NewFake opens a connector on a new instance.
func NewFake(name string) *Fake { return NewInstance().Open(name) }

// Instance is what the fake configures.
func (f *Fake) Instance() *Instance { return f.instance }

// Name implements connector.Connector.
func (f *Fake) Name() string { return f.name }

// Capabilities implements connector.Connector.
func (f *Fake) Capabilities() connector.Capabilities {
	if f.Blind {
		return connector.Capabilities{Atomicity: connector.NotAtomic}
	}
	return connector.Capabilities{Atomicity: connector.Compensating, Observes: true}
}

func (f *Fake) fault(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return connector.Failed(connector.ReasonTimeout, err)
	}
	if f.Fault == nil {
		return nil
	}
	return f.Fault(op)
}

// Observe implements connector.Connector.
func (f *Fake) Observe(ctx context.Context, want connector.Values) (connector.Values, error) {
	if err := f.fault(ctx, "observe"); err != nil {
		return nil, err
	}
	if f.Blind {
		return nil, connector.Permanent(connector.ReasonUnreadable, "%s does not observe", f.name)
	}
	return f.held(want.Keys()), nil
}

func (f *Fake) held(keys []string) connector.Values {
	all, held := f.instance.Values(), connector.Values{}
	for _, k := range keys {
		if v, ok := all[k]; ok {
			held[k] = v
		}
	}
	return held
}

// Normal implements connector.Connector.
func (f *Fake) Normal(key string, value json.RawMessage) (json.RawMessage, error) {
	return connector.Canonical(key, value)
}

// Plan implements connector.Connector.
func (f *Fake) Plan(ctx context.Context, want connector.Values) (connector.Plan, error) {
	if err := f.fault(ctx, "plan"); err != nil {
		return connector.Plan{}, err
	}
	normal, err := connector.NormalValues(f, want)
	if err != nil {
		return connector.Plan{}, err
	}
	before, after := connector.Differing(f.held(want.Keys()), normal)
	if len(after) == 0 {
		return connector.Plan{}, nil
	}
	image := connector.NewValuesImage(before, after)
	plan := connector.Plan{Units: []connector.Unit{image.Unit(f.name, "values")}, Stage: stage{image, after}}
	for _, k := range after.Keys() {
		plan.Changes = append(plan.Changes, connector.Change{Key: k, Place: k, Before: before[k], After: after[k]})
	}
	return plan, nil
}

type stage struct {
	image connector.ValuesImage
	after connector.Values
}

// Prepare implements connector.Connector.
func (f *Fake) Prepare(ctx context.Context, plan *connector.Plan, dir string) error {
	if err := f.fault(ctx, "prepare"); err != nil || len(plan.Units) == 0 {
		return err
	}
	return plan.Stage.(stage).image.Save(dir, &plan.Units[0], nil)
}

// Apply implements connector.Connector.
func (f *Fake) Apply(ctx context.Context, plan connector.Plan) error {
	if err := f.fault(ctx, "apply"); err != nil || len(plan.Units) == 0 {
		return err
	}
	s := plan.Stage.(stage)
	if _, err := s.image.Back(f.held(s.image.Keys())); err != nil {
		return err
	}
	f.image, f.unit = s.image, plan.Units[0]
	for done, k := range s.after.Keys() {
		if done == len(s.after)/2 {
			if err := f.fault(ctx, "apply:half"); err != nil {
				return err
			}
		}
		f.instance.Set(k, s.after[k])
	}
	return f.fault(ctx, "apply:late")
}

// Undo implements connector.Connector.
func (f *Fake) Undo(ctx context.Context, units []connector.Unit) error {
	if err := f.fault(ctx, "undo"); err != nil {
		return err
	}
	for _, u := range units {
		image := f.image
		if u.Before != f.unit.Before || u.After != f.unit.After {
			var err error
			if image, err = connector.LoadValuesImage(u); err != nil {
				return err
			}
		}
		back, err := image.Back(f.held(image.Keys()))
		if err != nil {
			return err
		}
		for k, v := range back {
			f.instance.Set(k, v)
		}
	}
	return nil
}
