package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Glob names resources: a key in which each * of the name stands for any characters. The kind is written out.
type Glob string

// Validate says whether g is <kind>/<name pattern> with a known kind.
func (g Glob) Validate() error {
	if err := events.CheckKey(strings.ReplaceAll(string(g), "*", "x")); err != nil {
		return fmt.Errorf("resources: %q is not a pattern such as flag/* or variable/db-*: %w", string(g), err)
	}
	if kind, _, _ := strings.Cut(string(g), "/"); strings.Contains(kind, "*") {
		return fmt.Errorf("resources: %q leaves the kind open: write one pattern for each kind", string(g))
	}
	return nil
}

// Match says whether g names key.
func (g Glob) Match(key string) bool {
	parts := strings.Split(string(g), "*")
	if len(parts) == 1 {
		return string(g) == key
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(key) < len(first)+len(last) || !strings.HasPrefix(key, first) || !strings.HasSuffix(key, last) {
		return false
	}
	rest := key[len(first) : len(key)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return true
}

// Overlaps says whether some key is named by both.
func (g Glob) Overlaps(other Glob) bool { return overlap(string(g), string(other)) }

func overlap(a, b string) bool {
	// reach[j]: the first i characters of a and the first j of b can stand for one text.
	reach := make([]bool, len(b)+1)
	for i := range len(a) + 1 {
		diagonal := false
		for j := range len(b) + 1 {
			left := j > 0 && reach[j-1]
			here := i == 0 && j == 0
			if j > 0 && b[j-1] == '*' {
				here = here || left || i > 0 && reach[j]
			}
			if i > 0 && a[i-1] == '*' {
				here = here || left || reach[j]
			}
			if i > 0 && j > 0 && a[i-1] == b[j-1] && a[i-1] != '*' {
				here = here || diagonal
			}
			diagonal, reach[j] = reach[j], here
		}
	}
	return reach[len(b)]
}

// A Route sends the resources that a glob names to a connector.
type Route struct {
	Resources []Glob
	Connector Connector
	Step      bool // every revision is applied by itself, never folded with the next
}

// A Router finds the connector of each resource: the first route with a glob that names it.
type Router struct{ routes []Route }

// NewRouter checks the globs, and that two connectors do not share a name.
func NewRouter(routes []Route) (*Router, error) {
	named := map[string]Connector{}
	for _, r := range routes {
		for _, g := range r.Resources {
			if err := g.Validate(); err != nil {
				return nil, fmt.Errorf("connector %s: %w", r.Connector.Name(), err)
			}
		}
		if other, taken := named[r.Connector.Name()]; taken && other != r.Connector {
			return nil, fmt.Errorf("two connectors have the name %q: give each its own", r.Connector.Name())
		}
		named[r.Connector.Name()] = r.Connector
	}
	return &Router{routes}, nil
}

// Route is the route of a key; a key that no route takes is a permanent error with ReasonNoRoute.
func (r *Router) Route(key string) (Route, error) {
	for _, route := range r.routes {
		for _, g := range route.Resources {
			if g.Match(key) {
				return route, nil
			}
		}
	}
	return Route{}, Permanent(ReasonNoRoute, "no connector takes %s: add it to the resources of a connector in the agent's file", key)
}

// Connectors are all connectors in the order of their first route.
func (r *Router) Connectors() []Connector {
	var list []Connector
	seen := map[string]bool{}
	for _, route := range r.routes {
		if name := route.Connector.Name(); !seen[name] {
			seen[name] = true
			list = append(list, route.Connector)
		}
	}
	return list
}

// A Share is the part of some values that goes to one connector.
type Share struct {
	Connector Connector
	Values    Values
}

// Split gives each connector its share, in the order of Connectors; a connector without a share is left out.
func (r *Router) Split(values Values) ([]Share, error) {
	shares := map[string]Values{}
	for _, key := range values.Keys() {
		route, err := r.Route(key)
		if err != nil && values[key] == nil {
			continue // what nobody takes is not there: a change that could not be applied is undone by a rollback
		}
		if err != nil {
			return nil, err
		}
		name := route.Connector.Name()
		if shares[name] == nil {
			shares[name] = Values{}
		}
		shares[name][key] = values[key]
	}
	var list []Share
	for _, c := range r.Connectors() {
		if share := shares[c.Name()]; share != nil {
			list = append(list, Share{c, share})
		}
	}
	return list, nil
}

// Observe asks every connector for its keys. Keys of connectors that do not observe are not in the result.
func (r *Router) Observe(ctx context.Context, want Values) (Values, error) {
	shares, err := r.Split(want)
	if err != nil {
		return nil, err
	}
	all := make(Values, len(want))
	for _, s := range shares {
		if !s.Connector.Capabilities().Observes {
			continue
		}
		held, err := s.Connector.Observe(ctx, s.Values)
		if err != nil {
			return nil, fmt.Errorf("connector %s: %w", s.Connector.Name(), err)
		}
		for k, v := range held {
			all[k] = v
		}
	}
	return all, nil
}

// Replaced says whether any connector has another instance before it than the one that it opened.
func (r *Router) Replaced() bool {
	return slices.ContainsFunc(r.Connectors(), replaced)
}

func replaced(c Connector) bool {
	place, ok := c.(Replaceable)
	return ok && place.Replaced()
}

// Reopen lets every connector whose instance was replaced take the one that is there now.
func (r *Router) Reopen() error {
	for _, c := range r.Connectors() {
		if !replaced(c) {
			continue
		}
		if err := c.(Replaceable).Reopen(); err != nil {
			return fmt.Errorf("connector %s: %w", c.Name(), err)
		}
	}
	return nil
}

// Normal is the Normal of the key's connector.
func (r *Router) Normal(key string, value json.RawMessage) (json.RawMessage, error) {
	route, err := r.Route(key)
	if err != nil {
		return nil, err
	}
	return route.Connector.Normal(key, value)
}
