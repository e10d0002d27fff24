package policy

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/lockstep-dev/lockstep/internal/registry"
)

// A Request is a proposed change as policies see it.
type Request struct {
	Change *Change // nil where it is not known yet: what looks at it is not judged
	// Standing says that operations are resources as they stand, and nothing is known of what was before: only Deny and Warn are
	// judged, of policies that do not look at that.
	Standing     bool
	Environments []Environment // ordered by name
	Elsewhere    []Elsewhere   // environments that parity looks at
}

// A Change is what a change says of itself.
type Change struct {
	Author, Reason, Ticket    string
	Kind                      string // directory or edit
	Repository, Commit, Build string
	Within                    time.Duration
	Time                      time.Time // of the decision
}

// Kinds of changes.
const (
	KindDirectory = "directory"
	KindEdit      = "edit"
)

// An Environment is one in which something would change.
type Environment struct {
	Name            string
	Labels, Facts   map[string]string
	Released, After *registry.Sources   // the policies of both are in force; either may be nil
	Operations      iter.Seq[Operation] // ordered by key
}

// An Operation is what would happen to one resource.
type Operation struct {
	Key           string
	Before, After json.RawMessage    // nil is absent
	Is            *registry.Manifest // of the resource after the change; nil where there is none
	Value         *registry.Value    // that After is of, where environments share it; nil where that is not known
}

// was is the manifest that the resource has where it is released; nil where there is none.
func (e *Environment) was(key string) *registry.Manifest {
	if e.Released == nil {
		return nil
	}
	m, _ := e.Released.Manifest(key)
	return m
}

// word is what the operation is called in policies.
func (o *Operation) word() string {
	switch {
	case o.After == nil:
		return registry.Delete
	case o.Before == nil:
		return registry.Create
	}
	return registry.Update
}

// An Elsewhere is an environment as it is released.
type Elsewhere struct {
	Name     string
	Labels   map[string]string
	Released func(key string) json.RawMessage // nil is absent
}

// record is the change as expressions see it.
func (c *Change) record(environments []Environment) *record {
	if c == nil {
		return nil
	}
	names := make([]string, len(environments))
	for i, e := range environments {
		names[i] = e.Name
	}
	return fields(changeType, map[string]any{
		"author": c.Author, "reason": c.Reason, "ticket": c.Ticket, "kind": c.Kind, "repository": c.Repository, "commit": c.Commit,
		"build": c.Build, "within": c.Within, "time": c.Time, "environments": names,
	})
}

func (e *Environment) record() *record {
	return fields(environmentType, map[string]any{"name": e.Name, "labels": filled(e.Labels), "facts": filled(e.Facts)})
}

func filled(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// resource is a resource as expressions see it; null where it is absent.
func resource(key string, m *registry.Manifest, value json.RawMessage) any {
	if value == nil {
		return types.NullValue
	}
	kind, name, _ := strings.Cut(key, "/")
	var meta registry.Metadata
	var spec registry.Resource
	if m != nil && m.Resource() != nil {
		meta, spec = m.Metadata(), *m.Resource()
	}
	decoded, err := native(value)
	if err != nil {
		return types.NewErr("the value of %s: %v", key, err)
	}
	return fields(objectType, map[string]any{
		"key": key, "kind": kind, "name": name, "value": decoded, "labels": filled(meta.Labels), "owner": meta.Owner, "description": meta.Description,
		"version": spec.Version, "lifecycle": spec.Lifecycle, "severity": spec.Severity, "expires": spec.Expires, "reviewBy": spec.ReviewBy,
	})
}

// native is JSON as CEL takes it: whole numbers are integers, others floating point. Nothing is null.
func native(b json.RawMessage) (any, error) {
	if len(b) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		return nil, err
	}
	return numbers(out)
}

func numbers(v any) (any, error) {
	var err error
	switch t := v.(type) {
	case json.Number:
		if whole, err := strconv.ParseInt(string(t), 10, 64); err == nil {
			return whole, nil
		}
		return t.Float64()
	case []any:
		for i := range t {
			if t[i], err = numbers(t[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for name := range t {
			if t[name], err = numbers(t[name]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
