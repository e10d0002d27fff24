package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Limits of a directory.
const (
	MaxFiles = 20_000    // manifest files
	MaxFile  = 10 << 20  // bytes of one
	MaxTotal = 64 << 20  // bytes of all
	maxLeaf  = 2_000_000 // leaves of all
)

// A File is the text of one manifest file.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Problems are what is wrong with manifests, ordered by place. Each is an error; those with a place are *config.Error.
type Problems []error

func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0].Error()
	}
	return fmt.Sprintf("%v; and %d more (all of them: 'publisher check -f DIR')", p[0], len(p)-1)
}

// Unwrap lets errors.As find the first.
func (p Problems) Unwrap() []error { return p }

// err is the problems as an error; nil when there are none.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b error) int {
		x, _ := errors.AsType[*config.Error](a)
		y, _ := errors.AsType[*config.Error](b)
		if x == nil || y == nil {
			return 0
		}
		return cmp.Or(cmp.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
	return p
}

// Read reads manifests strictly. The order of files means nothing. Errors are Problems, of every file.
func Read(files []File) (*Sources, error) {
	if len(files) > MaxFiles {
		return nil, Problems{fmt.Errorf("there are %d manifest files; at most %d are read: put several manifests into one file, with --- between them", len(files), MaxFiles)}
	}
	total := 0
	for _, f := range files {
		total += len(f.Text)
		if len(f.Text) > MaxFile {
			return nil, Problems{&config.Error{File: f.Name, Line: 1, Column: 1, Message: fmt.Sprintf("the file has %d bytes; at most %d are read: split it", len(f.Text), MaxFile)}}
		}
	}
	if total > MaxTotal {
		return nil, Problems{fmt.Errorf("the manifests have %d bytes together; at most %d are read: split the directory", total, MaxTotal)}
	}
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	perFile := make([]reading, len(files))
	inParallel(len(files), func(i int) { perFile[i].file(files[i]) })
	var problems Problems
	var all []*Manifest
	leaves := 0
	for i := range perFile {
		problems = append(problems, perFile[i].problems...)
		all = append(all, perFile[i].manifests...)
		leaves += perFile[i].leaves
	}
	if leaves > maxLeaf {
		return nil, Problems{fmt.Errorf("the manifests hold %d values; at most %d are read: split the directory", leaves, maxLeaf)}
	}
	all, twice := unique(all)
	if err := append(problems, twice...).err(); err != nil {
		return nil, err
	}
	return &Sources{manifests: all}, nil
}

// inParallel calls do for 0 to n-1 on a few goroutines.
func inParallel(n int, do func(i int)) {
	const workers = 4
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	wg.Wait()
}

// unique orders manifests by key, and says where one stands twice.
func unique(all []*Manifest) ([]*Manifest, Problems) {
	slices.SortStableFunc(all, func(a, b *Manifest) int { return strings.Compare(a.Key, b.Key) })
	var problems Problems
	out := all[:0]
	for _, m := range all {
		if len(out) > 0 && out[len(out)-1].Key == m.Key {
			place := m.Place()
			problems = append(problems, &config.Error{File: place.File, Line: place.Line, Column: 1, Message: fmt.Sprintf("%s stands here and at %s: keep one of them", m.Key, out[len(out)-1].Place())})
			continue
		}
		out = append(out, m)
	}
	return out, problems
}

// A reading is what one file holds.
type reading struct {
	manifests []*Manifest
	leaves    int
	problems  Problems
}

func (r *reading) file(f File) {
	documents, err := config.Documents(f.Name, []byte(f.Text))
	if err != nil {
		r.problems = append(r.problems, err)
		return
	}
	for _, d := range documents {
		m, err := readManifest(d)
		if err != nil {
			r.problems = append(r.problems, err)
			continue
		}
		r.leaves += len(m.leaves)
		r.manifests = append(r.manifests, m)
	}
}

// IsManifest says whether a file begins as manifests do, whatever else is in it.
func IsManifest(name string, data []byte) bool {
	documents, err := config.Documents(name, data)
	if err != nil || len(documents) == 0 {
		return false
	}
	read, err := documents[0].Leaves()
	if err != nil {
		return false
	}
	header := map[string]config.Leaf{}
	for _, l := range read {
		header[l.Path] = l
	}
	_, err = kindOf(documents[0], header)
	return err == nil
}

// readManifest reads one document.
func readManifest(d config.Document) (*Manifest, error) {
	read, err := d.Leaves()
	if err != nil {
		return nil, err
	}
	header := map[string]config.Leaf{}
	for _, l := range read {
		header[l.Path] = l
	}
	kind, err := kindOf(d, header)
	if err != nil {
		return nil, err
	}
	if err := d.Decode(blank(kind)); err != nil {
		return nil, err
	}
	name, err := text(d, header, "/metadata/name")
	if err != nil {
		return nil, err
	}
	if err := checkManifestName(kind, name); err != nil {
		return nil, errorAt(d.File, header["/metadata/name"], "%w", err)
	}
	leaves := make([]Leaf, 0, len(read))
	for _, l := range read {
		if l.Path == "/kind" || l.Path == "/metadata/name" {
			continue
		}
		if l.Ambiguous {
			return nil, errorAt(d.File, l, "%s", meant(l, header))
		}
		value, err := events.Canonical(l.Value.JSON)
		if err != nil {
			return nil, errorAt(d.File, l, "%w", err)
		}
		leaves = append(leaves, Leaf{Path: l.Path, Value: value, Place: Place{d.File, l.Line}, items: l.Items})
	}
	slices.SortFunc(leaves, func(a, b Leaf) int { return comparePaths(a.Path, b.Path) })
	key := kind + "/" + name
	if version, err := text(d, header, "/spec/version"); kind == KindTemplate && err == nil {
		key = templateKey(name, version)
	}
	m := newManifest(key, leaves)
	if _, err := m.index(); err != nil {
		return nil, m.errorAt(err)
	}
	return m, nil
}

// kindOf reads how a manifest begins.
func kindOf(d config.Document, header map[string]config.Leaf) (string, error) {
	version, err := text(d, header, "/apiVersion")
	if err != nil {
		return "", err
	}
	if version != APIVersion {
		return "", errorAt(d.File, header["/apiVersion"], "the apiVersion %q is not known here: write %s", version, APIVersion)
	}
	kind, err := text(d, header, "/kind")
	if err != nil {
		return "", err
	}
	names := make([]string, len(Kinds))
	for i, k := range Kinds {
		if names[i] = kindName(k); names[i] == kind {
			return k, nil
		}
	}
	hint := "the kinds are " + strings.Join(names, ", ")
	if near := config.Nearest(kind, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return "", errorAt(d.File, header["/kind"], "the kind %q is not known: %s", kind, hint)
}

// text reads a leaf that must be there and be text.
func text(d config.Document, header map[string]config.Leaf, path string) (string, error) {
	l, found := header[path]
	if !found {
		return "", &config.Error{File: d.File, Line: d.Line, Column: d.Column, Message: fmt.Sprintf("a manifest begins with apiVersion: %s, a kind, and metadata with a name; this one has no %s", APIVersion, strings.ReplaceAll(path[1:], "/", "."))}
	}
	var out string
	if json.Unmarshal(l.Value.JSON, &out) != nil {
		return "", errorAt(d.File, l, "a text is meant here: put it in quotes")
	}
	return out, nil
}

// blank is an empty document of a kind. Its fields are all that a manifest of the kind may have.
func blank(kind string) any {
	switch kind {
	case KindEnvironment:
		return new(document[Environment])
	case KindTemplate:
		return new(document[Template])
	case KindPolicy:
		return new(document[Policy])
	}
	return new(document[Resource])
}

func errorAt(file string, l config.Leaf, format string, args ...any) error {
	return &config.Error{File: file, Line: l.Line, Column: l.Column, Message: fmt.Errorf(format, args...).Error()}
}

// A pathError is wrong at a path of a manifest.
type pathError struct {
	path    string
	message string
}

func (e *pathError) Error() string { return e.path + ": " + e.message }

func wrong(path, format string, args ...any) error {
	return &pathError{path, fmt.Sprintf(format, args...)}
}

// errorAt places a *pathError in the manifest's file.
func (m *Manifest) errorAt(err error) error {
	place, message := m.Place(), err.Error()
	if e, ok := errors.AsType[*pathError](err); ok {
		place, message = m.PlaceOf(e.path), e.message
	}
	return &config.Error{File: place.File, Line: max(place.Line, 1), Column: 1, Message: m.Key + ": " + message}
}

// meant says of a plain yes, no, on or off which type is meant there, as far as the manifest tells.
func meant(l config.Leaf, header map[string]config.Leaf) string {
	word := strings.Trim(string(l.Value.JSON), `"`)
	if strings.HasPrefix(string(l.Value.JSON), "[") {
		return "a plain yes, no, on or off in this list is a boolean to some readers of YAML and text to others: write true or false, or put it in quotes"
	}
	truth := fmt.Sprint(slices.Contains([]string{"yes", "on", "y"}, strings.ToLower(word)))
	path := l.Path
	declared := string(header["/spec/type"].Value.JSON)
	isValue := path == "/spec/default" || path == "/spec/safeValue" || strings.HasPrefix(path, "/spec/overrides/") && strings.Count(path, "/") == 3
	switch {
	case strings.HasSuffix(path, "/defaultVariant"), strings.HasSuffix(path, "/state"), isValue && declared == `"string"`,
		!strings.HasPrefix(path, "/spec/default") && !strings.HasPrefix(path, "/spec/overrides/") && !strings.HasPrefix(path, "/spec/values/") && !strings.HasPrefix(path, "/spec/safeValue"):
		return fmt.Sprintf("a text is meant here, and a plain %s is a boolean to some readers of YAML: write %q in quotes", word, word)
	case isValue && declared == `"boolean"`:
		return fmt.Sprintf("a boolean is meant here, and a plain %s is text: write %s", word, truth)
	}
	return fmt.Sprintf("a plain %s is a boolean to some readers of YAML and text to others: write %s if a boolean is meant, or %q in quotes if a text is", word, truth, word)
}
