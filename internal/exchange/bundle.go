package exchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// BundleKind begins a bundle, after registry.APIVersion.
const BundleKind = "Bundle"

// A Bundle is what a ledger says of some environments at one entry: their manifests, what is released there, and the digests of both.
type Bundle struct {
	APIVersion   string                     `json:"apiVersion"`
	Kind         string                     `json:"kind"`
	Ledger       string                     `json:"ledger"` // id
	Entry        uint64                     `json:"entry"`
	Time         time.Time                  `json:"time"`      // of the entry
	Manifests    map[string]json.RawMessage `json:"manifests"` // by the SHA-256 of their canonical JSON
	Environments []Bundled                  `json:"environments"`
}

// Bundled is one environment of a bundle.
type Bundled struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	Steward   string            `json:"steward,omitempty"`
	Approvals int               `json:"approvals"`
	Revision  uint64            `json:"revision"`
	Chain     string            `json:"chain"`   // digest of the revision in its chain
	State     string            `json:"state"`   // state digest v1 of the values
	Sources   []string          `json:"sources"` // manifests, by digest
	Values    Values            `json:"values"`  // that are released
}

// Add puts an environment with its sources into the bundle.
func (b *Bundle) Add(e Bundled, sources *registry.Sources) error {
	if b.Manifests == nil {
		b.Manifests = map[string]json.RawMessage{}
	}
	e.Sources = []string{}
	for _, m := range sources.Manifests() {
		document, err := documentOf(m)
		if err != nil {
			return err
		}
		digest := events.Sum(document).String()
		b.Manifests[digest] = document
		e.Sources = append(e.Sources, digest)
	}
	b.Environments = append(b.Environments, e)
	return nil
}

// documentOf is a manifest as one JSON document, canonical.
func documentOf(m *registry.Manifest) (json.RawMessage, error) {
	tree, err := m.Tree()
	if err != nil {
		return nil, err
	}
	var document map[string]json.RawMessage
	if err := json.Unmarshal(tree, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Key, err)
	}
	metadata := map[string]json.RawMessage{}
	if document["metadata"] != nil {
		if err := json.Unmarshal(document["metadata"], &metadata); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Key, err)
		}
	}
	metadata["name"], _ = json.Marshal(m.Name()) // a text
	if document["metadata"], err = events.Encode(metadata); err != nil {
		return nil, err
	}
	document["kind"], _ = json.Marshal(kindName(m.Kind())) // a text
	b, err := events.Encode(document)
	if err != nil {
		return nil, err
	}
	return events.Canonical(b)
}

// kindName is a kind as manifests write it.
func kindName(kind string) string { return strings.ToUpper(kind[:1]) + kind[1:] }

// ReadBundle reads a bundle strictly, and proves its digests.
func ReadBundle(data []byte) (*Bundle, error) {
	if err := events.CheckJSON(bytes.TrimSpace(data)); err != nil {
		return nil, fmt.Errorf("this is no bundle: %w", err)
	}
	var b Bundle
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil || b.APIVersion != registry.APIVersion || b.Kind != BundleKind {
		return nil, fmt.Errorf("this is no bundle of 'publisher export': one begins with apiVersion: %s and kind: %s, and has no unknown fields", registry.APIVersion, BundleKind)
	}
	for digest, document := range b.Manifests {
		canonical, err := events.Canonical(document)
		if err != nil || events.Sum(canonical).String() != digest {
			return nil, fmt.Errorf("the manifest %.12s of the bundle was altered: it has another digest", digest)
		}
	}
	for _, e := range b.Environments {
		checked := Values{}
		for key, value := range e.Values {
			if err := checked.put(key, value); err != nil {
				return nil, fmt.Errorf("environment %s: %w", e.Name, err)
			}
		}
		if new(fold.State).With(checked).String() != e.State {
			return nil, fmt.Errorf("the values of %s in the bundle were altered: they have another state digest", e.Name)
		}
		for _, digest := range e.Sources {
			if b.Manifests[digest] == nil {
				return nil, fmt.Errorf("the bundle lacks the manifest %.12s of %s", digest, e.Name)
			}
		}
		maps.Copy(e.Values, checked)
	}
	return &b, nil
}

// Encode is the bundle as it is written.
func (b *Bundle) Encode() ([]byte, error) { return indented(b) }

// Environment finds an environment.
func (b *Bundle) Environment(name string) (Bundled, bool) {
	i := slices.IndexFunc(b.Environments, func(e Bundled) bool { return e.Name == name })
	if i < 0 {
		return Bundled{}, false
	}
	return b.Environments[i], true
}

// Names are the bundle's environments.
func (b *Bundle) Names() []string {
	var out []string
	for _, e := range b.Environments {
		out = append(out, e.Name)
	}
	return out
}

// Directory is the manifests of environments as files, one per kind. Environments that hold different versions of a manifest, as while
// a change is half rolled out, are no one directory.
func (b *Bundle) Directory(environments []string) ([]registry.File, error) {
	chosen := map[string]string{} // digests by identity
	var differ []string
	for _, name := range environments {
		e, found := b.Environment(name)
		if !found {
			return nil, fmt.Errorf("the bundle has no environment %s; it has %s", name, strings.Join(b.Names(), ", "))
		}
		for _, digest := range e.Sources {
			id, err := identityOf(b.Manifests[digest])
			if err != nil {
				return nil, err
			}
			if other, known := chosen[id]; known && other != digest && !slices.Contains(differ, id) {
				differ = append(differ, id)
			}
			chosen[id] = digest
		}
	}
	if len(differ) > 0 {
		return nil, fmt.Errorf("the environments hold different versions of %s: name one environment with --env", strings.Join(differ, ", "))
	}
	if len(chosen) == 0 {
		return nil, errors.New("the environments have no manifests: they hold nothing but quick edits")
	}
	texts := map[string]*bytes.Buffer{}
	for _, id := range slices.Sorted(maps.Keys(chosen)) {
		text, err := config.YAML(b.Manifests[chosen[id]])
		if err != nil {
			return nil, err
		}
		kind, _, _ := strings.Cut(id, "/")
		file := plurals[kind] + ".yaml"
		if texts[file] == nil {
			texts[file] = &bytes.Buffer{}
		} else {
			texts[file].WriteString("---\n")
		}
		texts[file].Write(text)
	}
	var out []registry.File
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		out = append(out, registry.File{Name: name, Text: texts[name].String()})
	}
	_, err := registry.Read(out)
	return out, err
}

var plurals = map[string]string{
	"Environment": "environments", "Template": "templates", "Policy": "policies", "Flag": "flags", "Variable": "variables",
	"Endpoint": "endpoints", "Connection": "connections", "Secret": "secrets", "Document": "documents",
}

// identityOf is <Kind>/<name> of a manifest's document.
func identityOf(document json.RawMessage) (string, error) {
	var head struct {
		Kind     string
		Metadata struct{ Name string }
	}
	if err := json.Unmarshal(document, &head); err != nil || plurals[head.Kind] == "" {
		return "", errors.New("the bundle holds a manifest of no kind that is known here")
	}
	return head.Kind + "/" + head.Metadata.Name, nil
}

// Behind are the resources of an environment that its manifests do not give it as they are released: quick edits.
func (b *Bundle) Behind(files []registry.File, name string) ([]string, error) {
	e, _ := b.Environment(name)
	s, err := registry.Read(files)
	if err != nil {
		return nil, err
	}
	has, err := registry.NewRenderer().Render(s, registry.Target{Name: name, Labels: e.Labels})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range has.Resources {
		if !bytes.Equal(e.Values[r.Key], r.Value.JSON) {
			out = append(out, r.Key)
		}
	}
	for key := range e.Values {
		if _, rendered := has.Get(key); !rendered {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out, nil
}
