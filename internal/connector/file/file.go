package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/connector"
)

// A Connector configures the files below one directory. It holds the directory's lock until Close.
type Connector struct {
	name    string
	disk    *disk
	targets []*target
	reload  *reloader        // nil: none
	before  map[string]image // by path: what the last Apply replaced
	left    bool             // an Undo found that the directory is not the instance any more
}

var _ connector.Connector = (*Connector)(nil)

// A target is one configured file.
type target struct {
	File
	format *format
	at     []string
	parsed struct { // the last text that was parsed; an apply parses what it finds and what it writes, once each
		digest string
		doc    document
	}
}

// Open checks the configuration, opens the root and locks it. Relative paths of root and reload command are below dir. The holder
// is the name that another agent is refused with.
func Open(name string, c Config, dir, holder string) (*Connector, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	conn := &Connector{name: name, before: map[string]image{}}
	for _, f := range c.Files {
		t := &target{File: f}
		var err error
		if t.format, err = f.format(); err != nil {
			return nil, err
		}
		if t.at, err = f.pointer(); err != nil {
			return nil, err
		}
		conn.targets = append(conn.targets, t)
	}
	mode, err := c.mode()
	if err != nil {
		return nil, err
	}
	if conn.disk, err = openDisk(c.Directory(dir), mode, holder, c.Fault); err != nil {
		return nil, err
	}
	if c.Reload != nil {
		conn.reload = &reloader{Reload: *c.Reload, disk: conn.disk, dir: dir}
	}
	conn.discard()
	return conn, nil
}

// Close gives the lock back.
func (c *Connector) Close() error { return c.disk.close() }

// Name implements connector.Connector.
func (c *Connector) Name() string { return c.name }

// Capabilities implements connector.Connector: one file without a reload is atomic, everything else is put back.
func (c *Connector) Capabilities() connector.Capabilities {
	atomicity := connector.Atomic
	if len(c.targets) > 1 || c.reload != nil {
		atomicity = connector.Compensating
	}
	return connector.Capabilities{Atomicity: atomicity, Observes: true}
}

// target is the file that takes a key.
func (c *Connector) target(key string) (*target, error) {
	for _, t := range c.targets {
		for _, g := range t.Resources {
			if g.Match(key) {
				return t, nil
			}
		}
	}
	return nil, connector.Permanent(connector.ReasonNoRoute, "no file of connector %s takes %s", c.name, key)
}

// keyOf is the key in the file of a resource.
func (t *target) keyOf(resource string) string {
	_, name, _ := strings.Cut(resource, "/")
	if t.Key == upperSnake {
		return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
	}
	return name
}

// place is where a key stands, for display.
func (t *target) place(key string) string {
	if t.format == dotenv {
		return t.Path + " " + key
	}
	return t.Path + " /" + strings.Join(append(slices.Clone(t.at), key), "/")
}

// keys are the resources of each target by their key in the file. A key that one resource leaves to another is the other's; only two
// that are both to be there cannot be.
func (c *Connector) keys(want connector.Values) (map[*target]map[string]string, error) {
	all := map[*target]map[string]string{}
	for _, resource := range want.Keys() {
		t, err := c.target(resource)
		if err != nil {
			return nil, err
		}
		if all[t] == nil {
			all[t] = map[string]string{}
		}
		key := t.keyOf(resource)
		if other, taken := all[t][key]; taken && want[resource] != nil && want[other] != nil {
			return nil, connector.Permanent(connector.ReasonValueUnsupported, "%s and %s are both %s: rename one", other, resource, t.place(key))
		} else if taken && want[resource] == nil {
			continue
		}
		all[t][key] = resource
	}
	return all, nil
}

// read loads and parses a target.
func (c *Connector) read(ctx context.Context, t *target) (image, document, error) {
	if err := ctxError(ctx); err != nil {
		return image{}, nil, err
	}
	held, err := c.disk.load(t.Path)
	if err != nil {
		return image{}, nil, err
	}
	digest := held.digest()
	if t.parsed.doc == nil || t.parsed.digest != digest {
		doc, err := t.format.parse(held.data)
		if err != nil {
			return image{}, nil, inFile(t.Path, err)
		}
		t.parsed.digest, t.parsed.doc = digest, doc
	}
	return held, t.parsed.doc, nil
}

// Observe implements connector.Connector.
func (c *Connector) Observe(ctx context.Context, want connector.Values) (connector.Values, error) {
	wanted, err := c.keys(want)
	if err == nil {
		err = c.here()
	}
	if err != nil {
		return nil, err
	}
	values := connector.Values{}
	for _, t := range c.targets {
		if wanted[t] == nil {
			continue
		}
		_, doc, err := c.read(ctx, t)
		if err != nil {
			return nil, err
		}
		held, _, err := members(doc.tree(), t.at)
		if err != nil {
			return nil, inFile(t.Path, err)
		}
		for key, resource := range wanted[t] {
			if v, ok := held[key]; ok {
				values[resource] = canonical(v)
			}
		}
	}
	return values, ctxError(ctx)
}

func ctxError(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return connector.Failed(connector.ReasonTimeout, err)
	}
	return nil
}

// Normal implements connector.Connector.
func (c *Connector) Normal(resource string, value json.RawMessage) (json.RawMessage, error) {
	t, err := c.target(resource)
	if err != nil {
		return nil, err
	}
	v, err := t.normal(resource, value)
	if err != nil {
		return nil, err
	}
	return canonical(v), nil
}

func (t *target) normal(resource string, value json.RawMessage) (any, error) {
	value, err := connector.Canonical(resource, value)
	if err != nil {
		return nil, err
	}
	var v any
	if err = json.Unmarshal(value, &v); err == nil {
		err = t.format.checkKey(t.keyOf(resource))
	}
	if err == nil {
		v, err = t.format.normal(v)
	}
	if err != nil {
		return nil, connector.Permanent(connector.ReasonValueUnsupported, "%s in %s: %w", resource, t.Path, err)
	}
	return v, nil
}

// stage is what a plan carries to Apply and Prepare, by path.
type stage map[string]replacement

type replacement struct {
	before image
	after  []byte
}

// reloadUnit is the ID of the unit that says: a reload is due.
const reloadUnit = markerName

// Plan implements connector.Connector. A file that is owned whole is compared even when want names nothing in it.
func (c *Connector) Plan(ctx context.Context, want connector.Values) (connector.Plan, error) {
	wanted, err := c.keys(want)
	if err == nil {
		err = c.here()
	}
	if err != nil {
		return connector.Plan{}, err
	}
	plan, staged := connector.Plan{}, stage{}
	for _, t := range c.targets {
		if err := c.planTarget(ctx, t, wanted[t], want, &plan, staged); err != nil {
			return connector.Plan{}, err
		}
	}
	due, err := c.reload.due()
	if err == nil {
		err = ctxError(ctx)
	}
	if err != nil {
		return connector.Plan{}, err
	}
	if due {
		plan.Units = append(plan.Units, connector.Unit{Connector: c.name, ID: reloadUnit, Before: connector.Digest(nil)})
	}
	if len(plan.Units) > 0 {
		plan.Stage = staged
	}
	return plan, nil
}

func (c *Connector) planTarget(ctx context.Context, t *target, wanted map[string]string, want connector.Values, plan *connector.Plan, staged stage) error {
	if wanted == nil && t.Own != ownFile {
		return nil
	}
	before, doc, err := c.read(ctx, t)
	if err != nil {
		return err
	}
	held, _, err := members(doc.tree(), t.at)
	if err != nil {
		return inFile(t.Path, err)
	}
	changes := edits{set: map[string]any{}, del: map[string]bool{}}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		resource := wanted[key]
		now, there := held[key]
		gone := want[resource] == nil
		if gone && !there {
			continue
		}
		var v any
		if !gone {
			if v, err = t.normal(resource, want[resource]); err != nil {
				return err
			}
			if there && reflect.DeepEqual(now, v) {
				continue
			}
		}
		change := connector.Change{Key: resource, Place: t.place(key)}
		if there {
			change.Before = canonical(now)
		}
		if gone {
			changes.del[key] = true
		} else {
			changes.set[key], change.After = v, canonical(v)
		}
		plan.Changes = append(plan.Changes, change)
	}
	if t.Own == ownFile {
		for _, key := range slices.Sorted(maps.Keys(held)) {
			if _, ours := wanted[key]; !ours {
				changes.del[key] = true
				plan.Changes = append(plan.Changes, connector.Change{Place: t.place(key)})
			}
		}
	}
	if changes.empty() {
		return nil
	}
	text, after, err := t.format.render(doc, t.at, changes)
	if err != nil {
		return inFile(t.Path, err)
	}
	unit := connector.Unit{Connector: c.name, ID: t.Path, Before: before.digest(), After: connector.Digest(text)}
	t.parsed.digest, t.parsed.doc = unit.After, after
	plan.Units = append(plan.Units, unit)
	staged[t.Path] = replacement{before, text}
	return nil
}

// Prepare implements connector.Connector. A file that was not there has no pre-image: to put it back is to remove it.
func (c *Connector) Prepare(ctx context.Context, plan *connector.Plan, dir string) error {
	if err := ctxError(ctx); err != nil {
		return err
	}
	staged, _ := plan.Stage.(stage)
	for i := range plan.Units {
		u := &plan.Units[i]
		r, ok := staged[u.ID]
		if !ok || !r.before.exists {
			continue
		}
		var err error
		if u.PreImage, err = connector.SavePreImage(dir, fmt.Sprintf("%s-%d.pre", c.name, i), r.before.data, c.disk.fault); err != nil {
			return err
		}
	}
	return nil
}

// Apply implements connector.Connector: everything is staged before the first file is replaced.
func (c *Connector) Apply(ctx context.Context, plan connector.Plan) (err error) {
	if err := errors.Join(ctxError(ctx), c.here()); err != nil {
		return err
	}
	staged, _ := plan.Stage.(stage)
	var replace []string
	defer func() {
		if err == nil {
			return // all were renamed
		}
		for _, name := range replace {
			c.disk.discard(name)
		}
	}()
	for _, u := range plan.Units {
		if u.ID == reloadUnit {
			continue
		}
		now, err := c.disk.load(u.ID)
		if err != nil {
			return err
		}
		switch now.digest() {
		case u.After:
			continue
		case u.Before:
		default:
			return connector.Transient(connector.ReasonForeignChange, "%s: %w since the plan", u.ID, connector.ErrForeign)
		}
		replace = append(replace, u.ID)
		if err := c.disk.stage(u.ID, staged[u.ID].after, now); err != nil {
			return err
		}
		c.before[u.ID] = now
	}
	if len(replace) > 0 {
		if err := c.reload.mark(); err != nil {
			return err
		}
	}
	if err := c.disk.commit(replace...); err != nil {
		return err
	}
	if err := c.disk.sync(replace); err != nil {
		return err
	}
	return c.reload.run(ctx)
}

// Undo implements connector.Connector. When it changed something, it reloads again. In a directory that is not the instance any more it
// does what it can: nobody reads what is there.
func (c *Connector) Undo(ctx context.Context, units []connector.Unit) error {
	if err := ctxError(ctx); err != nil {
		return err
	}
	var failed []error
	for _, u := range slices.Backward(units) {
		if u.ID == reloadUnit {
			continue
		}
		if err := c.undoUnit(u); err != nil {
			failed = append(failed, err)
		}
	}
	if c.left = c.left || c.disk.here() != nil; c.left {
		return nil
	}
	return errors.Join(append(failed, c.reload.run(ctx))...)
}

func (c *Connector) undoUnit(u connector.Unit) error {
	if !slices.ContainsFunc(c.targets, func(t *target) bool { return t.Path == u.ID }) {
		return connector.Permanent(connector.ReasonPreImageLost, "%s is not a file of connector %s any more: put it back by hand", u.ID, c.name)
	}
	now, err := c.disk.load(u.ID)
	if err != nil {
		return err
	}
	switch now.digest() {
	case u.Before:
		return nil
	case u.After:
	default:
		return connector.Permanent(connector.ReasonForeignChange, "%s: %w", u.ID, connector.ErrForeign)
	}
	before := c.before[u.ID]
	if u.Before != "" && before.digest() != u.Before {
		if before.data, err = connector.ReadPreImage(u); err != nil {
			return err
		}
		if connector.Digest(before.data) != u.Before {
			return connector.Permanent(connector.ReasonPreImageLost, "the pre-image %s is damaged", u.PreImage)
		}
	}
	if err := c.reload.mark(); err != nil {
		return err
	}
	return c.disk.restore(u.ID, before.data, u.Before != "", now)
}
