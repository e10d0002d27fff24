package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// A readBack is what the instance holds, compared with what it should.
type readBack struct {
	digest    events.Digest // state digest of what is there; zero where nothing was read back
	complete  bool          // every connector concerned observes
	differing map[string]json.RawMessage
}

func (r readBack) keys() []string { return slices.Sorted(maps.Keys(r.differing)) }

// unreadSecret stands for what the instance holds in place of a secret: not even its hash is told.
var unreadSecret = json.RawMessage(`"<another secret>"`)

// observe reads the instance and compares it with want, which is a fold's state with its secrets.
func observe(ctx context.Context, router *connector.Router, state *fold.State, want connector.Values) (readBack, error) {
	seen := readBack{complete: true, differing: map[string]json.RawMessage{}}
	shares, err := router.Split(want)
	if err != nil {
		return seen, err
	}
	observed := len(shares) == 0 // nothing to read back is read back
	for _, s := range shares {
		if !s.Connector.Capabilities().Observes {
			seen.complete = false
			continue
		}
		observed = true
		held, err := s.Connector.Observe(ctx, s.Values)
		if err != nil {
			return seen, fmt.Errorf("connector %s: %w", s.Connector.Name(), err)
		}
		normal, err := connector.NormalValues(s.Connector, s.Values)
		if err != nil {
			return seen, fmt.Errorf("connector %s: %w", s.Connector.Name(), err)
		}
		for key, is := range normal {
			if same(held[key], is) {
				continue
			}
			seen.differing[key] = held[key]
			if r, _ := state.Get(key); hasSecret(r.Value) && held[key] != nil {
				seen.differing[key] = unreadSecret
			}
		}
	}
	if observed {
		seen.digest = state.With(seen.differing)
	}
	return seen, nil
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

// see keeps what the last read-back said.
func (c *chain) see(seen readBack) {
	keys := seen.keys()
	if len(keys) > 0 && len(c.differing) == 0 {
		c.differs = c.now()
	}
	if len(keys) > 0 {
		c.log.Error().Strs("resources", keys).Uint64("revision", c.checkpoint.Revision).Msg("the instance differs from the checkpoint")
	}
	c.unread, c.differing, c.checkpoint.Observed, c.checkpoint.ReadBack = nil, keys, seen.digest, seen.complete
}

func (c *chain) steps() []*fold.Step {
	steps := make([]*fold.Step, len(c.waiting))
	for i, l := range c.waiting {
		steps[i] = l.step
	}
	return steps
}
