package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// A readBack is what the instance holds, compared with what it should.
type readBack struct {
	digest    events.Digest // state digest of what is there; zero where nothing was read back
	complete  bool          // every connector concerned observes
	differing map[string]json.RawMessage
	fields    map[string]events.DifferingResource // of what differs: where
}

func (r readBack) keys() []string { return slices.Sorted(maps.Keys(r.differing)) }

// differences are where it differs, in order.
func (r readBack) differences() []events.DifferingResource {
	var list []events.DifferingResource
	for _, key := range r.keys() {
		list = append(list, r.fields[key])
	}
	return list
}

// unreadSecret stands for what the instance holds in place of a secret: not even its hash is told.
var unreadSecret = json.RawMessage(`"<another secret>"`)

// observe reads the instance and compares it with want, which is a fold's state with its secrets. Costly connectors are left out where
// cheaply is all that is asked for: then nothing is said of the whole.
func observe(ctx context.Context, router *connector.Router, state *fold.State, want connector.Values, cheaply bool) (readBack, error) {
	seen := readBack{complete: true, differing: map[string]json.RawMessage{}, fields: map[string]events.DifferingResource{}}
	shares, err := router.Split(want)
	if err != nil {
		return seen, err
	}
	observed := len(shares) == 0 // nothing to read back is read back
	for _, s := range shares {
		can := s.Connector.Capabilities()
		if !can.Observes || cheaply && can.Costly {
			seen.complete = false
			continue
		}
		observed = true
		held, err := s.Connector.Observe(ctx, s.Values)
		if err != nil {
			return seen, fmt.Errorf("connector %s: %w", s.Connector.Name(), err)
		}
		for key, is := range s.Values {
			if is != nil && !same(held[key], is) { // what is equal without it is in normal form already
				if is, err = s.Connector.Normal(key, is); err != nil {
					return seen, fmt.Errorf("connector %s: %w", s.Connector.Name(), err)
				}
			}
			if !same(held[key], is) {
				r, _ := state.Get(key)
				seen.differs(key, held[key], is, hasSecret(r.Value))
			}
		}
	}
	if observed {
		seen.digest = state.With(seen.differing)
	}
	return seen, nil
}

// differs notes that the instance holds something else than a value. Of a secret nothing is told but whose it is.
func (r readBack) differs(key string, held, is json.RawMessage, secret bool) {
	r.differing[key], r.fields[key] = held, events.DifferingResource{Resource: key}
	switch {
	case !secret:
		r.fields[key] = difference(key, held, is)
	case held != nil:
		r.differing[key] = unreadSecret
	}
}

// without is the read-back as if the instance held what it should of some keys.
func (r readBack) without(keys map[string]bool, state *fold.State) readBack {
	left := maps.Clone(r.differing)
	maps.DeleteFunc(left, func(key string, _ json.RawMessage) bool { return keys[key] })
	r.differing = left
	if !r.digest.IsZero() {
		r.digest = state.With(left)
	}
	return r
}

func same(a, b json.RawMessage) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// conflicting are the keys that the instance holds with another value than it is to have.
func conflicting(router *connector.Router, held, want connector.Values) ([]string, error) {
	var keys []string
	for _, key := range held.Keys() {
		is := want[key]
		if is != nil {
			var err error
			if is, err = router.Normal(key, is); err != nil {
				return nil, err
			}
		}
		if !same(held[key], is) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// isFirstContact says whether nothing was ever applied to the instance: a trust document alone touches nothing.
func isFirstContact(applied *fold.State) bool {
	for range applied.All() {
		return false
	}
	return true
}

// addState puts a state's values, with their secrets, and its tombstones into want.
func addState(want connector.Values, state *fold.State, secrets Secrets) error {
	for key, r := range state.All() {
		value, err := secrets.resolve(r.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		want[key] = value
	}
	return nil
}

func keyList(keys []string) string {
	const most = 10
	if len(keys) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(keys[:most], ", "), len(keys)-most)
	}
	return strings.Join(keys, ", ")
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

// see keeps what a comparison of the whole instance with the checkpoint said, and says once what is new in it.
func (c *chain) see(seen readBack) {
	list := seen.differences()
	switch before := len(c.differing) > 0 || c.unread != nil; {
	case len(list) == 0 && before:
		c.atCheckpoint(c.log.Info()).Msg("the instance is as the checkpoint says again")
	case len(list) > 0 && !reflect.DeepEqual(list, c.differing):
		c.atCheckpoint(c.log.Error()).Int("resources", len(list)).Msg(events.OtherValues(list))
	}
	if len(list) > 0 && len(c.differing) == 0 {
		c.differs = c.now()
	}
	c.unread, c.differing, c.checkpoint.Observed, c.checkpoint.ReadBack = nil, list, seen.digest, seen.complete
	c.looks.saw(time.Now(), c.opts.Intervals.Check)
}

func (c *chain) steps() []*fold.Step {
	steps := make([]*fold.Step, len(c.waiting))
	for i, l := range c.waiting {
		steps[i] = l.step
	}
	return steps
}
