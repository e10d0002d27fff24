package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Pin is the files with the template of an environment at another version, and where that was written.
func Pin(files []File, environment, version string) ([]File, Place, error) {
	before, err := Read(files)
	if err != nil {
		return nil, Place{}, err
	}
	m, found := before.Manifest(KindEnvironment + "/" + environment)
	if !found || m.Environment().Template.Name == "" {
		return nil, Place{}, fmt.Errorf("the directory gives environment %s no template: name one in its manifest", environment)
	}
	place, edit := pinned(m, version)
	out := slices.Clone(files)
	i := slices.IndexFunc(out, func(f File) bool { return f.Name == place.File })
	lines := strings.SplitAfter(out[i].Text, "\n")
	lines[place.Line-1] = edit(lines[place.Line-1])
	out[i].Text = strings.Join(lines, "")
	if after, err := Read(out); err == nil {
		edits := Difference(before, after).Manifests
		meant := func(path string) bool { return isUnder(path, "/spec/template") }
		now, stays := after.Manifest(m.Key)
		if want := (TemplateRef{m.Environment().Template.Name, version}); stays && now.Environment().Template == want &&
			len(edits) <= 1 && !slices.ContainsFunc(edits, func(e ManifestEdit) bool { return e.Removed || !all(e.paths(), meant) }) {
			return out, place, nil
		}
	}
	return nil, place, m.errorAt(wrong("/spec/template", "how the template is named here cannot be edited by a program: write {name: %s, version: %s} yourself", m.Environment().Template.Name, version))
}

func all(list []string, holds func(string) bool) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !holds(s) })
}

// pinned is which line is to be edited, and how: the version that is there, or the name, behind which one comes.
func pinned(m *Manifest, version string) (Place, func(line string) string) {
	ref := m.Environment().Template
	replace := func(field, text, by string) func(string) string {
		pattern := regexp.MustCompile(`\b` + field + `:(\s*)["']?` + regexp.QuoteMeta(text) + `["']?`)
		return func(line string) string { return pattern.ReplaceAllString(line, by) }
	}
	if ref.Version != "" {
		return m.PlaceOf("/spec/template/version"), replace("version", ref.Version, fmt.Sprintf("version:${1}%q", version))
	}
	if leaf, short := find(m.leaves, "/spec/template"); short {
		return leaf.Place, replace("template", ref.Name, fmt.Sprintf("template:${1}{name: %s, version: %q}", ref.Name, version))
	}
	return m.PlaceOf("/spec/template/name"), func(line string) string {
		if before, _, _ := strings.Cut(line, "name:"); strings.TrimSpace(before) == "" {
			return line + fmt.Sprintf("%sversion: %q\n", before, version)
		}
		return replace("name", ref.Name, fmt.Sprintf("name: %s, version: %q", ref.Name, version))(line)
	}
}

// An Upgraded is one path of a resource's value on three sides: what the templates of an environment said and say, and what the
// environment has and would have. An absent value is nil.
type Upgraded struct {
	Resource string          `json:"resource"`
	Path     string          `json:"path"`
	Old      json.RawMessage `json:"old,omitempty"`
	New      json.RawMessage `json:"new,omitempty"`
	Now      json.RawMessage `json:"now,omitempty"`
	Then     json.RawMessage `json:"then,omitempty"`
}

// Upgrade compares an environment over two sets of sources on three sides, ordered by resource and path.
func Upgrade(before, after *Sources, t Target) ([]Upgraded, error) {
	r := NewRenderer()
	var sides [2]*Rendering
	var chains [2][]*Manifest
	keys := map[string]bool{}
	for i, s := range []*Sources{before, after} {
		var err error
		if sides[i], err = r.Render(s, t); err != nil {
			return nil, err
		}
		if chains[i], err = s.Chain(t.Name); err != nil {
			return nil, err
		}
		for _, resource := range sides[i].Resources {
			keys[resource.Key] = true
		}
		for _, m := range chains[i] {
			for key := range m.meaning().values {
				keys[key] = true
			}
		}
	}
	var out []Upgraded
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		var templates, values [2]json.RawMessage
		for i, s := range []*Sources{before, after} {
			if m, found := s.Manifest(key); found {
				templates[i] = r.below(chains[i], m, false)
			}
			if rendered, found := sides[i].Get(key); found {
				values[i] = rendered.Value.JSON
			}
		}
		paths := append(differing(templates[0], templates[1], ""), differing(values[0], values[1], "")...)
		slices.SortFunc(paths, comparePaths)
		for _, path := range slices.Compact(paths) {
			d := Upgraded{Resource: key, Path: path}
			d.Old, _ = pick(templates[0], path)
			d.New, _ = pick(templates[1], path)
			d.Now, _ = pick(values[0], path)
			d.Then, _ = pick(values[1], path)
			out = append(out, d)
		}
	}
	return out, nil
}
