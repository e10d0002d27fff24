package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Directory is a directory of manifests as it is proposed: for each environment that it declares it becomes the source.
// Once it was decided about it must not be changed.
type Directory struct {
	Files        []registry.File `json:"files"`
	Environments []string        `json:"environments,omitempty"` // only these, names or patterns
	Prune        bool            `json:"prune,omitempty"`        // resources may be deleted
	ConfirmMany  int             `json:"confirmMany,omitempty"`  // how many resources may be changed and deleted where it is more than a fifth of them
	DropEdits    []string        `json:"dropEdits,omitempty"`    // resources whose quick edits are undone

	read struct {
		once    sync.Once
		sources *registry.Sources
		err     error
	}
	last lastCompilation // while it is decided: contents that are stored first change nothing of it
}

// A lastCompilation is valid as long as nothing was decided since.
type lastCompilation struct {
	state     *State
	decisions uint64
	change    string
	out       Compilation
}

// few is how many resources are never many.
const few = 5

// Sources are the directory's manifests, read once.
func (p *Directory) Sources() (*registry.Sources, error) {
	p.read.once.Do(func() {
		p.read.sources, p.read.err = registry.Read(p.Files)
		if p.read.err != nil {
			p.read.err = &Error{Kind: KindInvalid, Message: p.read.err.Error(), Cause: p.read.err}
		}
	})
	return p.read.sources, p.read.err
}

func (p Propose) prepare() error {
	if p.Directory == nil {
		return nil
	}
	_, err := p.Directory.Sources()
	return err
}

// compiler compiles manifests that environments are to have: a directory, or what is promoted.
type compiler struct {
	*State
	wanted   func(now *registry.Sources) *registry.Sources // instead of what an environment has
	drop     []string
	dropped  map[string]bool
	change   string
	folder   registry.Folder
	renderer *registry.Renderer
	edits    map[*registry.Sources]*registry.Edits // by the sources that they edit
	reader   *editReader
	out      Compilation
}

func (s *State) newCompiler(change string, wanted func(now *registry.Sources) *registry.Sources) *compiler {
	return &compiler{State: s, wanted: wanted, change: change, dropped: map[string]bool{},
		renderer: registry.NewRenderer(), edits: map[*registry.Sources]*registry.Edits{}, reader: newEditReader(s)}
}

// Compile says what a directory comes to as a change with an id, in the environments that it declares or those of them that it
// names. It compiles over what was released: nothing that is approved and not yet released comes along.
func (s *State) Compile(p *Directory, change string) (Compilation, error) {
	dir, err := p.Sources()
	if err != nil {
		return Compilation{}, err
	}
	c := s.newCompiler(change, func(*registry.Sources) *registry.Sources { return dir })
	c.drop = p.DropEdits
	environments, err := c.declared(dir, p.Environments)
	if err != nil {
		return Compilation{}, err
	}
	all, err := s.allSources()
	if err != nil {
		return Compilation{}, err
	}
	var conflicts []string
	for _, e := range environments {
		compiled, conflict, err := c.compile(e, all[e.Name].sources)
		if err != nil {
			return Compilation{}, err
		}
		conflicts = append(conflicts, conflict...)
		c.out.Environments = append(c.out.Environments, compiled)
	}
	for _, key := range p.DropEdits {
		if !c.dropped[key] {
			return Compilation{}, refuse(KindInvalid, "leave it out of --drop-edits", "no environment has a quick edit of %s", key)
		}
	}
	if len(conflicts) > 0 {
		return Compilation{}, refuse(KindConflict, "write it into the directory, or undo it with --drop-edits RESOURCE", "the directory lacks edits that were made since: %s", some(conflicts))
	}
	return c.out, nil
}

// declared are the environments that a directory declares and that are in the ledger, ordered by name.
func (c *compiler) declared(dir *registry.Sources, patterns []string) ([]*Environment, error) {
	only := map[string]bool{}
	for _, pattern := range patterns {
		names, err := c.match(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			only[name] = true
		}
	}
	var out []*Environment
	for _, m := range dir.OfKind(registry.KindEnvironment) {
		name := m.Name()
		e, found := c.Environments[name]
		labels := m.Metadata().Labels
		switch {
		case len(patterns) > 0 && !only[name]:
			continue
		case !found:
			c.note("%s: environment %s is in the directory only; add it with 'publisher env add %s%s'", m.Place(), name, name, flags(labels))
			continue
		case e.Retired:
			c.note("%s: environment %s is retired; delete its manifest", m.Place(), name)
			continue
		case len(labels) > 0 && !maps.Equal(labels, e.Labels):
			c.note("%s: environment %s has other labels in the ledger, which count; change them with 'publisher env update %s%s'", m.PlaceOf("/metadata/labels"), name, name, flags(labels))
		}
		out = append(out, e)
		delete(only, name)
	}
	if len(only) > 0 {
		return nil, refuse(KindInvalid, "write a manifest of kind Environment for it", "the directory declares no environment %s", some(slices.Sorted(maps.Keys(only))))
	}
	if len(out) == 0 {
		next := "write a manifest of kind Environment for each environment whose source it is"
		if len(c.out.Notes) > 0 {
			next = c.out.Notes[0]
		}
		return nil, refuse(KindInvalid, next, "the directory declares no environment that is in the ledger")
	}
	return out, nil
}

func (c *compiler) note(format string, args ...any) {
	c.out.Notes = append(c.out.Notes, fmt.Sprintf(format, args...))
}

// flags are labels as the command line takes them.
func flags(labels map[string]string) string {
	out := ""
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		out += " --label " + name + "=" + labels[name]
	}
	return out
}

// compile compiles the directory for one environment, over its released sources. The texts are quick edits that it lacks.
func (c *compiler) compile(e *Environment, released *registry.Sources) (Compiled, []string, error) {
	out, err := c.manifests(e, released)
	if err != nil {
		return out, nil, err
	}
	var conflicts []string
	for _, lack := range c.takeOver(e, &out) {
		conflicts = append(conflicts, lack.text)
	}
	out.finish(e)
	return out, conflicts, nil
}

// manifests compiles what is wanted of the manifests of one environment, over its released sources; nothing of what is pending there.
func (c *compiler) manifests(e *Environment, released *registry.Sources) (Compiled, error) {
	out := Compiled{Environment: e.Name, Before: released, Had: e.Fold.State.Len()}
	pending, err := c.reader.steps(c.pending(e.Name), e.Name)
	if err != nil {
		return out, err
	}
	assumed := c.folder.Fold(released, pending...)
	edits, known := c.edits[assumed]
	if !known {
		edits = registry.Difference(assumed, c.wanted(assumed))
		c.edits[assumed] = edits
	}
	out.Edits = edits
	for _, p := range pending {
		if conflicts := edits.Conflicts(p.Edits); len(conflicts) > 0 {
			at := conflicts[0]
			return out, refuse(KindConflict, "wait until it is released there, or end it",
				"%s at %s is edited by change %s too, which is approved and not yet released to %s", at.Manifest, at.Path, p.Change, e.Name)
		}
	}
	out.Sources = c.folder.Fold(released, registry.Step{Change: c.change, Edits: edits})
	if out.Rendering, err = c.renderer.Manifests(out.Sources, target(e)); err != nil {
		return out, unrendered(e, err)
	}
	return out, nil
}

// finish puts the quick edits that stay on what the manifests give, and compares that with what is released.
func (c *Compiled) finish(e *Environment) {
	c.Rendering.Put(slices.DeleteFunc(slices.Clone(c.Sources.Quick()), func(q registry.Quick) bool { return slices.Contains(c.Drop, q.Key) }))
	c.operate(e)
	c.Changes = c.concerned(e)
}

// A lack is a quick edit that manifests say otherwise.
type lack struct {
	change string // that made it
	text   string
}

// takeOver finds the quick edits that the manifests say themselves, or that are undone, and those that they lack.
func (c *compiler) takeOver(e *Environment, out *Compiled) (lacks []lack) {
	for _, q := range out.Sources.Quick() {
		is, rendered := out.Rendering.Get(q.Key)
		m, managed := out.Sources.Manifest(q.Key)
		_, own := out.Edits.Quick[q.Key]
		switch {
		case slices.Contains(c.drop, q.Key):
			c.dropped[q.Key] = true
			out.Drop = append(out.Drop, q.Key)
		case !managed, own:
		case rendered && bytes.Equal(is.Value.JSON, q.Value), !rendered && q.Value == nil:
			out.Drop = append(out.Drop, q.Key)
		default:
			place := m.PlaceOf("/spec/default")
			if rendered {
				o := is.Origins()[0]
				place = registry.Place{File: o.File, Line: o.Line}
			}
			by := c.Changes[q.Change]
			did := "set"
			if q.Value == nil {
				did = "deleted"
			}
			lacks = append(lacks, lack{by.ID, fmt.Sprintf("%s in %s was %s by change %s of %s (%s), and %s says otherwise", q.Key, e.Name, did, by.ID, by.Author, clip(by.Reason, 80), place)})
		}
	}
	return lacks
}

// compileDirectory compiles a proposed directory, demands what it needs, and stores its edits.
func (d *decision) compileDirectory(p *Directory, id string) (Sources, Compilation, error) {
	c := p.last.out
	if p.last.state != d.State || p.last.decisions != d.decisions || p.last.change != id {
		var err error
		if c, err = d.Compile(p, id); err != nil {
			return Sources{}, c, err
		}
		p.last = lastCompilation{d.State, d.decisions, id, c}
	}
	d.notes = c.Notes
	if err := c.allowed(p.Prune, p.ConfirmMany, "publisher diff -f DIR"); err != nil {
		return Sources{}, c, err
	}
	sources, err := d.storeEdits(c)
	return sources, c, err
}

// allowed says whether the person asked for as much as is done; look is the command that shows it.
func (c Compilation) allowed(prune bool, confirmed int, look string) error {
	var deleted, where []string
	gone, many := 0, 0
	for _, e := range c.Environments {
		for _, op := range e.Operations {
			if op.Op == events.OpDelete {
				gone++
				deleted = append(deleted, op.Key+" in "+e.Environment)
			}
		}
		if n := e.many(); n > 0 {
			many += n
			where = append(where, fmt.Sprintf("%d of %d in %s", n, e.Had, e.Environment))
		}
	}
	if gone > 0 && !prune {
		return refuse(KindInvalid, "say --prune if that is meant", "%s would be deleted: %s", resources(gone), some(deleted))
	}
	if many != confirmed && many > 0 {
		return refuse(KindInvalid, fmt.Sprintf("look at it with '%s', and say --confirm-many %d if it is meant", look, many),
			"more than a fifth of the resources would be changed or deleted: %s", some(where))
	}
	return nil
}

// storeEdits stores the edits of the environments that are in the change; the same edits once.
func (d *decision) storeEdits(c Compilation) (Sources, error) {
	out := Sources{Edits: []SourceEdit{}}
	chunks := map[*registry.Edits][]events.Digest{}
	group := map[string]int{}
	for _, e := range c.Environments {
		if !e.Changes {
			continue
		}
		out.quick(e)
		stored, known := chunks[e.Edits]
		if !known {
			var err error
			if stored, err = d.storeChunks(e.Edits.Manifests); err != nil {
				return out, err
			}
			chunks[e.Edits] = stored
		}
		same := fmt.Sprint(stored, e.Drop)
		i, known := group[same]
		if !known {
			i = len(out.Directory)
			group[same] = i
			out.Directory = append(out.Directory, DirectoryEdit{Chunks: stored, Drop: e.Drop})
		}
		out.Directory[i].Matched = append(out.Directory[i].Matched, e.Environment)
	}
	return out, nil
}

// storeChunks stores edits in contents of at most maxContent.
func (d *decision) storeChunks(list []registry.ManifestEdit) (out []events.Digest, err error) {
	size, first := 0, 0
	flush := func(end int) error {
		if first == end {
			return nil
		}
		digest, err := d.storeAtMost(list[first:end], "propose it in smaller parts, or keep large documents elsewhere and refer to them", "the edits of "+list[first].Key)
		out, first, size = append(out, digest), end, 0
		return err
	}
	for i, e := range list {
		n, err := events.Encode(e)
		if err != nil {
			return nil, err
		}
		if size+len(n) > maxContent-2 {
			if err := flush(i); err != nil {
				return nil, err
			}
		}
		size += len(n) + 1
	}
	err = flush(len(list))
	return out, err
}

func resources(n int) string {
	if n == 1 {
		return "1 resource"
	}
	return fmt.Sprintf("%d resources", n)
}
