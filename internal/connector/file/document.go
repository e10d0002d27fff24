package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A format reads and edits one kind of file. Values are JSON's types: nil, bool, float64, string, []any, map[string]any, and unheld.
type format struct {
	// parse reads a whole file; empty for a file that is not there. Errors are *syntaxError.
	parse func(src []byte) (document, error)
	// normal is the value that is read back after v was written; an error when the format cannot hold it.
	normal func(v any) (any, error)
	// checkKey says whether the format can hold the key.
	checkKey func(key string) error
}

// A document is a parsed file. It is not changed.
type document interface {
	// tree is everything the document says. For a key it depends on nothing but the text of that key.
	tree() map[string]any
	// edit renders the document with changes to the mapping at path, which is there (for the top: may be empty).
	edit(path []string, changes edits) ([]byte, error)
}

// edits are changes to the keys of one mapping.
type edits struct {
	set map[string]any
	del map[string]bool
}

func (e edits) empty() bool { return len(e.set)+len(e.del) == 0 }

var (
	dotenv  = &format{parse: parseDotenv, normal: normalDotenv, checkKey: checkDotenvKey}
	formats = map[string]*format{
		"json":   {parse: parseJSON, normal: asIs, checkKey: anyKey},
		"yaml":   {parse: parseYAML, normal: asIs, checkKey: anyKey},
		"toml":   {parse: parseTOML, normal: normalTOML, checkKey: anyKey},
		"dotenv": dotenv,
	}
)

func asIs(v any) (any, error) { return v, nil }

func anyKey(string) error { return nil }

// A syntaxError is what is wrong with a file's text, without the text.
type syntaxError struct {
	line, column int // 0: unknown
	message      string
}

func (e *syntaxError) Error() string { return e.message }

// inFile begins an error with the file and, where it is known, the position.
func inFile(path string, err error) error {
	if e, ok := errors.AsType[*syntaxError](err); ok && e.line > 0 {
		path = fmt.Sprintf("%s:%d:%d", path, e.line, e.column)
	}
	return connector.Permanent(connector.ReasonUnreadable, "%s: %w", path, err)
}

// syntaxAt is a syntaxError at a byte offset.
func syntaxAt(src []byte, offset int, message string) error {
	before := string(src[:min(max(offset, 0), len(src))])
	line := strings.Count(before, "\n") + 1
	return &syntaxError{line, len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1, message}
}

// unheld is a value that JSON cannot hold, as its text: NaN, a number with too many digits, a date, a reference to a variable.
type unheld string

// MarshalJSON gives a value that differs from everything that can be wanted as text.
func (u unheld) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"unreadable": string(u)})
}

// number is a numeric literal of JSON's grammar as a value.
func number(literal string) any {
	if events.CheckJSON([]byte(literal)) != nil {
		return unheld(literal)
	}
	var f float64
	if err := json.Unmarshal([]byte(literal), &f); err != nil {
		return unheld(literal)
	}
	return f
}

// canonical is a value in canonical JSON.
func canonical(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err == nil {
		if b, err = events.Canonical(b); err == nil {
			return b
		}
	}
	return json.RawMessage(`{"unreadable":"a value that is not canonical JSON"}`)
}

// members is the mapping at a path, and how many names of the path are there. What is null counts as not there.
func members(tree map[string]any, at []string) (map[string]any, int, error) {
	for i, name := range at {
		next, ok := tree[name]
		if !ok || next == nil {
			return nil, i, nil
		}
		if tree, ok = next.(map[string]any); !ok {
			return nil, i, fmt.Errorf("/%s is not a mapping", strings.Join(at[:i+1], "/"))
		}
	}
	return tree, len(at), nil
}

// with is tree after the changes to the mapping at path; tree itself stays as it is.
func with(tree map[string]any, path []string, changes edits) map[string]any {
	after := make(map[string]any, len(tree)+len(changes.set))
	for k, v := range tree {
		after[k] = v
	}
	if len(path) > 0 {
		inner, _ := tree[path[0]].(map[string]any)
		after[path[0]] = with(inner, path[1:], changes)
		return after
	}
	for k := range changes.del {
		delete(after, k)
	}
	for k, v := range changes.set {
		after[k] = v
	}
	return after
}

var errDisturbs = errors.New("cannot be edited without disturbing what is not ours: write the mapping that holds our keys as a plain one, without anchors and merge keys")

// render returns the document's text after the changes at the mapping at, and that text parsed. It proves the text before anybody
// writes it: what it says differs from before in the changes and in nothing else.
func (f *format) render(doc document, at []string, changes edits) ([]byte, document, error) {
	_, there, err := members(doc.tree(), at)
	if err != nil {
		return nil, nil, err
	}
	for there < len(at) { // the mapping is not there: it is set, whole, in the innermost one that is
		last := len(at) - 1
		changes = edits{set: map[string]any{at[last]: nonNil(changes.set)}}
		at = at[:last]
	}
	text, err := doc.edit(at, changes)
	if err != nil {
		return nil, nil, err
	}
	after, err := f.parse(text)
	if err != nil || !reflect.DeepEqual(after.tree(), with(doc.tree(), at, changes)) {
		return nil, nil, errDisturbs
	}
	return text, after, nil
}

func nonNil(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// newline is the line end that a text uses.
func newline(src []byte) string {
	if strings.Contains(string(src), "\r\n") {
		return "\r\n"
	}
	return "\n"
}
