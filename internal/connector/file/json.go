package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const maxJSONDepth = 1000

// A jsonDocument knows where every member of every object stands, so that an edit replaces those bytes and no others.
type jsonDocument struct {
	src  []byte
	root *jsonObject
}

type jsonObject struct {
	open, end int // offsets of { and }
	members   []jsonMember
	values    map[string]any
}

type jsonMember struct {
	name            string
	key, value, end int         // offsets: the key's first byte, the value's first byte, behind the value
	object          *jsonObject // the value, where it is an object
}

func parseJSON(src []byte) (document, error) {
	if len(bytes.TrimSpace(src)) == 0 {
		src = []byte("{}\n")
	}
	p := jsonParser{src: src, dec: json.NewDecoder(bytes.NewReader(src))}
	p.dec.UseNumber()
	_, root, err := p.value(0)
	if err == nil && root == nil {
		return nil, syntaxAt(src, 0, "the top is not an object")
	}
	if err == nil {
		if _, tail := p.dec.Token(); !errors.Is(tail, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		return nil, p.located(err)
	}
	return &jsonDocument{src, root}, nil
}

type jsonParser struct {
	src []byte
	dec *json.Decoder
}

func (p *jsonParser) located(err error) error {
	offset := int(p.dec.InputOffset())
	if _, ok := errors.AsType[*json.SyntaxError](err); ok { // its offset is not one of the whole text
		if whole, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(p.src, new(json.RawMessage))); ok {
			offset, err = int(whole.Offset)-1, whole
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return syntaxAt(p.src, len(p.src), "not valid JSON: it ends too early")
	}
	return syntaxAt(p.src, offset, "not valid JSON: "+err.Error())
}

// next is where the next token begins.
func (p *jsonParser) next() int {
	i := int(p.dec.InputOffset())
	for i < len(p.src) && strings.IndexByte(" \t\r\n,:", p.src[i]) >= 0 {
		i++
	}
	return i
}

func (p *jsonParser) value(depth int) (any, *jsonObject, error) {
	if depth > maxJSONDepth {
		return nil, nil, fmt.Errorf("nested deeper than %d levels", maxJSONDepth)
	}
	start := p.next()
	token, err := p.dec.Token()
	if err != nil {
		return nil, nil, err
	}
	switch t := token.(type) {
	case json.Number:
		return number(t.String()), nil, nil
	case json.Delim:
		if t == '{' {
			object, err := p.object(start, depth)
			if err != nil {
				return nil, nil, err
			}
			return object.values, object, nil
		}
		array := []any{}
		for p.dec.More() {
			item, _, err := p.value(depth + 1)
			if err != nil {
				return nil, nil, err
			}
			array = append(array, item)
		}
		_, err := p.dec.Token()
		return array, nil, err
	default:
		return token, nil, nil
	}
}

func (p *jsonParser) object(start, depth int) (*jsonObject, error) {
	o := &jsonObject{open: start, values: map[string]any{}}
	for p.dec.More() {
		key := p.next()
		token, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		name := token.(string) // the decoder admits nothing else here
		if _, twice := o.values[name]; twice {
			return nil, fmt.Errorf("the key %q stands twice", name)
		}
		m := jsonMember{name: name, key: key, value: p.next()}
		if o.values[name], m.object, err = p.value(depth + 1); err != nil {
			return nil, err
		}
		m.end = int(p.dec.InputOffset())
		o.members = append(o.members, m)
	}
	_, err := p.dec.Token()
	o.end = int(p.dec.InputOffset()) - 1
	return o, err
}

func (d *jsonDocument) tree() map[string]any { return d.root.values }

// jsonStyle is how the members of an object are laid out.
type jsonStyle struct {
	lines          bool   // each on a line of its own
	entry, closing string // indents of members and of the closing brace
	unit           string // one level of indent
}

// style is the object's own, or for an empty object one that follows from the object around it.
func (d *jsonDocument) style(o *jsonObject, outer jsonStyle) jsonStyle {
	if len(o.members) == 0 {
		outer.closing, outer.entry = outer.entry, outer.entry+outer.unit
		return outer
	}
	lead, tail := string(d.src[o.open+1:o.members[0].key]), string(d.src[o.members[len(o.members)-1].end:o.end])
	cut := strings.LastIndexByte(lead, '\n')
	if cut < 0 {
		return jsonStyle{}
	}
	s := jsonStyle{lines: true, entry: lead[cut+1:], closing: tail[strings.LastIndexByte(tail, '\n')+1:], unit: "  "}
	if unit, ok := strings.CutPrefix(s.entry, s.closing); ok && unit != "" {
		s.unit = unit
	}
	return s
}

func (d *jsonDocument) edit(path []string, changes edits) ([]byte, error) {
	o, style := d.root, d.style(d.root, jsonStyle{lines: true, unit: "  "})
	for _, name := range path {
		i := slices.IndexFunc(o.members, func(m jsonMember) bool { return m.name == name })
		o = o.members[i].object
		style = d.style(o, style)
	}
	var b bytes.Buffer
	b.Write(d.src[:o.open])
	d.body(&b, o, style, changes)
	b.Write(d.src[o.end+1:])
	return b.Bytes(), nil
}

// body writes the object with its changes.
func (d *jsonDocument) body(b *bytes.Buffer, o *jsonObject, style jsonStyle, changes edits) {
	nl := newline(d.src)
	written := 0
	member := func(lead string) {
		if written > 0 {
			b.WriteByte(',')
		}
		b.WriteString(lead)
		written++
	}
	b.WriteByte('{')
	before := o.open + 1
	first := ""
	for i, m := range o.members {
		lead := string(d.src[before:m.key])
		if _, after, comma := strings.Cut(lead, ","); comma {
			lead = after
		}
		before = m.end
		if i == 0 {
			first = lead
		}
		if changes.del[m.name] {
			continue
		}
		if written == 0 {
			lead = first
		}
		member(lead)
		if v, set := changes.set[m.name]; set {
			b.Write(d.src[m.key:m.value])
			b.WriteString(style.value(v, nl))
		} else {
			b.Write(d.src[m.key:m.end])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(changes.set)) {
		if _, there := o.values[name]; there {
			continue
		}
		switch {
		case style.lines:
			member(nl + style.entry)
		case written > 0:
			member(" ")
		default:
			member("")
		}
		b.Write(canonical(name))
		b.WriteString(": ")
		b.WriteString(style.value(changes.set[name], nl))
	}
	switch {
	case written == 0:
	case len(o.members) > 0:
		b.Write(d.src[before:o.end])
	case style.lines:
		b.WriteString(nl + style.closing)
	}
	b.WriteByte('}')
}

// value renders a value as it stands behind its key.
func (s jsonStyle) value(v any, nl string) string {
	text := canonical(v)
	if !s.lines {
		return string(text)
	}
	var b bytes.Buffer
	if json.Indent(&b, text, s.entry, s.unit) != nil {
		return string(text)
	}
	return strings.ReplaceAll(b.String(), "\n", nl)
}
