package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// maxLeafNodes bounds the nodes of one of several documents, after aliases were resolved.
const maxLeafNodes = 200_000

// A Document is one YAML document of a file that may hold several.
type Document struct {
	File         string
	Line, Column int // where its content begins
	before       int // lines of the file before its text
	text         string
	root         ast.Node
}

// A Leaf is a scalar, a list or an empty mapping of a document, and the place where it stands.
type Leaf struct {
	Path         string // JSON pointer (RFC 6901)
	Value        Value
	Ambiguous    bool  // a plain yes, no, on or off: text here, and true or false to older readers of YAML
	Line, Column int   // of its key, for items and scalars their own
	Items        []int // lines of its items, where it is a list of mappings
}

// Documents reads the YAML documents of a file, without the empty ones. Each has at most MaxSize bytes; the file may be longer.
// Errors are *Error.
func Documents(name string, data []byte) ([]Document, error) {
	data, err := utf8Text(data)
	if err != nil {
		return nil, inFile(err, name, nil)
	}
	var out []Document
	before := 0
	for _, text := range split(string(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")))) {
		d := Document{File: name, before: before, text: text}
		before += strings.Count(text, "\n")
		if len(text) > MaxSize {
			return nil, &Error{File: name, Line: d.before + 1, Column: 1, Message: fmt.Sprintf("the document has %d bytes, more than %d: keep large content elsewhere and refer to it", len(text), MaxSize)}
		}
		root, _, err := parse([]byte(text), maxLeafNodes)
		if err != nil {
			return nil, d.in(tabs(err, text))
		}
		if root == nil {
			continue
		}
		d.root = root
		line, column := position(root)
		d.Line, d.Column = line+d.before, column
		out = append(out, d)
	}
	return out, nil
}

// split cuts a text before each line that begins a document: three hyphens at its start do so wherever they stand.
func split(text string) []string {
	var out []string
	start := 0
	for at := 0; at < len(text); {
		if at > start && begins(text[at:]) {
			out, start = append(out, text[start:at]), at
		}
		next := strings.IndexByte(text[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return append(out, text[start:])
}

func begins(line string) bool {
	return strings.HasPrefix(line, "---") && (len(line) == 3 || strings.IndexByte(" \t\n", line[3]) >= 0)
}

// tabs says in our words what a parser says of a tab.
func tabs(err error, text string) error {
	e, ok := errors.AsType[*Error](err)
	lines := strings.Split(text, "\n")
	if !ok || e.Line > len(lines) {
		return err
	}
	for at := max(e.Line-2, 0); at < min(e.Line+1, len(lines)); at++ {
		if indent := lines[at][:len(lines[at])-len(strings.TrimLeft(lines[at], " \t"))]; strings.Contains(indent, "\t") {
			return &Error{Line: at + 1, Column: strings.Index(indent, "\t") + 1, Message: "a tab indents this line: YAML takes spaces only"}
		}
	}
	return err
}

// in places an error of the document's text in its file.
func (d Document) in(err error) error {
	located := inFile(err, d.File, []byte(d.text))
	if e, ok := errors.AsType[*Error](located); ok {
		e.Line += d.before
	}
	return located
}

// Decode reads the document as the function Decode does.
func (d Document) Decode(into any) error { return d.in(bind(d.root, into)) }

// Leaves are the document's leaves in the order of the text.
func (d Document) Leaves() ([]Leaf, error) {
	var w leafWalk
	if err := w.walk(d.root, d.root, ""); err != nil {
		return nil, d.in(err)
	}
	for i := range w.leaves {
		w.leaves[i].Line += d.before
		w.leaves[i].Value.Line += d.before
		for j := range w.leaves[i].Items {
			w.leaves[i].Items[j] += d.before
		}
	}
	return w.leaves, nil
}

type leafWalk struct{ leaves []Leaf }

var escape = strings.NewReplacer("~", "~0", "/", "~1")

// walk visits a value whose key, or itself, stands at place.
func (w *leafWalk) walk(n, place ast.Node, path string) error {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		list, err := entries(n, refuse)
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := w.walk(e.value, e.key, path+"/"+escape.Replace(e.name)); err != nil {
				return err
			}
		}
		if len(list) > 0 {
			return nil
		}
	}
	leaf := Leaf{Path: path, Ambiguous: ambiguous(n)}
	leaf.Line, leaf.Column = position(place)
	if list, ok := n.(*ast.SequenceNode); ok {
		leaf.Items = itemLines(list)
	}
	if err := leaf.Value.UnmarshalYAML(n); err != nil {
		return err
	}
	w.leaves = append(w.leaves, leaf)
	return nil
}

// itemLines are where the items of a list of mappings stand; nil for other lists.
func itemLines(list *ast.SequenceNode) []int {
	var out []int
	for _, item := range list.Values {
		switch item.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			line, _ := position(item)
			out = append(out, line)
		default:
			return nil
		}
	}
	return out
}

// ambiguous says whether a scalar is a plain word that YAML 1.1 reads as a boolean and YAML 1.2 as text, or a list has one.
func ambiguous(n ast.Node) bool {
	switch t := n.(type) {
	case *ast.StringNode:
		if t.Token.Type != token.StringType {
			return false
		}
		switch strings.ToLower(t.Value) {
		case "yes", "no", "on", "off", "y", "n":
			return true
		}
	case *ast.SequenceNode:
		for _, item := range t.Values {
			if ambiguous(item) {
				return true
			}
		}
	}
	return false
}
