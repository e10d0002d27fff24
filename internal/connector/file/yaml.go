package file

import (
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
	"github.com/lockstep-dev/lockstep/internal/config"
)

// A yamlDocument is edited by lines: an entry of a block mapping begins at its key and ends at the last line, before the next key,
// that is neither blank nor a comment. All other lines stay.
type yamlDocument struct {
	src      []byte
	lines    []string // with their ends
	root     ast.Node
	values   map[string]any
	comments map[int]string // by line (from 0), with #
	end      int            // the line behind the document
}

func parseYAML(src []byte) (document, error) {
	root, tokens, err := config.Parse(src)
	if err != nil {
		return nil, yamlError(err)
	}
	d := &yamlDocument{src: src, lines: slices.Collect(strings.Lines(string(src))), root: root, comments: map[int]string{}}
	d.end = len(d.lines)
	for _, t := range tokens {
		switch t.Type {
		case token.CommentType:
			d.comments[t.Position.Line-1] = "#" + strings.TrimRight(t.Value, "\r\n")
		case token.DocumentEndType:
			d.end = min(d.end, t.Position.Line-1)
		case token.DocumentHeaderType: // a second one ends the document, which then must be the only one
			if t.Prev != nil && root != nil && t.Position.Line > root.GetToken().Position.Line {
				d.end = min(d.end, t.Position.Line-1)
			}
		}
	}
	tree, err := config.JSON(root, func(_ ast.Node, text, _ string) (any, error) { return unheld(text), nil })
	if err != nil {
		return nil, yamlError(err)
	}
	values, ok := fromYAML(tree).(map[string]any)
	if !ok && tree != nil {
		return nil, &syntaxError{1, 1, "the top is not a mapping"}
	}
	d.values = nonNil(values)
	return d, nil
}

func yamlError(err error) error {
	if e, ok := errors.AsType[*config.Error](err); ok {
		return &syntaxError{e.Line, e.Column, e.Message}
	}
	return &syntaxError{message: "not valid YAML"}
}

func fromYAML(v any) any {
	switch t := v.(type) {
	case json.Number:
		return number(t.String())
	case []any:
		for i, item := range t {
			t[i] = fromYAML(item)
		}
	case map[string]any:
		for k, item := range t {
			t[k] = fromYAML(item)
		}
	}
	return v
}

func (d *yamlDocument) tree() map[string]any { return d.values }

func (d *yamlDocument) edit(path []string, changes edits) ([]byte, error) {
	block, err := d.block(path)
	if err == nil {
		return d.editBlock(block, changes)
	}
	if !errors.Is(err, errFlow) {
		return nil, err
	}
	// A flow mapping is written anew as a block, by the mapping around it.
	if len(path) == 0 {
		text, err := emit(with(d.values, nil, changes), 0)
		if err != nil {
			return nil, err
		}
		return []byte(strings.ReplaceAll(text[1:]+"\n", "\n", newline(d.src))), nil
	}
	inner, _, err := members(d.values, path)
	if err != nil {
		return nil, err
	}
	last := len(path) - 1
	return d.edit(path[:last], edits{set: map[string]any{path[last]: with(inner, nil, changes)}})
}

// errFlow says that a mapping is written as {a: b}.
var errFlow = errors.New("a flow mapping")

// A yamlBlock is a block mapping.
type yamlBlock struct {
	header  *yamlEntry // the entry whose value it is; nil for the top
	indent  int
	entries []yamlEntry
	end     int // the line behind it
}

// A yamlEntry is one key of a block mapping. Lines are from 0.
type yamlEntry struct {
	name   string
	key    string // the line up to and with the colon
	start  int    // the key's line
	end    int    // behind the last line that is not blank or a comment
	region int    // where the next entry begins
	value  ast.Node
}

// block finds the block mapping at path: errFlow for a flow mapping, errDisturbs where its lines are not plainly its own.
func (d *yamlDocument) block(path []string) (yamlBlock, error) {
	b, err := d.entries(d.root, nil, 0, d.end)
	for _, name := range path {
		if err != nil {
			return b, err
		}
		i := slices.IndexFunc(b.entries, func(e yamlEntry) bool { return e.name == name })
		if i < 0 { // it comes from a merge key
			return b, errDisturbs
		}
		header := b.entries[i]
		b, err = d.entries(header.value, &header, header.start+1, header.region)
	}
	return b, err
}

// entries are the entries of a block mapping that lies between two lines.
func (d *yamlDocument) entries(n ast.Node, header *yamlEntry, from, to int) (yamlBlock, error) {
	b := yamlBlock{header: header, end: to}
	var pairs []*ast.MappingValueNode
	switch t := n.(type) {
	case nil:
		return b, nil
	case *ast.NullNode:
		return b, errFlow
	case *ast.MappingNode:
		if t.IsFlowStyle {
			return b, errFlow
		}
		pairs = t.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{t}
	default:
		return b, errDisturbs
	}
	for i, pair := range pairs {
		e, indent, ok := d.entry(pair)
		if !ok || e.start < from || e.start >= to || i > 0 && indent != b.indent {
			return b, errDisturbs
		}
		if i > 0 {
			b.entries[i-1].region = e.start
		}
		b.indent, from = indent, e.start+1
		e.region = to
		b.entries = append(b.entries, e)
	}
	for i := range b.entries {
		e := &b.entries[i]
		for e.end = e.region; e.end > e.start+1 && d.isFiller(e.end-1); e.end-- {
		}
	}
	return b, nil
}

// entry reads a key that begins its line and has its colon there.
func (d *yamlDocument) entry(pair *ast.MappingValueNode) (yamlEntry, int, bool) {
	at, colon := pair.Key.GetToken().Position, pair.Start.Position
	start := at.Line - 1
	if at.Line != colon.Line || start < 0 || start >= len(d.lines) {
		return yamlEntry{}, 0, false
	}
	line := []rune(d.lines[start])
	if at.Column < 1 || colon.Column > len(line) || line[colon.Column-1] != ':' || strings.Trim(string(line[:at.Column-1]), " ") != "" {
		return yamlEntry{}, 0, false
	}
	name := pair.Key.GetToken().Value
	if pair.Key.IsMergeKey() {
		name = "" // resources have names, so that nobody asks for it
	}
	return yamlEntry{name: name, key: string(line[:colon.Column]), start: start, value: pair.Value}, at.Column - 1, true
}

// isFiller says whether a line is blank or only a comment.
func (d *yamlDocument) isFiller(line int) bool {
	text := strings.TrimSpace(d.lines[line])
	return text == "" || strings.HasPrefix(text, "#") && d.comments[line] != ""
}

func (d *yamlDocument) editBlock(b yamlBlock, changes edits) ([]byte, error) {
	replaced := map[int]string{} // by first line: what stands there instead of the entry
	until := map[int]int{}
	kept, last := 0, b.end
	there := map[string]bool{}
	for _, e := range b.entries {
		last = e.end
		there[e.name] = true
		v, set := changes.set[e.name]
		switch {
		case set:
			text, err := d.emitEntry(e, v, b.indent)
			if err != nil {
				return nil, err
			}
			replaced[e.start], until[e.start] = text, e.end
			kept++
		case changes.del[e.name]:
			replaced[e.start], until[e.start] = "", e.end
		default:
			kept++
		}
	}
	added, err := emitAdded(changes.set, there, b.indent)
	if err != nil {
		return nil, err
	}
	if kept == 0 && added == "" && b.header != nil { // nothing is left: without {} the key would be null
		replaced[b.header.start] = d.withComment(*b.header, b.header.key+" {}")
		until[b.header.start] = b.header.start + 1
	}
	nl := newline(d.src)
	var out strings.Builder
	for i := 0; i <= len(d.lines); i++ {
		if i == last && added != "" {
			if out.Len() > 0 && !strings.HasSuffix(out.String(), "\n") {
				out.WriteString(nl)
			}
			out.WriteString(strings.ReplaceAll(added, "\n", nl))
		}
		if i == len(d.lines) {
			break
		}
		text, ours := replaced[i]
		if !ours {
			out.WriteString(d.lines[i])
			continue
		}
		out.WriteString(strings.ReplaceAll(text, "\n", nl))
		i = until[i] - 1
	}
	return []byte(out.String()), nil
}

func emitAdded(set map[string]any, there map[string]bool, indent int) (string, error) {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if there[name] {
			continue
		}
		value, err := emit(set[name], indent+2)
		if err != nil {
			return "", err
		}
		b.WriteString(strings.Repeat(" ", indent) + emitText(name) + ":" + value + "\n")
	}
	return b.String(), nil
}

// emitEntry renders an entry with a new value; the key and the comment on its line stay as they are.
func (d *yamlDocument) emitEntry(e yamlEntry, v any, indent int) (string, error) {
	value, err := emit(v, indent+2)
	if err != nil {
		return "", err
	}
	first, rest, nested := strings.Cut(value, "\n")
	text := d.withComment(e, e.key+first)
	if nested {
		text += rest + "\n"
	}
	return text, nil
}

// withComment ends a line with the comment that stands on the entry's first line, and the space before it.
func (d *yamlDocument) withComment(e yamlEntry, text string) string {
	if comment := d.comments[e.start]; comment != "" {
		line := strings.TrimRight(d.lines[e.start], "\r\n")
		if before, ok := strings.CutSuffix(strings.TrimRight(line, " \t"), strings.TrimRight(comment, " \t")); ok {
			space := before[len(strings.TrimRight(before, " \t")):]
			text += space + line[len(before):]
		}
	}
	return text + "\n"
}

// emit renders a value as it stands behind its key's colon: " scalar", or lines that are indented.
func emit(v any, indent int) (string, error) {
	switch t := v.(type) {
	case map[string]any:
		if len(t) > 0 {
			return emitMapping(t, indent)
		}
	case []any:
		if len(t) > 0 {
			return emitSequence(t, indent)
		}
	}
	text, err := emitFlow(v, true)
	return " " + text, err
}

func emitMapping(m map[string]any, indent int) (string, error) {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value, err := emit(m[name], indent+2)
		if err != nil {
			return "", err
		}
		b.WriteString("\n" + strings.Repeat(" ", indent) + emitText(name) + ":" + value)
	}
	return b.String(), nil
}

func emitSequence(list []any, indent int) (string, error) {
	var b strings.Builder
	for _, item := range list {
		value, err := emitFlow(item, true)
		if err != nil {
			return "", err
		}
		b.WriteString("\n" + strings.Repeat(" ", indent) + "- " + value)
	}
	return b.String(), nil
}

// emitFlow renders a value on one line. Texts within are quoted: more characters have a meaning there.
func emitFlow(v any, plain bool) (string, error) {
	var parts []string
	switch t := v.(type) {
	case unheld:
		return "", errDisturbs
	case string:
		if plain {
			return emitText(t), nil
		}
		return quote(t), nil
	case float64:
		text := string(canonical(t))
		if mantissa, exponent, ok := strings.Cut(text, "e"); ok && !strings.Contains(mantissa, ".") {
			text = mantissa + ".0e" + exponent // readers of YAML 1.1 take 1e-7 for text
		}
		return text, nil
	case []any:
		for _, item := range t {
			text, err := emitFlow(item, false)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return "[" + strings.Join(parts, ", ") + "]", nil
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(t)) {
			text, err := emitFlow(t[name], false)
			if err != nil {
				return "", err
			}
			parts = append(parts, quote(name)+": "+text)
		}
		return "{" + strings.Join(parts, ", ") + "}", nil
	}
	return string(canonical(v)), nil
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z](?:[A-Za-z0-9_./@-]|:[A-Za-z0-9_./@-])*$`)
	// reserved are words that some readers of YAML do not take for text.
	reserved = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null|nan|inf|infinity)$`)
)

// emitText renders a text plainly where every reader of YAML takes it for the same text, else in double quotes.
func emitText(s string) string {
	if plainText.MatchString(s) && !reserved.MatchString(s) {
		return s
	}
	return quote(s)
}

// quote is the text as a JSON string, which is YAML, with every invisible character escaped.
func quote(s string) string {
	text := string(canonical(s))
	var b strings.Builder
	for _, r := range text {
		if r == 0x7f || r >= 0x80 && r <= 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r >= 0xfff0 && r <= 0xffff {
			const hex = "0123456789abcdef"
			b.WriteString(`\u` + string([]byte{hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15]}))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
